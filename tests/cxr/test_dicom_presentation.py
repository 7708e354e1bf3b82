"""Any way in which a header may say how its values are meant gives the film that was meant."""

import io
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from cxr.film import UnreadableImage
from cxr.reader import read_film
from tests.cxr.dicom_files import chest, cr, lut, saved, twelve_bits

GREY = chest()
TOLERANCE = 1.5


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return read_film(saved(cr(GREY))).pixels.astype(int)


def shown(dataset: Dataset) -> np.ndarray:
    return read_film(saved(dataset)).pixels.astype(int)


def refused(data: bytes) -> str:
    with pytest.raises(UnreadableImage) as refusal:
        read_film(data)
    return refusal.value.code


NEGATIVE = {"RescaleSlope": -10, "RescaleIntercept": 3000, "WindowCenter": 1725, "WindowWidth": 2551}
"""Turns 255 - GREY back into GREY."""


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", "", "UNHEARD_OF"])
@pytest.mark.parametrize("turned", [False, True], ids=["MONOCHROME2", "MONOCHROME1"])
def test_a_negative_slope_with_a_window_does_not_turn_the_film_into_its_negative(plain, function, turned):
    tags = {**NEGATIVE, "VOILUTFunction": function}
    if function == "SIGMOID":
        tags["WindowWidth"] = 50_000
    if turned:
        tags["PhotometricInterpretation"] = "MONOCHROME1"
    assert np.abs(shown(cr(GREY if turned else 255 - GREY, **tags)) - plain).max() <= TOLERANCE


def test_a_negative_slope_with_a_lut_does_not_turn_the_film_into_its_negative(plain):
    tags = {
        "RescaleSlope": -1,
        "RescaleIntercept": 0,
        "VOILUTSequence": lut([256, -255, 8], bytes(range(256)), first="SS"),
    }
    assert np.abs(shown(cr(255 - GREY, **tags)) - plain).max() <= TOLERANCE


RAMP = np.arange(256)
WORDS = RAMP.astype("<u2")
LUTS = {
    "8 bits, one byte an entry": lut([256, 0, 8], bytes(range(256))),
    "8 bits, one word an entry": lut([256, 0, 8], WORDS.tobytes()),
    "8 bits as OB": lut([256, 0, 8], bytes(range(256)), "OB"),
    "8 bits said to be 16": lut([256, 0, 16], bytes(range(256))),
    "odd number of bytes": lut([255, 0, 8], bytes(range(255)) + b"\0"),
    "10 bits": lut([256, 0, 10], (WORDS * 4).tobytes()),
    "16 bits": lut([256, 0, 16], (WORDS * 257).tobytes()),
    "16 bits as US": lut([256, 0, 16], (RAMP * 257).tolist(), "US"),
    "65,536 entries, written as 0": lut([0, 0, 16], (np.arange(1 << 16).clip(0, 255) * 257).astype("<u2").tobytes()),
    "first value far below": lut([1256, -1000, 16], (np.arange(1256) * 50).astype("<u2").tobytes(), first="SS"),
    "first value far below, as unsigned": lut([1256, 64536, 16], (np.arange(1256) * 50).astype("<u2").tobytes()),
}


@pytest.mark.parametrize("sequence", LUTS.values(), ids=LUTS)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("tag", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_lut_may_be_written_in_every_form(plain, sequence, syntax, tag):
    assert np.abs(shown(cr(GREY, syntax, **{tag: sequence})) - plain).max() <= TOLERANCE


@pytest.mark.parametrize(("data", "vr"), [(RAMP.tolist(), "US"), (WORDS.byteswap().tobytes(), "OW")])
def test_the_words_of_a_big_endian_lut_are_swapped(plain, data, vr):
    dataset = cr(GREY, ExplicitVRBigEndian, VOILUTSequence=lut([256, 0, 8], data, vr))
    assert np.abs(shown(dataset) - plain).max() <= TOLERANCE


def test_the_packed_bytes_of_a_big_endian_lut_are_swapped_in_pairs(plain):
    packed = np.frombuffer(bytes(range(256)), "<u2").astype(">u2").tobytes()
    dataset = cr(GREY, ExplicitVRBigEndian, VOILUTSequence=lut([256, 0, 8], packed))
    assert np.abs(shown(dataset) - plain).max() <= TOLERANCE


def test_a_lut_with_other_data_than_its_descriptor_says_is_refused():
    for entries in (100, 255, 300, 511):
        assert refused(
            saved(cr(GREY, VOILUTSequence=lut([256, 0, 16], bytes(entries * 2 if entries < 256 else entries))))
        )
    assert refused(saved(cr(GREY, VOILUTSequence=lut([256, 0, 16], bytes(300))))) == "dicom_damaged"


def test_the_first_usable_lut_counts(plain):
    sequence = [*lut(None, None), *lut([256, 0, 8], bytes(range(256))), *lut([256, 0, 8], bytes(256))]
    assert np.abs(shown(cr(GREY, VOILUTSequence=sequence)) - plain).max() <= TOLERANCE


EMPTY = {
    "slope and intercept": {"RescaleSlope": None, "RescaleIntercept": None},
    "slope": {"RescaleSlope": None, "RescaleIntercept": 100},
    "VOI LUT item": {"VOILUTSequence": lut(None, None)},
    "VOI LUT data": {"VOILUTSequence": lut([256, 0, 8], None)},
    "VOI LUT item without elements": {"VOILUTSequence": [Dataset()]},
    "VOI LUT sequence": {"VOILUTSequence": []},
    "modality LUT item": {"ModalityLUTSequence": lut(None, None)},
    "modality LUT sequence": {"ModalityLUTSequence": []},
    "window": {"WindowCenter": None, "WindowWidth": None},
    "width": {"WindowCenter": 10, "WindowWidth": None},
    "function": {"VOILUTFunction": ""},
    "padding": {"PixelPaddingValue": None},
    "shape": {"PresentationLUTShape": ""},
}


@pytest.mark.parametrize("tags", EMPTY.values(), ids=EMPTY)
def test_what_is_there_but_empty_is_absent(plain, tags):
    assert np.abs(shown(cr(GREY, **tags)) - plain).max() <= TOLERANCE


def test_an_empty_rescale_beside_a_window_is_absent(plain):
    tags = {"RescaleSlope": None, "RescaleIntercept": None, "WindowCenter": 128, "WindowWidth": 256}
    assert np.abs(shown(cr(GREY, **tags)) - plain).max() <= TOLERANCE


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_a_window_that_the_standard_forbids_is_absent(plain, width):
    assert np.abs(shown(cr(GREY, WindowCenter=100, WindowWidth=width)) - plain).max() <= TOLERANCE


def test_a_width_below_one_is_allowed_where_the_function_allows_it(plain):
    tags = {"RescaleSlope": "0.001", "RescaleIntercept": 0, "WindowCenter": "0.1275", "WindowWidth": "0.255"}
    assert np.abs(shown(cr(GREY, VOILUTFunction="LINEAR_EXACT", **tags)) - plain).max() <= TOLERANCE


def test_of_several_windows_the_first_complete_one_counts(plain):
    tags = {"WindowCenter": ["", "128", "9"], "WindowWidth": ["12", "256", "2"]}
    assert np.abs(shown(cr(GREY, **tags)) - plain).max() <= TOLERANCE


def test_a_window_that_misses_the_film_is_named_as_such():
    assert refused(saved(cr(GREY, WindowCenter=9000, WindowWidth=10))) == "dicom_window"
    assert refused(saved(cr(GREY, WindowCenter=-9000, WindowWidth=10))) == "dicom_window"
    assert refused(saved(cr(GREY, RescaleSlope=0, RescaleIntercept=5))) == "dicom_window"
    assert refused(saved(cr(GREY, VOILUTSequence=lut([256, 0, 8], bytes(256))))) == "dicom_window"
    assert refused(saved(cr(np.full_like(GREY, 7), WindowCenter=7, WindowWidth=2))) == "constant_image"


@pytest.mark.parametrize(
    "tags", [{"RescaleSlope": "1e400"}, {"RescaleIntercept": "nan"}, {"WindowCenter": "x", "WindowWidth": 9}]
)
def test_a_number_that_is_none_is_damage(tags):
    dataset = cr(GREY)
    for name, value in tags.items():
        dataset.add_new(name, "LO", str(value))
    assert refused(saved(dataset)) == "dicom_damaged"


@pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")])
def test_a_header_that_contradicts_itself_about_black_and_white_is_refused(photometric, shape):
    tags = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
    assert refused(saved(cr(GREY, **tags))) == "dicom_polarity"


def test_a_shape_that_says_the_same_changes_nothing(plain):
    assert np.array_equal(shown(cr(GREY, PresentationLUTShape="IDENTITY")), plain)
    turned = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
    assert np.abs(shown(cr(255 - GREY, **turned)) - plain).max() <= TOLERANCE


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_padding_of_a_signed_film_may_be_written_either_way(vr):
    signed = (GREY.astype(np.int16) - 128) * 8
    padded = signed.copy()
    padded[:, 200:] = -2000
    dataset = cr(padded)
    dataset.add_new("PixelPaddingValue", vr, -2000 if vr == "SS" else 63536)
    pixels = shown(dataset)
    assert pixels[:, 174:].max() == 0
    assert np.abs(pixels[:, :170] - shown(cr(signed))[:, :170]).max() <= TOLERANCE


# Every allowed combination.


@st.composite
def written(draw: st.DrawFn) -> Dataset:
    """A CR object that shows GREY, whatever it looks like inside."""
    allocated = draw(st.sampled_from([8, 16]))
    syntax = draw(st.sampled_from(SYNTAXES))
    # pydicom's encoders pack 8 bits that are stored in 16, and then write a stream of half the pixels.
    stored = 8 if allocated == 8 else draw(st.integers(8 if native(syntax) == syntax else 9, 16))
    signed = draw(st.booleans())
    tags: dict = {}
    if draw(st.booleans()):
        tags["PhotometricInterpretation"] = "MONOCHROME1"
    modality = draw(st.sampled_from(["none", "rescale", "lut"]))
    slope, intercept = 1.0, 0.0
    if modality == "rescale":
        slope = draw(st.sampled_from([1, 2, 0.5, 10, -1, -2, -0.5, -10]))
        intercept = draw(st.sampled_from([0, 1000, -1024, 0.25]))
        tags |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
    step = ((1 << stored) - 1) // 255
    lowest = -(1 << (stored - 1)) if signed else 0
    grey = GREY.astype(np.int64)
    for turn in ("PhotometricInterpretation" in tags, slope < 0):
        grey = 255 - grey if turn else grey
    values = grey * step + lowest
    if modality == "lut":
        deep = np.arange(255 * step + 1) * (65535 / (255 * step))
        first = "SS" if signed else "US"
        tags["ModalityLUTSequence"] = lut(
            [len(deep) % 65536, lowest, 16], np.rint(deep).astype("<u2").tobytes(), first=first
        )
        ends = 0.0, 65535.0
    else:
        one, other = (slope * end + intercept for end in (lowest, lowest + 255 * step))
        ends = min(one, other), max(one, other)
    tags |= draw(windows(*ends))
    kind = f"{'i' if signed else 'u'}{allocated // 8}"
    words = values.astype(kind)
    if signed and draw(st.booleans()):
        words = (values & ((1 << stored) - 1)).astype(f"u{allocated // 8}")
    dataset = cr(words, native(syntax), **tags)
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = stored, stored - 1, int(signed)
    swap_luts(dataset, syntax)
    if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        dataset.compress(syntax, generate_instance_uid=False)
    return dataset


SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
]


def native(syntax: str) -> str:
    return ExplicitVRLittleEndian if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless) else syntax


def swap_luts(dataset: Dataset, syntax: str) -> None:
    """The words of OW, which pydicom writes as they are."""
    if syntax == ExplicitVRBigEndian:
        for tag in ("ModalityLUTSequence", "VOILUTSequence"):
            for item in dataset.get(tag) or []:
                item.LUTData = np.frombuffer(item.LUTData, "<u2").astype(">u2").tobytes()


@st.composite
def windows(draw: st.DrawFn, low: float, high: float) -> dict:
    """Tags of a window or a LUT that takes low..high to the whole range."""
    kinds = ["none", "LINEAR", "LINEAR_EXACT", "SIGMOID"]
    whole = (
        float(low).is_integer() and float(high).is_integer() and high - low < 65536 and low >= -32768 and high < 65536
    )
    kind = draw(st.sampled_from([*kinds, "lut"] if whole and high - low >= 255 else kinds))
    middle, span = (low + high) / 2, high - low
    if kind == "none":
        return {}
    if kind == "lut":
        bits = draw(st.sampled_from([8, 10, 12, 16]))
        entries = np.rint(np.linspace(0, (1 << bits) - 1, int(span) + 1))
        packed = bits == 8 and draw(st.booleans())
        data = entries.astype("u1" if packed else "<u2").tobytes()
        first = draw(st.sampled_from(["US", "SS"])) if 0 <= low < 32768 else "SS" if low < 0 else "US"
        return {
            "VOILUTSequence": lut([(int(span) + 1) % 65536, int(low), bits], data + bytes(len(data) % 2), first=first)
        }
    center, width = {"LINEAR": (middle + 0.5, span + 1), "SIGMOID": (middle, span * 20)}.get(kind, (middle, span))
    said = {"WindowCenter": f"{center:.6g}"[:16], "WindowWidth": f"{width:.6g}"[:16]}
    return said if kind == "LINEAR" and draw(st.booleans()) else {**said, "VOILUTFunction": kind}


@settings(max_examples=120, deadline=None)
@given(dataset=written())
def test_every_allowed_combination_shows_the_plain_film(plain, dataset):
    assert np.abs(shown(dataset) - plain).max() <= TOLERANCE


# Another renderer, where a plain film cannot say what is right.

DCMTK = pytest.mark.skipif("not __import__('shutil').which('dcmj2pnm')", reason="needs dcmtk: apt install dcmtk")
RENDERED = {
    "narrow window": {"WindowCenter": 1500, "WindowWidth": 900},
    "window of MONOCHROME1": {"WindowCenter": 1500, "WindowWidth": 900, "PhotometricInterpretation": "MONOCHROME1"},
    "negative slope": {"RescaleSlope": -2, "RescaleIntercept": 5000, "WindowCenter": 2000, "WindowWidth": 1800},
    "sigmoid": {"WindowCenter": 1700, "WindowWidth": 600, "VOILUTFunction": "SIGMOID"},
    "sigmoid of a negative slope": {
        "RescaleSlope": -1,
        "RescaleIntercept": 4000,
        "WindowCenter": 2300,
        "WindowWidth": 600,
        "VOILUTFunction": "SIGMOID",
    },
    "narrow LUT": {"VOILUTSequence": lut([512, 1200, 8], (np.arange(512) // 2).astype("<u2").tobytes())},
    "narrow packed LUT": {"VOILUTSequence": lut([512, 1200, 8], (np.arange(512) // 2).astype("u1").tobytes())},
    "falling LUT": {"VOILUTSequence": lut([1024, 1000, 12], (4095 - np.arange(1024) * 4).astype("<u2").tobytes())},
    "modality LUT": {
        "ModalityLUTSequence": lut([4096, 0, 16], (np.sqrt(np.arange(4096)) * 1000).astype("<u2").tobytes())
    },
}


@DCMTK
@pytest.mark.parametrize("tags", RENDERED.values(), ids=RENDERED)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_dcmtk_renders_the_same_film(tmp_path, tags, syntax):
    film = tmp_path / "film.dcm"
    film.write_bytes(saved(twelve_bits(GREY, syntax, **tags)))
    option = "+Wl" if "VOILUTSequence" in tags else "+Wi" if "WindowCenter" in tags else "+Wm"
    command = [
        "dcmj2pnm",
        option,
        *(["1"] if option != "+Wm" else []),
        "--write-16-bit-pnm",
        film,
        tmp_path / "film.pgm",
    ]
    subprocess.run(command, check=True, capture_output=True)
    theirs = np.asarray(Image.open(io.BytesIO((tmp_path / "film.pgm").read_bytes()))).astype(float)
    spread = np.rint((theirs - theirs.min()) * (255 / (theirs.max() - theirs.min()))).astype(np.uint8)
    square = np.asarray(Image.fromarray(spread).resize((224, 224), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(read_film(film.read_bytes()).pixels - square).max() <= TOLERANCE
