"""Writes the overlay video, which plays in every browser, in the source's rhythm, shape and sound."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from common.errors import require
from common.files import atomic_write
from video.sound import add_sound

TICK = Fraction(1, 90_000)  # seconds; the clock of frames that come with their times


class OverlayWriter:
    """Writes an H.264 mp4 that plays in every browser: a context manager with `add`.

    fps: of frames that come without their times
    pixel_aspect: width by height of a pixel on the screen
    sound: a video file whose sound it gets, of the time from its first frame to its last; None: none

    The file takes its name when the block ends; an exception in the block, or no frame, leaves nothing.
    Raises MissingPackage without PyAV, OSError where the file cannot be written.
    """

    def __init__(
        self, path: Path, fps: float, pixel_aspect: Fraction = Fraction(1), sound: Path | None = None
    ):
        self._av = require("av", "writing overlay videos")
        self._path = path
        self._fps = Fraction(fps).limit_denominator(1001)  # 30000/1001 survives
        self._pixel_aspect = pixel_aspect
        self._sound = sound
        self._first_time: Fraction | None = None
        self._last_tick = -1
        self._cleanup = ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def add(self, frame: np.ndarray, time: Fraction | None = None) -> None:
        """Append an (H, W, 3) uint8 RGB frame; all frames have the size of the first.

        time: the second at which it is shown; where the first frame has none, frames come at `fps`
        """
        # The chroma of yuv420p needs even sides: an odd one grows by its last row or column.
        frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._first_time = time
            self._open(*frame.shape[:2])
        assert frame.shape[:2] == (self._stream.height, self._stream.width), "all frames have one size"
        picture = self._av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        if self._first_time is not None:
            tick = 0 if time is None else round((time - self._first_time) / TICK)
            self._last_tick = max(self._last_tick + 1, tick)
            picture.pts, picture.time_base = self._last_tick, TICK
        self._container.mux(self._stream.encode(picture))

    def __enter__(self) -> "OverlayWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.__exit__(kind, error, trace)
        if kind is None and self._sound and self._first_time is not None:
            last = self._first_time + self._last_tick * TICK
            add_sound(self._path, self._sound, self._first_time, last + 1 / self._fps)

    def _open(self, height: int, width: int) -> None:
        temporary = self._cleanup.enter_context(atomic_write(self._path))
        index_first = {"movflags": "+faststart"}  # so that a browser plays while it loads
        self._container = self._cleanup.enter_context(
            self._av.open(str(temporary), "w", format="mp4", container_options=index_first)
        )
        quality = {"crf": "20", "preset": "superfast"}
        stream = self._container.add_stream("libx264", rate=self._fps, options=quality)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if self._pixel_aspect != 1:
            stream.codec_context.sample_aspect_ratio = self._pixel_aspect
        if self._first_time is not None:
            stream.codec_context.time_base = TICK
        context = stream.codec_context  # 1 is BT.709 in each, which players assume where a file does not say
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        self._stream = stream
        self._cleanup.push(self._flush)

    def _flush(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
