"""bundle.json: what a trained model is, what its limits are and which bytes belong to it.

A bundle is either complete and consistent or refused; a file is used only after its size and sha256 have been compared
with the manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cxr.labels import CLASSES

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
HEADS = ("gap", "flatten", "end_to_end")
SOURCES = ("imagenet", "channel", "random")
PRECISIONS = ("int8", "float16", "float32")
MAX_MANIFEST_BYTES = 1 << 20
MAX_DEPTH = 32
"""Of objects and lists in the manifest; the job writes six."""
LOW_CONFIDENCE = 0.70
"""Of the answer's label; below it a film is `uncertain`."""
SIDES = range(64, 321, 16)
"""Pixels a side of the square film that a model may take."""
SIDE = 224
"""Of a model that does not say another: VGG16's own."""
_SIDES_SAID = f"{SIDES.start} to {SIDES[-1]} px in steps of {SIDES.step}"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BLOCK = 1 << 20
_MOST = sys.float_info.max


class BundleError(Exception):
    """The bundle cannot be used; the message says which field or file, its value and what is expected."""


@dataclass(frozen=True)
class Bundle:
    """The parsed manifest; attributes are the fields of bundle.json (cxr/bundle.schema.json). Raises BundleError if
    inconsistent.

    threshold, low_confidence: probabilities. conformal["quantile"][class]: of 1 - p, None = infinite. ood["limit"]: in
    units of the model's ood_distance. temperature: already inside the graph, kept for the record. calibration: likewise
    {"slope", "offset", "prevalence"}, of which the first is 1 / temperature and the last what the probability stands
    for; None of a model that has a temperature alone.
    """

    name: str
    created_at: str
    files: dict[str, dict[str, Any]]
    head: str
    weights: dict[str, Any]
    precision: str
    temperature: float
    threshold: float
    conformal: dict[str, Any]
    ood: dict[str, Any]
    metrics: dict[str, Any]
    dataset: dict[str, Any]
    code_version: str
    versions: dict[str, str]
    seed: int
    fine_tune_blocks: int = 0
    low_confidence: float = LOW_CONFIDENCE
    classes: tuple[str, ...] = CLASSES
    input: dict[str, Any] | None = None
    calibration: dict[str, float] | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.input is None:
            object.__setattr__(self, "input", input_of(SIDE))
        _check(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Bundle:
        """Parses a manifest. Raises BundleError, for NaN, infinities, lone surrogates and deep nesting as well."""
        if len(text) > MAX_MANIFEST_BYTES:
            raise BundleError(f"bundle.json has {len(text)} bytes, the limit is {MAX_MANIFEST_BYTES}")
        try:
            document = json.loads(text)
            json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise BundleError(f"bundle.json is no JSON: {error}") from error
        if not isinstance(document, dict):
            raise BundleError(f"bundle.json holds a {type(document).__name__}, expected an object")
        if not _is_shallow(document, MAX_DEPTH):
            raise BundleError(f"bundle.json is nested more than {MAX_DEPTH} deep; train or promote a sound bundle")
        known = {field.name for field in fields(cls)}
        try:
            return cls(**{name: value for name, value in document.items() if name in known})
        except TypeError as error:
            raise BundleError(f"bundle.json: {error}") from error

    def to_json(self) -> bytes:
        """Canonical bytes: sorted keys, indent 2, utf-8, one newline at the end."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False).encode() + b"\n"

    @property
    def side(self) -> int:
        """Pixels a side of the film that the model takes, one of SIDES."""
        assert self.input is not None
        return self.input["shape"][1]

    @property
    def model_sha256(self) -> str:
        """sha256 of model.tflite, the identity of the deployed model."""
        return self.files["model.tflite"]["sha256"]

    def verify(self, name: str, source: Path | bytes) -> None:
        """Compares a file's size and sha256 with the manifest. Raises BundleError if they differ or the name is
        unknown.
        """
        if name not in self.files:
            raise BundleError(f"{name} is not in the bundle; it holds {sorted(self.files)}")
        expected = self.files[name]
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size != expected["bytes"]:
            raise BundleError(f"{name} has {size} bytes, the bundle says {expected['bytes']}; fetch it again")
        if (digest := sha256_of(source)) != expected["sha256"]:
            raise BundleError(
                f"{name} has sha256 {digest[:16]}, the bundle says {expected['sha256'][:16]}; fetch it again"
            )


def input_of(side: int) -> dict[str, Any]:
    """The manifest's `input` of a model that takes films of side x side px."""
    return {
        "shape": [1, side, side, 1],
        "dtype": "float32",
        "range": [0, 255],
        "resize": "stretch, Pillow BILINEAR, antialiased",
    }


def read_bundle(folder: Path, files: Iterable[str] = ()) -> Bundle:
    """The bundle unpacked in `folder`, after checking size and sha256 of the named `files`. Raises BundleError."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise BundleError(f"{folder} holds no {MANIFEST}; unpack a model.tar.gz there")
    with manifest.open("rb") as stream:
        bundle = Bundle.from_json(stream.read(MAX_MANIFEST_BYTES + 1))
    for name in files:
        if not (folder / name).is_file():
            raise BundleError(f"{name} is missing beside {MANIFEST}; unpack the whole model.tar.gz")
        bundle.verify(name, folder / name)
    return bundle


def sha256_of(source: Path | bytes) -> str:
    """Lower-case hexadecimal sha256 of a file (read in blocks) or of bytes."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _check(bundle: Bundle) -> None:
    known = _is_count(bundle.schema_version) and bundle.schema_version == SCHEMA_VERSION
    _expect("schema_version", bundle.schema_version, known, f"{SCHEMA_VERSION}")
    for name in ("name", "created_at", "code_version"):
        value = getattr(bundle, name)
        _expect(name, value, isinstance(value, str) and value != "", "a text")
    _expect("classes", bundle.classes, bundle.classes == CLASSES, f"{CLASSES}")
    _expect("input", bundle.input, _is_input(bundle.input), f"{input_of(SIDE)} or another side out of {_SIDES_SAID}")
    _expect("head", bundle.head, bundle.head in HEADS, f"one of {HEADS}")
    _expect("precision", bundle.precision, bundle.precision in PRECISIONS, f"one of {PRECISIONS}")
    _expect("weights", bundle.weights, _get(bundle.weights, "source") in SOURCES, f"a source out of {SOURCES}")
    for name in ("metrics", "dataset", "versions"):
        _expect(name, getattr(bundle, name), isinstance(getattr(bundle, name), Mapping), "an object")
    for name in ("seed", "fine_tune_blocks"):
        _expect(name, getattr(bundle, name), _is_count(getattr(bundle, name)), "an integer from 0")
    _expect_number("temperature", bundle.temperature, 0.0, math.inf, open_low=True)
    if bundle.calibration is not None:
        _expect_number("calibration.slope", _get(bundle.calibration, "slope"), 0.0, math.inf, open_low=True)
        _expect_number("calibration.offset", _get(bundle.calibration, "offset"), -math.inf, math.inf)
        prevalence = _get(bundle.calibration, "prevalence")
        _expect_number("calibration.prevalence", prevalence, 0.0, math.nextafter(1.0, 0.0), open_low=True)
    _expect_number("threshold", bundle.threshold, 0.0, 1.0)
    _expect_number("low_confidence", bundle.low_confidence, 0.5, 1.0)
    _expect_number("ood.limit", _get(bundle.ood, "limit"), 0.0, math.inf, open_low=True)
    _expect_number("conformal.alpha", _get(bundle.conformal, "alpha"), 0.0, 1.0, open_low=True)
    for label in CLASSES:
        quantile = _get(_get(bundle.conformal, "quantile"), label, default=math.nan)
        if quantile is not None:
            _expect_number(f"conformal.quantile.{label}", quantile, 0.0, 1.0)
    _check_files(bundle.files)


def _check_files(files: Mapping[str, Any]) -> None:
    _expect("files", files, isinstance(files, Mapping) and "model.tflite" in files, "an object that names model.tflite")
    for name, entry in files.items():
        _expect("files", name, isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None, "plain file names")
        digest, size = _get(entry, "sha256"), _get(entry, "bytes")
        good = isinstance(digest, str) and _SHA256.fullmatch(digest) is not None and _is_count(size)
        _expect(f"files.{name}", entry, good, "sha256 (64 hexadecimal digits) and bytes (an integer)")


def _get(mapping: Any, name: str, default: Any = None) -> Any:
    return mapping.get(name, default) if isinstance(mapping, Mapping) else default


def _is_shallow(value: Any, room: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return room > 0 and all(_is_shallow(item, room - 1) for item in inner)


def _is_input(document: Any) -> bool:
    shape = _get(document, "shape")
    side = shape[1] if isinstance(shape, list) and len(shape) == len(input_of(SIDE)["shape"]) else None
    same = isinstance(side, int) and side in SIDES and document == input_of(side)
    return same and not any(isinstance(number, bool) for number in (*document["shape"], *document["range"]))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _expect(name: str, value: Any, good: bool, expected: str) -> None:
    if not good:
        raise BundleError(f"bundle.json: {name} is {value!r:.80}, expected {expected}; train or promote a sound bundle")


def _expect_number(name: str, value: Any, low: float, high: float, open_low: bool = False) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and -_MOST <= value <= _MOST
    good = good and low <= value <= high and not (open_low and value == low)
    bound = f" to {high}" if high < math.inf else ""
    _expect(name, value, good, f"a finite number {'above' if open_low else 'from'} {low}{bound}")
