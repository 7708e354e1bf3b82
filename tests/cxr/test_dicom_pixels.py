"""However a header and a stream store the values of a film, they come out as the values of the film."""

import io
import shutil
import struct
import subprocess

import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from cxr.film import UnreadableImage
from cxr.reader import read_film
from tests.cxr.dicom_files import chest, compressed, cr, encapsulated, saved, twelve_bits

GREY = chest()
DEEP = GREY.astype(np.uint16) * 16
TWELVE = {"BitsStored": 12, "HighBit": 11}


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return read_film(saved(cr(GREY))).pixels.astype(int)


def off(data: bytes, plain: np.ndarray) -> int:
    return int(np.abs(read_film(data).pixels - plain).max())


def refused(data: bytes) -> str:
    with pytest.raises(UnreadableImage) as refusal:
        read_film(data)
    return refusal.value.code


@pytest.mark.skipif(not shutil.which("dcmcjpeg"), reason="needs dcmtk: apt install dcmtk")
@pytest.mark.parametrize("mode", ["+eb", "+ee", "+es", "+ep", "+el", "+e1"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_every_kind_of_jpeg_that_dcmtk_writes_is_read(tmp_path, plain, mode, bits):
    """Baseline, extended, spectral selection, progressive, lossless, lossless SV1."""
    dataset = cr(GREY.astype(np.uint16) * 257) if bits == 16 else twelve_bits(GREY) if bits == 12 else cr(GREY)
    (tmp_path / "a.dcm").write_bytes(saved(dataset))
    command = ["dcmcjpeg", mode, "+q", "98", tmp_path / "a.dcm", tmp_path / "b.dcm"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("dcmtk writes none of this depth")
    assert off((tmp_path / "b.dcm").read_bytes(), plain) <= (0 if mode in ("+el", "+e1") else 4)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("signed", [False, True])
def test_signed_values_survive_compression(plain, syntax, signed):
    values = DEEP.astype(np.int16) - 2048 if signed else DEEP
    assert off(compressed(cr(values, **TWELVE), syntax), plain) <= 1


@pytest.mark.parametrize("stated", [0, 1], ids=["header unsigned", "header signed"])
@pytest.mark.parametrize("in_stream", [False, True], ids=["stream unsigned", "stream signed"])
@pytest.mark.parametrize("stored", [12, 16])
def test_header_and_jpeg_2000_may_differ_about_sign_and_depth(plain, stated, in_stream, stored):
    """12 bits in the stream. What the header says is how the bits are meant."""
    values = DEEP.astype(np.int16) - (2048 if stated else 0)
    bits = values.astype(np.uint16) & 0x0FFF
    stream = (((bits ^ 0x800).astype(np.int16) - 2048) if in_stream else bits).copy()
    frame = encode_array(stream, bits_stored=12, photometric_interpretation=2)
    tags = {"BitsStored": stored, "HighBit": stored - 1, "PixelRepresentation": stated}
    assert off(encapsulated(frame, JPEG2000Lossless, DEEP, **tags), plain) <= 1


@pytest.mark.parametrize("vr", ["OB", "OW"])
@pytest.mark.parametrize("columns", [260, 259])
def test_bytes_in_big_endian_words_are_swapped(vr, columns):
    pixels = GREY[:, :columns]
    raw = pixels.tobytes() + bytes(pixels.size % 2)
    dataset = cr(pixels, ExplicitVRBigEndian)
    dataset.PixelData = np.frombuffer(raw, "<u2").astype(">u2").tobytes() if vr == "OW" else raw
    dataset["PixelData"].VR = vr
    assert off(saved(dataset), read_film(saved(cr(pixels))).pixels.astype(int)) == 0


@pytest.mark.parametrize("high_bit", [11, 12, 13, 15])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize("signed", [False, True])
def test_the_stored_bits_may_stand_anywhere_in_their_word(plain, high_bit, syntax, signed):
    stored = (DEEP.astype(np.int32) - (2048 if signed else 0)) & 0x0FFF
    words = (stored << (high_bit - 11)) | (0x3 << 14 if high_bit < 14 else 0)
    native = syntax if syntax != RLELossless else ExplicitVRLittleEndian
    tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
    dataset = cr(words.astype(np.uint16), native, **tags)
    if syntax == RLELossless:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 0
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.BitsStored, dataset.PixelRepresentation = 12, int(signed)
    dataset.HighBit = high_bit
    assert off(saved(dataset), plain) <= 1


@pytest.mark.parametrize(("stored", "high_bit"), [(12, 10), (12, 16), (17, 16), (1, 0), (0, 0)])
def test_bits_outside_their_word_are_refused(stored, high_bit):
    assert refused(saved(cr(DEEP, BitsStored=stored, HighBit=high_bit))) == "dicom_encoding"


def test_pixels_left_as_they_are_under_a_compressed_syntax_are_read_if_their_size_is_right(plain):
    dataset = twelve_bits(GREY)
    assert off(called(JPEGLossless, saved(dataset)), plain) == 0
    dataset.PixelData += bytes(100)
    assert refused(called(JPEGLossless, saved(dataset))) == "dicom_no_pixels"


def test_uncompressed_pixels_in_fragments_are_read(plain):
    data = encapsulated(DEEP.tobytes(), RLELossless, DEEP, **TWELVE)
    assert off(called("1.2.840.10008.1.2.1.98", data, RLELossless), plain) == 0


def called(syntax: str, data: bytes, instead_of: str = ExplicitVRLittleEndian) -> bytes:
    """The file with another transfer syntax in its header."""
    said = [uid.encode() + b"\0" * (len(uid) % 2) for uid in (instead_of, syntax)]
    stated, wrong = (struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid for uid in said)
    return data.replace(stated, wrong)


def test_compressed_pixels_under_an_uncompressed_syntax_are_refused():
    data = compressed(twelve_bits(GREY), JPEGLSLossless)
    assert refused(data.replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.1\0\0\0")) == "dicom_encoding"


def test_more_pixels_than_the_header_says_are_refused_and_padding_is_not(plain):
    dataset = cr(GREY)
    dataset.PixelData += bytes(1000)
    assert off(saved(dataset), plain) == 0
    dataset.PixelData = DEEP.tobytes()
    assert refused(saved(dataset)) == "dicom_no_pixels"


def jpeg_2000(**options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "JPEG2000", no_jp2=True, **options)
    return stream.getvalue()


COMMENT = b"\xff\x64\0\x0b\0\1PADDING"


@pytest.mark.parametrize("times", [1, 7])
def test_comments_after_the_tiles_of_jpeg_2000_are_skipped(plain, times):
    stream = jpeg_2000(tile_size=(128, 128))
    at = stream.rindex(b"\xff\x90\0\x0a")
    for place in (at, len(stream) - 2):
        frame = stream[:place] + COMMENT * times + stream[place:]
        assert off(encapsulated(frame, JPEG2000, GREY), plain) == 0


def test_a_jpeg_2000_stream_that_lacks_only_its_end_marker_is_read(plain):
    stream = jpeg_2000()
    assert off(encapsulated(stream[:-2] + bytes(2), JPEG2000, GREY), plain) == 0
    assert refused(encapsulated(stream[:-200], JPEG2000, GREY)) == "damaged"


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_a_frame_in_many_fragments_is_one_frame(plain, syntax):
    whole = twelve_bits(GREY)
    whole.compress(syntax, generate_instance_uid=False)
    frame = get_frame(whole.PixelData, 0, number_of_frames=1)
    whole.PixelData = encapsulate([frame], fragments_per_frame=5)
    assert off(saved(whole), plain) == 0


def test_a_frame_without_an_offset_table_before_it_is_read(plain):
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "JPEG", quality=98)
    data = encapsulated(stream.getvalue(), JPEGBaseline8Bit, GREY)
    at = data.index(b"\xfe\xff\x00\xe0")
    table = 8 + struct.unpack("<I", data[at + 4 : at + 8])[0]
    assert off(data[:at] + data[at + table :], plain) <= 4


@pytest.mark.parametrize("stored", [8, 12])
def test_a_baseline_jpeg_in_words_is_read(plain, stored):
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "JPEG", quality=98)
    tags = {"BitsStored": stored, "HighBit": stored - 1}
    assert off(encapsulated(stream.getvalue(), JPEGBaseline8Bit, DEEP, **tags), plain) <= 4


def test_a_stream_deeper_than_its_words_is_refused():
    frame = encode_array(DEEP, bits_stored=12, photometric_interpretation=2)
    assert refused(encapsulated(frame, JPEG2000Lossless, GREY)) == "dicom_encoding"


CUT = {
    "native": lambda: saved(twelve_bits(GREY)),
    "implicit": lambda: saved(twelve_bits(GREY, ImplicitVRLittleEndian)),
    "JPEG-LS": lambda: compressed(twelve_bits(GREY), JPEGLSLossless),
    "JPEG 2000": lambda: compressed(twelve_bits(GREY), JPEG2000Lossless),
    "RLE": lambda: compressed(twelve_bits(GREY), RLELossless),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_file_that_was_cut_off_is_called_so_wherever_it_was_cut(kind, plain):
    """Never 'not CR or DX'. Where no more than the last delimiter is missing the film is read."""
    data = CUT[kind]()
    lacking = 0 if kind in ("native", "implicit") else 8
    for kept in [*range(140, 700, 3), *range(700, len(data) - lacking, len(data) // 40), len(data) - lacking - 1]:
        assert refused(data[:kept]) in ("dicom_damaged", "dicom_no_pixels", "damaged"), kept
    for kept in range(len(data) - lacking, len(data)):
        assert off(data[:kept], plain) == 0
