"""What the most expensive files cost: CPU seconds of reading each, for files of up to 64 MiB made to waste time.

Each file repeats the one thing that some loop or decoder turns into time, as often as 64 MiB or the limits of
cxr.work allow, or is the largest film that is read. None may cost more than MAX_SECONDS; the work that was counted
stands beside the time, so that the limits can be set from this table.
"""

from __future__ import annotations

import io
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.record import arguments, record, table
from cxr.film import MAX_BYTES, MAX_PIXELS, UnreadableImage
from cxr.png import MAGIC, chunk
from cxr.reader import read_film
from cxr.work import Work

MAX_SECONDS = 5.0
SIDE = int(MAX_PIXELS**0.5)
_EXPLICIT, _JPEG = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.4."
_RLE, _DEFLATED = b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.1.99"
_ITEM, _ITEM_END, _SEQUENCE_END = (struct.pack("<HHI", 0xFFFE, number, 0) for number in (0xE000, 0xE00D, 0xE0DD))
_OPEN = 0xFFFFFFFF


def noise(height: int = SIDE, width: int = SIDE, bits: int = 16) -> np.ndarray:
    """Unsigned [h, w] that nothing compresses."""
    return np.random.default_rng(0).integers(0, 1 << bits, (height, width), dtype=np.uint16 if bits > 8 else np.uint8)


def filled(head: bytes, piece: bytes, tail: bytes) -> bytes:
    """`piece` between `head` and `tail` as often as the limit of bytes allows."""
    return head + piece * ((MAX_BYTES - len(head) - len(tail)) // len(piece)) + tail


def jpegs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    small = encoded(noise(200, 200, 8), quality=90)
    scan, end = small.index(b"\xff\xda"), len(small) - 2
    for name, piece in (
        ("fill bytes", b"\xff"),
        ("nulls", b"\0"),
        ("stuffed fill bytes", b"\xff\0"),
        ("empty comments", b"\xff\xfe\0\2"),
        ("restart markers", b"\xff\xd0"),
        ("quantisers", b"\xff\xdb" + struct.pack(">H", 2 + 65 * 1000) + bytes([0, *[1] * 64]) * 1000),
        ("application segments", b"\xff\xe5\xff\xff" + bytes(0xFFFD)),
    ):
        yield f"JPEG: {name} before the scan", partial(filled, small[:scan], piece, small[scan:])
    for name, piece in (("fill bytes", b"\xff"), ("stuffing", b"\xff\0"), ("restart markers", b"\xff\xd0")):
        yield f"JPEG: {name} in the scan", partial(filled, small[:end], piece, small[end:])
    yield "JPEG: anything after the end", lambda: filled(small, b"\xff\xd8", b"")
    yield "JPEG: 25 megapixels of noise", lambda: encoded(noise(bits=8), quality=95)
    yield "JPEG: the same in colour, progressive", lambda: encoded(colour(), quality=75, progressive=True)
    yield "JPEG: as many scans as are allowed", many_scans


def many_scans() -> bytes:
    """A progressive film of 25 megapixels whose last refinement comes again and again."""
    whole = encoded(colour(), quality=5, progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * 2 + whole[-2:]


def pngs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    def png(colour: int, depth: int, channels: int, side: int) -> bytes:
        pattern, length = np.random.default_rng(0).bytes(8000), side * channels * depth // 8
        raw = (b"\4" + (pattern * (length // len(pattern) + 1))[:length]) * side
        header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
        return MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 1)) + chunk(b"IEND", b"")

    def interlaced() -> bytes:
        header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 6, 0, 0, 1)
        body = zlib.compress(b"\4" * (SIDE * SIDE * 4 + SIDE * 16), 1)
        return MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")

    tiny = encoded(noise(200, 200, 8), "PNG")
    at = tiny.index(b"IDAT") - 4
    for name, piece in (
        ("empty chunks", chunk(b"tEXt", b"")),
        ("texts", chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(9999)))),
    ):
        yield f"PNG: {name}", partial(filled, tiny[:at], piece, tiny[at:])
    yield "PNG: one byte a chunk of pixels", lambda: filled(tiny[:at], chunk(b"IDAT", b"x"), tiny[at:])
    for name, shape in (
        ("25 megapixels, RGBA of 8 bits", (6, 8, 4, SIDE)),
        ("25 megapixels, grey of 16 bits", (0, 16, 1, SIDE)),
        ("25 megapixels, RGB of 16 bits", (2, 16, 3, SIDE)),
        ("20 megapixels, RGB of 16 bits", (2, 16, 3, 4500)),
    ):
        yield f"PNG: {name}", partial(png, *shape)
    yield "PNG: 25 megapixels, RGBA of 8 bits, interlaced", interlaced
    yield "PNG: 25 megapixels of noise", lambda: encoded(noise(bits=8), "PNG", compress_level=1)


def dicoms() -> Iterator[tuple[str, Callable[[], bytes]]]:
    pixels = noise(200, 200, 8)
    tail = element(0x7FE0, 0x0010, b"OB", pixels.tobytes())
    head = header(200, 200, 8)
    sequence = element(0x0009, 0x0010, b"SQ", b"", open_end=True)
    for name, before, piece, after in (
        ("empty elements", b"", struct.pack("<HH2sH", 9, 1, b"LO", 0), b""),
        ("empty items", sequence, _ITEM, _SEQUENCE_END),
        ("open items", sequence, struct.pack("<HHI", 0xFFFE, 0xE000, _OPEN) + _ITEM_END, _SEQUENCE_END),
        ("empty sequences", b"", element(9, 0x10, b"SQ", _SEQUENCE_END, open_end=True), b""),
        ("nests", b"", element(9, 0x10, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, _OPEN), open_end=True), b""),
        ("items of a LUT", element(0x28, 0x3010, b"SQ", b"", open_end=True), _ITEM, _SEQUENCE_END),
    ):
        first, last = head[0] + before, after + head[1] + tail
        yield f"DICOM: {name}", partial(filled, first, piece, last)
    fragments = b"".join(header(200, 200, 8, _RLE)) + element(0x7FE0, 0x10, b"OB", b"", open_end=True)
    yield "DICOM: empty fragments", lambda: filled(fragments, _ITEM, _SEQUENCE_END)
    yield "DICOM: zeros after the pixels", lambda: filled(b"".join(head) + tail, b"\0", b"")
    yield "DICOM: deflated to the limit", lambda: deflated(header(200, 200, 8, _DEFLATED), bytes(MAX_BYTES - 1))
    yield "DICOM: deflated beyond it", lambda: deflated(header(200, 200, 8, _DEFLATED), bytes(MAX_BYTES * 10))
    yield "DICOM: 25 megapixels of 16 bits", lambda: film(_EXPLICIT, noise().tobytes(), plain=True)
    yield (
        "DICOM RLE: idle codes",
        lambda: film(_RLE, filled(struct.pack("<16I", 2, 64, 32 << 20, *[0] * 13), b"\x80", b"")[:-4096]),
    )
    yield "DICOM RLE: runs of one byte", lambda: film(_RLE, rle(b"\0\7", 3800), 3800)
    yield "DICOM RLE: noise", lambda: film(_RLE, rle(b"\x7f" + noise(1, 128, 8).tobytes(), 4992), 4992)
    yield "DICOM JPEG-LS: noise", lambda: film(_JPEG + b"80", jpeg_ls(noise()))
    yield "DICOM JPEG Lossless: 25 megapixels", lambda: film(_JPEG + b"70", lossless())
    for side in (2500, 3000, 3500):
        yield f"DICOM JPEG 2000: noise, {side} px", partial(noisy_jpeg_2000, side)
    half = {"no_jp2": True, "irreversible": True, "quality_mode": "rates", "quality_layers": [2.4]}
    yield (
        "DICOM JPEG 2000: noise, 25 megapixels",
        lambda: film(_JPEG + b"91", encoded(noise(bits=8), "JPEG2000", **half), bits=8),
    )
    yield "DICOM JPEG 2000: small blocks", lambda: film(_JPEG + b"90", pieces(codeblock_size=(16, 16)), bits=8)
    yield (
        "DICOM JPEG 2000: precincts and layers",
        lambda: film(
            _JPEG + b"90", pieces(precinct_size=(128, 128), quality_layers=[80, 60, 50, 40, 30, 20, 10]), bits=8
        ),
    )
    yield "DICOM JPEG 2000: tiles", lambda: film(_JPEG + b"90", pieces(tile_size=(128, 128)), bits=8)


def header(height: int, width: int, bits: int, syntax: bytes = _EXPLICIT) -> tuple[bytes, bytes]:
    """A part 10 file up to the modality, and from there to its pixels."""
    uid = syntax + b"\0" * (len(syntax) % 2)
    meta = bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    numbers = {2: 1, 0x10: height, 0x11: width, 0x100: bits, 0x101: bits, 0x102: bits - 1, 0x103: 0}
    words = [(8, 0x60, b"CS", b"CR"), (0x28, 4, b"CS", b"MONOCHROME2 ")]
    words += [(0x28, number, b"US", struct.pack("<H", value)) for number, value in numbers.items()]
    return meta, b"".join(struct.pack("<HH2sH", g, e, vr, len(v)) + v for g, e, vr, v in sorted(words))


def element(group: int, number: int, vr: bytes, value: bytes, open_end: bool = False) -> bytes:
    return struct.pack("<HH2sHI", group, number, vr, 0, _OPEN if open_end else len(value)) + value


def film(syntax: bytes, frame: bytes, side: int = SIDE, bits: int = 16, plain: bool = False) -> bytes:
    head = b"".join(header(side, side, bits, syntax))
    if plain:
        return head + element(0x7FE0, 0x10, b"OW", frame)
    fragment = struct.pack("<HHI", 0xFFFE, 0xE000, len(frame) + len(frame) % 2) + frame + b"\0" * (len(frame) % 2)
    return head + element(0x7FE0, 0x10, b"OB", _ITEM + fragment + _SEQUENCE_END, open_end=True)


def deflated(head: tuple[bytes, bytes], body: bytes) -> bytes:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return head[0] + squeezer.compress(body) + squeezer.flush()


def rle(code: bytes, side: int) -> bytes:
    """Two segments of one code again and again."""
    unpacked = code[0] + 1 if code[0] < 128 else 257 - code[0]
    segment = code * (side * side // unpacked)
    return struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13) + segment * 2


def jpeg_ls(values: np.ndarray) -> bytes:
    import jpeg_ls as charls

    return bytes(charls.encode_array(values))


def jpeg_2000(values: np.ndarray) -> bytes:
    from openjpeg.utils import encode_array

    return bytes(encode_array(values, bits_stored=8 * values.itemsize, photometric_interpretation=2))


def noisy_jpeg_2000(side: int) -> bytes:
    return film(_JPEG + b"90", jpeg_2000(noise(side, side)), side)


def pieces(**options: Any) -> bytes:
    """25 megapixels of 8 bits, cut up."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    waves = (127 + 60 * np.sin(x / 9) + 60 * np.cos(y / 7)).astype(np.uint8)
    return encoded(waves, "JPEG2000", no_jp2=True, **options)


def lossless() -> bytes:
    """Every difference of 16 bits, code and value, as the one that follows: 17 a pixel, with a table of one code."""
    codes = bytes([0, 2] + [0] * 14) + bytes([15, 0])
    data = (b"\x2a\xaa" * 4)[:8]
    rows = (MAX_BYTES - 1000) // len(data)
    return b"".join(
        (
            b"\xff\xd8\xff\xc4" + struct.pack(">HB", 19 + 2, 0) + codes[:16] + codes[16:],
            b"\xff\xc3" + struct.pack(">HBHHB", 11, 16, SIDE, SIDE, 1) + bytes([1, 0x11, 0]),
            b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, 1, 0, 0]),
            data * rows,
            b"\xff\xd9",
        )
    )


def encoded(pixels: np.ndarray | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, kind, **options)
    return stream.getvalue()


def colour() -> Image.Image:
    return Image.merge("RGB", [Image.fromarray(noise(bits=8))] * 3)


def measure(name: str, data: bytes) -> list[Any]:
    """A row: name, MiB, outcome, parts, millions of passes, CPU seconds."""
    assert len(data) <= MAX_BYTES, f"{name} has {len(data)} bytes: it would be refused unread"
    work, started = Work(), time.process_time()
    try:
        outcome = read_film(data, work=work).format
    except UnreadableImage as refusal:
        outcome = refusal.code
    seconds = time.process_time() - started
    return [name, round(len(data) / 2**20, 1), outcome, work.parts, round(work.passes / 1e6), round(seconds, 2)]


def main(argv: list[str]) -> int:
    """Return 1 if a file costs more than MAX_SECONDS."""
    parser = arguments("hostile", __doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="only files whose name holds this text")
    options = parser.parse_args(argv)
    rows = []
    for name, make in ((name, make) for name, make in (*jpegs(), *pngs(), *dicoms()) if options.only in name):
        rows.append(measure(name, make()))
        print(*rows[-1], flush=True)
    columns = "File | MiB | Outcome | Parts | Million passes | CPU s"
    note = f"No file of at most {MAX_BYTES >> 20} MiB may cost more than {MAX_SECONDS:g} s."
    record("hostile", {"tables": {"hostile": table(columns, rows, note)}}, options.publish)
    worst = max(rows, key=lambda row: row[-1])
    print(f"worst: {worst[0]}, {worst[-1]} s of at most {MAX_SECONDS:g} s")
    return int(worst[-1] > MAX_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
