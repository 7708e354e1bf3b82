"""The /opt/ml folder of a training job: S3 to files before the command starts, files to S3 afterwards.

Channels are S3 prefixes, read-only inputs in File mode; checkpoints are restored before and synchronised during the
job; model.tar.gz and output.tar.gz hold the *contents* of model/ and output/data/, with no folder above them.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

from moto.s3.exceptions import MissingBucket

from local_aws.services.storage import Objects


class ChannelError(ValueError):
    """An input of the job cannot be downloaded."""


class MlFolder:
    """`base` in the place of /opt/ml for one CreateTrainingJob request."""

    def __init__(self, base: Path, request: Mapping[str, Any], account: str) -> None:
        self.base, self._request = base, request
        self._objects = Objects(account)
        self._checkpoints_seen: dict[str, tuple[int, int]] = {}

    def prepare(self) -> None:
        """Write hyperparameters, channels and earlier checkpoints. Raises ChannelError."""
        shutil.rmtree(self.base, ignore_errors=True)
        for folder in ("model", "output/data", "checkpoints", "input/config", "input/data"):
            (self.base / folder).mkdir(parents=True)
        settings = self._request.get("HyperParameters") or {}
        (self.base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(settings, indent=1))
        for channel in self._request.get("InputDataConfig") or []:
            self._download(channel)
        self._restore_checkpoints()

    def upload_model(self) -> str | None:
        """S3 address of model.tar.gz; None where the command left nothing in model/."""
        return self._upload_archive("model", "model.tar.gz")

    def upload_output(self) -> str | None:
        """S3 address of output.tar.gz; None where the command left nothing in output/data/."""
        return self._upload_archive("output/data", "output.tar.gz")

    def upload_checkpoints(self) -> None:
        """Copy the checkpoint files that are new or changed since the last time."""
        uri = (self._request.get("CheckpointConfig") or {}).get("S3Uri")
        if not uri:
            return
        bucket, prefix = _split(uri)
        folder = self.base / "checkpoints"
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            try:
                state = file.stat()
                name = file.relative_to(folder).as_posix()
                if self._checkpoints_seen.get(name) != (state.st_mtime_ns, state.st_size):
                    self._objects.write(bucket, _join(prefix, name), file.read_bytes())
                    self._checkpoints_seen[name] = (state.st_mtime_ns, state.st_size)
            except FileNotFoundError:
                continue

    def _download(self, channel: Mapping[str, Any]) -> None:
        name, source = channel["ChannelName"], channel["DataSource"].get("S3DataSource") or {}
        if source.get("S3DataType") != "S3Prefix":
            raise ChannelError(f"channel {name!r}: only an S3DataSource of type S3Prefix can be read locally")
        bucket, prefix = _split(source["S3Uri"])
        target = self.base / "input" / "data" / name
        target.mkdir()
        try:
            keys = [key for key in self._objects.keys(bucket, prefix) if not key.endswith("/")]
        except MissingBucket as error:
            raise ChannelError(f"bucket {bucket!r} does not exist") from error
        if not keys:
            raise ChannelError(
                f"No S3 objects found under S3 URL {source['S3Uri']!r} given in input data source (channel {name!r})"
            )
        folder = prefix.rstrip("/") + "/"
        inside = [key for key in keys if key.startswith(folder)]
        cut = len(folder) if inside else prefix.rfind("/") + 1  # as SageMaker, a prefix cuts at its last slash
        for key in inside or keys:
            self._write(target, key[cut:], self._objects.read(bucket, key))

    def _restore_checkpoints(self) -> None:
        uri = (self._request.get("CheckpointConfig") or {}).get("S3Uri")
        if not uri:
            return
        bucket, prefix = _split(uri)
        prefix = prefix.rstrip("/") + "/" if prefix else ""
        for key in self._objects.keys(bucket, prefix):
            name = key[len(prefix) :]
            if name and not name.endswith("/"):
                file = self._write(self.base / "checkpoints", name, self._objects.read(bucket, key))
                state = file.stat()
                self._checkpoints_seen[name] = (state.st_mtime_ns, state.st_size)

    @staticmethod
    def _write(folder: Path, name: str, content: bytes | None) -> Path:
        """Raises ChannelError for an object that is gone, or whose name leads out of the folder."""
        path = PurePosixPath(name)
        if content is None or path.is_absolute() or ".." in path.parts:
            raise ChannelError(f"{name!r} {'is gone' if content is None else 'would leave its folder'}")
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def _upload_archive(self, folder: str, name: str) -> str | None:
        root = self.base / folder
        if not any(path.is_file() for path in root.rglob("*")):
            return None
        bucket, prefix = _split(self._request["OutputDataConfig"]["S3OutputPath"])
        key = _join(prefix, self._request["TrainingJobName"], "output", name)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
            for path in sorted(root.iterdir()):
                archive.add(path, arcname=path.name)
        self._objects.write(bucket, key, buffer.getvalue())
        return f"s3://{bucket}/{key}"


def _split(uri: str) -> tuple[str, str]:
    """`("bucket", "some/key")` of `s3://bucket/some/key`. Raises ChannelError."""
    parts = urlparse(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise ChannelError(f"{uri!r} is no S3 address; expected s3://bucket/prefix")
    return parts.netloc, parts.path.lstrip("/")


def _join(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part.strip("/"))
