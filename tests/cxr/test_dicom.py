import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

from cxr.film import UnreadableImage
from cxr.reader import read_film

RAMP = np.arange(256, dtype=np.uint16)[None, :].repeat(200, 0)


def dicom(pixels: np.ndarray, bits: int, syntax: str = ExplicitVRLittleEndian, **tags) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.PatientName = "DOE^JANE"
    dataset.Modality, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = "DX", 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def greys(data: bytes) -> np.ndarray:
    return read_film(data).pixels[100].astype(int)


def test_twelve_bits_span_the_whole_range():
    row = greys(dicom(RAMP * 16, 12))
    assert row[0] <= 1 and row[-1] >= 254 and np.all(np.diff(row) >= 0)


def test_monochrome1_is_inverted():
    row = greys(dicom(RAMP * 16, 12, PhotometricInterpretation="MONOCHROME1"))
    assert row[0] >= 254 and row[-1] <= 1


def test_a_window_clips_both_ends():
    row = greys(dicom(RAMP * 16, 12, WindowCenter=2048, WindowWidth=2048))
    assert (row == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (row == 255).mean() == pytest.approx(0.25, abs=0.02)


def test_the_window_is_applied_after_the_rescale():
    plain = greys(dicom(RAMP * 16, 12, WindowCenter=2048, WindowWidth=2048))
    shifted = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 3096, "WindowWidth": 4096}
    assert np.abs(greys(dicom(RAMP * 16, 12, **shifted)) - plain).max() <= 1


def test_a_lut_wins_over_a_window():
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    item.add_new("LUTData", "OW", (65535 - np.arange(4096) * 16).astype("<u2").tobytes())
    row = greys(dicom(RAMP * 16, 12, VOILUTSequence=Sequence([item]), WindowCenter=2048, WindowWidth=100))
    assert row[0] == 255 and row[-1] == 0 and len(set(row)) > 200


def test_signed_values_keep_their_order():
    row = greys(dicom((RAMP.astype(np.int16) - 128) * 16, 16))
    assert row[0] <= 1 and row[-1] >= 254 and np.all(np.diff(row) >= 0)


def test_bits_above_the_stored_ones_are_ignored():
    assert np.array_equal(greys(dicom(RAMP * 16 | 0xF000, 12)), greys(dicom(RAMP * 16, 12)))


def test_padding_is_black_in_both_photometric_interpretations():
    pixels = RAMP * 8 + 100
    pixels[:, :64] = 4095
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        row = greys(dicom(pixels, 12, PhotometricInterpretation=photometric, PixelPaddingValue=4095))
        assert row[:54].max() == 0 and row[57:].max() > 250


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"Modality": "CT"}, "dicom_modality"),
        ({"BodyPartExamined": "SKULL"}, "dicom_body_part"),
        ({"BurnedInAnnotation": "YES"}, "dicom_burned_in"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "dicom_for_processing"),
        ({"NumberOfFrames": 2}, "multi_frame"),
        ({"NumberOfFrames": -1}, "multi_frame"),
        ({"Rows": 60000, "Columns": 60000}, "too_many_pixels"),
        ({"PhotometricInterpretation": "RGB"}, "dicom_photometric"),
        ({"HighBit": 10}, "dicom_encoding"),
        ({"SamplesPerPixel": 3}, "dicom_encoding"),
    ],
)
def test_what_is_no_chest_radiograph_is_refused(tags, code):
    with pytest.raises(UnreadableImage) as refused:
        read_film(dicom(RAMP * 16, 12, **tags))
    assert refused.value.code == code


@pytest.mark.parametrize("part", ["CHEST", "THORAX", "TORAX AP", "", "chest"])
def test_chests_by_any_name_pass(part):
    assert read_film(dicom(RAMP * 16, 12, BodyPartExamined=part)).format == "DICOM"


def test_a_flat_border_is_no_cut_unless_it_has_the_grey_of_missing_data():
    def jpeg(border: int) -> bytes:
        pixels = RAMP.astype(np.uint8)
        pixels[150:] = border
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=95)
        return dicom(pixels, 8, JPEGBaseline8Bit, PixelData=encapsulate([stream.getvalue()]))

    assert all(read_film(jpeg(border)).format == "DICOM" for border in (0, 60, 255))
    with pytest.raises(UnreadableImage) as refused:
        read_film(jpeg(128))
    assert refused.value.code == "damaged"


@pytest.mark.parametrize("frames", [0, "", 1, "1 "])
def test_no_number_of_frames_is_one_frame(frames):
    dataset = pydicom.dcmread(io.BytesIO(dicom(RAMP * 16, 12)))
    dataset.add_new("NumberOfFrames", "IS", frames)
    stream = io.BytesIO()
    dataset.save_as(stream)
    assert np.array_equal(greys(stream.getvalue()), greys(dicom(RAMP * 16, 12)))
