"""DICOM files that have hurt readers, all made here; the patient in their headers must never be seen outside."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.poison.poison_raster import HEIGHT, JUDGED, WIDTH, Case, encoded, film

PATIENT = "DOE^JANE"
PATIENT_ID = "MRN-4711-0815"
MPEG2 = "1.2.840.10008.1.2.4.100"


def header(pixels: np.ndarray, stored: int | None = None, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
    """A CR object around uint8/uint16/int16 [h, w]; `stored` = BitsStored."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    meta.MediaStorageSOPInstanceUID = UID("1.2.826.0.1.3680043.8.498.1")
    meta.TransferSyntaxUID = UID(syntax)
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    bits = pixels.dtype.itemsize * 8
    dataset.PatientName, dataset.PatientID = PATIENT, PATIENT_ID
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = "CR", 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, stored or bits, (stored or bits) - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.astype(
        pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")
    ).tobytes()
    dataset["PixelData"].VR = "OW"
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    return dataset


def saved(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    syntax = dataset.file_meta.TransferSyntaxUID
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.set_original_encoding(syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
        pydicom.dcmwrite(stream, dataset)
    return stream.getvalue()


def compressed(pixels: np.ndarray, syntax: str, stored: int | None = None) -> Dataset:
    dataset = header(pixels, stored)
    dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def frame_of(dataset: Dataset) -> bytes:
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


def encapsulated(frame: bytes, syntax: str, pixels: np.ndarray, **tags: Any) -> bytes:
    dataset = header(pixels, syntax=syntax, **tags)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    return saved(dataset)


def lut(values: np.ndarray, first: int, depth: int) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values), first, depth])
    item.add_new("LUTData", "OW", values.astype("<u2").tobytes())
    return Sequence([item])


def sound() -> Iterator[Case]:
    """Every legal way to store the film: all must be judged as the plain one."""
    grey = film()
    deep = grey.astype(np.uint16)
    yield "monochrome2.dcm", saved(header(grey)), JUDGED, ""
    yield "monochrome1.dcm", saved(header(255 - grey, PhotometricInterpretation="MONOCHROME1")), JUDGED, ""
    yield "dx.dcm", saved(header(grey, Modality="DX", BodyPartExamined="CHEST", BurnedInAnnotation="NO")), JUDGED, ""
    yield "implicit.dcm", saved(header(grey, syntax=ImplicitVRLittleEndian)), JUDGED, ""
    yield "big_endian.dcm", saved(header(deep * 16, 12, ExplicitVRBigEndian)), JUDGED, ""
    yield "deflated.dcm", saved(header(grey, syntax=DeflatedExplicitVRLittleEndian)), JUDGED, ""
    yield "12_bit.dcm", saved(header(deep * 16, 12)), JUDGED, ""
    yield "overlay_in_the_high_bits.dcm", saved(header(deep * 4 | 0xF000, 10)), JUDGED, ""
    signed = (deep.astype(np.int16) - 128) * 200
    yield "16_bit_signed.dcm", saved(header(signed, RescaleSlope=1, RescaleIntercept=-1024)), JUDGED, ""
    yield "12_bit_signed.dcm", saved(header(((deep.astype(np.int16) - 128) * 8) & 0x0FFF, 12)), JUDGED, ""
    yield "negative_slope.dcm", saved(header(255 - grey, RescaleSlope=-1, RescaleIntercept=255)), JUDGED, ""
    yield "window.dcm", saved(header(deep * 4 + 1000, 12, WindowCenter=1510, WindowWidth=1021)), JUDGED, ""
    two: dict[str, Any] = {"WindowCenter": [1510, 9], "WindowWidth": [1021, 2]}
    yield "two_windows.dcm", saved(header(deep * 4 + 1000, 12, **two)), JUDGED, ""
    ramp = np.arange(1024) // 4
    yield "voi_lut_of_8_bit_entries.dcm", saved(header(deep * 4, 10, VOILUTSequence=lut(ramp, 0, 8))), JUDGED, ""
    yield "modality_lut.dcm", saved(header(deep, 8, ModalityLUTSequence=lut(np.arange(256) * 16, 0, 16))), JUDGED, ""
    padded = deep * 16
    padded[:4, :8] = 4095
    yield "padding.dcm", saved(header(padded, 12, PixelPaddingValue=4095)), JUDGED, ""
    yield "one_frame_stated.dcm", saved(header(grey, NumberOfFrames=1)), JUDGED, ""
    yield "rle.dcm", saved(compressed(grey, RLELossless)), JUDGED, ""
    yield "rle_16_bit.dcm", saved(compressed(deep * 16, RLELossless, 12)), JUDGED, ""
    yield "jpeg_2000.dcm", saved(compressed(deep * 16, JPEG2000Lossless, 12)), JUDGED, ""
    yield "jpeg_ls.dcm", saved(compressed(deep * 16, JPEGLSLossless, 12)), JUDGED, ""
    yield "jpeg_baseline.dcm", encapsulated(encoded(grey, "JPEG", quality=95), JPEGBaseline8Bit, grey), JUDGED, ""
    yield "jpeg_lossless.dcm", encapsulated(lossless_jpeg(grey), JPEGLosslessSV1, grey), JUDGED, ""
    deeper = encapsulated(lossless_jpeg(deep * 16, 16), JPEGLosslessSV1, deep, stored=12)
    yield "jpeg_lossless_12_bit_in_16.dcm", deeper, JUDGED, ""
    tiled = encoded(grey, "JPEG2000", no_jp2=True, tile_size=(64, 64))
    yield "jpeg_2000_in_tiles.dcm", encapsulated(tiled, JPEG2000, grey), JUDGED, ""
    yield "jpeg_2000_file.dcm", encapsulated(encoded(grey, "JPEG2000"), JPEG2000, grey), JUDGED, ""
    yield "patient_everywhere.dcm", saved(everywhere(grey)), JUDGED, ""


def unusual() -> Iterator[Case]:
    """What equipment and archives make of sound films: every viewer shows the plain one."""
    grey = film()
    deep = grey.astype(np.uint16)
    negative: dict[str, Any] = {
        "RescaleSlope": -10,
        "RescaleIntercept": 3000,
        "WindowCenter": 1725,
        "WindowWidth": 2551,
    }
    yield "negative_slope_and_window.dcm", saved(header(255 - grey, **negative)), JUDGED, ""
    for function, width in (("LINEAR_EXACT", 2550), ("SIGMOID", 30000)):
        tags: dict[str, Any] = {**negative, "VOILUTFunction": function, "WindowWidth": width}
        yield f"negative_slope_and_{function.lower()}_window.dcm", saved(header(255 - grey, **tags)), JUDGED, ""
    turned = header(grey, PhotometricInterpretation="MONOCHROME1", **negative)
    yield "negative_slope_and_window_of_monochrome1.dcm", saved(turned), JUDGED, ""
    packed, words = bytes(range(256)), np.arange(256)
    yield "packed_voi_lut.dcm", saved(header(grey, VOILUTSequence=packed_lut(packed))), JUDGED, ""
    yield "packed_modality_lut.dcm", saved(header(grey, ModalityLUTSequence=packed_lut(packed))), JUDGED, ""
    below = lut(np.arange(1256) * 50, 64536, 16)
    yield "lut_from_minus_1000_written_unsigned.dcm", saved(header(grey, VOILUTSequence=below)), JUDGED, ""
    yield (
        "empty_lut_before_a_lut.dcm",
        saved(header(grey, VOILUTSequence=Sequence([Dataset(), *lut(words, 0, 8)]))),
        JUDGED,
        "",
    )
    empty: dict[str, Any] = {"RescaleSlope": None, "RescaleIntercept": None, "WindowCenter": 128, "WindowWidth": 256}
    yield "empty_rescale.dcm", saved(header(grey, **empty)), JUDGED, ""
    yield "empty_voi_lut.dcm", saved(header(grey, VOILUTSequence=Sequence([Dataset()]))), JUDGED, ""
    first: dict[str, Any] = {"WindowCenter": ["", "128"], "WindowWidth": ["1", "256"]}
    yield "first_of_two_windows_empty.dcm", saved(header(grey, **first)), JUDGED, ""
    yield "window_of_no_width.dcm", saved(header(grey, WindowCenter=9, WindowWidth=0)), JUDGED, ""
    yield "no_frames_stated.dcm", saved(header(grey, NumberOfFrames=0)), JUDGED, ""
    shifted = header((deep * 16) << 4 | 0xF, 12, HighBit=15)
    yield "high_bit_elsewhere.dcm", saved(shifted), JUDGED, ""
    swapped = header(grey, syntax=ExplicitVRBigEndian)
    swapped.PixelData = np.frombuffer(grey.tobytes(), "<u2").astype(">u2").tobytes()
    yield "big_endian_bytes_in_words.dcm", saved(swapped), JUDGED, ""
    lossless = header(deep * 16, 12)
    yield "plain_pixels_called_jpeg_lossless.dcm", relabelled(saved(lossless), JPEGLosslessSV1), JUDGED, ""
    yield "implicit_called_explicit.dcm", relabelled(saved(header(grey, syntax=ImplicitVRLittleEndian))), JUDGED, ""
    yield "junk_after_the_pixels.dcm", saved(header(grey)) + bytes(100_000), JUDGED, ""
    extended = encapsulated(extended_jpeg(deep * 16), JPEGExtended12Bit, deep, stored=12)
    yield "jpeg_extended_12_bit.dcm", extended, JUDGED, ""
    yield "jpeg_extended_8_bit.dcm", encapsulated(extended_jpeg(grey, 8), JPEGExtended12Bit, grey), JUDGED, ""
    jpeg = encoded(grey, "JPEG", quality=95)
    yield "jpeg_of_8_bit_in_16.dcm", encapsulated(jpeg, JPEGBaseline8Bit, deep, stored=8), JUDGED, ""
    for name, syntax in (("jpeg_ls", JPEGLSLossless), ("jpeg_2000", JPEG2000Lossless), ("rle", RLELossless)):
        yield f"{name}_without_delimiter.dcm", saved(compressed(deep * 16, syntax, 12))[:-8], JUDGED, ""
    stream = encoded(grey, "JPEG2000", no_jp2=True)
    comment = b"\xff\x64\0\x0b\0\1PADDING"
    yield (
        "jpeg_2000_with_a_late_comment.dcm",
        encapsulated(stream[:-2] + comment + stream[-2:], JPEG2000, grey),
        JUDGED,
        "",
    )
    packed_rle = frame_of(compressed(grey, RLELossless))
    idle = packed_rle[:64] + b"\x80" * 100_000 + packed_rle[64:]
    yield "rle_of_100000_idle_codes.dcm", encapsulated(idle, RLELossless, grey), JUDGED, ""


def packed_lut(entries: bytes) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), 0, 8])
    item.add_new("LUTData", "OW", entries)
    return Sequence([item])


def relabelled(data: bytes, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The file with another transfer syntax in its header."""
    for said in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        stated, wrong = (
            struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid) + len(uid) % 2) + uid.encode() + b"\0" * (len(uid) % 2)
            for uid in (said, syntax)
        )
        if stated in data:
            return data.replace(stated, wrong)
    raise ValueError("neither explicit nor implicit")


def lossless_jpeg(values: np.ndarray, depth: int = 8) -> bytes:
    """Process 14, selection value 1, predictor 'left'; each category's Huffman code is its number in 5 bits."""
    signed = values.astype(np.int32)
    predicted = np.empty_like(signed)
    predicted[:, 1:] = signed[:, :-1]
    predicted[1:, 0], predicted[0, 0] = signed[:-1, 0], 1 << (depth - 1)
    bits = []
    for value in (signed - predicted).ravel().tolist():
        size = abs(value).bit_length()
        extra = size if size < 16 else 0
        bits.append(f"{size:05b}" + (f"{value if value > 0 else value + (1 << size) - 1:0{size}b}" if extra else ""))
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    data = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")
    height, width = values.shape
    return b"".join(
        (
            b"\xff\xd8",
            b"\xff\xc4" + struct.pack(">HB", 19 + 17, 0) + bytes([0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17)),
            b"\xff\xc3" + struct.pack(">HBHHB", 11, depth, height, width, 1) + bytes([1, 0x11, 0]),
            b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, 1, 0, 0]),
            data,
            b"\xff\xd9",
        )
    )


def extended_jpeg(values: np.ndarray, depth: int = 12) -> bytes:
    """Process 4, all quantisers 1: every DC category has its number in 5 bits as code, every AC symbol in 9 bits."""
    y, x = np.mgrid[:8, :8]
    cosine = np.cos((2 * x + 1) * y * np.pi / 16) / 2
    cosine[0] /= np.sqrt(2)
    height, width = values.shape
    padded = np.pad(values.astype(float), ((0, -height % 8), (0, -width % 8)), "edge") - (1 << (depth - 1))
    blocks = padded.reshape(padded.shape[0] // 8, 8, -1, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    order = sorted(range(64), key=lambda n: (n // 8 + n % 8, n // 8 if (n // 8 + n % 8) % 2 else n % 8))
    coefficients = np.rint(cosine @ blocks @ cosine.T).astype(int).reshape(-1, 64)[:, order]

    def magnitude(value: int) -> str:
        size = abs(value).bit_length()
        return f"{value if value > 0 else value + (1 << size) - 1:0{size}b}" if size else ""

    bits, last = [], 0
    for block in coefficients.tolist():
        step, last = block[0] - last, block[0]
        bits.append(f"{abs(step).bit_length():05b}{magnitude(step)}")
        run = 0
        for value in block[1:]:
            if not value:
                run += 1
                continue
            bits += ["011110000"] * (run // 16)
            bits.append(f"{run % 16 << 4 | abs(value).bit_length():09b}{magnitude(value)}")
            run = 0
        bits.append("000000000" if run else "")
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    data = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")
    return b"".join(
        (
            b"\xff\xd8\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64),
            b"\xff\xc1" + struct.pack(">HBHHB", 11, depth, height, width, 1) + bytes([1, 0x11, 0]),
            b"\xff\xc4" + struct.pack(">HB", 19 + 16, 0) + bytes([0, 0, 0, 0, 16] + [0] * 11) + bytes(range(16)),
            b"\xff\xc4" + struct.pack(">HB", 19 + 255, 16) + bytes([0] * 8 + [255] + [0] * 7) + bytes(range(255)),
            b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, 0, 63, 0]),
            data,
            b"\xff\xd9",
        )
    )


def everywhere(grey: np.ndarray) -> Dataset:
    """The patient's name in text, sequences and private tags."""
    dataset = header(grey, PatientComments=PATIENT, InstitutionName=PATIENT, StudyDescription=PATIENT_ID)
    inner = Dataset()
    inner.PatientID, inner.TypeOfPatientID = PATIENT_ID, PATIENT
    dataset.OtherPatientIDsSequence = Sequence([inner])
    dataset.private_block(0x000B, PATIENT, create=True).add_new(1, "LO", PATIENT_ID)
    return dataset


def refused() -> Iterator[Case]:
    """Sound objects that are no single chest radiograph."""
    grey = film()
    for modality in ("CT", "MR", "OT", "", PATIENT):
        name = {"": "no_modality", PATIENT: "name_as_modality"}.get(modality, f"modality_{modality.lower()}")
        yield f"{name}.dcm", saved(header(grey, Modality=modality)), "unreadable", "dicom_modality"
    yield "knee.dcm", saved(header(grey, BodyPartExamined="KNEE")), "unreadable", "dicom_body_part"
    yield "burned_in.dcm", saved(header(grey, BurnedInAnnotation="YES")), "unreadable", "dicom_burned_in"
    raw = header(grey, PresentationIntentType="FOR PROCESSING")
    yield "for_processing.dcm", saved(raw), "unreadable", "dicom_for_processing"
    yield "multi_frame.dcm", saved(header(np.concatenate([grey, grey]), Rows=HEIGHT, NumberOfFrames=2)), *MULTI
    yield "million_frames.dcm", saved(header(grey, NumberOfFrames=1_000_000)), *MULTI
    rgb = np.repeat(grey[..., None], 3, 2)
    colour = header(rgb, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    yield "rgb.dcm", saved(colour), "unreadable", "dicom_photometric"
    palette = header(grey, PhotometricInterpretation="PALETTE COLOR")
    yield "palette.dcm", saved(palette), "unreadable", "dicom_photometric"
    yield "constant.dcm", saved(header(np.full_like(grey, 9))), "unreadable", "constant_image"
    yield "thumbnail.dcm", saved(header(grey[:100, :100])), "unreadable", "too_small"
    yield "strip.dcm", saved(header(grey.reshape(80, 400))), "unreadable", "bad_aspect"


MULTI = ("unreadable", "multi_frame")


def hostile() -> Iterator[Case]:
    """Headers that lie and streams that explode."""
    grey = film()
    good = saved(header(grey))
    without = header(grey)
    del without.PixelData
    yield "no_pixel_data.dcm", saved(without), "unreadable", "dicom_no_pixels"
    yield "no_rows.dcm", saved(dropped(grey, "Rows")), "unreadable", "dicom_no_pixels"
    yield "no_bits_stored.dcm", saved(dropped(grey, "BitsStored")), "unreadable", "dicom_encoding"
    yield "zero_columns.dcm", saved(header(grey, Columns=0)), "unreadable", "dicom_no_pixels"
    yield "bomb_65535x65535.dcm", saved(header(grey, Rows=65535, Columns=65535)), "unreadable", "too_many_pixels"
    yield "pixels_cut_off.dcm", good[:-5000], "unreadable", "dicom_damaged"
    yield "pixels_too_few.dcm", saved(header(grey, Rows=HEIGHT * 2)), "unreadable", "dicom_damaged"
    yield "32_bit.dcm", saved(header(grey.astype(np.uint32))), "unreadable", "dicom_encoding"
    yield "1_bit_stored.dcm", saved(header(grey, 1)), "unreadable", "dicom_encoding"
    yield "stored_beyond_allocated.dcm", saved(header(grey, BitsStored=12, HighBit=11)), "unreadable", "dicom_encoding"
    yield "high_bit_too_low.dcm", saved(header(grey.astype(np.uint16), 12, HighBit=10)), *BAD_ENCODING
    infinite = header(grey, RescaleSlope="1e400", RescaleIntercept="0")
    yield "infinite_slope.dcm", saved(infinite), "unreadable", "dicom_damaged"
    yield "slope_zero.dcm", saved(header(grey, RescaleSlope=0, RescaleIntercept=0)), *BAD_WINDOW
    yield "window_beside_the_film.dcm", saved(header(grey, WindowCenter=9000, WindowWidth=10)), *BAD_WINDOW
    yield "lut_of_one_level.dcm", saved(header(grey, VOILUTSequence=packed_lut(bytes(256)))), *BAD_WINDOW
    short = lut(np.arange(200), 0, 16)
    short[0].LUTDescriptor = [256, 0, 16]
    yield "lut_too_short.dcm", saved(header(grey, VOILUTSequence=short)), "unreadable", "dicom_damaged"
    for photometric, shape in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")):
        both = header(grey, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
        yield f"{photometric.lower()}_{shape.lower()}.dcm", saved(both), "unreadable", "dicom_polarity"
    yield "all_padding.dcm", saved(header(grey, PixelPaddingValue=0, PixelPaddingRangeLimit=255)), *NO_PIXELS
    yield "deflated_bomb.dcm", deflated_bomb(), "unreadable", "file_too_large"
    yield "rle_bomb.dcm", encapsulated(rle_bomb(), RLELossless, grey), "unreadable", "dicom_no_pixels"
    yield "rle_of_15_segments.dcm", encapsulated(struct.pack("<16I", 15, *[64] * 15), RLELossless, grey), *BAD_ENCODING
    big = encoded(Image.fromarray(grey).resize((900, 900)), "JPEG2000", no_jp2=True)
    yield "jpeg_2000_larger_than_stated.dcm", encapsulated(big, JPEG2000, grey), "unreadable", "dicom_no_pixels"
    yield "jpeg_2000_bomb.dcm", encapsulated(j2k_of(60000), JPEG2000, grey), "unreadable", "dicom_no_pixels"
    jpeg = encoded(Image.fromarray(grey).resize((900, 900)), "JPEG")
    yield "jpeg_larger_than_stated.dcm", encapsulated(jpeg, JPEGBaseline8Bit, grey), "unreadable", "dicom_no_pixels"
    yield "jpeg_that_is_text.dcm", encapsulated(b"PNEUMONIA" * 99, JPEGBaseline8Bit, grey), *NO_PIXELS
    cut = encoded(grey, "JPEG")
    yield "jpeg_cut_off.dcm", encapsulated(cut[: len(cut) // 2], JPEGBaseline8Bit, grey), "unreadable", "dicom_damaged"
    yield "mpeg_2.dcm", encapsulated(b"\0\0\1\xb3" + bytes(99), MPEG2, grey), "unreadable", "dicom_encoding"
    yield "two_zero_bytes_as_jpeg_2000.dcm", encapsulated(b"\0\0", JPEG2000, grey), "unreadable", "dicom_no_pixels"
    yield "magic_only.dcm", bytes(128) + b"DICM", "unreadable", "dicom_damaged"
    yield "garbage_behind_magic.dcm", bytes(128) + b"DICM" + b"\xff" * 2000, "unreadable", "dicom_damaged"
    yield "no_preamble.dcm", good[132:], "unreadable", "unsupported_format"
    yield "nested_a_thousand_deep.dcm", nested(good), "unreadable", "dicom_damaged"
    yield (
        "element_of_4_gigabytes.dcm",
        good[: -WIDTH * HEIGHT - 12] + struct.pack("<HH2sHI", 9, 1, b"OB", 0, 0xFFFFFFF0),
        "unreadable",
        "dicom_damaged",
    )
    at = good.index(struct.pack("<HH2s", 0x0008, 0x0060, b"CS"))
    element = struct.pack("<HH2sH", 9, 1, b"LO", 0)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    sequence = struct.pack("<HH2sHI", 8, 0x51, b"SQ", 0, 0xFFFFFFFF)
    for name, extra in (("elements", element * 60_000), ("items", sequence + item * 60_000)):
        yield f"60000_{name}.dcm", good[:at] + extra + good[at:], "unreadable", "too_complex"
    fragments = encapsulated(b"\0\0", RLELossless, grey)[:-18] + item * 60_000
    yield "60000_fragments.dcm", fragments, "unreadable", "too_complex"
    for percent in (5, 12, 40, 80):
        yield f"cut_off_at_{percent}_percent.dcm", cut_film(percent), "unreadable", "dicom_damaged"
    directory = good[:at][:132] + struct.pack("<HH2sH", 4, 0x1130, b"CS", 0)
    yield "directory.dcm", directory, *NO_PIXELS


def cut_film(percent: int) -> bytes:
    whole = saved(compressed(film().astype(np.uint16) * 16, JPEGLSLossless, 12))
    return whole[: len(whole) * percent // 100]


NO_PIXELS = ("unreadable", "dicom_no_pixels")
BAD_WINDOW = ("unreadable", "dicom_window")
BAD_ENCODING = ("unreadable", "dicom_encoding")


def dropped(grey: np.ndarray, tag: str) -> Dataset:
    dataset = header(grey)
    delattr(dataset, tag)
    return dataset


def deflated_bomb() -> bytes:
    """80 MB of zeros that take 80 KB."""
    small = saved(header(film(), syntax=DeflatedExplicitVRLittleEndian))
    stream = io.BytesIO(small)
    stream.seek(132)
    pydicom.filereader.read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(squeezer.compress(bytes(1 << 20)) for _ in range(80)) + squeezer.flush()
    return small[: stream.tell()] + packed


def rle_bomb() -> bytes:
    """One segment that repeats far beyond the image."""
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\xff" * 40_000


def j2k_of(side: int, **options: object) -> bytes:
    """A codestream whose header promises side x side px in one tile."""
    data = bytearray(encoded(film(), "JPEG2000", no_jp2=True, **options))
    for offset in (8, 12, 24, 28):
        data[offset : offset + 4] = struct.pack(">I", side)
    return bytes(data)


def nested(good: bytes) -> bytes:
    """Sequences in sequences before the pixels: deeper than Python's stack."""
    opening = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    at = good.index(struct.pack("<HH2s", 0x0008, 0x0060, b"CS"))
    return good[:at] + opening * 5000 + good[at:]


def greedy() -> Iterator[Case]:
    """Streams of the right width and height that promise far more than their pixels."""
    grey = film()
    plain = encoded(grey, "JPEG2000", no_jp2=True)
    components = plain[:4] + struct.pack(">H", 38 + 3 * 80) + plain[6:40] + b"\0\x50" + plain[42:45] * 80 + plain[45:]
    yield "jpeg_2000_of_80_components.dcm", encapsulated(components, JPEG2000, grey), *BAD_ENCODING
    tiny = encoded(grey, "JPEG2000", no_jp2=True, tile_size=(3, 3), num_resolutions=1)
    yield "jpeg_2000_in_3618_tiles.dcm", encapsulated(tiny, JPEG2000, grey), *BAD_ENCODING
    layers = bytearray(encoded(grey, "JPEG2000", no_jp2=True, precinct_size=(64, 64)))
    at = layers.index(b"\xff\x52")
    layers[at + 6 : at + 8] = b"\xff\xff"
    yield "jpeg_2000_of_65535_layers.dcm", encapsulated(bytes(layers), JPEG2000, grey), *BAD_ENCODING
    dust = j2k_of(5000, codeblock_size=(4, 4))
    yield "jpeg_2000_of_4x4_blocks.dcm", encapsulated(dust, JPEG2000, grey, Rows=5000, Columns=5000), *BAD_ENCODING
    file = encoded(grey, "JPEG2000")
    at = file.index(b"jp2c") - 4
    palette = struct.pack(">I4sHB", 8 + 3 + 80, b"pclr", 1, 40) + bytes([7] * 40) + bytes(40)
    yield "jpeg_2000_with_a_palette.dcm", encapsulated(file[:at] + palette + file[at:], JPEG2000, grey), *NO_PIXELS
    big = encoded(Image.fromarray(grey).resize((900, 900)), "JPEG2000")
    at = big.index(b"jp2h") - 4
    decoy = struct.pack(">I4s", 8 + len(plain), b"xml ") + plain
    yield "jpeg_2000_behind_a_decoy.dcm", encapsulated(big[:at] + decoy + big[at:], JPEG2000, grey), *NO_PIXELS
    rgb = encoded(Image.fromarray(grey).convert("RGB"), "JPEG")
    yield "jpeg_of_3_components.dcm", encapsulated(rgb, JPEGBaseline8Bit, grey), *BAD_ENCODING
    jpeg = encoded(grey, "JPEG", progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    bomb = jpeg[:-2] + scan * 70 + jpeg[-2:]
    yield "jpeg_scan_bomb.dcm", encapsulated(bomb, JPEGBaseline8Bit, grey), "unreadable", "too_complex"


def cut_and_closed() -> Iterator[Case]:
    """Streams that lack their end but have its marker, so that decoders call them whole."""
    grey = film()
    deep = grey.astype(np.uint16) * 16
    for percent in (20, 50, 85):
        baseline = closed(encoded(grey, "JPEG", quality=95), percent)
        yield f"jpeg_{percent}_percent.dcm", encapsulated(baseline, JPEGBaseline8Bit, grey), *DAMAGED
        lossless = closed(lossless_jpeg(grey), percent)
        yield f"jpeg_lossless_{percent}_percent.dcm", encapsulated(lossless, JPEGLosslessSV1, grey), *DAMAGED
        deeper = closed(lossless_jpeg(deep, 16), percent)
        name = f"jpeg_lossless_12_bit_in_16_{percent}_percent.dcm"
        yield name, encapsulated(deeper, JPEGLosslessSV1, deep, stored=12), *DAMAGED
    tiled = encoded(grey, "JPEG2000", no_jp2=True, tile_size=(64, 64))
    for tiles in (1, 6, 11):
        kept = b"\xff\x90\0\x0a".join(tiled.split(b"\xff\x90\0\x0a")[: tiles + 1]) + b"\xff\xd9"
        yield f"jpeg_2000_{tiles}_of_12_tiles.dcm", encapsulated(kept, JPEG2000, grey), *DAMAGED
    whole = encoded(grey, "JPEG2000", no_jp2=True)
    yield "jpeg_2000_50_percent.dcm", encapsulated(closed(whole, 50), JPEG2000, grey), *DAMAGED
    ls = frame_of(compressed(deep, JPEGLSLossless, 12))
    half = encapsulated(closed(ls, 50), JPEGLSLossless, deep, stored=12)
    yield "jpeg_ls_50_percent.dcm", half, "unreadable", "dicom_damaged"


DAMAGED = ("unreadable", "damaged")


def closed(stream: bytes, percent: int) -> bytes:
    return stream[: len(stream) * percent // 100] + b"\xff\xd9"


def dicoms() -> Iterator[Case]:
    yield from sound()
    yield from unusual()
    yield from refused()
    yield from hostile()
    yield from greedy()
    yield from cut_and_closed()
