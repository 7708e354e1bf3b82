# Builds and pushes both images as `python -m infra images` does. `--dry-run` prints this file below the settings that it
# reads: region, stack, lock, others, and per image its base, digest (empty: ask the registry) and sources, Dockerfile first.
# Run it in the root of a checkout; it needs Docker, the AWS CLI and credentials. Bring $lock, which it writes, to where
# you deploy.
set -euo pipefail

login() {
  aws ecr get-login-password --region "$region" | docker login --username AWS --password-stdin "$1"
}
output() {  # of the base stack
  aws cloudformation describe-stacks --region "$region" --stack-name "$stack" \
    --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue" --output text
}
digest() {
  docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}'
}
tag() {  # the digest of the base image and the sources: `python -m infra deploy` looks for it
  {
    printf %s "$1"
    shift
    find "$@" -type f -not -path '*/__pycache__/*' | LC_ALL=C sort -u | while IFS= read -r file; do
      printf '\0%s\0' "$file"
      cat "$file"
    done
  } | sha256sum | cut -c1-16
}
pushed() {
  aws ecr describe-images --region "$region" --repository-name "${repository#*/}" --image-ids "imageTag=$tag"
}
image() {  # kind, base, its digest, sources
  local kind=$1 base=$2 digest=$3 repository tag
  shift 3
  repository=$(output "${kind}RepositoryUri")
  login "${repository%%/*}"
  tag=$(tag "$base@$digest" "$@")
  if ! pushed > /dev/null 2>&1; then
    docker build --platform linux/amd64 --provenance=false --file "$1" --build-arg "BASE=$base@$digest" \
      --build-arg "BASE_NAME=$base" --build-arg "BASE_DIGEST=$digest" --build-arg "VERSION=$tag" \
      --tag "$repository:$tag" .
    docker push "$repository:$tag"
  fi
  echo "$kind $repository:$tag"
}

login "${training_base%%/*}"
inference_digest=${inference_digest:-$(digest "$inference_base")}
training_digest=${training_digest:-$(digest "$training_base")}
image Inference "$inference_base" "$inference_digest" "${inference_sources[@]}"
image Training "$training_base" "$training_digest" "${training_sources[@]}"
{
  echo '{'
  printf '  "%s": "%s"\n' $others "$inference_base" "$inference_digest" "$training_base" "$training_digest" |
    LC_ALL=C sort | sed '$!s/$/,/'
  echo '}'
} > "$lock"
