"""Plain JPEG and PNG files are decoded to Pillow's pixels, and all others are left to Pillow."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from tests.support.fuzz import mutate_bytes
from tests.support.image_files import png_chunk, write_turned
from video import images
from video.codecs import jpeg, png
from video.images import read_frame, read_pixels
from video.pictures import PALETTE

RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((45, 37))  # smooth
LABELS = np.repeat(RNG.integers(0, 256, (9, 3), dtype=np.uint8), 5, 1)  # (9, 15)
HEADER = struct.pack(">IIBBBBB", 15, 9, 8, 0, 0, 0, 0)
ROWS = b"".join(b"\0" + row.tobytes() for row in LABELS)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    image.save(file := io.BytesIO(), form, **options)
    return file.getvalue()


def palette_png(**options: Any) -> bytes:
    image = Image.fromarray(LABELS)
    image.putpalette(PALETTE.tobytes())
    return saved(image, "PNG", **options)


def grey_png(
    header: bytes = HEADER, rows: bytes = ROWS, between: bytes | None = None, end: bytes = b"IEND"
) -> bytes:
    """With its data in one part, or in two with something between them."""
    packed = zlib.compress(rows)
    parts = [packed] if between is None else [packed[:50], packed[50:]]
    data = (between or b"").join(png_chunk(b"IDAT", part) for part in parts)
    return png.SIGNATURE + png_chunk(b"IHDR", header) + data + png_chunk(end, b"")


def outcome(read: Callable[[Path], np.ndarray], path: Path) -> tuple[Any, ...]:
    try:
        pixels = read(path)
    except UserError as error:
        return (str(error),)
    return pixels.dtype, pixels.shape, pixels.tobytes()


JPEG_FORMS = [
    {"quality": 90},
    {"subsampling": "4:4:4"},
    {"subsampling": "4:2:2", "optimize": True},
    {"progressive": True},
    {"restart_marker_blocks": 2},
    {"quality": 5, "keep_rgb": True, "subsampling": 0},
]


@pytest.mark.parametrize("options", JPEG_FORMS, ids=str)
def test_a_jpeg_is_decoded_to_the_pixels_of_pillow(options):
    data = saved(PICTURE, "JPEG", **options)
    assert jpeg.decode_jpeg(data).tolist() == np.array(Image.open(io.BytesIO(data))).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_decoded_jpeg_is_turned_upright(tmp_path, monkeypatch, orientation):
    path = write_turned(tmp_path / "a.jpg", np.array(PICTURE), orientation)
    turned = outcome(read_frame, path)
    monkeypatch.setattr(images, "decode_jpeg", lambda data: None)
    assert turned == outcome(read_frame, path) and turned[1] == (37, 45, 3)


@pytest.mark.parametrize("size", [1, 2, 300])
def test_a_jpeg_that_is_cut_short_is_left_to_pillow(size):
    assert jpeg.decode_jpeg(saved(PICTURE, "JPEG")[:-size]) is None


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpeg_of_other_channels_is_left_to_pillow(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(images, "decode_jpeg", None)  # whoever calls it fails
    PICTURE.convert(mode).save(tmp_path / "a.jpg")
    expected = np.array(Image.open(tmp_path / "a.jpg").convert("RGB"))
    assert read_frame(tmp_path / "a.jpg").tolist() == expected.tolist()


def test_without_its_package_a_jpeg_is_left_to_pillow(monkeypatch):
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    assert jpeg.decode_jpeg(saved(PICTURE, "JPEG")) is None


PLAIN = {
    "palette": palette_png(),
    "transparent": palette_png(transparency=0),
    "stored": palette_png(compress_level=0),
    "grey": grey_png(),
    "in two parts": grey_png(between=b""),
}


@pytest.mark.parametrize("inflate", [png.zlib, zlib], ids=["the package", "the standard library"])
@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN)
def test_a_plain_png_is_decoded_to_its_values(monkeypatch, data, inflate):
    monkeypatch.setattr(png, "zlib", inflate)
    pixels = png.decode_grey_png(data)
    assert pixels.dtype == np.uint8 and pixels.tolist() == LABELS.tolist()
    assert pixels.flags.writeable and np.array(Image.open(io.BytesIO(data))).tolist() == LABELS.tolist()


LEFT = {
    "rows as differences": grey_png(rows=b"\1" + ROWS[1:]),
    "16 bits": saved(Image.fromarray(LABELS.astype(np.uint16)), "PNG"),
    "4 bits": palette_png(bits=4),
    "colours": saved(PICTURE, "PNG"),
    "interlaced": grey_png(HEADER[:-1] + b"\1"),
    "no end": grey_png(end=b"tEXt"),
    "a row too few": grey_png(rows=ROWS[:-16]),
    "a row too many": grey_png(rows=ROWS + ROWS[-16:]),
    "a wrong checksum": grey_png()[:-1] + b"\0",
    "a text within": grey_png(between=png_chunk(b"tEXt", b"a\0b")),
    "cut short": palette_png()[:-20],
    "more behind": palette_png() + b"x",
    "another file": saved(PICTURE, "JPEG"),
    "empty": b"",
}


@pytest.mark.parametrize("data", LEFT.values(), ids=LEFT)
def test_another_or_damaged_png_is_left_to_pillow(data):
    assert png.decode_grey_png(data) is None


def test_whatever_a_file_holds_pixels_and_refusals_are_those_of_pillow(tmp_path, monkeypatch):
    random, path = Random(0), tmp_path / "a.png"
    sources = [palette_png(), grey_png(between=b""), *(saved(PICTURE, "JPEG", **form) for form in JPEG_FORMS)]
    decoded = 0
    for data in [mutate_bytes(random.choice(sources), random) for _ in range(400)]:
        path.write_bytes(data)
        for decode, read in (("decode_jpeg", read_frame), ("decode_grey_png", read_pixels)):
            fast = outcome(read, path)
            decoded += getattr(images, decode)(data) is not None
            with monkeypatch.context() as patch:
                patch.setattr(images, decode, lambda data: None)
                assert fast == outcome(read, path)
    assert decoded > 20  # those of damaged pixels alone, too
