"""bytes -> Film. The one reader of images, shared by training and serving, so that both see the same pixels.

Whatever the bytes are, the answer is a Film or UnreadableImage with a reason; never another exception, never more than
a bounded amount of memory. Sizes are checked in the header, before anything is decoded.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from cxr.bundle import SIDE
from cxr.dicom import read_dicom
from cxr.film import MAX_BYTES, Film, UnreadableImage
from cxr.raster import read_raster

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def read_film(data: bytes, side: int = SIDE) -> Film:
    """Reads a JPEG, PNG or DICOM image; `side`: px of the square that the model takes (cxr.bundle.SIDES). Raises
    UnreadableImage, and nothing else, for bytes that are no usable film.
    """
    with _silence():
        return _read(data, side)


def _read(data: bytes, side: int) -> Film:
    if not data:
        raise UnreadableImage("empty_file")
    if len(data) > MAX_BYTES:
        raise UnreadableImage("file_too_large", bytes=len(data), limit=MAX_BYTES)
    if data.startswith(_JPEG_MAGIC):
        return read_raster(data, "JPEG", side)
    if data.startswith(_PNG_MAGIC):
        return read_raster(data, "PNG", side)
    if data[128:132] == b"DICM":
        return read_dicom(data, side)
    raise UnreadableImage("unsupported_format")


@contextmanager
def _silence() -> Iterator[None]:
    """Pillow and pydicom quote tags in warnings and log lines: nobody hears them, whatever the log level.

    Warning filters belong to the process: with several threads a filter may outlive its call, which only silences more.
    """
    for name in ("PIL", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
