"""Runs over a video that comes once: its results are whole however it ends; what is tracked is shown."""

import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.errors import UserError
from tests.support.annotating import ShiftingTracker
from tracking.batch import process_videos
from tracking.config import RunConfig
from video.reader import VideoFile, find_videos
from video.streams.live import LiveRoot
from video.streams.window import check_display, showing


class Interrupted:
    """A stand-in for cv2.VideoCapture that never ends; at its frame `number` Ctrl-C is pressed."""

    number, count = 5, 0

    def __init__(self, _: int):
        pass

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray]:
        self.count += 1
        if self.count == self.number:
            os.kill(os.getpid(), signal.SIGINT)
        return True, np.full((24, 32, 3), min(self.count, 255), np.uint8)

    def release(self) -> None:
        pass


def test_a_camera_that_is_interrupted_has_whole_results(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(cv2, "VideoCapture", Interrupted)
    monkeypatch.chdir(tmp_path)
    tracker, output = ShiftingTracker(), tmp_path / "output"
    tracker.needs_prompt = False
    failed = process_videos(
        tracker, find_videos(LiveRoot("0")), None, output, RunConfig(device="cpu", amp="off")
    )
    count = len(list((output / "Annotations" / "camera0").iterdir()))
    assert failed == {} and 4 <= count < 50
    assert json.loads((output / "tracks.json").read_text())["camera0"]["frames"] == count
    assert len(list(VideoFile("a", output / "overlays" / "camera0.mp4").frames())) == count
    assert not (output / ".unfinished").exists()
    assert "camera0: frames of 32x24" in capsys.readouterr().out  # of a number that is not known


def test_overlays_are_shown_as_they_come(tmp_path: Path, monkeypatch):
    shown, called = [], []
    monkeypatch.setattr(cv2, "namedWindow", lambda *arguments: called.append(arguments[0]))
    monkeypatch.setattr(cv2, "destroyWindow", called.append)
    monkeypatch.setattr(cv2, "pollKey", lambda: -1)
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture.copy()))
    monkeypatch.setattr(cv2, "VideoCapture", Interrupted)
    monkeypatch.chdir(tmp_path)
    tracker = ShiftingTracker()
    tracker.needs_prompt = False
    config = RunConfig(device="cpu", amp="off", overlays=False, show=True)
    process_videos(tracker, find_videos(LiveRoot("0")), None, tmp_path / "output", config)
    assert called == ["camera0", "camera0"] and shown
    assert all(picture.shape == (24, 32, 3) for picture in shown)
    assert not (tmp_path / "output" / "overlays").exists()


def test_without_a_display_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"--show needs a display: .* or leave it out"):
        check_display()


def test_opencv_without_windows_is_told_with_the_remedy(monkeypatch):
    def without(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", without)
    with pytest.raises(UserError, match="pip install opencv-python"), showing("clip", show=True):
        pass
