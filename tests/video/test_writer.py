"""Overlay videos: colours, rate, codec, and nothing half-written."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from common.errors import MissingPackage
from common.types import Tracks
from tracking.loop import binarise
from tracking.output import VideoOutput
from video.reader import VideoFile
from video.writer import OverlayWriter


def picture(height: int, width: int, shade: int = 0) -> np.ndarray:
    """Four coloured quarters, brighter at the right."""
    frame = np.full((height, width, 3), shade, dtype=np.uint8)
    frame[: height // 2, : width // 2, 0] = 200
    frame[height // 2 :, : width // 2, 1] = 200
    frame[: height // 2, width // 2 :, 2] = 200
    return frame


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_an_overlay_keeps_colours_rate_and_length_and_pads_odd_sides(tmp_path: Path, size: tuple[int, int]):
    with OverlayWriter(tmp_path / "overlays" / "a.mp4", fps=30000 / 1001) as writer:
        for shade in range(0, 100, 20):
            writer.add(picture(*size, shade))
    video = VideoFile("a", tmp_path / "overlays" / "a.mp4")
    frames = [frame.permute(1, 2, 0).numpy() for _, frame in video.frames()]
    assert video.fps == pytest.approx(30000 / 1001) and len(frames) == video.num_frames == 5
    assert frames[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    difference = np.abs(frames[-1][: size[0], : size[1]].astype(int) - picture(*size, 80))
    assert np.median(difference) <= 4
    assert [path.name for path in (tmp_path / "overlays").iterdir()] == ["a.mp4"]


def test_an_overlay_is_h264_in_yuv420p_with_the_index_first(tmp_path: Path):
    av = pytest.importorskip("av")
    with OverlayWriter(tmp_path / "a.mp4", fps=10) as writer:
        writer.add(picture(32, 48))
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_an_interrupted_overlay_leaves_the_former_file_alone(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"former")
    with pytest.raises(KeyboardInterrupt), OverlayWriter(tmp_path / "a.mp4", fps=10) as writer:
        writer.add(picture(32, 48))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"former"


def test_an_overlay_without_frames_writes_nothing(tmp_path: Path):
    with OverlayWriter(tmp_path / "a.mp4", fps=10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_overlay_without_pyav_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackage, match="pip install av"):
        OverlayWriter(tmp_path / "a.mp4", fps=10)


def save_clip(path: Path, times: list[Fraction], pixel_aspect: Fraction) -> VideoFile:
    with OverlayWriter(path, fps=10, pixel_aspect=pixel_aspect) as writer:
        for shade, time in enumerate(times):
            writer.add(picture(32, 48, 20 * shade), time)
    return VideoFile(path.stem, path)


def test_an_overlay_keeps_variable_frame_times_and_the_pixel_aspect(tmp_path: Path):
    times = [Fraction(t, 100) for t in (0, 4, 10, 50, 51, 90)]
    source = save_clip(tmp_path / "source.mp4", times, Fraction(4, 3))
    assert source.pixel_aspect == Fraction(4, 3) and source.size == (32, 48)
    with VideoOutput(tmp_path / "work", source, overlay=True) as files:
        files.go_on(0)
        for name, frame in source.frames():
            files.record(name, frame, binarise(Tracks.empty(32, 48), 0.5))
    written = VideoFile("a", tmp_path / "work" / "overlay.mp4")
    assert len(list(written.frames())) == 6 and written.pixel_aspect == Fraction(4, 3)
    assert list(written.times.values()) == list(source.times.values()) == times


def test_times_that_do_not_grow_are_moved_apart(tmp_path: Path):
    video = save_clip(tmp_path / "a.mp4", [Fraction(0), Fraction(0), Fraction(1, 10)], Fraction(1))
    assert len(list(video.frames())) == 3 and video.pixel_aspect == 1
