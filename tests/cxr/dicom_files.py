"""DICOM films for tests, each a CR object around given pixels."""

from __future__ import annotations

import io
import warnings
from typing import Any, Literal

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian


def chest(height: int = 300, width: int = 260) -> np.ndarray:
    """uint8 [h, w]: a bright body with one dark lung, darker towards the feet."""
    y, x = np.mgrid[:height, :width]
    lung = 120 * np.exp(-(((x - 80) / 34) ** 2) - ((y - 140) / 90) ** 2)
    return np.clip(200 - lung - y / 5, 0, 255).astype(np.uint8)


def cr(pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
    """A CR object of unsigned or signed [h, w]; `tags` overwrite what follows from the pixels."""
    dataset = Dataset()
    meta = dataset.file_meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("1.2.3")
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "CR", "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = pixels.shape
    bits = pixels.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    order: Literal[">", "<"] = ">" if syntax == ExplicitVRBigEndian else "<"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def twelve_bits(pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
    """uint8 pixels as 12 bits in 16."""
    return cr(pixels.astype(np.uint16) * 16, syntax, **{"BitsStored": 12, "HighBit": 11, **tags})


def lut(
    descriptor: list[int] | None, data: bytes | list[int] | None, vr: str = "OW", first: str = "US"
) -> list[Dataset]:
    """The value of a LUT sequence with one item."""
    item = Dataset()
    item.add_new("LUTDescriptor", first, descriptor)
    item.add_new("LUTData", vr, data)
    return [item]


def saved(dataset: Dataset) -> bytes:
    """Part 10 bytes."""
    syntax = dataset.file_meta.TransferSyntaxUID
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.set_original_encoding(syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def encapsulated(frame: bytes, syntax: str, pixels: np.ndarray, **tags: Any) -> bytes:
    """Part 10 bytes around a compressed frame of `pixels`."""
    dataset = cr(pixels, syntax, **tags)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    return saved(dataset)


def compressed(dataset: Dataset, syntax: str) -> bytes:
    """Part 10 bytes, compressed by pydicom's encoder of that syntax."""
    dataset.compress(syntax, generate_instance_uid=False)
    return saved(dataset)
