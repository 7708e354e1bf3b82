"""The /opt/ml folder of a training job: S3 to files before the command starts, files to S3 afterwards.

Channels are read-only inputs in File mode; checkpoints are restored before and synchronised during the job;
model.tar.gz and output.tar.gz hold the *contents* of model/ and output/data/, with no folder above them.
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


def split_uri(uri: str) -> tuple[str, str]:
    """`("bucket", "some/key")` of `s3://bucket/some/key`. Raises ChannelError."""
    parts = urlparse(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise ChannelError(f"{uri!r} is no S3 address; expected s3://bucket/prefix")
    return parts.netloc, parts.path.lstrip("/")


class MlFolder:
    """`base` in the place of /opt/ml for one CreateTrainingJob request."""

    def __init__(self, base: Path, request: Mapping[str, Any], account: str) -> None:
        self.base, self._request = base, request
        self._objects = Objects(account)
        self._checkpoints_seen: dict[str, tuple[int, int]] = {}

    def prepare(self) -> None:
        """Write configuration, channels and earlier checkpoints. Raises ChannelError."""
        shutil.rmtree(self.base, ignore_errors=True)
        for folder in ("model", "output/data", "code", "checkpoints", "input/config", "input/data"):
            (self.base / folder).mkdir(parents=True)
        channels = self._request.get("InputDataConfig") or []
        self._write_config("hyperparameters", self._request.get("HyperParameters") or {})
        self._write_config("inputdataconfig", {c["ChannelName"]: _channel_config(c) for c in channels})
        self._write_config("resourceconfig", _resource_config(self._request["ResourceConfig"]))
        for channel in channels:
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
        bucket, prefix = split_uri(uri)
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

    def _write_config(self, name: str, value: object) -> None:
        (self.base / "input" / "config" / f"{name}.json").write_text(json.dumps(value, indent=1))

    def _download(self, channel: Mapping[str, Any]) -> None:
        name, source = channel["ChannelName"], channel["DataSource"].get("S3DataSource")
        if source is None:
            raise ChannelError(f"channel {name!r}: only S3DataSource can be read locally")
        uri, kind = source["S3Uri"], source["S3DataType"]
        bucket, prefix = split_uri(uri)
        target = self.base / "input" / "data" / name
        target.mkdir()
        if kind == "S3Prefix":
            pairs = self._under_prefix(bucket, prefix)
        elif kind == "ManifestFile":
            pairs = self._in_manifest(bucket, prefix)
        else:
            raise ChannelError(f"channel {name!r}: S3DataType {kind} is unknown here; use S3Prefix or ManifestFile")
        for key, relative in pairs:
            data = self._objects.read(bucket, key) if kind == "S3Prefix" else self._objects.read(*split_uri(key))
            if data is None:
                raise ChannelError(f"channel {name!r}: {key} is gone")
            file = target / _safe(relative)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        if not pairs:
            raise ChannelError(
                f"No S3 objects found under S3 URL {uri!r} given in input data source (channel {name!r})"
            )

    def _under_prefix(self, bucket: str, prefix: str) -> list[tuple[str, str]]:
        """(key, path in the channel) of each object; as SageMaker, a prefix cuts at its last slash."""
        try:
            keys = [key for key in self._objects.keys(bucket, prefix) if not key.endswith("/")]
        except MissingBucket as error:
            raise ChannelError(f"bucket {bucket!r} does not exist") from error
        if prefix and not prefix.endswith("/") and any(key.startswith(f"{prefix}/") for key in keys):
            keys = [key for key in keys if key.startswith(f"{prefix}/")]
            cut = len(prefix) + 1
        else:
            cut = prefix.rfind("/") + 1
        return [(key, key[cut:]) for key in keys]

    def _in_manifest(self, bucket: str, key: str) -> list[tuple[str, str]]:
        data = self._objects.read(bucket, key)
        if data is None:
            raise ChannelError(f"manifest s3://{bucket}/{key} does not exist")
        head, *names = json.loads(data)
        return [(head["prefix"] + name, name) for name in names]

    def _restore_checkpoints(self) -> None:
        uri = (self._request.get("CheckpointConfig") or {}).get("S3Uri")
        if not uri:
            return
        bucket, prefix = split_uri(uri)
        folder = self.base / "checkpoints"
        prefix = prefix.rstrip("/") + "/" if prefix else ""
        for key in self._objects.keys(bucket, prefix):
            data, name = self._objects.read(bucket, key), key[len(prefix) :]
            if data is None or not name or name.endswith("/"):
                continue
            file = folder / _safe(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            self._checkpoints_seen[name] = (file.stat().st_mtime_ns, len(data))

    def _upload_archive(self, folder: str, name: str) -> str | None:
        root = self.base / folder
        if not any(path.is_file() for path in root.rglob("*")):
            return None
        bucket, prefix = split_uri(self._request["OutputDataConfig"]["S3OutputPath"])
        key = _join(prefix, self._request["TrainingJobName"], "output", name)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
            for path in sorted(root.iterdir()):
                archive.add(path, arcname=path.name)
        self._objects.write(bucket, key, buffer.getvalue())
        return f"s3://{bucket}/{key}"


def _channel_config(channel: Mapping[str, Any]) -> dict[str, str]:
    source = channel["DataSource"].get("S3DataSource") or {}
    config = {
        "TrainingInputMode": channel.get("InputMode", "File"),
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
    return {**config, **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {})}


def _resource_config(resources: Mapping[str, Any]) -> dict[str, Any]:
    kind = resources.get("InstanceType", "local")
    return {
        "current_host": "algo-1",
        "current_instance_type": kind,
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1"],
        "instance_groups": [{"instance_group_name": "homogeneousCluster", "instance_type": kind, "hosts": ["algo-1"]}],
        "network_interface_name": "lo",
    }


def _join(*parts: str) -> str:
    return "/".join(part.strip("/") for part in parts if part.strip("/"))


def _safe(name: str) -> PurePosixPath:
    """A key as a path inside its folder. Raises ChannelError for one that would leave it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ChannelError(f"key {name!r} would leave the channel's folder")
    return path
