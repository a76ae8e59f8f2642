"""Video files as FFmpeg reads them: opened with care, decoded frame by frame, damage reported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.config import MAX_PIXELS
from common.errors import UserError, available, require
from common.files import check_file

if TYPE_CHECKING:
    from torch import Tensor

# FFmpeg's readers of files that hold a video themselves; those of playlists (concat, hls) open other files.
CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,gif,ogg,mxf,h264,hevc,m4v,mjpeg,ivf,obu,nut,dv,rm,"
    "yuv4mpegpipe,wtv,nsv,swf,pva,gxf,lxf,vc1,vvc,cavsvideo,h261,h263,apng,flic,roq,smk,bink"
)
TIMED = {"mp4", "matroska", "mpegts"}  # containers that say of each frame when it is shown; AVI's is guessed
IDENTITY = np.array([1, 0, 0, 0, 1], dtype=np.int32).tobytes()  # of a display matrix, as far as it is read
MISSING_TAIL = 1.0  # seconds by which a file may end before its stated duration: containers round it
DEFAULT_FPS = 24.0  # of still images, which do not say; the rate at which DAVIS is shown
STILL_BRANDS = {"heic", "heix", "mif1", "msf1", "avif"}  # of HEIF, whose container is that of mp4


def of_one_size(place: Path | str, frames: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, Tensor]]:
    """Turn (H, W, 3) arrays into (3, H, W) tensors; raises UserError where the size changes."""
    import torch

    expected = None
    for name, frame in frames:
        height, width = frame.shape[:2]
        expected = expected or (height, width)
        if (height, width) != expected:
            raise UserError(
                f"{place}: frame {name} is {width}x{height}, those before it are "
                f"{expected[1]}x{expected[0]}: bring all frames of a video to one size"
            )
        yield name, torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a video file as (container, its main video stream); raises UserError where it has none."""
    av = require("av", "reading video files")
    check_file(path)
    with open(path, "rb"):
        pass  # where the file system refuses, its own complaint is the clearest
    try:
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
        container = av.open(
            str(path), options=options, metadata_errors="replace"
        )  # a title may be in Latin-1
    except av.FFmpegError as error:
        is_list = isinstance(error, av.ArgumentError)  # so says FFmpeg of what is not on the white list
        reason = "a list of other files, or of a format that is not read" if is_list else error.strerror
        raise UserError(
            f"{path} is not a readable video ({reason}): copy it again, or re-encode it"
        ) from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise UserError(f"{path} has no video stream that can be decoded: choose another file")
        if stream.width * stream.height > MAX_PIXELS:
            size = f"{stream.width}x{stream.height}"
            raise UserError(f"{path} is {size}: a picture has at most {MAX_PIXELS} pixels; shrink it")
        yield container, stream


class Damage(Exception):
    """What is wrong with a video file, in a few words."""


def _end_seconds(packet: Any) -> float:
    """The time at which what the packet holds has been shown; 0 where it does not say."""
    if packet.pts is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _check_ending(container: Any, end: float) -> None:
    """Raise Damage where the packets end at `end` seconds, well before the stated duration of the file."""
    if container.duration is None:
        return
    microseconds = container.duration + (container.start_time or 0)
    if end < microseconds / 1e6 - MISSING_TAIL:
        raise Damage(f"it should last {microseconds / 1e6:.1f} s, but ends after {end:.1f} s")


def upright(frame: Any) -> np.ndarray:
    """The (H, W, 3) uint8 RGB pixels of a decoded frame as its display matrix turns and mirrors them.

    The matrix takes a pixel (x, y) to (a x + c y, b x + d y); angles are rounded to quarter turns.
    """
    pixels = frame.to_ndarray(format="rgb24")
    side_data = (bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX")
    a, b, _, c, d = np.frombuffer(next(side_data, IDENTITY), dtype=np.int32)[:5].astype(np.int64)
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def second_of(frame: Any) -> Fraction | None:
    """The second at which a decoded frame is shown, by its file's clock; None where that does not say."""
    return None if frame.pts is None else frame.pts * frame.time_base


def decode(path: Path, begin: int | None = None) -> Iterator[Any]:
    """Yield the frames of a video file, as PyAV has them; Damage where frames are lost.

    begin: when the first one is shown, in units of the stream; reading starts at the key frame before it
    The decoder conceals damage, and the reader takes a file that was cut between two packets for a whole one,
    so both are asked. Audio is read, not decoded: it shows a cut that lies between two frames.
    """
    with open_video(path) as (container, stream):
        stream.thread_type = "FRAME"  # decoding slice by slice leaves damaged frames unmarked
        if begin is not None:
            container.seek(begin, stream=stream)
        end = 0.0
        for packet in container.demux([*container.streams.video, *container.streams.audio]):
            if packet.is_corrupt:
                raise Damage("it is cut short")
            end = max(end, _end_seconds(packet))
            if packet.stream.index != stream.index:
                continue
            for frame in packet.decode():
                if begin is not None and frame.pts is not None and frame.pts < begin:
                    continue  # it may refer to frames before the key frame
                if frame.is_corrupt:
                    raise Damage("the next frame is corrupt")
                yield frame
        _check_ending(container, end)


def shown_times(path: Path) -> list[int] | None:
    """When each frame of a video file is shown, ascending, in units of its stream; nothing is decoded.

    None where the file does not say it of every frame, and for each another.
    """
    with open_video(path) as (container, stream):
        if TIMED.isdisjoint(container.format.name.split(",")):
            return None
        times = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
    return sorted(times) if times and None not in times and len(set(times)) == len(times) else None


def is_video(path: Path) -> bool:
    """Whether a file is a video, by trying; no still picture of a phone is, and no sound with a cover."""
    if not available("av"):
        return False
    try:
        with open_video(path) as (container, stream):
            is_cover = (
                stream.disposition & require("av", "reading video files").stream.Disposition.attached_pic
            )
            return not is_cover and container.metadata.get("major_brand") not in STILL_BRANDS
    except (UserError, OSError):
        return False
