"""JPEG, PNG and disguised files that have hurt image readers, all made here from one small film."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

WIDTH, HEIGHT = 200, 160
JUDGED = "judged"
"""Expected of files that are unusual but sound: the same answer as for the plain film."""
Case = tuple[str, bytes, str, str]
"""name, bytes, expected status or JUDGED, expected reason code or ''"""


def film() -> np.ndarray:
    """uint8 [160, 200]: a bright chest with two dark lungs, using the full range of greys."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    body = 215 - 0.0009 * (x - WIDTH / 2) ** 2 * 10
    for centre in (WIDTH * 0.32, WIDTH * 0.68):
        body -= 130 * np.exp(-(((x - centre) / 26) ** 2) - ((y - HEIGHT / 2) / 45) ** 2)
    body[:8, :8], body[-8:, -8:] = 0, 255
    return body.clip(0, 255).astype(np.uint8)


def colourful() -> Image.Image:
    """A photograph's colours: hue and brightness vary independently."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    red, green, blue = 127 + 120 * np.sin(x / 17), 127 + 120 * np.sin(y / 13), 127 + 120 * np.sin((x + y) / 29)
    return Image.fromarray(np.stack([red, green, blue], 2).astype(np.uint8))


def encoded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, raw: bytes, extra: bytes = b"") -> bytes:
    """A PNG from its parts; `raw` is the unfiltered image data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            extra,
            png_chunk(b"IDAT", zlib.compress(raw)),
            png_chunk(b"IEND", b""),
        )
    )


def deep_png(values: np.ndarray, extra: bytes = b"") -> bytes:
    """16-bit greyscale, uint16 [h, w]."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, 0, rows, extra)


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size written into its frame header."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def jpegs() -> Iterator[Case]:
    plain = Image.fromarray(film())
    rgb = plain.convert("RGB")
    jpeg = encoded(plain, "JPEG", quality=92)
    yield "plain.jpeg", jpeg, JUDGED, ""
    yield "rgb.jpeg", encoded(rgb, "JPEG", quality=92), JUDGED, ""
    yield "cmyk.jpeg", encoded(rgb.convert("CMYK"), "JPEG", quality=92), JUDGED, ""
    yield "progressive.jpeg", encoded(plain, "JPEG", progressive=True, quality=92), JUDGED, ""
    sepia = ImageOps.colorize(plain, "#060402", "#fffaf0", mid="#847c72")
    yield "slightly_tinted.jpeg", encoded(sepia, "JPEG", quality=92), JUDGED, ""
    yield "trailing_garbage.jpeg", jpeg + b"<?php echo 1; ?>" * 50, JUDGED, ""
    yield from exif_cases(plain)
    broken = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\1\x12" * 30
    yield "broken_exif.jpeg", encoded(plain, "JPEG", quality=92, exif=broken), JUDGED, ""
    yield "exif_that_copies_itself.jpeg", encoded(plain, "JPEG", quality=92, exif=copying_exif(60_000)), JUDGED, ""
    yield "colour_photograph.jpeg", encoded(colourful(), "JPEG"), "out_of_distribution", "not_grayscale"
    yield from truncated(jpeg, "jpeg", 10)
    yield "two_pictures.jpeg", encoded(plain, "MPO", save_all=True, append_images=[plain]), "unreadable", "multi_frame"
    yield "bomb_65500x65500.jpeg", with_size(jpeg, 65500, 65500), "unreadable", "too_many_pixels"
    yield "bomb_6000x5000.jpeg", with_size(jpeg, 6000, 5000), "unreadable", "too_many_pixels"
    yield "zero_wide.jpeg", with_size(jpeg, 0, 160), "unreadable", "damaged"
    half = jpeg[: len(jpeg) // 2] + b"\xff\xd9"
    yield "cut_off_and_closed.jpeg", half, "unreadable", "damaged"
    yield "larger_than_its_data.jpeg", with_size(jpeg, 2000, 1600), "unreadable", "damaged"
    at = jpeg.index(b"\xff\xda")
    scan = jpeg[at:-2]
    yield "scan_bomb.jpeg", jpeg[:-2] + scan * 70 + jpeg[-2:], "unreadable", "too_complex"
    yield "without_end_marker.jpeg", jpeg[:-2], "unreadable", "damaged"
    yield "with_a_megabyte_appended.jpeg", jpeg + bytes(1 << 20), JUDGED, ""
    for name, junk in (
        ("nulls", bytes(3)),
        ("text", b"junk"),
        ("fill", b"\xff" * 5000),
        ("stuffing", b"\xff\0" * 5000),
    ):
        yield f"{name}_before_a_marker.jpeg", jpeg[:at] + junk + jpeg[at:], JUDGED, ""
    comments, empty = b"\xff\xfe\0\2" * 1000, b"\xff\xfe\0\2" * 60_000
    yield "a_thousand_comments.jpeg", jpeg[:2] + comments + jpeg[2:], JUDGED, ""
    yield "60000_comments.jpeg", jpeg[:2] + empty + jpeg[2:], "unreadable", "too_complex"
    yield "60000_restarts.jpeg", jpeg[:at] + b"\xff\xd0" * 60_000 + jpeg[at:], "unreadable", "too_complex"
    tables = b"\xff\xdb" + struct.pack(">H", 2 + 65 * 1000) + bytes([0, *[1] * 64]) * 1000
    yield "60000_tables.jpeg", jpeg[:2] + tables * 60 + jpeg[2:], "unreadable", "too_complex"
    frame = jpeg.index(b"\xff\xc0")
    yield "12_bit.jpeg", jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :], "unreadable", "unsupported_format"
    yield "magic_only.jpeg", jpeg[:4], "unreadable", "damaged"
    yield "header_only.jpeg", jpeg[: jpeg.index(b"\xff\xda")], "unreadable", "damaged"
    yield "standard_huffman_tables_left_out.jpeg", jpeg.replace(b"\xff\xc4", b"\xff\xe1"), JUDGED, ""


def copying_exif(size: int) -> bytes:
    """As many entries as fit, each of which claims all bytes of the block as its value."""
    entries = (size - 32) // 12
    body = b"".join(struct.pack(">HHII", 0x8000 + entry, 1, size - 100, 0) for entry in range(entries))
    return b"Exif\0\0" + struct.pack(">2sHIH", b"MM", 42, 8, entries) + body + bytes(size - 16 - len(body))


def exif_cases(plain: Image.Image) -> Iterator[Case]:
    """Orientation 1 to 8 of a film stored so that it is upright once the tag is obeyed."""
    stored_as = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for orientation, operation in stored_as.items():
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = orientation, "John Doe 1970-01-01"
        stored = plain if operation is None else plain.transpose(operation)
        yield f"exif_{orientation}.jpeg", encoded(stored, "JPEG", quality=92, exif=exif), JUDGED, ""


def truncated(data: bytes, kind: str, places: int) -> Iterator[Case]:
    for tenth in range(places):
        kept = 20 + (len(data) - 30) * tenth // places
        yield f"truncated_{tenth}.{kind}", data[:kept], "unreadable", "damaged"


def pngs() -> Iterator[Case]:
    grey = film()
    plain = Image.fromarray(grey)
    data = encoded(plain, "PNG")
    clear = Image.fromarray(np.full_like(grey, 255))
    yield "plain.png", data, JUDGED, ""
    yield "16_bit.png", deep_png(grey.astype(np.uint16) * 257), JUDGED, ""
    yield "12_bit_in_16.png", deep_png(grey.astype(np.uint16) * 16), JUDGED, ""
    yield "10_bit_on_an_offset.png", deep_png(grey.astype(np.uint16) * 4 + 30000), JUDGED, ""
    for name, colour, channels in (("rgb", 2, 3), ("grey_alpha", 4, 2), ("rgba", 6, 4)):
        for bits in (10, 12, 16):
            yield (
                f"{bits}_bit_{name}.png",
                deep_colour(grey.astype(np.uint16) << (bits - 8), colour, channels),
                JUDGED,
                "",
            )
    clear_level = png_chunk(b"tRNS", struct.pack(">H", 0))
    yield "16_bit_with_a_clear_level.png", deep_png(grey.astype(np.uint16) * 257, clear_level), "ok", ""
    yield "palette.png", encoded(plain.convert("P"), "PNG"), JUDGED, ""
    yield "palette_clear.png", encoded(plain.convert("P"), "PNG", transparency=b"\xff" * 256), JUDGED, ""
    yield "grey_alpha.png", encoded(Image.merge("LA", (plain, clear)), "PNG"), JUDGED, ""
    yield "rgba.png", encoded(Image.merge("RGBA", (plain, plain, plain, clear)), "PNG"), JUDGED, ""
    yield "grey_with_a_clear_level.png", encoded(plain, "PNG", transparency=0), JUDGED, ""
    yield "4_bit.png", four_bit(grey), JUDGED, ""
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Patient", "John Doe")
    yield "with_notes.png", encoded(plain, "PNG", pnginfo=notes), JUDGED, ""
    turned = Image.Exif()
    turned[0x0112] = 6
    yield "exif_6.png", encoded(plain.transpose(Image.Transpose.ROTATE_90), "PNG", exif=turned), JUDGED, ""
    yield "1_bit.png", encoded(plain.convert("1"), "PNG"), "ok", ""
    hidden = Image.merge("LA", (plain, Image.new("L", plain.size, 0)))
    yield "wholly_transparent.png", encoded(hidden, "PNG"), "unreadable", "constant_image"
    yield "colour_photograph.png", encoded(colourful(), "PNG"), "out_of_distribution", "not_grayscale"
    frames = [Image.fromarray(grey[::-1])]
    yield "animated.png", encoded(plain, "PNG", save_all=True, append_images=frames), "unreadable", "multi_frame"
    yield from truncated(data, "png", 5)
    yield "bomb_30000x30000.png", png(30000, 30000, 8, 0, b"\0" * 9000), "unreadable", "too_many_pixels"
    yield "bomb_12000x12000.png", png(12000, 12000, 1, 0, b"\0" * 9000), "unreadable", "too_many_pixels"
    yield "bomb_4_gigapixels_wide.png", png(2**31 - 1, 2, 8, 0, b"\0"), "unreadable", "too_many_pixels"
    yield "zero_high.png", png(200, 0, 8, 0, b""), "unreadable", "damaged"
    yield "larger_than_its_data.png", png(2000, 1600, 8, 0, b"\0" * 9000), "unreadable", "damaged"
    yield "wrong_checksum.png", data[:60] + bytes([data[60] ^ 1]) + data[61:], "unreadable", "damaged"
    yield "bad_depth.png", png(200, 160, 7, 0, b"\0" * 9000), "unreadable", "damaged"
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * (8 << 20)))
    yield "text_bomb.png", png(200, 160, 8, 0, raw_rows(grey), bomb), JUDGED, ""
    wrong = png_chunk(b"tEXt", b"a\0b")[:-4] + bytes(4)
    yield "wrong_checksum_of_a_text.png", png(200, 160, 8, 0, raw_rows(grey), wrong), JUDGED, ""
    wrong = png_chunk(b"tRNS", b"\0\7")[:-4] + bytes(4)
    yield "wrong_checksum_of_transparency.png", png(200, 160, 8, 0, raw_rows(grey), wrong), "unreadable", "damaged"
    copying = png_chunk(b"eXIf", copying_exif(350_000)[6:])
    yield "exif_that_copies_itself.png", png(200, 160, 8, 0, raw_rows(grey), copying), JUDGED, ""
    yield "without_end.png", data[:-12], JUDGED, ""
    empty = png_chunk(b"tEXt", b"")
    yield "a_thousand_chunks.png", png(200, 160, 8, 0, raw_rows(grey), empty * 1000), JUDGED, ""
    yield "60000_chunks.png", png(200, 160, 8, 0, raw_rows(grey), empty * 60_000), "unreadable", "too_complex"
    yield "magic_only.png", data[:8], "unreadable", "damaged"


def raw_rows(grey: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in grey)


def deep_colour(values: np.ndarray, colour: int, channels: int) -> bytes:
    """Grey uint16 [h, w] as a 16-bit PNG of 2 to 4 channels, the last of an even number being opacity."""
    deep = np.repeat(values[..., None], channels, 2)
    if channels % 2 == 0:
        deep[..., -1] = 65535
    return png(
        values.shape[1], values.shape[0], 16, colour, b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    )


def four_bit(grey: np.ndarray) -> bytes:
    levels = np.rint(grey / 17).astype(np.uint8)
    packed = levels[:, 0::2] << 4 | levels[:, 1::2]
    return png(grey.shape[1], grey.shape[0], 4, 0, b"".join(b"\0" + row.tobytes() for row in packed))


def shapes() -> Iterator[Case]:
    """Sound files whose size or contrast no film has."""
    grey = Image.fromarray(film())
    for width, height, code in (
        (1, 1, "too_small"),
        (127, 127, "too_small"),
        (64, 3000, "bad_aspect"),
        (3000, 64, "bad_aspect"),
        (140, 421, "bad_aspect"),
    ):
        yield f"{width}x{height}.jpeg", encoded(grey.resize((width, height)), "JPEG"), "unreadable", code
    yield "128x384.png", encoded(grey.resize((128, 384)), "PNG"), "ok", ""
    for name, level in (("black", 0), ("grey", 128), ("white", 255)):
        flat = np.full((HEIGHT, WIDTH), level, np.uint8)
        yield f"constant_{name}.jpeg", encoded(flat, "JPEG"), "unreadable", "constant_image"
    yield "constant_16_bit.png", deep_png(np.full((HEIGHT, WIDTH), 777, np.uint16)), "unreadable", "constant_image"
    faint = 1000 + (film() // 20).astype(np.uint16)
    yield "13_levels_of_16_bit.png", deep_png(faint), "unreadable", "constant_image"


def disguised() -> Iterator[Case]:
    """Files of other kinds, each named as an image."""
    plain = Image.fromarray(film())
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("film.jpeg", b"\0" * 100_000)
    make: dict[str, Callable[[], bytes]] = {
        "svg": lambda: svg,
        "html": lambda: b"<!doctype html><script>alert(1)</script>",
        "pdf": lambda: b"%PDF-1.7\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF",
        "zip": archive.getvalue,
        "gzip": lambda: gzip.compress(encoded(plain, "JPEG"), mtime=0),
        "eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 160\n(/etc/passwd) run\n",
        "gif": lambda: encoded(plain, "GIF"),
        "tiff": lambda: encoded(plain, "TIFF"),
        "bmp": lambda: encoded(plain, "BMP"),
        "webp": lambda: encoded(plain, "WEBP"),
        "ico": lambda: encoded(plain.resize((64, 64)), "ICO"),
        "jp2": lambda: encoded(plain, "JPEG2000"),
        "ppm": lambda: encoded(plain, "PPM"),
        "elf": lambda: b"\x7fELF\x02\x01\x01" + bytes(500),
        "text": lambda: b"person1_virus_1.jpeg,PNEUMONIA\n" * 20,
        "utf16_text": lambda: "PNEUMONIA".encode("utf-16") * 20,
        "random": lambda: np.random.default_rng(0).bytes(5000),
        "zeros": lambda: bytes(5000),
    }
    for kind, data in make.items():
        yield f"{kind}_named.jpeg", data(), "unreadable", "unsupported_format"
    yield "empty.jpeg", b"", "unreadable", "empty_file"
    yield "one_byte.png", b"\x89", "unreadable", "unsupported_format"
    yield "jpeg_magic_then_html.jpeg", b"\xff\xd8\xff<html>" + b" " * 500, "unreadable", "damaged"
    yield "png_magic_then_zip.png", b"\x89PNG\r\n\x1a\n" + archive.getvalue(), "unreadable", "damaged"
