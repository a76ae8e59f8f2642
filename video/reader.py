"""Finds videos, and reads their frames one at a time: folders of images, image globs, video files.

Frames are upright, as viewers and players show them: the EXIF orientation of an image and the display matrix
of a video file (a portrait clip of a phone) are applied. Masks are drawn on the upright picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from glob import escape, glob
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.errors import UserError, require
from common.files import is_visible
from common.progress import say
from video.images import MOTS_FOLDER, mots_sequences, natural_key, read_frame, read_frame_size
from video.streams.containers import (
    DEFAULT_FPS,
    Damage,
    is_video,
    of_one_size,
    open_video,
    second_of,
    upright,
)
from video.streams.live import LiveRoot, LiveVideo, live_video
from video.streams.parts import Part, decode_part, shown_in

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".gif"}
VIDEO_SUFFIXES |= {".ts", ".mts", ".m2ts", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".vob", ".m2v", ".mxf"}
TYPESCRIPT = {".ts", ".mts"}  # which are also the suffixes of programs
LAYOUTS = ("JPEGImages", "480p")  # the inner folders of YouTube-VOS and DAVIS roots that hold the videos


def _images_in(folder: Path, pattern: str) -> Iterator[Path]:
    return (
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in IMAGE_SUFFIXES and is_visible(path.name)
    )


@dataclass(frozen=True)
class ImageSequence:
    """A video of still images in one folder, sorted by name, numbers by value.

    name: the folder's name
    path: the folder
    pattern: which of its files (a glob); those that are no images are passed over
    fps: frames per second
    part: which of its frames are read; None: all
    """

    name: str
    path: Path
    pattern: str = "*"
    fps: float = DEFAULT_FPS
    part: Part | None = None

    @cached_property
    def images(self) -> list[Path]:
        """The image files that are read, in order; UserError where two have the same frame name."""
        images = sorted(_images_in(self.path, self.pattern), key=lambda image: natural_key(image.stem))
        for image, following in pairwise(images):
            if image.stem == following.stem:
                raise UserError(f"{image} and {following.name} are the same frame: remove one of them")
        if self.part is None:
            return images
        timed = ((image, number / Fraction(self.part.fps)) for number, image in enumerate(images))
        if not (chosen := [image for _, image in self.part.chosen(timed)]):
            raise UserError(f"{self.path} holds no frame in {self.part}: it has {len(images)} frames")
        return chosen

    @property
    def files(self) -> list[Path]:
        """What it is read from."""
        return self.images

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
        return of_one_size(self.path, ((image.stem, read_frame(image)) for image in self.images))

    def backwards(self, last: str) -> Iterator[tuple[str, Tensor]]:
        """As `frames`, from the one of this name to the first."""
        images = reversed(self.images[: self.frame_names.index(last) + 1])
        return of_one_size(self.path, ((image.stem, read_frame(image)) for image in images))


@dataclass(frozen=True)
class VideoFile:
    """A video in one file; its frames are named 00000, 00001, ... in the order in which they are shown.

    part: which of them are read, under the same names; None: all
    times: {frame name: the second at which it is shown} of what `frames` has yielded
    """

    name: str
    path: Path
    part: Part | None = None
    times: dict[str, Fraction] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def _header(self) -> tuple[float, int | None, Fraction, tuple[int, int]]:
        with open_video(self.path) as (_, stream):
            fps, stored_size = float(stream.average_rate or DEFAULT_FPS), (stream.height, stream.width)
            fps = self.part.rate(fps) if self.part else fps
            return fps, stream.frames or None, stream.sample_aspect_ratio or Fraction(1), stored_size

    @cached_property
    def _chosen(self) -> dict[int, int] | None:
        """{when it is shown, in units of the stream: number} of the frames of the part; None: all are read.

        None, too, where the file does not say when its frames are shown.
        """
        return shown_in(self.part, self.path) if self.part else None

    @property
    def files(self) -> list[Path]:
        """What it is read from."""
        return [self.path]

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
        if self.part:
            return None if self._chosen is None else len(self._chosen)
        return self._header[1]

    @property
    def frame_names(self) -> None:
        """None: only decoding can tell."""

    def has_frame(self, name: str) -> bool:
        """Whether a frame may have this name; how many there are, only decoding can tell."""
        if not name.isdecimal() or name != f"{int(name):05d}":
            return False
        return self._chosen is None or int(name) in self._numbers

    @cached_property
    def _numbers(self) -> set[int]:
        return set((self._chosen or {}).values())

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
        if self._chosen is not None and not self._chosen:
            raise self._without_frames()

    def _without_frames(self) -> UserError:
        place = f" in {self.part}: give an earlier part" if self.part else ": choose another file"
        return UserError(f"{self.path} holds no frame{place}")

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (frame name, uint8 RGB (3, H, W)), one at a time.

        Raises UserError where the file is no video or holds no frame, and, after the frames that can be read,
        where it is damaged; MissingPackage without PyAV.
        """
        av = require("av", "reading video files")
        count = 0

        def named() -> Iterator[tuple[str, np.ndarray]]:
            for number, frame in decode_part(self.path, self.part, self._chosen):
                name = f"{number:05d}"
                if (second := second_of(frame)) is not None:
                    self.times[name] = second
                yield name, upright(frame)

        try:
            for count, item in enumerate(of_one_size(self.path, named()), start=1):  # noqa: B007
                yield item
        except (Damage, av.FFmpegError) as error:
            reason = error.args[0] if isinstance(error, Damage) else error.strerror
            raise UserError(
                f"{self.path} is damaged after {count} readable frames ({reason}): "
                "copy it again, or re-encode it"
            ) from error
        if count == 0:
            raise self._without_frames()


Video = ImageSequence | VideoFile | LiveVideo


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


def _told(root: Path, others: list[Path]) -> None:
    """Say which files are passed over."""
    names = ", ".join(sorted(path.name for path in others)[:3]) + (", ..." if len(others) > 3 else "")
    say(f"{root}: {len(others)} files are not videos and are skipped: {names}", error=True)


def _videos_among(
    paths: list[Path], pattern: str, fps: float, part: Part | None, others: list[Path]
) -> Iterator[Video]:
    """The video files, folders of images and folders that hold the single images among the paths.

    A file that has no suffix of a video, or that of a program too, is tried; others: gets those that are none
    """
    patterns: dict[Path, str] = {}
    for path in paths:
        suffix = path.suffix.lower()
        if path.is_dir():
            folder = path / MOTS_FOLDER if (path / MOTS_FOLDER).is_dir() else path
            if any(_images_in(folder, "*")):
                patterns[folder] = "*"
        elif suffix in IMAGE_SUFFIXES:
            if is_visible(path.name):
                patterns.setdefault(path.parent, pattern)
        elif suffix in VIDEO_SUFFIXES - (TYPESCRIPT if len(paths) > 1 else set()) or is_video(path):
            yield VideoFile(path.stem, path, part)
        else:
            others.append(path)
    for folder, chosen in patterns.items():
        named = folder.resolve()
        name = named.parent.name if named.name == MOTS_FOLDER else named.name
        yield ImageSequence(name, folder, chosen, part.rate(fps) if part else fps, part)


def find_videos(
    root: str | Path | LiveRoot,
    fps: float = DEFAULT_FPS,
    part: Part | None = None,
    raw_size: str | None = None,
) -> list[Video]:
    """Find the videos of a path, sorted by name.

    root: a folder of video folders or of video files (or both), a YouTube-VOS, DAVIS or MOTS root, one video
        folder, one video file, or a glob of images, folders or files; or a camera, an address, standard input
    fps: frames per second of still images, and of raw ones
    part: the frames of each that are read, which no live source has; None: all
    raw_size: WIDTHxHEIGHT of raw frames on standard input
    A video is named by its folder (that around img1, as in MOTS), or by its file without the suffix.
    Files that are neither an image nor a video are skipped, which a line says. Raises UserError where the
    path does not exist, where nothing is found, where two videos have the same name, and where flags do not
    suit it.
    """
    if isinstance(root, LiveRoot):
        if part:
            raise UserError(f"--video_root {root} can be read only once, and as a whole: leave out {part}")
        return [live_video(root, fps, raw_size)]
    if raw_size:
        raise UserError(f"--raw_size {raw_size} describes raw frames on standard input: give --video_root -")
    (paths, pattern), others = _candidates(Path(root)), []
    videos = sorted(_videos_among(paths, pattern, fps, part, others), key=lambda video: video.name)
    if not videos:
        raise UserError(
            f"{root} holds no video: looked for folders of images ({' '.join(sorted(IMAGE_SUFFIXES))}) "
            f"and for video files ({' '.join(sorted(VIDEO_SUFFIXES))}, and whatever else FFmpeg reads)"
        )
    if others:
        _told(Path(root), others)
    for video, following in pairwise(videos):
        if video.name == following.name:
            raise UserError(
                f"{video.path} and {following.path} are both named {video.name}: rename one of them"
            )
    return videos
