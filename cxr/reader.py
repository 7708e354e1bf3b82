"""bytes -> Film. The one reader of images, shared by training and serving, so that both see the same pixels.

Whatever the bytes are, the answer is a Film or UnreadableImage with a reason; never another exception, never more than
a bounded amount of memory and of work (cxr.work). Sizes are checked in the header, before anything is decoded.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile

from cxr.bundle import SIDE
from cxr.dicom import read_dicom
from cxr.film import MAX_BYTES, Film, UnreadableImage
from cxr.png import MAGIC as PNG_MAGIC
from cxr.raster import read_jpeg_film, read_png_film
from cxr.work import Work

_JPEG_MAGIC = b"\xff\xd8"


def read_film(data: bytes, side: int = SIDE, work: Work | None = None) -> Film:
    """Reads a JPEG, PNG or DICOM image; `side`: px of the square that the model takes (cxr.bundle.SIDES); `work`:
    counts what the file costs. Raises UnreadableImage, and nothing else, for bytes that are no usable film.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on: half films would be judged; switch it off.")
    with _silence():
        return _read(data, side, Work() if work is None else work)


def _read(data: bytes, side: int, work: Work) -> Film:
    if not data:
        raise UnreadableImage("empty_file")
    if len(data) > MAX_BYTES:
        raise UnreadableImage("file_too_large", bytes=len(data), limit=MAX_BYTES)
    if data.startswith(_JPEG_MAGIC):
        return read_jpeg_film(data, side, work)
    if data.startswith(PNG_MAGIC):
        return read_png_film(data, side, work)
    if data[128:132] == b"DICM":
        return read_dicom(data, side, work)
    raise UnreadableImage("unsupported_format")


@contextmanager
def _silence() -> Iterator[None]:
    """Decoders quote what they read in warnings and log lines: nobody hears them, whatever the log level.

    Warning filters belong to the process: with several threads a filter may outlive its call, which only silences more.
    """
    for name in ("PIL", "jpeg_ls", "openjpeg"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
