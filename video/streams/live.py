"""Videos that come once, in their own time: a camera, a stream at an address, standard input."""

from __future__ import annotations

import os
import re
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from common.config import given
from common.errors import UserError, require
from common.progress import say
from video.streams.containers import CONTAINERS, of_one_size, upright

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = 10  # seconds that a stream may send nothing
WAIT = 0.2  # seconds from one look at whether standard input should end to the next
FORMATS = f"{CONTAINERS},hls,rtsp,rtp,sdp,mpjpeg"
PROTOCOLS = "http,https,tcp,udp,tls,rtp,rtmp,rtmps,rtsp,srt,httpproxy,crypto"  # no file, whatever a list says
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://.+", re.IGNORECASE | re.DOTALL)


class LivePicture(NamedTuple):
    """(H, W, 3) uint8 RGB; the second at which it is shown; width by height of its pixels on the screen."""

    pixels: np.ndarray
    second: Fraction | None
    pixel_aspect: Fraction = Fraction(1)


class LiveRoot(NamedTuple):
    """What --video_root names other than files; as text it shows no password and no query."""

    text: str

    def __str__(self) -> str:
        if not ADDRESS.fullmatch(self.text):
            return self.text
        parts = urlsplit(self.text)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def video_root(text: str) -> Path | LiveRoot:
    """A path, or what is none: `-`, the number of a camera unless a file has that name, an address."""
    given(text)
    is_camera = text.isascii() and text.isdecimal() and not Path(text).exists()
    return LiveRoot(text) if text == "-" or is_camera or ADDRESS.fullmatch(text) else Path(text)


def camera_pictures(number: int) -> Iterator[LivePicture]:
    """The pictures of a camera, with the seconds since the first; UserError where it cannot be opened."""
    cv2 = require("cv2", "reading a camera")
    logging = cv2.utils.logging
    former = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # it says a page where there is no camera
    capture = cv2.VideoCapture(number)
    logging.setLogLevel(former)
    try:
        if not capture.isOpened():
            remedy = "check that it is connected, and that no other program has it"
            raise UserError(f"camera {number} cannot be opened: {remedy}")
        begun = time.monotonic()
        while (taken := capture.read())[0]:
            milliseconds = round(1000 * (time.monotonic() - begun))
            yield LivePicture(cv2.cvtColor(taken[1], cv2.COLOR_BGR2RGB), Fraction(milliseconds, 1000))
    finally:
        capture.release()


def _reason(error: Any) -> str:
    """Why FFmpeg gives up; what ends its waiting has no words of its own."""
    silent = isinstance(error, require("av", "reading streams").ExitError)
    return f"nothing came for {PATIENCE} seconds" if silent else error.strerror


def stream_pictures(file: Any, place: str, remedy: str, **options: Any) -> Iterator[LivePicture]:
    """The pictures of what `av.open` opens with these options.

    Raises UserError with the remedy where it cannot be opened, and where it breaks off.
    """
    av = require("av", "reading streams")
    try:
        container = av.open(file, metadata_errors="replace", **options)
    except av.FFmpegError as error:
        raise UserError(f"{place} cannot be read ({_reason(error)}): {remedy}") from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise UserError(f"{place} has no video stream that can be decoded: choose another")
        aspect, is_begun = stream.sample_aspect_ratio or Fraction(1), False
        try:
            for frame in container.decode(stream):
                is_begun = True
                second = None if frame.pts is None else frame.pts * frame.time_base
                yield LivePicture(upright(frame), second, aspect)
        except av.FFmpegError as error:
            words = (
                f"broke off ({_reason(error)})"
                if is_begun
                else f"cannot be read ({_reason(error)}): {remedy}"
            )
            raise UserError(f"{place} {words}") from error


class _StandardInput:
    """Standard input for FFmpeg, which ends where `stopped` is set, too."""

    def __init__(self, stopped: threading.Event):
        self.stopped = stopped

    def read(self, size: int) -> bytes:
        while not self.stopped.is_set():
            if select.select([0], [], [], WAIT)[0]:
                return os.read(0, size)
        return b""


def input_pictures(stopped: threading.Event, raw_size: str | None, fps: float) -> Iterator[LivePicture]:
    """The pictures of an encoded video on standard input, or of raw RGB of a size, WIDTHxHEIGHT.

    fps: frames per second of raw ones
    """
    place, raw = "standard input", {}
    remedy = "send MPEG-TS, Matroska or YUV4MPEG, no mp4; raw RGB needs --raw_size WIDTHxHEIGHT"
    container_options = {"format_whitelist": CONTAINERS}
    if raw_size:
        container_options = {"video_size": raw_size, "pixel_format": "rgb24", "framerate": f"{fps:g}"}
        raw = {"format": "rawvideo"}
    return stream_pictures(_StandardInput(stopped), place, remedy, container_options=container_options, **raw)


def address_pictures(root: LiveRoot) -> Iterator[LivePicture]:
    """The pictures of a stream, or of a file, at an address."""
    remedy = "check the address, and that it is reached from here"
    options = {"format_whitelist": FORMATS, "protocol_whitelist": PROTOCOLS}
    return stream_pictures(root.text, str(root), remedy, options=options, timeout=float(PATIENCE))


@contextmanager
def ended_by_interrupt(video: Any) -> Iterator[None]:
    """Inside, the first Ctrl-C ends a live video, whose results are then finished; a second one the run.

    Other videos it leaves alone; within other threads than the main one it cannot do it.
    """
    if not hasattr(video, "stop") or threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGINT)

    def end(*_: Any) -> None:
        signal.signal(signal.SIGINT, former)
        video.stop()

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


class LiveVideo:
    """A video of unknown length that comes once; its frames are named 00000, 00001, ... as they come.

    place: what it is, for messages
    fps: frames per second where it does not say when its frames are shown
    times: {frame name: the second at which it is shown} of what `frames` has yielded
    """

    num_frames = frame_names = None

    def __init__(
        self, name: str, place: str, fps: float, read: Callable[[threading.Event], Iterator[LivePicture]]
    ):
        """read: gives its pictures, which may end where the event is set"""
        self.name, self.place, self.fps = name, place, fps
        self.times: dict[str, Fraction] = {}
        self.files: list[Path] = []  # that it is read from: none
        self._stopped = threading.Event()
        self._pictures = read(self._stopped)

    @cached_property
    def _first(self) -> LivePicture:
        with ended_by_interrupt(self):
            try:
                if (picture := next(self._pictures, None)) is not None:
                    return picture
            except UserError:
                if not self._stopped.is_set():
                    raise
        if self._stopped.is_set():
            say(f"{self.place}: stopped before its first frame came", error=True)
            raise KeyboardInterrupt
        raise UserError(f"{self.place} holds no frame: choose another")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the first frame, which is waited for; raises what `check` raises."""
        return self._first.pixels.shape[:2]

    @property
    def pixel_aspect(self) -> Fraction:
        return self._first.pixel_aspect

    def has_frame(self, name: str) -> bool:
        """Whether a frame may have this name."""
        return name.isdecimal() and name == f"{int(name):05d}"

    def check(self) -> None:
        """Wait for the first frame; UserError where none comes, KeyboardInterrupt where Ctrl-C does."""
        _ = self._first

    def stop(self) -> None:
        """Let it end after the frame that is being read."""
        self._stopped.set()

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (frame name, uint8 RGB (3, H, W)) until it ends or is stopped; once.

        Where it breaks off, it ends with the frames that came, which a line says. Raises what `check` raises.
        """
        count, pictures = 0, chain([self._first], self._pictures)

        def named() -> Iterator[tuple[str, np.ndarray]]:
            for i, picture in enumerate(pictures):
                if picture.second is not None:
                    self.times[f"{i:05d}"] = picture.second
                yield f"{i:05d}", picture.pixels
                if self._stopped.is_set():
                    return

        try:
            for count, item in enumerate(of_one_size(self.place, named()), start=1):  # noqa: B007
                yield item
        except UserError as error:
            if not self._stopped.is_set():
                say(f"{error}; the results are those of the {count} frames before", error=True)
        finally:
            self._pictures.close()


def live_video(root: LiveRoot, fps: float, raw_size: str | None = None) -> LiveVideo:
    """The video that a root names; raw_size: as of `input_pictures`, or UserError."""
    if raw_size and (root.text != "-" or not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", raw_size)):
        raise UserError(f"--raw_size {raw_size}: give WIDTHxHEIGHT of raw frames, with --video_root -")
    if root.text == "-":
        return LiveVideo(
            "stdin", "standard input", fps, lambda stopped: input_pictures(stopped, raw_size, fps)
        )
    if root.text.isdecimal():
        number = int(root.text)
        return LiveVideo(f"camera{number}", f"camera {number}", fps, lambda _: camera_pictures(number))
    parts = urlsplit(root.text)
    name = re.sub(r"[^\w-]+", "_", Path(parts.path).stem or parts.hostname or "stream").strip("_")
    return LiveVideo(name or "stream", str(root), fps, lambda _: address_pictures(root))


def check_repeats(videos: list[Any], flag: str) -> None:
    """Raise UserError where a flag reads a video more than once, and one comes but once."""
    for video in videos:
        if isinstance(video, LiveVideo):
            raise UserError(
                f"{flag} reads a video more than once, and {video.place} comes once: record it first"
            )
