"""Videos that come once: a camera (a stand-in for OpenCV's), addresses and standard input, which are real."""

import os
import signal
import threading
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.errors import UserError
from tests.support.file_server import FileServer
from tests.support.sounding import write_sounding
from video.reader import find_videos
from video.streams.live import LiveRoot, LiveVideo, check_repeats, ended_by_interrupt, video_root


class Camera:
    """A stand-in for cv2.VideoCapture: `left` frames of 8x6, blue, the number of the frame in the red."""

    left = 3
    released = 0

    def __init__(self, number: int):
        self.number, self.count = number, 0

    def isOpened(self) -> bool:
        return self.number == 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.count == self.left:
            return False, None
        picture = np.full((6, 8, 3), (200, 0, self.count), np.uint8)
        self.count += 1
        return True, picture

    def release(self) -> None:
        Camera.released += 1


@pytest.fixture
def camera(monkeypatch, tmp_path) -> type[Camera]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "released", 0)
    return Camera


def opened(text: str, **options) -> LiveVideo:
    (video,) = find_videos(video_root(text), **options)
    video.check()
    return video


def test_a_root_is_a_path_unless_it_can_be_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("0", "12", "-", "rtsp://host/a", "HTTP://host/a.mp4", "srt://h:1?x=1"):
        assert video_root(text) == LiveRoot(text)
    (tmp_path / "0").mkdir()
    for text in ("0", "clip.mp4", "a/b", "./12", "-clip", "C:\\a", "²"):
        assert video_root(text) == Path(text)


def test_an_address_is_shown_without_its_password(tmp_path):
    (video,) = find_videos(video_root("rtsp://me:secret@host:554/cam/one.sdp?key=secret"))
    assert (video.name, video.place) == ("one", "rtsp://host:554/cam/one.sdp")
    assert str(video_root("rtsp://me:secret@host/a?key=secret")) == "rtsp://host/a"


def test_a_camera_gives_upright_rgb_with_times_until_it_ends(camera):
    video = opened("0")
    assert (video.name, video.size, video.num_frames) == ("camera0", (6, 8), None)
    frames = list(video.frames())
    assert [name for name, _ in frames] == ["00000", "00001", "00002"] == list(video.times)
    assert [frame[:, 0, 0].tolist() for _, frame in frames] == [[k, 0, 200] for k in range(3)]
    assert video.times["00000"] == 0 and camera.released == 1


def test_a_camera_that_is_not_there_is_refused_with_the_remedy(camera):
    with pytest.raises(UserError, match="camera 5 cannot be opened: check that it is connected"):
        opened("5")


def test_the_first_interrupt_ends_a_live_video_and_the_second_the_run(camera, monkeypatch):
    monkeypatch.setattr(camera, "left", 10**6)
    video = opened("0")
    names = []
    with ended_by_interrupt(video):
        for name, _ in video.frames():
            names.append(name)
            if len(names) == 4:
                os.kill(os.getpid(), signal.SIGINT)
    assert len(names) == 4 and camera.released == 1
    with pytest.raises(KeyboardInterrupt), ended_by_interrupt(opened("0")):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)


def test_a_video_file_is_not_ended_but_broken_off(tmp_path):
    (video,) = find_videos(write_sounding(tmp_path / "a.mp4", "mpeg4", None))
    with pytest.raises(KeyboardInterrupt), ended_by_interrupt(video):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)


@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
def test_a_stream_at_an_address_is_read_as_it_comes(tmp_path, suffix):
    codec = "mpeg2video" if suffix == ".ts" else "mpeg4"
    path = write_sounding(tmp_path / f"a{suffix}", codec, "aac")
    with FileServer(path.read_bytes()) as server:
        video = opened(server.address)
        frames = list(video.frames())
    assert (video.name, video.size, len(frames)) == ("weights", (48, 64), 50)
    times = list(video.times.values())
    assert times[-1] - times[0] == Fraction(49, 25)


def test_a_stream_that_breaks_off_ends_with_the_frames_that_came(tmp_path, capsys):
    content = write_sounding(tmp_path / "a.mkv", "mpeg4", None).read_bytes()
    with FileServer(content) as server:
        server.cuts = [len(content) // 2] * 20
        server.ranges = False
        count = len(list(opened(server.address).frames()))
    assert 10 < count < 40


def test_an_address_without_a_stream_is_refused_in_a_line(tmp_path):
    with FileServer(b"", status=404) as server, pytest.raises(UserError) as caught:
        opened(server.address)
    assert str(caught.value).startswith(f"{server.address} cannot be read (")
    assert "check the address" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["file:///{path}", "concat://{path}", "subfile:////{path}"])
def test_an_address_reads_no_file_of_this_machine(tmp_path, address):
    path = write_sounding(tmp_path / "a.mp4", "mpeg4", None)
    with pytest.raises(UserError, match="cannot be read"):
        opened(address.format(path=path))


def test_a_playlist_at_an_address_reads_no_file_of_this_machine(tmp_path):
    path = write_sounding(tmp_path / "a.ts", "mpeg2video", None)
    content = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{path}\n#EXT-X-ENDLIST\n".encode()
    with FileServer(content, content_type="application/vnd.apple.mpegurl") as server:
        with pytest.raises(UserError, match=r"cannot be read|has no video stream"):
            opened(server.address)


@pytest.fixture
def feed(monkeypatch):
    """A function that sends bytes to standard input, which it then closes unless it is to stay open."""
    former, threads = os.dup(0), []

    def send(content: bytes, *, close: bool = True) -> None:
        reading, writing = os.pipe()
        os.dup2(reading, 0)
        os.close(reading)

        def write() -> None:
            with open(writing, "wb", closefd=close) as pipe:
                pipe.write(content)

        threads.append(threading.Thread(target=write))
        threads[-1].start()

    yield send
    for thread in threads:
        thread.join(10)
    os.dup2(former, 0)
    os.close(former)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".ts", "mpeg2video"), (".mkv", "mpeg4"), (".y4m", "rawvideo")]
)
def test_an_encoded_video_is_read_from_standard_input(tmp_path, feed, suffix, codec):
    feed(write_sounding(tmp_path / f"a{suffix}", codec, None).read_bytes())
    video = opened("-")
    assert (video.name, video.size, len(list(video.frames()))) == ("stdin", (48, 64), 50)


def test_raw_frames_are_read_from_standard_input_exactly(feed):
    pictures = np.random.default_rng(0).integers(0, 255, (3, 24, 32, 3), dtype=np.uint8)
    feed(pictures.tobytes())
    video = opened("-", fps=10, raw_size="32x24")
    frames = np.stack([frame.permute(1, 2, 0).numpy() for _, frame in video.frames()])
    assert np.array_equal(frames, pictures)
    assert list(video.times.values()) == [0, Fraction(1, 10), Fraction(1, 5)]


def test_standard_input_that_stays_open_is_ended_by_an_interrupt(feed):
    pictures = np.zeros((3, 24, 32, 3), dtype=np.uint8)
    feed(pictures.tobytes(), close=False)
    video = opened("-", raw_size="32x24")
    with ended_by_interrupt(video):
        timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
        timer.start()
        assert len(list(video.frames())) == 3


@pytest.mark.parametrize("raw_size", [None, "32x24"])
@pytest.mark.parametrize("wait", ["check", "size"])
def test_an_interrupt_while_the_first_frame_is_waited_for_ends_it_with_a_line(feed, capsys, raw_size, wait):
    feed(b"", close=False)
    (video,) = find_videos(video_root("-"), raw_size=raw_size)
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        video.check() if wait == "check" else video.size
    assert capsys.readouterr().err == "standard input: stopped before its first frame came\n"


def test_standard_input_without_a_video_is_refused_with_the_remedy(feed):
    feed(b"words, words, words")
    with pytest.raises(UserError, match=r"standard input cannot be read .* send MPEG-TS"):
        opened("-")


@pytest.mark.parametrize(("root", "size"), [("-", "32"), ("-", "0x24"), ("-", "32x24,"), ("0", "32x24")])
def test_a_size_of_raw_frames_that_is_none_is_refused(root, size):
    with pytest.raises(UserError, match="give WIDTHxHEIGHT"):
        find_videos(LiveRoot(root), raw_size=size)


def test_what_goes_back_in_a_video_refuses_one_that_comes_once(camera):
    with pytest.raises(UserError, match="--reverse reads a video more than once, and camera 0"):
        check_repeats(find_videos(video_root("0")), "--reverse")
