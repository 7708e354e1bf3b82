"""The DICOM branch of read_film.

Only a plain radiograph of the chest is read; what the header promises is capped before
anything is inflated or decoded; pixels come out as they would be presented (MONOCHROME1 inverted, rescale and VOI LUT
applied, BitsStored honoured); and no tag's text leaves this module, neither in errors nor in log lines nor in
warnings.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from cxr.film import (
    MAX_BYTES,
    Film,
    UnreadableImage,
    check_size,
    check_span,
    check_tail,
    look_up,
    square,
)
from cxr.headers import check_scans, jpeg_frame
from cxr.jpeg2000 import read_codestream

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

_DEFLATED = "1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", _DEFLATED})
_JPEG = "1.2.840.10008.1.2.4."
_DECODERS = {
    _RLE: "pydicom",
    _JPEG + "50": "pillow",
    _JPEG + "51": "gdcm",
    _JPEG + "57": "gdcm",
    _JPEG + "70": "gdcm",
    _JPEG + "80": "pyjpegls",
    _JPEG + "81": "pyjpegls",
    _JPEG + "90": "pylibjpeg",
    _JPEG + "91": "pylibjpeg",
}
"""Encapsulated transfer syntaxes and the pydicom plugin that decodes each: JPEG baseline, extended, lossless (2), LS
(2), 2000 (2).
"""
_J2K = frozenset({_JPEG + "90", _JPEG + "91"})
_LIBJPEG = frozenset({_JPEG + "50", _JPEG + "51", _JPEG + "57", _JPEG + "70"})
"""Decoded by libjpeg, which fills what is missing with the middle of the range; the other decoders refuse."""
_RLE_HEADER, _LONGEST_RUN = 64, 128
_MODALITIES = frozenset({"CR", "DX"})
_BODY_PARTS = (
    "ABDOMEN ANKLE ARM BREAST BRAIN CALCANEUS CALF CLAVICLE COCCYX CSPINE ELBOW EXTREMITY EYE FEMUR FINGER FOOT "
    "FOREARM HAND HEAD HIP HUMERUS JAW KNEE LEG LSPINE LSSPINE MAXILLA MANDIBLE NECK ORBIT PATELLA PELVIS RADIUS "
    "SACRUM SCAPULA SCROTUM SELLA SHOULDER SKULL SPINE TEETH THIGH THUMB TIBIA TOE TSPINE ULNA WRIST ZYGOMA"
)
"""Defined terms of DICOM PS3.16 annex L for CR and DX that are not the chest. Unknown words pass: sites write their
own.
"""


_MAX_DEPTH = 16
"""Bits per stored value that DICOM allows for CR and DX."""


_TAGS = (
    "Modality BodyPartExamined BurnedInAnnotation PresentationIntentType SamplesPerPixel PhotometricInterpretation "
    "NumberOfFrames Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue "
    "PixelPaddingRangeLimit RescaleSlope RescaleIntercept ModalityLUTSequence VOILUTSequence VOILUTFunction "
    "WindowCenter WindowWidth LUTDescriptor LUTData PixelData"
)
"""All that is ever parsed; who the patient is stays bytes."""


def read_dicom(data: bytes, side: int) -> Film:
    """A DICOM part 10 file of one CR or DX frame -> Film. Raises UnreadableImage for everything else."""
    try:
        dataset = _parse(data)
        _check_subject(dataset)
        return _develop(dataset, side)
    except (UnreadableImage, MemoryError):
        raise
    except Exception:
        raise UnreadableImage("dicom_damaged") from None


def _parse(data: bytes) -> Dataset:
    """The tags of _TAGS. A deflated data set is inflated here, up to the limit: pydicom would inflate it whatever its
    size.
    """
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import ExplicitVRLittleEndian

    stream = BytesIO(data)
    stream.seek(132)
    meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2)
    syntax = str(meta.TransferSyntaxUID)
    if syntax not in _NATIVE and syntax not in _DECODERS:
        raise UnreadableImage("dicom_encoding")
    if syntax != _DEFLATED:
        return dcmread(BytesIO(data), specific_tags=_TAGS.split())
    tags: list[BaseTag | int] = [Tag(keyword) for keyword in _TAGS.split()]
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(stream.read(), MAX_BYTES)
    if inflater.unconsumed_tail:
        raise UnreadableImage("file_too_large", bytes=len(inflated) + 1, limit=MAX_BYTES)
    dataset = read_dataset(BytesIO(inflated), is_implicit_VR=False, is_little_endian=True, specific_tags=tags)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.set_original_encoding(False, True)
    return dataset


def _check_subject(dataset: Dataset) -> None:
    """Is it one greyscale radiograph of a chest, small enough to decode?"""
    if _word(dataset, "Modality") not in _MODALITIES:
        raise UnreadableImage("dicom_modality")
    if _word(dataset, "BodyPartExamined") in _BODY_PARTS.split():
        raise UnreadableImage("dicom_body_part")
    if _word(dataset, "BurnedInAnnotation") == "YES":
        raise UnreadableImage("dicom_burned_in")
    if _word(dataset, "PresentationIntentType") == "FOR PROCESSING":
        raise UnreadableImage("dicom_for_processing")
    if _number(dataset, "NumberOfFrames", 1) != 1:
        raise UnreadableImage("multi_frame")
    width, height = _number(dataset, "Columns"), _number(dataset, "Rows")
    if "PixelData" not in dataset or width < 1 or height < 1:
        raise UnreadableImage("dicom_no_pixels")
    check_size(width, height)
    if _word(dataset, "PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnreadableImage("dicom_photometric")
    depth = _number(dataset, "BitsStored")
    layout = (_number(dataset, "SamplesPerPixel", 1), _number(dataset, "HighBit", depth - 1) - depth)
    if layout != (1, -1) or not 1 < depth <= _number(dataset, "BitsAllocated") <= _MAX_DEPTH:
        raise UnreadableImage("dicom_encoding")


def _develop(dataset: Dataset, side: int) -> Film:
    stored, depth = _stored_values(dataset), int(dataset.BitsStored)
    check_span(int(stored.min()), int(stored.max()))
    table = _presentation(dataset, depth, np.bincount(stored.ravel(), minlength=1 << depth) > 0)
    pixels = square(look_up(table, stored), side)
    check_span(int(pixels.min()), int(pixels.max()))
    return Film(pixels, "DICOM", int(dataset.Columns), int(dataset.Rows), 0.0)


def _stored_values(dataset: Dataset) -> np.ndarray:
    """unsigned [rows, columns] of the BitsStored low bits; what lies above them (overlays, sign) is masked away.

    Of a stream for libjpeg all bits are decoded first: what it fills in for missing ones is the middle of their range.
    """
    from pydicom.pixels import pixel_array

    syntax, stored = str(dataset.file_meta.TransferSyntaxUID), int(dataset.BitsStored)
    depth = 0 if syntax in _NATIVE else _check_frame(dataset, syntax)
    plugin, bits = _DECODERS.get(syntax, ""), max(stored, depth)
    decoded = pixel_array(dataset, index=0, raw=True, decoding_plugin=plugin, bits_stored=bits)
    if decoded.shape != (dataset.Rows, dataset.Columns):
        raise UnreadableImage("dicom_no_pixels")
    native = decoded.astype(decoded.dtype.newbyteorder("="), copy=False)
    unsigned = native.view(f"u{native.dtype.itemsize}")
    if depth:
        middle = 1 << (depth - 1)
        check_tail(unsigned, middle - 1, middle + 1)
    return unsigned & unsigned.dtype.type((1 << stored) - 1)


def _check_frame(dataset: Dataset, syntax: str) -> int:
    """The compressed stream has its own idea of its size: refuse it before a decoder believes it. Returns the bits of
    its values if libjpeg decodes it, else 0.
    """
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    size = (int(dataset.Columns), int(dataset.Rows))
    if syntax == _RLE:
        _check_run_lengths(frame, size[0] * size[1], int(dataset.BitsAllocated) // 8)
        return 0
    if syntax in _J2K:
        _check_codestream(frame, size)
        return 0
    depth = _check_jpeg(frame, size)
    return depth if syntax in _LIBJPEG else 0


def _check_jpeg(frame: bytes, size: tuple[int, int]) -> int:
    """The bits of its values. Raises unless it is a JPEG or JPEG-LS stream of `size` (width, height), of one component
    and of few scans.
    """
    check_scans(frame)
    header = jpeg_frame(frame)
    if header is None or header[:2] != size:
        raise UnreadableImage("dicom_no_pixels")
    if header.components != 1:
        raise UnreadableImage("dicom_encoding")
    return header.depth


def _check_codestream(frame: bytes, size: tuple[int, int]) -> None:
    """Is it a JPEG 2000 stream of `size` (width, height), cheap to decode and with all its tiles?"""
    promised = read_codestream(frame)
    if promised is None or promised[:2] != size:
        raise UnreadableImage("dicom_no_pixels")
    if not promised.bounded:
        raise UnreadableImage("dicom_encoding")
    if not promised.complete:
        raise UnreadableImage("damaged")


def _check_run_lengths(frame: bytes, limit: int, segments: int) -> None:
    """Adds up what each RLE segment (PS3.5 annex G) would unpack to; raises when one exceeds `limit` bytes.

    No stream needs two bytes for one, nor codes that write nothing (128) more often than the longest run.
    """
    count = int.from_bytes(frame[:4], "little")
    if not 1 <= count <= 2:
        raise UnreadableImage("dicom_encoding")
    if len(frame) > _RLE_HEADER + 2 * limit * segments:
        raise UnreadableImage("dicom_no_pixels")
    starts = [int.from_bytes(frame[4 * n : 4 * n + 4], "little") for n in range(1, count + 1)]
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        at, total, idle = start, 0, 0
        while at < end - 1 and total <= limit and idle <= limit // _LONGEST_RUN:
            control = frame[at]
            literal = control < 128
            idle += control == 128
            total += control + 1 if literal else 257 - control if control > 128 else 0
            at += control + 2 if literal else 2 if control > 128 else 1
        if total > limit + 1 or idle > limit // _LONGEST_RUN:
            raise UnreadableImage("dicom_no_pixels")


def _presentation(dataset: Dataset, depth: int, present: np.ndarray) -> np.ndarray:
    """uint8 [2**depth]: the grey level of each stored value, spread over the values that are `present` (bool
    [2**depth]).

    Working on the table of possible values instead of the pixels is exact and keeps a 25-megapixel film out of float64.
    """
    from pydicom.pixels import apply_modality_lut, apply_windowing

    values = np.arange(1 << depth)
    if dataset.get("PixelRepresentation") == 1:
        values[values >= 1 << (depth - 1)] -= 1 << depth
    padding = _padding(dataset, values)
    levels = apply_modality_lut(values, dataset)
    if dataset.get("VOILUTSequence"):
        levels = _voi_lut(levels, dataset.VOILUTSequence[0])
    elif None not in (dataset.get("WindowCenter"), dataset.get("WindowWidth")):
        levels = apply_windowing(levels, dataset)
    levels = np.asarray(levels, np.float64)
    seen = levels[present & ~padding]
    if not seen.size or not np.isfinite(levels).all():
        raise UnreadableImage("dicom_no_pixels")
    darkest, brightest = seen.min(), seen.max()
    if brightest <= darkest:
        raise UnreadableImage("constant_image", span=0, limit=2)
    grey = np.rint((levels - darkest).clip(0, brightest - darkest) * (255.0 / (brightest - darkest))).astype(np.uint8)
    if _word(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def _voi_lut(levels: np.ndarray, item: Dataset) -> np.ndarray:
    """A VOI LUT of PS3.3 C.11.2.1.1. (pydicom's wraps around when 8-bit entries number more than 256.)"""
    entries, first, _ = (int(number) for number in item.LUTDescriptor)
    data = item.LUTData
    lut = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
    entries = min(entries or 1 << 16, lut.size)
    return lut[np.rint(levels - first).clip(0, entries - 1).astype(np.int64)]


def _padding(dataset: Dataset, values: np.ndarray) -> np.ndarray:
    """bool, shaped as `values`: those that mean 'no pixel here'."""
    low = dataset.get("PixelPaddingValue")
    if low is None:
        return np.zeros(values.shape, bool)
    low = int(low)
    high = int(dataset.get("PixelPaddingRangeLimit") or low)
    return (values >= min(low, high)) & (values <= max(low, high))


def _word(dataset: Dataset, tag: str) -> str:
    return str(dataset.get(tag) or "").strip().upper()


def _number(dataset: Dataset, tag: str, default: int = 0) -> int:
    value = dataset.get(tag)
    return default if value is None or value == "" else int(value)
