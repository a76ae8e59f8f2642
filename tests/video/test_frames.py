"""Image files as frames: EXIF orientations, grey of 16 bits, files of several pictures."""

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotated.videos import VOSFolder, check
from common.errors import UserError
from tests.support.image_files import turned, write_channels, write_mask, write_turned
from tracking.prompts import PromptFolder
from video.images import read_frame, read_frame_size
from video.reader import find_videos

PICTURE = np.zeros((8, 16, 3), np.uint8)
PICTURE[:, :, 0] = np.arange(16) * 16  # no two orientations look alike
PICTURE[:, :, 1] = np.arange(8)[:, None] * 32


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_frame_of_any_exif_orientation_is_read_upright(tmp_path, suffix, orientation):
    path = write_turned(tmp_path / f"a{suffix}", PICTURE, orientation)
    frame = read_frame(path)
    assert frame.shape == PICTURE.shape and read_frame_size(path) == (8, 16)
    difference = np.abs(frame.astype(int) - PICTURE)
    assert difference.mean() < 12 if suffix == ".jpg" else not difference.any()


def test_the_orientation_of_a_png_may_stand_behind_its_pixels(tmp_path):
    path = write_turned(tmp_path / "a.png", PICTURE, 6)
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    length = struct.unpack(">I", content[start : start + 4])[0] + 12
    exif, rest = content[start : start + length], content[:start] + content[start + length :]
    path.write_bytes(rest[:-12] + exif + rest[-12:])
    assert read_frame_size(path) == (8, 16)
    np.testing.assert_array_equal(read_frame(path), PICTURE)


@pytest.mark.parametrize("exif", [b"Exif\0\0not a TIFF header", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_exif_data_that_cannot_be_read_leave_a_frame_as_it_is(tmp_path, exif):
    Image.fromarray(PICTURE).save(tmp_path / "a.jpg", exif=exif)
    assert read_frame(tmp_path / "a.jpg").shape == PICTURE.shape
    assert read_frame_size(tmp_path / "a.jpg") == (8, 16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_training_and_inference_read_the_same_upright_frames(tmp_path, orientation):
    for t in range(2):
        write_turned(tmp_path / f"JPEGImages/a/{t}.png", PICTURE, orientation)
        write_mask(tmp_path / f"Annotations/a/{t}.png", np.eye(8, 16, dtype=np.uint8))
    (annotated,), (video,) = VOSFolder(tmp_path).videos, find_videos(tmp_path)
    assert annotated.find_bad() == {} and annotated.size == video.size == (8, 16)
    assert annotated.read_labels("1").shape == (8, 16)
    PromptFolder(tmp_path / "Annotations").check(video, needed=True)
    for name, frame in video.frames():
        np.testing.assert_array_equal(frame.permute(1, 2, 0), PICTURE)
        np.testing.assert_array_equal(annotated.read_frame(name), PICTURE)


def test_a_mask_that_fits_the_stored_pixels_alone_is_refused_with_a_line_on_exif(tmp_path):
    write_turned(tmp_path / "JPEGImages/a/0.png", PICTURE, 6)
    write_mask(tmp_path / "Annotations/a/0.png", np.ones((16, 8), np.uint8))
    folder, (video,) = VOSFolder(tmp_path), find_videos(tmp_path)
    line = r"a/0\.png is 8x16 but its frame is 16x8, which the EXIF orientation of .*JPEGImages/a/0\.png"
    with pytest.raises(UserError, match=line):
        folder.videos[0].read_labels("0")
    with pytest.raises(UserError, match=line):
        check(folder, skip_bad=False)
    with pytest.raises(UserError, match=line):
        PromptFolder(tmp_path / "Annotations").check(video, needed=True)


def test_a_mask_that_fits_neither_way_is_refused_without_a_word_on_exif(tmp_path):
    write_turned(tmp_path / "JPEGImages/a/0.png", PICTURE, 6)
    write_mask(tmp_path / "Annotations/a/0.png", np.ones((5, 5), np.uint8))
    with pytest.raises(UserError, match=r"is 5x5 but its frame is 16x8$"):
        VOSFolder(tmp_path).videos[0].read_labels("0")


# ---- more than 8 bits


def write_deep(path: Path, highest: int, kind: type = np.uint16) -> Path:
    """A (1, 5) grey frame from 0 to `highest`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.arange(5) * highest // 4).astype(kind)[None]).save(path)
    return path


def patch_tiff(content: bytes, tags: dict[int, tuple[int, int, int]]) -> bytes:
    """A little-endian TIFF with other (type, count, value) of some tags in its first directory."""
    content = bytearray(content)
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag = struct.unpack_from("<H", content, entry)[0]
        if tag in tags:
            struct.pack_into("<HII", content, entry + 2, *tags[tag])
    return bytes(content)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (65535, [0, 63, 127, 191, 255]),
        (4095, [0, 63, 127, 191, 255]),
        (1023, [0, 63, 127, 191, 255]),
        (200, [0, 50, 100, 150, 200]),
    ],
)
def test_grey_of_16_bits_is_scaled_by_the_bits_that_it_uses(tmp_path, suffix, highest, expected):
    assert read_frame(write_deep(tmp_path / f"a{suffix}", highest))[0, :, 1].tolist() == expected


def test_all_frames_of_a_video_are_scaled_by_the_brightest_of_them(tmp_path):
    for t, highest in enumerate((100, 4095, 1000)):
        write_deep(tmp_path / f"a/{t}.png", highest)
    Image.new("L", (5, 1), 90).save(tmp_path / "a/3.png")  # 8 bits stay as they are
    (tmp_path / "a/notes.txt").write_text("no image")
    (video,) = find_videos(tmp_path / "a")
    assert [int(frame.max()) for _, frame in video.frames()] == [6, 255, 62, 90]
    write_deep(tmp_path / "a/9.png", 65535)
    assert read_frame(tmp_path / "a/1.png").max() == 15


CHANNELS = {"grey": 1, "grey and alpha": 2, "RGB": 3, "RGBA": 4}


def channels_of(kind: str, bits: int) -> np.ndarray:
    """A (2, 5, C) picture that uses all values of so many bits; red rises, green falls, alpha is opaque."""
    dtype = np.uint8 if bits == 8 else np.uint16
    values = np.empty((2, 5, CHANNELS[kind]), dtype)
    values[:] = np.iinfo(dtype).max
    rising = (np.arange(5) * (2**bits - 1) // 4).astype(dtype)
    values[..., 0] = rising
    if CHANNELS[kind] > 2:
        values[..., 1], values[..., 2] = rising[::-1], 0
    return values


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize(
    ("kind", "suffix"),
    [*((kind, ".png") for kind in CHANNELS), ("grey", ".tif"), ("RGB", ".tif"), ("RGBA", ".tif")],
)
def test_every_kind_of_picture_is_scaled_by_the_bits_that_it_uses(tmp_path, kind, bits, suffix):
    frame = read_frame(write_channels(tmp_path / f"a{suffix}", channels_of(kind, bits)))
    rising = [0, 63, 127, 191, 255]
    expected = [rising, rising[::-1], [0] * 5] if CHANNELS[kind] > 2 else [rising] * 3
    assert frame.shape == (2, 5, 3) and frame[1].T.tolist() == expected


def test_dark_colours_of_16_bits_are_as_dark_beside_brighter_frames(tmp_path):
    for name, bits in (("a", 10), ("b", 12), ("c", 8)):  # of 8 bits, they stay as they are
        write_channels(tmp_path / f"{name}.png", channels_of("RGBA", bits))
    assert [read_frame(tmp_path / f"{name}.png").max() for name in "abc"] == [63, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_of_16_bit_colours_is_turned_upright_too(tmp_path, orientation):
    path = write_turned(tmp_path / "8.tif", PICTURE, orientation)
    content = path.read_bytes()
    deep = (np.array(turned(PICTURE, orientation), dtype="<u2") * 257).tobytes()
    content = patch_tiff(content, {258: (3, 3, len(content)), 273: (4, 1, len(content) + 6)})
    (tmp_path / "16.tif").write_bytes(content + struct.pack("<3H", 16, 16, 16) + deep)
    np.testing.assert_array_equal(read_frame(tmp_path / "16.tif"), PICTURE)


@pytest.mark.parametrize("mode", ["LA", "CMYK"])
def test_a_tiff_of_16_bits_in_a_form_that_is_not_read_is_refused(tmp_path, mode):
    Image.new(mode, (8, 4)).save(tmp_path / "8.tif")
    content = (tmp_path / "8.tif").read_bytes()
    count = len(mode)
    bits = (3, count, 16 | 16 << 16 if count == 2 else len(content))
    content = patch_tiff(content, {256: (4, 1, 4), 258: bits})  # half as wide, twice as deep
    (tmp_path / "16.tif").write_bytes(content + struct.pack("<4H", 16, 16, 16, 16))
    with pytest.raises(UserError, match=r"16\.tif .*(no known image format|(in|of) a form that is not read)"):
        read_frame(tmp_path / "16.tif")


def test_planes_of_16_bit_colours_are_refused(tmp_path):
    values = (np.arange(3 * 8 * 16) * 151 % 65536).astype(np.uint16)
    Image.fromarray(PICTURE).save(tmp_path / "8.tif")
    content = (tmp_path / "8.tif").read_bytes()
    end, plane = len(content), 2 * 8 * 16
    places = [end + 30 + i * plane for i in range(3)]
    tags = {258: (3, 3, end), 273: (4, 3, end + 6), 279: (4, 3, end + 18), 284: (3, 1, 2)}
    extra = struct.pack("<3H6I", 16, 16, 16, *places, plane, plane, plane)
    (tmp_path / "16.tif").write_bytes(patch_tiff(content, tags) + extra + values.tobytes())
    with pytest.raises(UserError, match=r"16\.tif has more than 8 bits a channel in a form that is not read"):
        read_frame(tmp_path / "16.tif")


def test_a_frame_that_changes_in_its_place_is_looked_at_anew(tmp_path):
    dark, bright = write_deep(tmp_path / "a/0.png", 1000), write_deep(tmp_path / "a/1.png", 1023)
    folder = (tmp_path / "a").stat()
    assert read_frame(dark).max() == 250
    bright.write_bytes(write_deep(tmp_path / "b/1.png", 4095).read_bytes())
    os.utime(tmp_path / "a", ns=(folder.st_atime_ns, folder.st_mtime_ns))
    os.utime(bright, (0, 0))
    assert read_frame(dark).max() == 62


def test_big_endian_grey_of_16_bits_is_read_as_little_endian_is(tmp_path):
    values = np.array([[0, 4095]], dtype=">u2")
    image = Image.frombytes("I;16B", (2, 1), values.tobytes())
    image.save(tmp_path / "a.tif")
    assert read_frame(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 255]


def test_a_frame_of_16_bits_is_turned_upright_too(tmp_path):
    values = np.arange(8 * 16, dtype=np.uint16).reshape(8, 16)
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}/a.png"
        write_turned(path, values, orientation)
        np.testing.assert_array_equal(read_frame(path)[..., 0], values)


@pytest.mark.parametrize(
    ("values", "line"), [(np.float32(0.5), "floating-point numbers"), (np.int32(-7), "negative pixels")]
)
def test_floating_point_and_negative_frames_are_refused_with_the_remedy(tmp_path, values, line):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 4), values)).save(tmp_path / "a/0.tif")
    with pytest.raises(UserError, match=rf"0\.tif .*{line}.*: save frames as 8- or 16-bit images"):
        read_frame(tmp_path / "a/0.tif")


def test_a_floating_point_frame_is_refused_before_anything_is_tracked(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "0.tif")
    with pytest.raises(UserError, match="floating-point"):
        find_videos(tmp_path)[0].check()


# ---- several pictures in a file


@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp"])
def test_a_file_of_several_pictures_is_refused_with_their_number(tmp_path, suffix):
    pages = [Image.fromarray(PICTURE // (1 + page)) for page in range(3)]
    pages[0].save(tmp_path / f"0{suffix}", save_all=True, append_images=pages[1:])
    for read in (read_frame, read_frame_size, lambda path: find_videos(path)[0].check()):
        with pytest.raises(UserError, match=r"holds 3 pictures: save each as an image file of its own"):
            read(tmp_path / f"0{suffix}")


def test_the_second_picture_in_a_photo_of_a_phone_does_not_count(tmp_path):
    pages = [Image.fromarray(PICTURE), Image.fromarray(PICTURE // 2)]
    pages[0].save(tmp_path / "a.mpo", save_all=True, append_images=pages[1:])
    shutil.move(tmp_path / "a.mpo", tmp_path / "a.jpg")
    assert read_frame(tmp_path / "a.jpg").shape == PICTURE.shape
