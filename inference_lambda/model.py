"""The model in memory.

A model answers only after its manifest, its bytes and its golden films have been verified.
What cannot be verified never replaces what was; a cold start without a usable current model serves the previous one,
and says so. Without a pointer no model is promoted, and none answers.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cxr import pointer as pointers
from cxr.bundle import MAX_MANIFEST_BYTES, Bundle, BundleError, sha256_of
from cxr.engine import Engine, EngineError
from cxr.pointer import Pointer, PointerError, Release
from cxr.result import Answerer
from cxr.verdict import Limits
from inference_lambda.log import error_name, error_places, log
from inference_lambda.store import Gone, NotModified, Store, Stored, TooLarge, is_transient

REFRESH_SECONDS = 60.0
RETRY_SECONDS = 5.0
"""After a refused model, even forced refreshes wait this long: each one may download the model again."""
MODEL = "model.tflite"
GOLDEN = "golden.npz"
GOLDEN_FILMS = 2
"""Run before a model is used: enough to see other kernels or other weights, and two inferences of a cold start."""
MAX_FILE_BYTES = 200 << 20
"""Two models fit into Lambda's smallest /tmp of 512 MB. VGG16 is 15 MB as int8 and 59 MB as float32."""


class ModelUnavailable(Exception):
    """There is no verified model to answer with."""


@dataclass(frozen=True)
class Model:
    """A verified model, its limits and the release that named it."""

    engine: Engine
    bundle: Bundle
    limits: Limits
    serial: int
    version: str
    package_arn: str | None

    @property
    def sha256(self) -> str:
        return self.bundle.model_sha256

    @property
    def answerer(self) -> Answerer:
        return Answerer(self.version, self.sha256, self.package_arn)


@dataclass
class Troubles:
    """Counts for the metrics of one batch."""

    refused: int = 0
    fallback: int = 0


class ModelSource:
    """Keeps the promoted model in memory; the pointer is read again at most every REFRESH_SECONDS unless forced."""

    def __init__(
        self,
        store: Store,
        bucket: str,
        pointer_key: str,
        scratch: Path,
        threads: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._bucket, self._pointer_key = store, bucket, pointer_key
        self._scratch, self._threads, self._clock = scratch, threads, clock
        self._model: Model | None = None
        self._etag: str | None = None
        self._due = float("-inf")
        self._retry_at = float("-inf")
        self.troubles = Troubles()

    def current(self) -> Model:
        """The model to answer with. Raises ModelUnavailable."""
        if self._clock() >= self._due:
            self._refresh()
        return self._in_memory()

    def refresh(self) -> Model:
        """As current(), but looks at the pointer now. Raises ModelUnavailable."""
        if self._clock() >= self._retry_at:
            self._refresh()
        return self._in_memory()

    def _in_memory(self) -> Model:
        if self._model is None:
            raise ModelUnavailable(
                "no verified model; look for model_refused or model_withdrawn in the log, then promote or roll back"
            )
        return self._model

    def _refresh(self) -> None:
        now = self._clock()
        self._due = now + REFRESH_SECONDS
        try:
            stored = self._store.get(self._bucket, self._pointer_key, pointers.MAX_BYTES, unless_etag=self._etag)
            pointer = pointers.parse(stored.body)
        except NotModified:
            return
        except Gone:
            self._withdraw()
            return
        except Exception as error:
            self._refuse(error, None)
            return
        self._adopt(pointer, stored)

    def _adopt(self, pointer: Pointer, stored: Stored) -> None:
        try:
            self._model = self._load(pointer.current)
            self._etag = stored.etag
            return
        except Exception as error:
            self._refuse(error, pointer.current)
        if self._model is None and pointer.previous is not None:
            try:
                self._model = self._load(pointer.previous)
                self.troubles.fallback += 1
                log("error", "model_fallback", serial=pointer.previous.serial, model=self._model.sha256[:16])
            except Exception as error:
                self._refuse(error, pointer.previous)

    def _withdraw(self) -> None:
        """The rollback of a first promotion deletes the pointer: what is in memory must not answer any more."""
        self._model, self._etag = None, None
        self._due = self._retry_at = self._clock() + RETRY_SECONDS
        self.troubles.refused += 1
        log("error", "model_withdrawn", why="there is no pointer; promote a model")

    def _refuse(self, error: Exception, release: Release | None) -> None:
        """Keeps what is in memory and forgets the pointer's ETag, so that the next look tries again.

        Whatever is not S3's passing trouble is a refusal, counted for the alarm at every look until it is mended: a
        missing right, a full disk or a file of another form keep a promoted model away just as a wrong sha256 does.
        """
        self._etag = None
        serial = None if release is None else release.serial
        if is_transient(error):
            log("warning", "model_unread", error=error_name(error), serial=serial)
            if self._model is None:
                self._due = float("-inf")
            return
        self._retry_at = self._clock() + RETRY_SECONDS
        if self._model is None:
            self._due = self._retry_at
        self.troubles.refused += 1
        why = str(error) if isinstance(error, (BundleError, EngineError, PointerError)) else None
        where = None if why else error_places(error)
        log("error", "model_refused", error=error_name(error), why=why, where=where, serial=serial)

    def _load(self, release: Release) -> Model:
        if release.bucket != self._bucket:
            raise PointerError("the pointer names a bundle outside the models bucket; promote from that bucket only")
        manifest = self._fetch(release.key, MAX_MANIFEST_BYTES, release.version_id)
        if (digest := sha256_of(manifest)) != release.sha256:
            raise BundleError(f"bundle.json has sha256 {digest[:16]}, the pointer says {release.sha256[:16]}")
        bundle = Bundle.from_json(manifest)
        limits = Limits.from_bundle(bundle)
        if self._model is not None and self._model.sha256 == bundle.model_sha256:
            return replace(self._model, bundle=bundle, limits=limits, **_names(release))
        engine = self._engine(release, bundle)
        return Model(engine, bundle, limits, **_names(release))

    def _engine(self, release: Release, bundle: Bundle) -> Engine:
        golden = self._fetch(release.beside(GOLDEN), MAX_FILE_BYTES)
        bundle.verify(GOLDEN, golden)
        data = self._fetch(release.beside(MODEL), MAX_FILE_BYTES)
        bundle.verify(MODEL, data)
        folder = self._scratch / bundle.model_sha256[:16]
        try:
            self._empty_scratch()
            folder.mkdir(parents=True)
            (folder / MODEL).write_bytes(data)
            del data
            bundle.verify(MODEL, folder / MODEL)
            engine = Engine(folder / MODEL, self._threads)
            if engine.side != bundle.side:
                raise BundleError(f"{MODEL} takes films of {engine.side} px, the bundle says {bundle.side}")
            engine.check_golden(golden, GOLDEN_FILMS)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return engine

    def _empty_scratch(self) -> None:
        """The model in memory keeps its mapping when its file is unlinked, so one file at most is named here."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _fetch(self, key: str, limit: int, version_id: str | None = None) -> bytes:
        try:
            return self._store.get(self._bucket, key, limit, version_id=version_id).body
        except Gone:
            raise BundleError("a file of the bundle is missing; promote a complete bundle") from None
        except TooLarge as error:
            raise BundleError(f"a file of the bundle is too large: {error}, the limit is {limit}") from None


def _names(release: Release) -> dict:
    return {"serial": release.serial, "version": release.version, "package_arn": release.package_arn}
