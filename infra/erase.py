"""A patient is erased from everything by one command, which says what it found where and proves that nothing is left.

It names no key and no file: what it prints may be kept. Queues forget the uploads by themselves (the function
acknowledges a message whose upload is gone), access logs when they expire.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxr.dataset import LISTS
from cxr.pointer import PointerStore
from infra import traces
from infra.dataset import MAX_KEY_BYTES
from infra.errors import Fault
from infra.stacks import Say
from infra.traces import Buckets, Films
from infra.versions import Version, delete

_VISIBILITY = 600  # seconds in which all dead letters are read once, and deleted or left
Found = dict[str, dict[str, list[Version]]]  # versions by place and bucket


def read_keys(path: Path) -> list[str]:
    """Upload keys from a file in UTF-8, one a line, exactly as they are.

    Raises:
        Fault: the file cannot be read or holds no key, or a line is no key.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Fault(f"{path} cannot be read as UTF-8 ({error}); give a file with one upload key a line") from error
    keys = [line.removesuffix("\r") for line in lines]
    wrong = [
        number for number, key in enumerate(keys, 1) if len(key.encode()) > MAX_KEY_BYTES or key.startswith("s3://")
    ]
    if wrong:
        raise Fault(f"{path}: line {wrong[0]} is no key; give the key alone, at most {MAX_KEY_BYTES} bytes")
    if not any(keys):
        raise Fault(f"{path} names no key; give one upload key a line")
    return list(dict.fromkeys(filter(None, keys)))


def _without(listed: bytes, names: set[str]) -> bytes:
    """A list of films without the rows that name one of these."""
    try:
        rows = list(csv.reader(io.StringIO(listed.decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise Fault(
            f"A list of films ({', '.join(LISTS)}) in the datasets bucket is no CSV in UTF-8 ({error}); save it as that"
        ) from error
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(row for row in rows if not names & {cell.strip() for cell in row})
    return text.getvalue().encode()


class Eraser:
    """Erases the films of some uploads. outputs: those of the base stack; s3, sqs: boto3 clients."""

    def __init__(self, s3: Any, sqs: Any, outputs: Mapping[str, str], say: Say) -> None:
        self._buckets, self._sqs, self._outputs, self._say = Buckets.of(s3, outputs), sqs, outputs, say
        self._s3 = s3

    def erase(self, keys: list[str], dry_run: bool = False) -> None:
        """Finds, deletes, and looks again.

        Raises:
            Fault: something is left, or a model that answers names a film; the message says what to do.
        """
        films = traces.films(self._buckets, keys)
        found = self._search(films)
        serving = self._take_out_what_answers(found)
        self._tell(films, found, "found" if dry_run else "erased")
        if dry_run:
            return
        self._lists_without(films, found)
        for in_buckets in found.values():
            for bucket, versions in in_buckets.items():
                delete(self._s3, bucket, versions)
        self._abort_unfinished(keys)
        self._say(f"  dead letters: {self._drop_dead_letters(films)} erased")
        left = self._search(films)
        self._take_out_what_answers(left)
        if left:
            self._tell(films, left, "still there")
            raise Fault("Something was written meanwhile; let running DAGs end and run the command again")
        if serving:
            raise Fault(
                "A model that answers, or that would after a rollback, names a film of these keys. Retrain without it, "
                "promote the new model, promote or retrain once more so that it is not the previous one either, then "
                "run this command again"
            )
        self._say("Proved: all buckets were searched again, and no version is left")
        if "films in datasets" in found:
            self._say("Models that were trained on these films keep what they learned: run `retrain`")

    def _search(self, films: Films) -> Found:
        found: Found = {}

        def note(place: str, bucket: str, version: Version) -> None:
            found.setdefault(place, {}).setdefault(bucket, []).append(version)

        for place, bucket, version in traces.of_keys(self._buckets, films):
            note(place, bucket, version)
        for version in traces.in_datasets(self._buckets, films):
            films.names.add(traces.path_in_dataset(version.key))
            note("films in datasets", self._buckets.datasets, version)
        for place, bucket, prefix in (
            ("reports", self._buckets.results, "reports/"),
            ("manifests", self._buckets.results, "manifests/"),
            ("lists of datasets", self._buckets.datasets, "datasets/"),
            ("models", self._buckets.models, "models/"),
            ("training output", self._buckets.models, "training/"),
        ):
            for version in traces.naming(self._buckets, bucket, prefix, films):
                note(place, bucket, version)
        return found

    def _take_out_what_answers(self, found: Found) -> bool:
        """Takes the files of the current and the previous model out of what is found; whether there were any."""
        seen = PointerStore(self._s3, self._buckets.models).read()
        releases = (seen.pointer.current, seen.pointer.previous) if seen else ()
        jobs = [release.prefix.removeprefix("models/") for release in releases if release]
        kept = tuple(folder + job for job in jobs for folder in ("models/", "training/"))
        taken = False
        for place in ("models", "training output"):
            versions = found.get(place, {}).get(self._buckets.models, [])
            left = [version for version in versions if not version.key.startswith(kept)] if kept else versions
            taken |= len(left) < len(versions)
            if versions:
                found[place][self._buckets.models] = left
            if versions and not left:
                del found[place]
        return taken

    def _lists_without(self, films: Films, found: Found) -> None:
        """Writes the lists anew without the rows of these films: the training job refuses rows that name no film."""
        bucket = self._buckets.datasets
        listed = {version.key for version in found.get("lists of datasets", {}).get(bucket, ())}
        for key in (key for key in listed if key.endswith(tuple(f"/{name}" for name in LISTS))):
            try:
                content = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            except self._s3.exceptions.NoSuchKey:
                continue
            kept = _without(content, films.names)
            self._s3.put_object(Bucket=bucket, Key=key, Body=kept, ContentType="text/csv")

    def _abort_unfinished(self, keys: list[str]) -> None:
        """Ends the uploads in parts of these keys, which hold what was sent so far."""
        bucket, wanted = self._buckets.uploads, set(keys)
        for page in self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for begun in page.get("Uploads", ()):
                if begun["Key"] in wanted:
                    self._s3.abort_multipart_upload(Bucket=bucket, Key=begun["Key"], UploadId=begun["UploadId"])

    def _drop_dead_letters(self, films: Films) -> int:
        """Deletes the dead letters that name a film; the others are visible again after ten minutes."""
        pattern, dropped = films.pattern(), 0
        for queue in ("Uploads", "Backlog"):
            url, seen = self._outputs[f"{queue}DeadLetterQueueUrl"], set[str]()
            while letters := self._sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=_VISIBILITY, WaitTimeSeconds=1
            ).get("Messages"):
                if seen & {letter["MessageId"] for letter in letters}:
                    break
                for letter in letters:
                    seen.add(letter["MessageId"])
                    if pattern.search(letter["Body"].encode()):
                        self._sqs.delete_message(QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"])
                        dropped += 1
        return dropped

    def _tell(self, films: Films, found: Found, what: str) -> None:
        self._say(f"{len(films.keys)} keys, {sum(map(len, films.digests.values()))} films by their bytes")
        for place, in_buckets in found.items():
            every = [version for versions in in_buckets.values() for version in versions]
            kinds = Counter("delete markers" if version.size is None else "versions" for version in every)
            objects = {version.key for version in every}
            counts = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
            self._say(f"  {place}: {len(objects)} objects ({counts}) {what}")
        if not found:
            self._say("  nothing found")
