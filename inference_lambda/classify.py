"""The function's own code on local files: python -m inference_lambda.classify FILE... --bundle DIR [--json] [--show]

What is printed for a file is what the function would have written for it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

from cxr.bundle import Bundle, BundleError, read_bundle
from cxr.engine import Engine, EngineError
from cxr.film import MAX_BYTES
from cxr.result import Answerer
from cxr.verdict import Limits
from inference_lambda.assessment import Assessment, Source, assess, too_large
from inference_lambda.model import GOLDEN_FILMS

DEFAULT_BUNDLE = Path("build/demo/bundle")
FILES = ("model.tflite", "golden.npz")


def main(arguments: list[str] | None = None) -> int:
    """0: every file got an answer (unreadable is one); 1: a file could not be opened; 2: no usable bundle."""
    options = _parser().parse_args(arguments)
    try:
        bundle = read_bundle(options.bundle, FILES)
        engine = Engine(options.bundle / "model.tflite", options.threads)
        engine.check_golden(options.bundle / "golden.npz", GOLDEN_FILMS)
    except (BundleError, EngineError, OSError) as error:
        print(f"{options.bundle}: {error}", file=sys.stderr)
        return 2
    failures = 0
    for file in options.files:
        failures += not _classify(file, engine, bundle, options)
    return 1 if failures else 0


def _classify(file: Path, engine: Engine, bundle: Bundle, options: argparse.Namespace) -> bool:
    limits = Limits.from_bundle(bundle)
    try:
        size = file.stat().st_size
        assessment = too_large(size, MAX_BYTES) if size > MAX_BYTES else assess(file.read_bytes(), engine, limits)
    except OSError as error:
        print(f"{file}: {error.strerror}", file=sys.stderr)
        return False
    document = assessment.result(Source(None, str(file)), Answerer(bundle.name, bundle.model_sha256), limits)
    print(json.dumps(document, ensure_ascii=False) if options.json else f"{file}: {_sentence(document)}")
    if options.show:
        _show(assessment, document)
    return True


def _sentence(document: dict[str, Any]) -> str:
    parts = [document["status"], document["priority"]]
    if document["status"] in ("ok", "uncertain") and document["label"]:
        parts = [f"{document['label']} {document['confidence']:.1%}", *parts]
    return ", ".join(parts) + "".join(f"\n  {why['code']}: {why['sentence']}" for why in document["reasons"])


def _show(assessment: Assessment, document: dict[str, Any]) -> None:
    """Film, verdict and heat map as one picture, opened by the desktop's viewer; prints where it is."""
    from PIL import Image, ImageDraw

    from cxr.overlay import LONG_SIDE, pair

    picture = Image.new("RGB", (2 * LONG_SIDE + 20, LONG_SIDE + 110), "white")
    if (film := assessment.film) and assessment.output:
        picture.paste(pair(film.pixels, assessment.output.heatmap, (film.width, film.height)), (10, 10))
    ImageDraw.Draw(picture).multiline_text((10, LONG_SIDE + 20), _sentence(document), "black")
    file = Path(tempfile.mkdtemp(prefix="cxr-")) / "verdict.png"
    picture.save(file)
    print(f"  shown: {file}", file=sys.stderr)
    webbrowser.open(file.as_uri())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inference_lambda.classify", description="Classify local images with a model bundle."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JPEG, PNG or DICOM")
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help=f"unpacked model.tar.gz ({DEFAULT_BUNDLE})")
    parser.add_argument("--json", action="store_true", help="one result document per line")
    parser.add_argument("--show", action="store_true", help="open film, verdict and heat map")
    parser.add_argument("--threads", type=int, default=1, help="threads of the engine (1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
