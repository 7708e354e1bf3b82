"""Retrain the pneumonia model, weekly or by hand, and put it into service only if it is shown to be good enough.

The request to SageMaker is a literal here, rendered anew on every try; what a task computes lives in ``cxr_pipeline``.

* `plan`: checks the dataset by its listing; finds an earlier job with the same data, image and parameters. *If it
  fails:* the message names what is missing; nothing was paid for.
* `train`: one SageMaker job: adopted, reused or started; its log is shown here. *If it fails:* the message ends with
  the job's own reason; clear the task to train again.
* `register`: verifies the bundle and creates a model package, pending approval. *If it fails:* the archive is not
  what bundle.json says; train again with `force`.
* `judge`: holds the test figures against the floors of the form. *If it fails:* the model is rejected in the registry
  with every floor that it misses; the old one serves on.
* `compare`: asks whether it is not inferior to the champion on the same test films. *If it fails:* the same; skipped
  where this very model serves or served.
* `approve`: approves, or waits for a person in the registry. *If it fails:* refused, or nobody decided in time:
  approve there and trigger again.
* `promote`: writes models/current.json by compare-and-swap. *If it fails:* the champion changed five times meanwhile;
  trigger again.
* `smoke_test`: sends golden films through the Lambda. *If it fails:* `roll_back` has restored the previous model;
  read which films differ.
* `announce`: says what serves now.

Every parameter is explained in the form. Figures far from the floors: change the data or the training, not the floors.
The Variable `retrain_schedule` changes the schedule (`none`, a cron expression, `drift`, or `@weekly or drift`).
Full guide: docs/airflow.md.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import dag, get_current_context, task
from cxr_pipeline import bundle, comparison, dataset, gate, pointer, registry, smoke, start_weights
from cxr_pipeline.approval import ApprovalSensor
from cxr_pipeline.clients import client, error_code, promoting_s3
from cxr_pipeline.naming import job_name, run_key
from cxr_pipeline.outcome import fail, headline, skip
from cxr_pipeline.retrain_form import FORM, HYPERPARAMETERS, fingerprint
from cxr_pipeline.schedule import retrain_schedule
from cxr_pipeline.settings import settings
from cxr_pipeline.training import TrainingOperator

PROMOTION_ATTEMPTS = 5


def channel(name: str, uri: str) -> dict[str, Any]:
    """Return a SageMaker input channel that downloads every object under ``uri`` before the job starts."""
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "InputMode": "File", "DataSource": {"S3DataSource": source}}


def metric(name: str) -> dict[str, str]:
    """Return the definition by which SageMaker finds ``name=0.123`` in the job's log."""
    return {"Name": name, "Regex": rf"{name}=([-+.0-9a-z]+)"}


PLAN = "ti.xcom_pull(task_ids='plan')"
TRAINING_JOB = {
    "TrainingJobName": f"{{{{ {PLAN}['job'] }}}}",
    "AlgorithmSpecification": {
        "TrainingImage": "{{ var.json.cxr.training_image }}",
        "TrainingInputMode": "File",
        "MetricDefinitions": [
            *map(metric, ("train:loss", "tune:loss", "tune:auroc")),
            *map(metric, ("test:auroc", "test:sensitivity", "test:specificity", "test:accuracy", "test:ece")),
        ],
    },
    "RoleArn": "{{ var.json.cxr.training_role_arn }}",
    "HyperParameters": {name: f"{{{{ params.{name} | string | lower }}}}" for name in HYPERPARAMETERS},
    "InputDataConfig": [
        channel("dataset", "s3://{{ var.json.cxr.datasets_bucket }}/" + f"{{{{ {PLAN}['dataset'] }}}}"),
        channel("weights", f"{{{{ {PLAN}['weights_uri'] }}}}"),
        channel("champion", f"{{{{ {PLAN}['champion_uri'] }}}}"),
    ],
    "OutputDataConfig": {
        "S3OutputPath": "s3://{{ var.json.cxr.models_bucket }}/training/",
        "KmsKeyId": "{{ var.json.cxr.kms_key_arn or '' }}",
    },
    "CheckpointConfig": {
        "S3Uri": f"s3://{{{{ var.json.cxr.models_bucket }}}}/training/{{{{ {PLAN}['job'] }}}}/checkpoints/",
    },
    "ResourceConfig": {
        "InstanceType": "{{ params.instance_type }}",
        "InstanceCount": 1,
        "VolumeSizeInGB": "{{ params.volume_gb }}",
        "VolumeKmsKeyId": "{{ var.json.cxr.kms_key_arn or '' }}",
    },
    "StoppingCondition": {
        "MaxRuntimeInSeconds": "{{ params.max_runtime_minutes * 60 }}",
        "MaxWaitTimeInSeconds": "{{ params.max_runtime_minutes * 120 }}",
    },
    "EnableManagedSpotTraining": "{{ params.spot }}",
    "EnableNetworkIsolation": "{{ params.weights != 'imagenet' }}",
    "Tags": [{"Key": "airflow-dag", "Value": "retrain"}],
}  # fmt: skip


@dag(
    dag_id="retrain",
    doc_md=__doc__,
    schedule=retrain_schedule(),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=FORM,
    default_args={"owner": "imaging", "retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["cxr", "training"],
)
def retrain() -> None:
    """Validate, train, register, judge, compare, approve, promote, smoke-test; roll back on failure."""
    planned = plan()
    trained = TrainingOperator(task_id="train", config=TRAINING_JOB, check_interval="{{ params.check_interval }}")
    registered = register(planned, trained.output)
    judged = judge(registered)
    compared = compare(registered)
    approved = ApprovalSensor(task_id="approve", package_arn=registered["package_arn"], pending_since=judged, retries=0)
    promoted = promote(registered, compared)
    tested = smoke_test(registered)
    undone = roll_back(registered, promoted)
    done = announce(registered, promoted, tested)
    planned >> trained
    judged >> compared >> approved >> promoted >> tested >> [undone, done]


@task
def plan() -> dict[str, Any]:
    """Check the dataset by its listing and decide which training job makes the model: an earlier one or a new one."""
    context, names = get_current_context(), settings()
    params, s3 = context["params"], client("s3")
    prefix = params["dataset"] or dataset.current(s3, names.datasets_bucket)
    found = dataset.read_listing(prefix, dataset.listing(s3, names.datasets_bucket, prefix))
    headline(f"{found.prefix}: {found.counts}, ignored: {found.ignored or 'nothing'}")
    try:
        dataset.check(found, params["min_films"])
        weights_uri, weights_digest = start_weights.locate(s3, names.datasets_bucket, params)
    except dataset.DatasetRefused as refused:
        fail(str(refused))
    champion = pointer.read(s3, names.models_bucket)
    mark = fingerprint(found.digest, weights_digest, names.training_image, params)
    own = job_name(context["dag_run"], mark)
    earlier = None if params["force"] else _earlier_job(s3, names.models_bucket, mark)
    if earlier:
        headline(f"dataset, image and parameters are those of training job {earlier}: no GPU is paid for (see `force`)")
    return {
        "job": earlier or own,
        "dataset": prefix,
        "fingerprint": mark,
        "counts": found.counts,
        "weights_uri": weights_uri,
        "champion_uri": f"s3://{champion.document['bundle']['bucket']}/{champion.bundle_prefix}" if champion else "",
    }


def _earlier_job(s3: Any, bucket: str, mark: str) -> str | None:
    try:
        return str(bundle.read_json(s3, bucket, f"training/fingerprints/{mark}.json")["job"])
    except s3.exceptions.ClientError as error:
        if error_code(error) in ("NoSuchKey", "404"):
            return None
        raise


@task
def register(planned: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """Unpack and verify the job's bundle, put it beside models/<job>/bundle.json and register it, pending approval."""
    names = settings()
    s3, job = client("s3"), trained["job"]
    try:
        reference = bundle.publish(s3, trained["model_data"], names.models_bucket, f"models/{job}/")
    except bundle.BundleRefused as refused:
        fail(f"training job {job}: {refused}")
    manifest = bundle.read_json(s3, names.models_bucket, reference["key"])
    hashes = {f"sha256.{name}": entry["sha256"] for name, entry in manifest["files"].items()}
    package_arn = registry.register(
        client("sagemaker"), names.model_package_group, job,
        model_data=trained["model_data"],
        image=names.inference_image,
        metrics_uri=f"s3://{names.models_bucket}/models/{job}/metrics.json",
        metadata={
            "training_job": job,
            "bundle.sha256": reference["sha256"],
            **hashes,
            "dataset.digest": manifest["dataset"]["digest"],
            "weights": manifest["weights"]["label"],
            "head": manifest["head"],
            "code_version": str(manifest["code_version"]),
        },
    )  # fmt: skip
    mark = planned["fingerprint"]
    record = json.dumps({"job": job}).encode()
    s3.put_object(Bucket=names.models_bucket, Key=f"training/fingerprints/{mark}.json", Body=record)
    headline(f"model package {registry.version(package_arn)}: {package_arn}")
    return {
        "package_arn": package_arn,
        "version": registry.version(package_arn),
        "job": job,
        "dataset": planned["dataset"],
        "bundle": reference,
        "model_sha256": manifest["files"]["model.tflite"]["sha256"],
        "threshold": manifest["threshold"],
    }


@task(retries=0)
def judge(model: dict[str, Any]) -> str:
    """Hold the test figures against the floors; a model that misses one is rejected in the registry, with reasons.

    Returns the moment of the verdict (ISO 8601), from which the manual approval's clock runs.
    """
    params, sagemaker = get_current_context()["params"], client("sagemaker")
    metrics = _metrics(client("s3"), model)
    missed = gate.missed(metrics, gate.Floors.from_params(params))
    if missed:
        _reject(sagemaker, model, "gate: " + "; ".join(missed))
    try:
        registry.await_decision(sagemaker, model["package_arn"], "waits for a decision: every floor is met")
    except registry.PackageRefused as refused:
        fail(str(refused))
    headline(f"model {model['version']} meets every floor")
    return datetime.now(UTC).isoformat()


@task(retries=0)
def compare(model: dict[str, Any]) -> str:
    """Compare with the champion on the same test films; skip the rest where this very model serves or served."""
    s3, names = client("s3"), settings()
    champion = pointer.read(s3, names.models_bucket)
    served = pointer.served_as(s3, names.models_bucket, model["bundle"]["sha256"])
    if champion and served not in (None, champion.serial):
        skip(
            f"model {model['version']} served as serial {served} and was replaced since; an unchanged dataset is no "
            f"reason to go back (`python -m infra promote` does)"
        )
    reason = _compared(s3, model, champion)
    headline(reason)
    return reason


def _compared(s3: Any, model: dict[str, Any], champion: pointer.Pointer | None) -> str:
    """Return why the challenger may replace ``champion``; reject it in the registry where it may not."""
    params = get_current_context()["params"]
    if champion is None:
        return "no model serves yet"
    if champion.document["bundle"]["sha256"] == model["bundle"]["sha256"]:
        skip(f"model {model['version']} serves already (serial {champion.serial})")
    old = champion.document["bundle"]
    serving = bundle.read_json(s3, old["bucket"], old["key"])
    measured = _metrics(s3, model).get("champion")
    try:
        if measured and measured["model_sha256"] == serving["files"]["model.tflite"]["sha256"]:
            difference = measured["noninferiority"]
        else:
            headline("the training job did not score the model that serves now: comparing kept predictions")
            difference = comparison.noninferiority(
                _scored(s3, old["bucket"], champion.bundle_prefix, serving["threshold"]),
                _scored(s3, model["bundle"]["bucket"], f"models/{model['job']}/", model["threshold"]),
            )
        worse = comparison.worse(difference, comparison.Margins.from_params(params))
    except comparison.NotComparable as reason:
        worse = [str(reason)]
    if worse:
        against = f"comparison: with model {champion.document['version']}: "
        _reject(client("sagemaker"), model, against + "; ".join(worse))
    bounds = ", ".join(
        f"{n.removeprefix('delta_')} {d['value']:+.4f} (at least {d['lower']:+.4f})"
        for n, d in difference.items()
        if isinstance(d, dict)
    )
    return f"not inferior to model {champion.document['version']}: {bounds}"


def _metrics(s3: Any, model: dict[str, Any]) -> dict[str, Any]:
    return bundle.read_json(s3, model["bundle"]["bucket"], f"models/{model['job']}/metrics.json")


def _scored(s3: Any, bucket: str, prefix: str, threshold: float) -> comparison.Scored:
    body = s3.get_object(Bucket=bucket, Key=f"{prefix}predictions.csv")["Body"].read()
    return comparison.Scored.read(body, threshold)


def _reject(sagemaker: Any, model: dict[str, Any], reason: str) -> None:
    registry.decide(sagemaker, model["package_arn"], "Rejected", reason)
    fail(f"REJECTED model {model['version']} ({model['job']}): {reason}")


@task(retries=0)
def promote(model: dict[str, Any], compared: str) -> dict[str, Any]:
    """Point models/current.json at the approved model; where the champion changed meanwhile, compare again."""
    context, names = get_current_context(), settings()
    s3 = promoting_s3(names.promote_role_arn)
    decision, _ = registry.status(client("sagemaker"), model["package_arn"])
    if decision != "Approved":
        fail(f"model {model['version']} is {decision}; only an approved model is promoted")
    actor = f"airflow retrain {context['run_id']}"
    for _ in range(PROMOTION_ATTEMPTS):
        champion = pointer.read(s3, names.models_bucket)
        if champion and _wrote(champion, model, actor):
            headline(f"model {model['version']} serves as serial {champion.serial}: this run wrote it before")
            return {"document": champion.document, "etag": champion.etag}
        reason = _compared(s3, model, champion)
        try:
            written = pointer.promote(
                s3, names.models_bucket, champion, bundle=model["bundle"], package_arn=model["package_arn"],
                version=model["version"], actor=actor, reason=reason,
            )  # fmt: skip
        except pointer.ChampionChanged as changed:
            headline(f"{changed}; comparing again")
            continue
        headline(f"model {model['version']} serves as serial {written.serial}: {reason}")
        return {"document": written.document, "etag": written.etag}
    fail(f"the champion changed {PROMOTION_ATTEMPTS} times while model {model['version']} was compared with it")


def _wrote(champion: pointer.Pointer, model: dict[str, Any], actor: str) -> bool:
    """Whether this run has promoted the model already: the answer to its write was lost, or its task cleared."""
    return champion.document["actor"] == actor and champion.document["bundle"]["sha256"] == model["bundle"]["sha256"]


@task(retries=0)
def smoke_test(model: dict[str, Any]) -> float:
    """Send golden films through the Lambda; it must answer with the new model and the training job's probabilities."""
    context, names = get_current_context(), settings()
    params, s3 = context["params"], client("s3")
    predictions = s3.get_object(Bucket=model["bundle"]["bucket"], Key=f"models/{model['job']}/predictions.csv")
    places = smoke.Places(
        names.datasets_bucket, model["dataset"], names.uploads_bucket, names.results_bucket, names.function_name
    )
    function = client("lambda", read_timeout=900, retries={"max_attempts": 0})
    golden = smoke.choose(predictions["Body"].read(), params["smoke_films"])
    try:
        largest = smoke.run(
            s3, function, places, golden, run_key(context["dag_run"]), model["model_sha256"], params["smoke_tolerance"]
        )
    except smoke.SmokeFailed as failed:
        fail(f"SMOKE TEST FAILED for model {model['version']}: {failed}")
    headline(f"{len(golden)} golden films answered as trained; largest difference {largest:.6f}")
    return largest


@task(trigger_rule="one_failed", retries=5)
def roll_back(model: dict[str, Any], promotion: dict[str, Any] | None) -> str:
    """Serve the previous model again after a failed smoke test, and reject the promoted one in the registry."""
    context, names = get_current_context(), settings()
    if promotion is None or _state(context, "smoke_test") != "failed":
        skip("no smoke test of a promotion failed: nothing to undo")
    reason = f"smoke test of model {model['version']} failed in run {context['run_id']}"
    promoted = pointer.Pointer(promotion["document"], promotion["etag"])
    try:
        restored = pointer.roll_back(
            promoting_s3(names.promote_role_arn), names.models_bucket, promoted,
            actor=f"airflow retrain {context['run_id']}", reason=reason,
        )  # fmt: skip
    except pointer.ChampionChanged:
        line = "another model was promoted since: nothing to undo"
    else:
        line = "ROLLED BACK: no model served before, so none serves now"
        if restored:
            line = f"ROLLED BACK to model {restored.document['version']} as serial {restored.serial}"
    registry.decide(client("sagemaker"), model["package_arn"], "Rejected", f"smoke: {reason}")
    headline(line)
    return line


def _state(context: Any, task_id: str) -> str | None:
    """The state of another task of this run. A cleared run keeps what its earlier tries have returned."""
    run_id = context["run_id"]
    states = context["ti"].get_task_states(dag_id=context["dag"].dag_id, task_ids=[task_id], run_ids=[run_id])
    return states.get(run_id, {}).get(task_id)


@task
def announce(model: dict[str, Any], promotion: dict[str, Any], largest: float) -> str:
    """Say in one line what serves now."""
    document = promotion["document"]
    line = f"model {model['version']} ({model['job']}) serves as serial {document['serial']}: {document['reason']}"
    headline(line)
    return line


retrain()
