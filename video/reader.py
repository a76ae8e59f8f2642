"""Reads the frames of videos one at a time: from folders of images, image globs and video files.

Frames are upright, as viewers and players show them: the EXIF orientation of an image and the display matrix
of a video file (a portrait clip of a phone) are applied. Masks are drawn on the upright picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from glob import escape, glob
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.config import MAX_PIXELS
from common.errors import UserError, require
from common.files import check_file, is_visible
from video.images import MOTS_FOLDER, mots_sequences, natural_key, read_frame, read_frame_size

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".gif"}
VIDEO_SUFFIXES |= {".ts", ".mts", ".m2ts", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".vob", ".m2v", ".mxf"}
# FFmpeg's readers of files that hold a video themselves; those of playlists (concat, hls) open other files.
CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,gif,ogg,mxf,h264,hevc,m4v,mjpeg,ivf,obu,nut,dv,rm"
)
DEFAULT_FPS = 24.0  # of still images, which do not say; the rate at which DAVIS is shown
LAYOUTS = ("JPEGImages", "480p")  # the inner folders of YouTube-VOS and DAVIS roots that hold the videos
IDENTITY = np.array([1, 0, 0, 0, 1], dtype=np.int32).tobytes()  # of a display matrix, as far as it is read
MISSING_TAIL = 1.0  # seconds by which a file may end before its stated duration: containers round it


def _images_in(folder: Path, pattern: str) -> Iterator[Path]:
    return (
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in IMAGE_SUFFIXES and is_visible(path.name)
    )


def _of_one_size(path: Path, frames: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, Tensor]]:
    """Turn (H, W, 3) arrays into (3, H, W) tensors; raises UserError where the size changes."""
    import torch

    expected = None
    for name, frame in frames:
        height, width = frame.shape[:2]
        expected = expected or (height, width)
        if (height, width) != expected:
            raise UserError(
                f"{path}: frame {name} is {width}x{height}, those before it are {expected[1]}x{expected[0]}: "
                "bring all frames of a video to one size"
            )
        yield name, torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))


@dataclass(frozen=True)
class ImageSequence:
    """A video of still images in one folder, sorted by name, numbers by value.

    name: the folder's name
    path: the folder
    pattern: which of its files (a glob); those that are no images are passed over
    fps: frames per second
    """

    name: str
    path: Path
    pattern: str = "*"
    fps: float = DEFAULT_FPS

    @cached_property
    def images(self) -> list[Path]:
        """The image files in order; raises UserError where two have the same frame name."""
        images = sorted(_images_in(self.path, self.pattern), key=lambda image: natural_key(image.stem))
        for image, following in pairwise(images):
            if image.stem == following.stem:
                raise UserError(f"{image} and {following.name} are the same frame: remove one of them")
        return images

    @property
    def times(self) -> dict[str, Fraction]:
        """Empty: still images do not say when they are shown."""
        return {}

    @property
    def pixel_aspect(self) -> Fraction:
        return Fraction(1)

    @property
    def frame_names(self) -> list[str]:
        """File names without their suffix."""
        return [image.stem for image in self.images]

    def has_frame(self, name: str) -> bool:
        """Whether a frame may have this name."""
        return name in self._names

    @cached_property
    def _names(self) -> set[str]:
        return set(self.frame_names)

    @property
    def num_frames(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the first image."""
        return read_frame_size(self.images[0])

    def check(self) -> None:
        """Raise UserError where the first image cannot be opened."""
        read_frame_size(self.images[0])

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (frame name, uint8 RGB (3, H, W)), one at a time.

        Raises UserError where an image is cut short or of another size than those before it.
        """
        return _of_one_size(self.path, ((image.stem, read_frame(image)) for image in self.images))

    def backwards(self, last: str) -> Iterator[tuple[str, Tensor]]:
        """As `frames`, from the one of this name to the first."""
        images = reversed(self.images[: self.frame_names.index(last) + 1])
        return _of_one_size(self.path, ((image.stem, read_frame(image)) for image in images))


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


class _Damage(Exception):
    """What is wrong with a video file, in a few words."""


def _end_seconds(packet: Any) -> float:
    """The time at which what the packet holds has been shown; 0 where it does not say."""
    if packet.pts is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _check_ending(container: Any, end: float) -> None:
    """Raise _Damage where the packets end at `end` seconds, well before the stated duration of the file."""
    if container.duration is None:
        return
    microseconds = container.duration + (container.start_time or 0)
    if end < microseconds / 1e6 - MISSING_TAIL:
        raise _Damage(f"it should last {microseconds / 1e6:.1f} s, but ends after {end:.1f} s")


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


def _decode(path: Path) -> Iterator[tuple[np.ndarray, Fraction | None]]:
    """Yield the frames of a video file, (H, W, 3) uint8 RGB, upright, and the second at which each is shown.

    The second is None where the file does not say. Raises _Damage where frames are lost.

    The decoder conceals damage, and the reader takes a file that was cut between two packets for a whole one,
    so both are asked. Audio is read, not decoded: it shows a cut that lies between two frames.
    """
    with open_video(path) as (container, stream):
        stream.thread_type = "FRAME"  # decoding slice by slice leaves damaged frames unmarked
        end = 0.0
        for packet in container.demux([*container.streams.video, *container.streams.audio]):
            if packet.is_corrupt:
                raise _Damage("it is cut short")
            end = max(end, _end_seconds(packet))
            if packet.stream.index != stream.index:
                continue
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise _Damage("the next frame is corrupt")
                yield upright(frame), None if frame.pts is None else frame.pts * frame.time_base
        _check_ending(container, end)


@dataclass(frozen=True)
class VideoFile:
    """A video in one file; its frames are named 00000, 00001, ... in the order in which they are shown.

    times: {frame name: the second at which it is shown} of what `frames` has yielded
    """

    name: str
    path: Path
    times: dict[str, Fraction] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def _header(self) -> tuple[float, int | None, Fraction, tuple[int, int]]:
        with open_video(self.path) as (_, stream):
            fps, stored_size = float(stream.average_rate or DEFAULT_FPS), (stream.height, stream.width)
            return fps, stream.frames or None, stream.sample_aspect_ratio or Fraction(1), stored_size

    @property
    def fps(self) -> float:
        """Frames per second, on average over the file."""
        return self._header[0]

    @property
    def pixel_aspect(self) -> Fraction:
        """Width by height of a pixel on the screen, of the frames as they are yielded."""
        aspect, stored_size = self._header[2:]
        return aspect if self.size == stored_size or aspect == 1 else 1 / aspect

    @property
    def num_frames(self) -> int | None:
        """What the file says (a trimmed clip shows fewer); None where only decoding can tell."""
        return self._header[1]

    @property
    def frame_names(self) -> None:
        """None: only decoding can tell."""

    def has_frame(self, name: str) -> bool:
        """Whether a frame may have this name; how many there are, only decoding can tell."""
        return name.isdecimal() and name == f"{int(name):05d}"

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) of the first frame, which is decoded for it, because players turn what a phone recorded.

        Raises what `frames` raises.
        """
        frames = self.frames()
        try:
            return tuple(next(frames)[1].shape[-2:])
        finally:
            frames.close()

    def check(self) -> None:
        """Raise UserError where the file is no video; damage further on is met when it is decoded."""
        with open_video(self.path):
            pass

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (frame name, uint8 RGB (3, H, W)), one at a time.

        Raises UserError where the file is no video or holds no frame, and, after the frames that can be read,
        where it is damaged; MissingPackage without PyAV.
        """
        av = require("av", "reading video files")
        count = 0

        def named() -> Iterator[tuple[str, np.ndarray]]:
            for i, (frame, second) in enumerate(_decode(self.path)):
                if second is not None:
                    self.times[f"{i:05d}"] = second
                yield f"{i:05d}", frame

        try:
            for count, item in enumerate(_of_one_size(self.path, named()), start=1):  # noqa: B007
                yield item
        except (_Damage, av.FFmpegError) as error:
            reason = error.args[0] if isinstance(error, _Damage) else error.strerror
            raise UserError(
                f"{self.path} is damaged after {count} readable frames ({reason}): "
                "copy it again, or re-encode it"
            ) from error
        if count == 0:
            raise UserError(f"{self.path} holds no frame: choose another file")


Video = ImageSequence | VideoFile


def _is_visible_match(path: Path, pattern: Path) -> bool:
    """Whether the parts of a path that a pattern has found, and does not name, are visible."""
    pairs = zip(path.parts, pattern.parts, strict=True)
    return all(part == named or is_visible(part) for part, named in pairs)


def _candidates(root: Path) -> tuple[list[Path], str]:
    """The paths that may be videos or images of one, and the glob that chooses among the images."""
    if root.is_dir():
        for inner in LAYOUTS:
            root = root / inner if (root / inner).is_dir() else root
        entries = (path for path in root.iterdir() if is_visible(path.name))
        return [root, *mots_sequences(root).values(), *entries], "*"
    if root.exists():
        return [root], escape(root.name)
    matches = [path for path in map(Path, glob(str(root))) if _is_visible_match(path, root)]
    if not matches:
        raise UserError(f"{root}: no such file or folder, and no file matches it: check the path")
    return matches, root.name


def _videos_among(paths: list[Path], pattern: str, fps: float) -> Iterator[Video]:
    """The video files, folders of images and folders that hold the single images among the paths."""
    patterns: dict[Path, str] = {}
    for path in paths:
        suffix = path.suffix.lower()
        if path.is_dir():
            folder = path / MOTS_FOLDER if (path / MOTS_FOLDER).is_dir() else path
            if any(_images_in(folder, "*")):
                patterns[folder] = "*"
        elif suffix in IMAGE_SUFFIXES and is_visible(path.name):
            patterns.setdefault(path.parent, pattern)
        elif suffix in VIDEO_SUFFIXES:
            yield VideoFile(path.stem, path)
    for folder, chosen in patterns.items():
        named = folder.resolve()
        yield ImageSequence(
            named.parent.name if named.name == MOTS_FOLDER else named.name, folder, chosen, fps
        )


def find_videos(root: str | Path, fps: float = DEFAULT_FPS) -> list[Video]:
    """Find the videos of a path, sorted by name.

    root: a folder of video folders or of video files (or both), a YouTube-VOS, DAVIS or MOTS root, one video
        folder, one video file, or a glob of images, folders or files
    fps: frames per second of still images
    A video is named by its folder (that around img1, as in MOTS), or by its file without the suffix.
    What is neither an image, a folder of images nor a video file is passed over. Raises UserError where the
    path does not exist, where nothing is found, and where two videos have the same name.
    """
    paths, pattern = _candidates(Path(root))
    videos = sorted(_videos_among(paths, pattern, fps), key=lambda video: video.name)
    if not videos:
        raise UserError(
            f"{root} holds no video: looked for folders of images ({' '.join(sorted(IMAGE_SUFFIXES))}) "
            f"and for video files ({' '.join(sorted(VIDEO_SUFFIXES))})"
        )
    for video, following in pairwise(videos):
        if video.name == following.name:
            raise UserError(
                f"{video.path} and {following.path} are both named {video.name}: rename one of them"
            )
    return videos
