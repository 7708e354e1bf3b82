"""DICOM part 10 files: only a plain radiograph of the chest is read, and it comes out as it would be presented.

No tag's text leaves this module, neither in errors nor in log lines nor in warnings.
"""

from __future__ import annotations

import numpy as np

from cxr.dicom_elements import PIXEL_DATA, read_elements
from cxr.dicom_header import BODY_PART, BURNED_IN, FRAMES, INTENT, LUT_SHAPE, MODALITY, PHOTOMETRIC, WANTED, Header
from cxr.dicom_pixels import is_supported, layout_of, stored_values
from cxr.dicom_presentation import is_windowed, presentation
from cxr.film import Film, UnreadableImage, check_span, look_up, square
from cxr.work import Work

_MODALITIES = frozenset({"CR", "DX"})
_DIRECTORY = 0x0004
"""The group of a DICOMDIR, which lists films and is none."""
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}
"""What PresentationLUTShape must be if it is there (PS3.3 C.8.11.3). Of a film that contradicts itself some viewers
show the negative (DCMTK), some do not (pydicom): whichever is taken, it might be the wrong one.
"""
_BODY_PARTS = frozenset(
    [
        "ABDOMEN",
        "ANKLE",
        "ARM",
        "BREAST",
        "BRAIN",
        "CALCANEUS",
        "CALF",
        "CLAVICLE",
        "COCCYX",
        "CSPINE",
        "ELBOW",
        "EXTREMITY",
        "EYE",
        "FEMUR",
        "FINGER",
        "FOOT",
        "FOREARM",
        "HAND",
        "HEAD",
        "HIP",
        "HUMERUS",
        "JAW",
        "KNEE",
        "LEG",
        "LSPINE",
        "LSSPINE",
        "MAXILLA",
        "MANDIBLE",
        "NECK",
        "ORBIT",
        "PATELLA",
        "PELVIS",
        "RADIUS",
        "SACRUM",
        "SCAPULA",
        "SCROTUM",
        "SELLA",
        "SHOULDER",
        "SKULL",
        "SPINE",
        "TEETH",
        "THIGH",
        "THUMB",
        "TIBIA",
        "TOE",
        "TSPINE",
        "ULNA",
        "WRIST",
        "ZYGOMA",
    ]
)
"""Defined terms of DICOM PS3.16 annex L for CR and DX that are not the chest. Unknown words pass: sites write their
own.
"""


def read_dicom(data: bytes, side: int, work: Work) -> Film:
    """A part 10 file of one CR or DX frame -> Film; side: px. Raises UnreadableImage for everything else."""
    dataset = read_elements(data, WANTED, work)
    header = Header(dataset)
    if MODALITY not in header.elements and (dataset.cut_off or dataset.last < MODALITY):
        raise UnreadableImage("dicom_no_pixels" if dataset.last >> 16 == _DIRECTORY else "dicom_damaged")
    _check_subject(header)
    if dataset.cut_off:
        raise UnreadableImage("dicom_damaged")
    if not is_supported(dataset.syntax):
        raise UnreadableImage("dicom_encoding")
    if PIXEL_DATA not in header.elements:
        raise UnreadableImage("dicom_no_pixels")
    if header.word(PHOTOMETRIC) not in _SHAPES:
        raise UnreadableImage("dicom_photometric")
    if header.word(LUT_SHAPE) not in ("", _SHAPES[header.word(PHOTOMETRIC)]):
        raise UnreadableImage("dicom_polarity")
    layout = layout_of(header)
    stored = stored_values(header, layout, work)
    present = np.bincount(stored.values.ravel(), minlength=1 << stored.depth) > 0
    table = presentation(header, stored.depth, stored.signed, present)
    pixels = square(look_up(table, stored.values), side)
    check_span(int(pixels.min()), int(pixels.max()), "dicom_window" if is_windowed(header) else "constant_image")
    return Film(pixels, "DICOM", layout.width, layout.height, 0.0)


def _check_subject(header: Header) -> None:
    """Is it one radiograph of a chest, made to be looked at?"""
    if header.word(MODALITY) not in _MODALITIES:
        raise UnreadableImage("dicom_modality")
    if header.word(BODY_PART) in _BODY_PARTS:
        raise UnreadableImage("dicom_body_part")
    if header.word(BURNED_IN) == "YES":
        raise UnreadableImage("dicom_burned_in")
    if header.word(INTENT) == "FOR PROCESSING":
        raise UnreadableImage("dicom_for_processing")
    if (header.decimal(FRAMES) or 1) != 1:
        raise UnreadableImage("multi_frame")
