"""models/current.json: which bundle serves now, and which one served before.

The rule defended here: the pointer is input like any other; a field of the wrong form refuses the whole pointer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

MAX_POINTER_BYTES = 1 << 16
_SHA256 = re.compile(r"[0-9a-f]{64}")


class PointerError(Exception):
    """The pointer is unusable; the message names the field."""


@dataclass(frozen=True)
class Release:
    """One promoted bundle. serial: raised by every promotion and rollback; version: of the model package, as text."""

    serial: int
    version: str
    bucket: str
    key: str
    version_id: str | None
    sha256: str
    package_arn: str | None

    def beside(self, name: str) -> str:
        """The key of a file that bundle.json names."""
        return self.key.rpartition("/")[0] + "/" + name


@dataclass(frozen=True)
class Pointer:
    current: Release
    previous: Release | None


def parse_pointer(text: bytes) -> Pointer:
    """Raises PointerError."""
    try:
        document = json.loads(text)
    except ValueError:
        raise PointerError("the pointer is no JSON; promote or roll back again") from None
    if not isinstance(document, dict) or document.get("schema_version") != 1:
        raise PointerError("the pointer's schema_version is not 1; deploy a function that knows it")
    previous = document.get("previous")
    return Pointer(_release(document), None if previous is None else _release(previous))


def _release(document: Any) -> Release:
    document = document if isinstance(document, dict) else {}
    bundle = document.get("bundle") if isinstance(document.get("bundle"), dict) else {}
    serial = document.get("serial")
    if not isinstance(serial, int) or isinstance(serial, bool) or serial < 0:
        raise PointerError("the pointer's serial is no integer from 0")
    for name in ("bucket", "key"):
        if not isinstance(bundle.get(name), str) or not bundle[name]:
            raise PointerError(f"the pointer's bundle.{name} is no text")
    if not isinstance(bundle.get("sha256"), str) or not _SHA256.fullmatch(bundle["sha256"]):
        raise PointerError("the pointer's bundle.sha256 is not 64 hexadecimal digits")
    return Release(
        serial=serial,
        version=str(document.get("version", "")),
        bucket=bundle["bucket"],
        key=bundle["key"],
        version_id=_text_or_none(bundle.get("version_id")),
        sha256=bundle["sha256"],
        package_arn=_text_or_none(document.get("model_package_arn")),
    )


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
