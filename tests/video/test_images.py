"""Image files: label maps at every bit depth, broken files, palettes, natural order."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from common.errors import UserError
from tests.support.image_files import cut, png_chunk, write_frame, write_mask
from video.images import (
    natural_key,
    read_frame,
    read_frame_size,
    read_header,
    read_label_map,
    write_label_map,
)
from video.pictures import PALETTE
from video.reader import find_videos


def write_grey_png(path: Path, depth: int, row: bytes, size: tuple[int, int] = (2, 8)) -> Path:
    """A greyscale PNG with any bit depth: two rows of pixels, whatever (H, W) `size` its header says."""

    header = struct.pack(">IIBBBBB", size[1], size[0], depth, 0, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(2 * (b"\0" + row)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + pixels + png_chunk(b"IEND", b""))
    return path


def test_palette_indices_are_the_ids_whatever_the_colours(tmp_path):
    labels = np.array([[0, 1, 2], [3, 200, 255]], np.uint8)
    read = read_label_map(write_mask(tmp_path / "a.png", labels))
    assert read.dtype == np.uint8 and read.tolist() == labels.tolist()


@pytest.mark.parametrize(
    "depth, row, expected",
    [
        (1, bytes([0b00011011]), [0, 0, 0, 1, 1, 0, 1, 1]),
        (2, bytes([0b00011011] * 2), [0, 1, 2, 3, 0, 1, 2, 3]),
        (4, bytes([0x01, 0x23, 0x45, 0xEF]), [0, 1, 2, 3, 4, 5, 14, 15]),
        (8, bytes(range(8)), list(range(8))),
        (16, struct.pack(">8H", 0, 1, 2, 300, 65535, 5, 6, 7), [0, 1, 2, 300, 65535, 5, 6, 7]),
    ],
)
def test_grey_values_are_the_ids_at_every_bit_depth(tmp_path, depth, row, expected):
    read = read_label_map(write_grey_png(tmp_path / "a.png", depth, row))
    assert read.tolist() == [expected, expected]
    assert read.dtype == (np.uint16 if depth == 16 else np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_colour_mask_is_refused_with_the_remedy(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=rf"a\.png is an {mode} image, not a label map: .*palette PNG \(mode P\)"
    ):
        read_label_map(tmp_path / "a.png")


@pytest.mark.parametrize(
    "read, name", [(read_frame, "a.jpg"), (read_label_map, "a.png"), (read_frame, "a.png")]
)
def test_a_file_cut_short_is_told_with_its_path(tmp_path, read, name):
    write_frame(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name} is corrupt or cut short .*replace it"):
        read(cut(tmp_path / name))


@pytest.mark.parametrize("read", [read_frame, read_label_map])
def test_what_is_no_image_is_told_with_its_path(tmp_path, read):
    for content in (b"", b"no image at all"):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.png is corrupt or cut short \(no known image format\)"):
            read(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        read(tmp_path / "absent.png")


def test_frames_are_writable_rgb_also_from_grey_files(tmp_path):
    Image.fromarray(np.full((5, 7), 90, np.uint8)).save(tmp_path / "a.png")
    frame = read_frame(tmp_path / "a.png")
    assert frame.shape == (5, 7, 3) and frame.dtype == np.uint8 and frame.flags.writeable
    assert (frame == 90).all()


def test_unpadded_numbers_are_in_the_order_of_their_values():
    assert sorted(["10", "9", "1", "img_2", "img_10"], key=natural_key) == [
        "1",
        "9",
        "10",
        "img_2",
        "img_10",
    ]
    assert sorted(["00010", "00009"], key=natural_key) == ["00009", "00010"]


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_a_label_map_below_255_is_a_palette_png_in_the_davis_colours(tmp_path: Path, kind):
    labels = np.array([[0, 1, 2], [3, 0, 254]])
    write_label_map(tmp_path / "video" / "00000.png", kind(labels))
    with Image.open(tmp_path / "video" / "00000.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), labels)
        np.testing.assert_array_equal(np.array(image.convert("RGB")), PALETTE[labels])


@pytest.mark.parametrize("highest", [255, 256, 65535])
def test_a_label_map_that_reaches_255_is_16_bit_grey(tmp_path: Path, highest: int):
    labels = np.array([[0, 7], [highest, 254]])
    write_label_map(tmp_path / "a.png", labels)
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), labels)
    assert read_label_map(tmp_path / "a.png").dtype == np.uint16


def test_an_id_that_no_png_can_hold_is_refused_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(UserError, match="65536"):
        write_label_map(tmp_path / "a.png", np.array([[65536]]))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_an_os_error_with_the_path(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file"):
        write_label_map(tmp_path / "file" / "a.png", np.zeros((2, 2)))


@pytest.mark.parametrize("size", [(30_000, 30_000), (1 << 13, (1 << 13) + 1), (1, 1 << 27)])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path, size):
    path = tmp_path / "bomb.png"
    write_grey_png(path, 8, bytes(8), size)
    for read in (read_frame, read_label_map, read_header):
        with pytest.raises(UserError, match=r"bomb\.png is .* at most 67108864 pixels"):
            read(path)


def test_a_picture_of_the_most_pixels_is_opened(tmp_path):
    write_grey_png(tmp_path / "large.png", 8, bytes(8), (1 << 13, 1 << 13))
    assert read_header(tmp_path / "large.png")[1] == (1 << 13, 1 << 13)


def test_a_pipe_is_no_picture_and_no_video(tmp_path):
    for name in ("pipe.png", "pipe.mp4"):
        os.mkfifo(tmp_path / name)
    for read in (read_frame, read_label_map, read_header):
        with pytest.raises(UserError, match=r"pipe\.png is a pipe"):
            read(tmp_path / "pipe.png")
    (video,) = find_videos(tmp_path / "pipe.mp4")
    with pytest.raises(UserError, match=r"pipe\.mp4 is a pipe"):
        video.check()


def test_a_file_of_a_format_that_no_frame_has_is_refused_unread(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(UserError, match="no known image format"):
        read_frame(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_frame, read_frame_size, read_label_map])
def test_grey_of_16_bits_with_alpha_is_told_for_what_it_is(tmp_path, read):
    pixels = np.zeros((6, 8, 2), dtype=np.uint16)
    options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    with pytest.raises(UserError, match=r"a\.tif is a TIFF .* 16-bit grey with alpha: save it without"):
        read(tmp_path / "a.tif")


def write_tiff(path: Path, kind: int = 4, following: bytes = b"") -> Path:
    """A TIFF whose offset of pixels has the type `kind`, 4 where right; `following` is a next directory."""
    Image.new("L", (6, 4)).save(path)
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    entries = range(start + 2, start + 2 + 12 * count, 12)
    (offset,) = (entry for entry in entries if struct.unpack_from("<H", content, entry) == (273,))
    struct.pack_into("<H", content, offset + 2, kind)
    if following:
        struct.pack_into("<I", content, entries.stop, len(content))
    path.write_bytes(content + following)
    return path


NO_DIMENSIONS = struct.pack("<HHHIII", 1, 259, 3, 1, 1, 0)  # a directory that names its compression alone


@pytest.mark.parametrize("damage", [{"kind": 2}, {"following": NO_DIMENSIONS}])
@pytest.mark.parametrize("read", [read_frame, read_label_map])
def test_a_tiff_without_dimensions_or_with_odd_types_is_told_with_its_path(tmp_path, damage, read):
    assert not read(write_tiff(tmp_path / "good.tiff")).any()
    with pytest.raises(UserError, match=r"bad\.tiff is corrupt or cut short"):
        read(write_tiff(tmp_path / "bad.tiff", **damage))


@pytest.mark.parametrize("value", [-3, 65_536, 70_000])
def test_a_label_map_of_values_that_are_no_ids_is_refused(tmp_path, value):
    path = tmp_path / "00000.png"
    Image.fromarray(np.full((4, 4), value, dtype=np.int32)).save(path, format="TIFF")
    with pytest.raises(UserError, match=r"00000\.png holds values outside of 0 to 65535"):
        read_label_map(path)
