"""Videos that show the same are found, however they are encoded; others are not."""

import io

import numpy as np
from PIL import Image

from tools.doctor.duplicates import SIDE, find_repeated, thumbnail


def frame(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A frame of smooth colours."""
    cells = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(cells).resize(size[::-1], Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    return np.array(Image.open(file))


def test_a_thumbnail_has_the_means_of_its_cells():
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:2, :4] = 200
    pixels[0, 0] = 120
    small = thumbnail(pixels)
    assert small.shape == (SIDE, SIDE)
    assert small[0, 0] == 190 and small.sum() == 190


def test_the_same_video_is_found_in_another_encoding_and_size():
    videos = [frame(0), frame(1), encoded(frame(0), 60), frame(0, (192, 256))]
    pictures = np.stack([np.stack([thumbnail(one)]) for one in videos])
    assert find_repeated(pictures) == [(2, 0), (3, 0)]


def test_one_frame_that_differs_makes_another_video():
    first, second, third = (thumbnail(frame(seed)) for seed in range(3))
    assert find_repeated(np.stack([[first, second], [first, third], [first, second]])) == [(2, 0)]


def test_a_small_object_that_differs_makes_another_video():
    other = frame(0)
    other[40:52, 40:52] = 255 - other[40:52, 40:52]
    assert find_repeated(np.stack([[thumbnail(frame(0))], [thumbnail(other)]])) == []


def test_blank_videos_repeat_nothing_and_no_video_is_legal():
    assert find_repeated(np.zeros((3, 2, SIDE, SIDE), np.uint8)) == []
    assert find_repeated(np.zeros((0, 2, SIDE, SIDE), np.uint8)) == []
