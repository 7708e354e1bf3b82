import io

import numpy as np
import pytest
from PIL import Image, ImageFile

from cxr import film as film_module
from cxr import raster
from cxr.film import UnreadableImage
from cxr.reader import read_film


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, kind, **options)
    return stream.getvalue()


def scene(width: int = 600, height: int = 500) -> np.ndarray:
    """Smooth structure at several scales, uint8 [h, w]."""
    y, x = np.mgrid[0:height, 0:width]
    waves = 60 * np.sin(x / 37) + 40 * np.cos(y / 23) + 20 * np.sin((x + y) / 7)
    return (127 + waves).clip(0, 255).astype(np.uint8)


def test_a_film_is_a_stretched_square_of_bytes():
    film = read_film(encoded(scene(600, 300)))
    assert film.pixels.shape == (224, 224) and film.pixels.dtype == np.uint8
    assert (film.format, film.width, film.height, film.saturation) == ("PNG", 600, 300, 0.0)


def test_a_jpeg_is_decoded_whole_whatever_its_size():
    jpeg = encoded(scene(1997, 1499), "JPEG", quality=92)
    whole = Image.open(io.BytesIO(jpeg)).convert("L").resize((224, 224), Image.Resampling.BILINEAR)
    assert np.array_equal(read_film(jpeg).pixels, np.asarray(whole))


@pytest.mark.parametrize("side", [64, 112, 320])
def test_the_model_decides_the_side(side):
    image = Image.fromarray(scene(600, 300))
    film = read_film(encoded(image), side)
    assert np.array_equal(film.pixels, np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)))
    assert (film.width, film.height) == (600, 300)


@pytest.mark.parametrize("side", [64, 320])
def test_colour_is_measured_alike_at_every_side(side):
    y, x = np.mgrid[0:240, 0:320]
    photo = np.stack([127 + 120 * np.sin(x / 17), 127 + 120 * np.sin(y / 13), np.full(x.shape, 99)], 2)
    jpeg = encoded(photo.astype(np.uint8), "JPEG")
    assert read_film(jpeg, side).saturation == read_film(jpeg).saturation > 0.1


def test_reading_is_deterministic():
    jpeg = encoded(scene(), "JPEG")
    assert np.array_equal(read_film(jpeg).pixels, read_film(jpeg).pixels)


def test_a_deep_ramp_keeps_its_greys():
    ramp = np.linspace(0, 4095, 300).astype(np.uint16)[None, :].repeat(200, 0)
    pixels = read_film(encoded(Image.fromarray(ramp))).pixels
    assert (pixels > 250).mean() < 0.05 and (pixels < 5).mean() < 0.05
    assert np.all(np.diff(pixels[100].astype(int)) >= 0)


def test_exif_turns_the_film_and_its_size():
    exif = Image.Exif()
    exif[0x0112] = 6
    film = read_film(encoded(scene(500, 300), "JPEG", exif=exif))
    assert (film.width, film.height) == (300, 500)


def exif_of(orientation: bytes) -> bytes:
    """An EXIF block whose orientation is a field of any form."""
    return b"Exif\0\0MM\0*\0\0\0\x08\0\1" + orientation + bytes(4)


BROKEN_EXIF = {
    "cut off": exif_of(b"\1\x12\0\3\0\0\0\1\0\6\0\0")[:20],
    "no TIFF": b"Exif\0\0" + b"junk" * 20,
    "endless": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\1\x12" * 30,
    "text": exif_of(b"\1\x12\0\2\0\0\0\4six\0"),
    "orientation 9": exif_of(b"\1\x12\0\3\0\0\0\1\0\x09\0\0"),
    "orientation 0": exif_of(b"\1\x12\0\3\0\0\0\1\0\0\0\0"),
    "fraction by zero": exif_of(b"\1\x12\0\5\0\0\0\1\0\0\0\x08"),
}


@pytest.mark.parametrize("block", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_a_film_with_damaged_exif_is_read_as_it_lies(block):
    plain = encoded(scene(500, 300), "JPEG")
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
    film = read_film(plain[:2] + segment + plain[2:])
    assert np.array_equal(film.pixels, read_film(plain).pixels)


def test_transparent_parts_are_black():
    alpha = np.zeros((200, 200), np.uint8)
    alpha[:, :100] = 255
    image = Image.merge("LA", (Image.fromarray(np.full((200, 200), 200, np.uint8)), Image.fromarray(alpha)))
    pixels = read_film(encoded(image)).pixels
    assert pixels[:, :100].min() > 190 and pixels[:, 130:].max() == 0


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_grey_stored_as_colour_has_no_saturation(mode):
    film = read_film(encoded(Image.fromarray(scene()).convert(mode), "JPEG", quality=90))
    assert film.saturation < 0.005


def test_saturation_tells_a_photograph_from_a_tinted_film():
    grey = Image.fromarray(scene())
    tinted = Image.merge("RGB", (grey, grey.point(lambda v: int(v * 0.95)), grey.point(lambda v: int(v * 0.85))))
    y, x = np.mgrid[0:300, 0:400]
    photo = np.stack([127 + 120 * np.sin(x / 17), 127 + 120 * np.sin(y / 13), 127 + 0 * x], 2).astype(np.uint8)
    assert read_film(encoded(tinted)).saturation < 0.015
    assert read_film(encoded(photo, "JPEG")).saturation > 0.1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"\xff\xd8\xff" + bytes(film_module.MAX_BYTES), "file_too_large"),
        (b"GIF89a" + bytes(99), "unsupported_format"),
        (encoded(scene(127, 200)), "too_small"),
        (encoded(scene(128, 385)), "bad_aspect"),
        (encoded(np.full((200, 200), 77, np.uint8)), "constant_image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_names_its_code(data, code):
    with pytest.raises(UnreadableImage) as refused:
        read_film(data)
    assert refused.value.code == code


def test_a_refusal_names_value_and_bound():
    with pytest.raises(UnreadableImage, match=r"64x150 px is below the minimum of 128 px"):
        read_film(encoded(scene(64, 150)))


def test_half_films_are_never_judged_even_if_pillow_is_told_to(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="switch it off"):
        read_film(encoded(scene()))


def test_running_out_of_memory_is_not_the_files_fault(monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr(raster, "_to_grey", exhausted)
    with pytest.raises(MemoryError):
        read_film(encoded(scene()))


@pytest.mark.realdata
def test_real_films_and_photographs_are_told_apart(shared_data):
    films = [
        *sorted((shared_data / "samples").glob("o*/*/*"))[:20],
        *sorted(shared_data.glob("chest_xray/test/*/*"))[:20],
    ]
    assert all(read_film(file.read_bytes()).saturation < 0.005 for file in films)
    colours = []
    for file in sorted((shared_data / "samples/photos").glob("*.jpg")):
        try:
            colours.append(read_film(file.read_bytes()).saturation)
        except UnreadableImage as refused:
            assert refused.code == "bad_aspect"
    assert sum(colour > 0.025 for colour in colours) >= 11


@pytest.mark.realdata
def test_real_dicom_chests_are_read_and_others_refused(shared_data):
    for file in (shared_data / "samples/dicom/chest").iterdir():
        assert read_film(file.read_bytes()).format == "DICOM"
    codes = set()
    for file in (shared_data / "samples/dicom/non_chest").iterdir():
        with pytest.raises(UnreadableImage) as refused:
            read_film(file.read_bytes())
        codes.add(refused.value.code)
    assert codes == {"dicom_modality", "dicom_body_part"}
