"""Image files as frames: EXIF orientations, grey of 16 bits, files of several pictures."""

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from tests.support.image_files import write_mask, write_turned
from tracking.prompts import PromptFolder
from video.annotated import VOSFolder, check
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
    os.utime(tmp_path / "a", (0, 0))  # long ago: the clock of a file system is slow
    (video,) = find_videos(tmp_path / "a")
    assert [int(frame.max()) for _, frame in video.frames()] == [6, 255, 62, 90]
    write_deep(tmp_path / "a/9.png", 65535)
    assert read_frame(tmp_path / "a/1.png").max() == 15


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
