"""Single frames of a video by their number are those that reading it from the start gives."""

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from video import seek
from video.reader import find_videos
from video.seek import Pictures

NUM_FRAMES = 90


def save_clip(path: Path, *, fps: int = 25, b_frames: int = 2, size: tuple[int, int] = (48, 64)) -> Path:
    """An H.264 file with a key frame every 12 frames; the grey of each frame tells its number."""
    with av.open(str(path), "w") as container:
        options = {"bf": str(b_frames), "g": "12", "x264-params": "open-gop=1", "crf": "10"}
        stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for k in range(NUM_FRAMES):
            picture = np.full((*size, 3), 20 + 2 * k, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi"])
def test_frames_in_any_order_are_those_of_reading_from_the_start(tmp_path, monkeypatch, name):
    (video,) = find_videos(save_clip(tmp_path / name))
    expected = [frame.permute(1, 2, 0).numpy() for _, frame in video.frames()]
    pictures = Pictures(video)
    assert pictures.num_frames == len(expected) == NUM_FRAMES
    order = [0, 89, 3, 88, 87, 12, 11, 13, *range(30, 40), *range(39, 29, -1)]
    order += random.Random(0).sample(range(NUM_FRAMES), 30)
    monkeypatch.setattr(seek, "KEPT", 0)  # so that each is decoded
    for k in order:
        assert np.array_equal(pictures.at(k), expected[k]), k


@pytest.mark.parametrize("limit, value", [("KEPT", 5 * 48 * 64 * 3), ("MOST_KEPT", 5)])
def test_memory_is_bounded_by_the_pictures_that_are_kept(tmp_path, monkeypatch, limit, value):
    (video,) = find_videos(save_clip(tmp_path / "clip.mp4"))
    pictures = Pictures(video)
    monkeypatch.setattr(seek, limit, value)
    pictures.at(80)
    assert list(pictures._kept) == [76, 77, 78, 79, 80]


def test_without_times_frames_are_counted_from_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(seek, "shown_times", lambda path: None)
    (video,) = find_videos(save_clip(tmp_path / "clip.mp4"))
    expected = [frame.permute(1, 2, 0).numpy() for _, frame in video.frames()]
    pictures = Pictures(video)
    assert pictures.num_frames == NUM_FRAMES
    assert all(np.array_equal(pictures.at(k), expected[k]) for k in (50, 7, 8, 89))


def test_frames_of_a_folder_have_the_names_of_their_files(tmp_path):
    for number, name in enumerate(["a2", "a10"]):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"{name}.png")
    (video,) = find_videos(tmp_path)
    pictures = Pictures(video)
    assert (pictures.num_frames, pictures.name(1), pictures.number("a10")) == (2, "a10", 1)
    assert pictures.number("a3") is None
    assert pictures.at(1)[0, 0].tolist() == [1, 0, 0]
