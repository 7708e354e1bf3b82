"""Exactly one honest answer per upload.

What stands at results/<key>.json is about the current upload, by the newest model that
answered it. The result's ETag is read before the upload, and the write succeeds only if that result still stands, so
duplicates, disorder, overwrites, promotions midway and a stale warm container cannot leave an old answer standing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from cxr import overlay
from cxr import result as results
from cxr.film import MAX_BYTES
from cxr.result import Mark
from inference_lambda.assessment import Assessment, Source, assess, too_large
from inference_lambda.config import Config
from inference_lambda.events import MAX_KEY_BYTES, Upload
from inference_lambda.model import Model, ModelSource
from inference_lambda.store import Conflict, Gone, Store, Stored, TooLarge

MAX_ATTEMPTS = 8
"""Each lost race means that somebody else wrote an answer; eight in a row is a fault, and the queue tries again
later.
"""

DONE, SKIPPED = "done", "skipped"


class NoAnswer(Exception):
    """No answer could be written now; another try may succeed. The message is safe to log."""


class OutOfTime(NoAnswer):
    """The time budget ended before the answer was written."""


class WrongBucket(Exception):
    """The upload is not in the uploads bucket, whose results this function may write."""


class KeyTooLong(Exception):
    """The upload's key leaves no room for its result's within S3's limit. The message is safe to log."""


class WrongModel(Exception):
    """Another model than the expected one would answer."""


@dataclass(frozen=True)
class Answer:
    """outcome: done (a result was written) or skipped (nothing to do: answered, deleted or a folder marker)."""

    outcome: str
    attempts: int
    assessment: Assessment | None = None
    why: str | None = None


class Answerer:
    """Answers uploads of one bucket into the results bucket."""

    def __init__(self, config: Config, store: Store, models: ModelSource) -> None:
        self._config, self._store, self._models = config, store, models

    def answer(
        self, upload: Upload, has_time: Callable[[], bool] = lambda: True, expect_sha256: str | None = None
    ) -> Answer:
        """Raises NoAnswer, WrongBucket, KeyTooLong, WrongModel, ModelUnavailable or what S3 raised."""
        if upload.bucket != self._config.uploads_bucket:
            raise WrongBucket("the object is not in the uploads bucket; check the notification or the manifest")
        if (length := len(results.key_of(upload.key).encode("utf-8", "surrogatepass"))) > MAX_KEY_BYTES:
            raise KeyTooLong(
                f"the result's key has {length} bytes, the limit is {MAX_KEY_BYTES}; give the upload a shorter one"
            )
        model = self._models.current()
        for attempt in range(1, MAX_ATTEMPTS + 1):
            _check_time(has_time)
            if expect_sha256 not in (None, model.sha256):
                raise WrongModel(f"model {model.sha256[:16]} would answer, {str(expect_sha256)[:16]} was expected")
            try:
                return replace(self._attempt(upload, model, has_time), attempts=attempt)
            except _StaleModel:
                newer = self._models.refresh()
                if newer.serial <= model.serial and attempt > 1:
                    raise NoAnswer("the standing result is by a newer model than this instance can load") from None
                model = newer
            except Conflict:
                model = self._models.current()
        raise NoAnswer(f"lost {MAX_ATTEMPTS} races for the result")

    def _attempt(self, upload: Upload, model: Model, has_time: Callable[[], bool]) -> Answer:
        """Looks at the time before whatever is slow: one call that stalls must not take the batch with it."""
        result_key = results.key_of(upload.key)
        standing = self._store.head(self._config.results_bucket, result_key)
        _check_time(has_time)
        started = time.perf_counter()
        try:
            stored = self._store.get(upload.bucket, upload.key, MAX_BYTES)
        except Gone:
            return Answer(SKIPPED, 0, why="deleted")
        except TooLarge as error:
            stored = error.stored
        if upload.key.endswith("/") and stored.size == 0:
            return Answer(SKIPPED, 0, why="folder")
        read_ms = (time.perf_counter() - started) * 1000
        said = Mark.of(standing.metadata) if standing else None
        about_this = said and (said.upload_version, said.upload_etag) == (stored.version_id, stored.etag)
        earlier = said if about_this else None
        if why := self._settled(said, earlier, model):
            return Answer(SKIPPED, 0, why=why)
        _check_time(has_time)
        assessment = self._assess(stored, model)
        assessment.durations["read"] = read_ms
        _check_time(has_time)
        heatmap = self._write_heatmap(upload, model, assessment)
        source = Source(upload.bucket, upload.key, stored.version_id, stored.etag)
        document = assessment.result(source, model.answerer, model.limits, heatmap, earlier)
        _check_time(has_time)
        self._store.put_over(
            self._config.results_bucket,
            result_key,
            results.to_bytes(document),
            results.CONTENT_TYPE,
            results.mark(document, model.serial).as_metadata(),
            standing,
        )
        return Answer(DONE, 0, assessment)

    def _settled(self, standing: Mark | None, earlier: Mark | None, model: Model) -> str | None:
        """Why nothing needs to be written, or None. `earlier` is `standing` if it is about this version of the upload.

        Raises _StaleModel when the standing result was written under a higher serial than the model's.
        """
        if earlier and earlier.model_sha256 == model.sha256:
            return "answered"
        if standing and standing.serial > model.serial:
            if earlier and self._models.refresh().serial <= model.serial:
                return "answered_by_newer_model"
            raise _StaleModel
        return None

    def _assess(self, stored: Stored, model: Model) -> Assessment:
        if stored.size > MAX_BYTES:
            return too_large(stored.size, MAX_BYTES)
        return assess(stored.body, model.engine, model.limits)

    def _write_heatmap(self, upload: Upload, model: Model, assessment: Assessment) -> dict[str, str] | None:
        """Written before the result that names it; its key depends on its content, so nobody's is overwritten."""
        if assessment.film is None or assessment.output is None or assessment.sha256 is None:
            return None
        if not self._config.draws(assessment.verdict):
            return None
        key = results.heatmap_key(upload.key, assessment.sha256, model.sha256)
        if len(key.encode()) > MAX_KEY_BYTES:
            return None
        started = time.perf_counter()
        film = assessment.film
        png = overlay.png(overlay.overlay(film.pixels, assessment.output.heatmap, (film.width, film.height)))
        assessment.durations["heatmap"] = (time.perf_counter() - started) * 1000
        self._store.put(self._config.results_bucket, key, png, "image/png")
        return {"bucket": self._config.results_bucket, "key": key}


class _StaleModel(Exception):
    """The standing result was written under a higher serial than this model's."""


def _check_time(has_time: Callable[[], bool]) -> None:
    if not has_time():
        raise OutOfTime("the time budget ended")
