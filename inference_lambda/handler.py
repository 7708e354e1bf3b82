"""The function's entry point under awslambdaric: `inference_lambda.handler.handler`.

One bad record never fails its neighbours; records that there is no time for are handed back
instead of being lost in a timeout; every batch leaves one line of metrics; no exception that leaves here quotes a
key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inference_lambda.answer import DONE, Answer, Answerer, KeyTooLong, NoAnswer, OutOfTime, WrongBucket, WrongModel
from inference_lambda.config import Config
from inference_lambda.events import (
    UnknownEvent,
    Upload,
    direct_request,
    is_direct,
    is_queue_batch,
    uploads_of,
    uploads_of_message,
)
from inference_lambda.log import error_name, error_places, log, metrics
from inference_lambda.model import ModelSource, ModelUnavailable
from inference_lambda.store import Gone, Store, TooLarge

RESERVE_MS = 20_000
"""Handed back instead of started, assessed or written when less is left: what one call to an S3 that does not answer
costs (inference_lambda.store). A quarter of the whole time for functions with short timeouts.
"""
MAX_MANIFEST_BYTES = 4 << 20
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
_STATUS_METRICS = {
    "ok": "Ok",
    "uncertain": "Uncertain",
    "out_of_distribution": "OutOfDistribution",
    "unreadable": "Unreadable",
}
_HOPELESS = (WrongBucket, KeyTooLong)
_SAFE_MESSAGES = (*_HOPELESS, NoAnswer, WrongModel, ModelUnavailable, UnknownEvent)


class Fault(Exception):
    """Something unforeseen, by its type alone: the runtime logs messages, and foreign messages may quote a key."""


class Unanswered(Exception):
    """Some uploads of an S3 event have no answer yet; raised so that Lambda delivers the event again."""


@dataclass
class Tally:
    """What a batch came to: counts per metric and the latencies in ms."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys((*_STATUS_METRICS.values(), "Skipped", "Failed", "Unfinished"), 0)
    )
    latencies: dict[str, list[float]] = field(default_factory=lambda: {"Duration": [], "UploadToResult": []})


class Function:
    """One warm function instance."""

    def __init__(self, config: Config, store: Store | None = None) -> None:
        self.config = config
        self.store = store or Store()
        self.models = ModelSource(self.store, config.models_bucket, config.pointer_key, config.scratch, config.threads)
        self._answerer = Answerer(config, self.store, self.models)
        log("info", "started", cpu_flags=_cpu_flags(), threads=config.threads, memory_mb=config.memory_mb)

    def handle(self, event: Any, context: Any) -> dict[str, Any]:
        """Dispatches on the form of the event. Raises UnknownEvent, WrongModel, Unanswered or Fault."""
        batch = Batch(self._answerer, _time_left(context), str(getattr(context, "aws_request_id", "")) or None)
        try:
            if is_queue_batch(event):
                return batch.queue(event["Records"])
            if is_direct(event):
                return self._direct(event, batch)
            return batch.notification(uploads_of(event))
        except (*_SAFE_MESSAGES, Unanswered):
            raise
        except Exception as error:
            log("error", "fault", error=error_name(error), where=error_places(error))
            raise Fault(error_name(error)) from None
        finally:
            self._report(batch.tally)

    def _direct(self, event: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        request = direct_request(event)
        uploads = request.uploads if request.manifest is None else self._manifest(*request.manifest)
        if request.expect_sha256 is not None:
            self.models.refresh()
        return batch.direct(uploads, request.expect_sha256)

    def _manifest(self, bucket: str, key: str) -> tuple[Upload, ...]:
        if bucket != self.config.results_bucket:
            raise UnknownEvent("the manifest is not in the results bucket")
        try:
            return uploads_of_message(self.store.get(bucket, key, MAX_MANIFEST_BYTES).body)
        except Gone:
            raise UnknownEvent("there is no such manifest") from None
        except TooLarge:
            raise UnknownEvent(f"the manifest has more than {MAX_MANIFEST_BYTES} bytes; write several") from None

    def _report(self, tally: Tally) -> None:
        troubles, self.models.troubles = self.models.troubles, type(self.models.troubles)()
        counts = {**tally.counts, "ModelRefused": troubles.refused, "ModelFallback": troubles.fallback}
        metrics(counts, tally.latencies, self.config.function_name)


class Batch:
    """The uploads of one invocation."""

    def __init__(self, answerer: Answerer, time_left: Callable[[], float], request_id: str | None) -> None:
        self._answerer, self._time_left, self._request_id = answerer, time_left, request_id
        self._reserve_ms = min(RESERVE_MS, time_left() / 4)
        self.tally = Tally()

    def queue(self, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """SQS: names the messages that have to come again."""
        failures = []
        for record in records:
            try:
                uploads = uploads_of_message(record.get("body", ""))
                answered = [self._try(upload) in ("done", "skipped") for upload in uploads]
            except UnknownEvent as error:
                self._count("Failed")
                log("error", "message_refused", error=error_name(error), why=str(error), request_id=self._request_id)
                answered = [False]
            if not all(answered):
                failures.append({"itemIdentifier": record["messageId"]})
        return {"batchItemFailures": failures}

    def direct(self, uploads: Iterable[Upload], expect_sha256: str | None = None) -> dict[str, Any]:
        """A caller that waits: says what became of each upload. Raises WrongModel as soon as another model answers."""
        answer: dict[str, list] = {"done": [], "skipped": [], "unfinished": [], "failed": []}
        for upload in uploads:
            outcome = self._try(upload, expect_sha256)
            named = {"bucket": upload.bucket, "key": upload.key}
            answer[outcome].append(upload.key if outcome in ("done", "skipped") else named)
        return answer

    def notification(self, uploads: Iterable[Upload]) -> dict[str, Any]:
        """S3 calling directly. Raises Unanswered if anything is left over: Lambda tries the whole event again."""
        answer = self.direct(uploads)
        if left := len(answer["unfinished"]) + len(answer["failed"]):
            raise Unanswered(f"{left} uploads of the event have no answer yet")
        return answer

    def _try(self, upload: Upload, expect_sha256: str | None = None) -> str:
        """done, skipped, unfinished (may succeed later) or failed (will not)."""
        started = time.perf_counter()
        try:
            if not self._has_time():
                raise OutOfTime("the time budget ended")
            answer = self._answerer.answer(upload, self._has_time, expect_sha256)
        except WrongModel:
            raise
        except OutOfTime:
            self._count("Unfinished")
            return "unfinished"
        except Exception as error:
            self._count("Failed")
            log(
                "error",
                "no_answer",
                error=error_name(error),
                why=str(error) if isinstance(error, _SAFE_MESSAGES) else None,
                where=error_places(error),
                request_id=self._request_id,
            )
            return "failed" if isinstance(error, _HOPELESS) else "unfinished"
        self._record(upload, answer, (time.perf_counter() - started) * 1000)
        return answer.outcome

    def _has_time(self) -> bool:
        return self._time_left() > self._reserve_ms

    def _count(self, name: str) -> None:
        self.tally.counts[name] += 1

    def _record(self, upload: Upload, answer: Answer, total_ms: float) -> None:
        assessed = answer.assessment
        if answer.outcome != DONE or assessed is None:
            self._count("Skipped")
            log("info", "skipped", why=answer.why, attempts=answer.attempts, request_id=self._request_id)
            return
        self._count(_STATUS_METRICS[assessed.verdict.status])
        self.tally.latencies["Duration"].append(round(total_ms, 1))
        if (waited := _ms_since(upload.uploaded_at)) is not None:
            self.tally.latencies["UploadToResult"].append(waited)
        log(
            "info",
            "answered",
            upload=(assessed.sha256 or "")[:16],
            status=assessed.verdict.status,
            codes=[why.code for why in assessed.verdict.reasons],
            attempts=answer.attempts,
            request_id=self._request_id,
            total_ms=round(total_ms, 1),
            **{f"{step}_ms": round(spent, 1) for step, spent in assessed.durations.items()},
        )


_function: Function | None = None


def handler(event: Any, context: Any) -> dict[str, Any]:
    """The Lambda handler. The instance is made on the first call and stays warm."""
    global _function
    if _function is None:
        _function = Function(Config.from_environment())
    return _function.handle(event, context)


def _time_left(context: Any) -> Callable[[], float]:
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return remaining if remaining is not None else lambda: float("inf")


def _ms_since(timestamp: str | None) -> float | None:
    """Milliseconds since an RFC 3339 time, at least 0; None for anything else."""
    try:
        then = datetime.fromisoformat(timestamp or "")
    except ValueError:
        return None
    if then.tzinfo is None:
        return None
    return max(0.0, round((datetime.now(UTC) - then).total_seconds() * 1000, 1))


def _cpu_flags() -> list[str]:
    """Which instructions that speed up int8 this host has."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [flag for flag in _CPU_FLAGS if flag in words]
