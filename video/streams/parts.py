"""Parts of a video: from a frame or a time to another, and of these every so many."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from common.config import option
from common.errors import UserError
from video.streams.containers import DEFAULT_FPS, Damage, decode, open_video, second_of, shown_times

TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)s?")  # hours, minutes, seconds

Item = TypeVar("Item")
Place = int | Fraction  # in a video: so many frames, or seconds, from its first frame


def place_of(flag: str, text: str) -> Place:
    """What a flag says: frames, as 300, or a time, as 12.5s or 1:23.5; UserError where it is neither."""
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    match = TIME.fullmatch(text)
    if not match or not {":", "s"} & set(text):
        raise UserError(f"{flag} {text}: give frames, as 300, or a time, as 12.5s or 1:23.5")
    hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
    return (hours * 60 + minutes) * 60 + seconds


@dataclass
class PartFlags:
    """Which frames of a video are read."""

    start: str | None = option(None, "first frame that is read, as 300, or its time, as 12.5s or 1:23.5")
    end: str | None = option(None, "frame or time before which reading ends")
    every: str | None = option(None, "read one of so many frames, or one frame in such a time, as 0.5s")
    fps: float = option(
        DEFAULT_FPS, "frames per second of images, and of files without times", least=0.1, most=1000
    )


@dataclass(frozen=True)
class Part:
    """The frames of a video from `start` to before `end`, and of these the first of every so many.

    fps: frames per second of still images and of files without times, which gives them times
    """

    start: Place = 0
    end: Place | None = None
    every: Place = 1
    fps: float = DEFAULT_FPS

    @classmethod
    def of_flags(cls, start: str | None, end: str | None, every: str | None, fps: float) -> "Part | None":
        """What --start, --end and --every say; None where they say nothing, UserError where it is no part."""
        texts = {"start": start, "end": end, "every": every}
        part = cls(**{k: place_of(f"--{k}", text) for k, text in texts.items() if text is not None}, fps=fps)
        if part.every == 0:
            raise UserError(f"--every {every}: give at least 1 frame")
        if type(part.start) is type(part.end) and part.end <= part.start:
            raise UserError(f"--end {end} is not after --start {start or 0}: give a later one")
        return None if part == cls(fps=fps) else part

    def __str__(self) -> str:
        flags = {"start": self.start, "end": self.end, "every": self.every}
        given = {k: x for k, x in flags.items() if x != getattr(type(self), k)}
        return " ".join(f"--{k} {x if isinstance(x, int) else f'{float(x):g}s'}" for k, x in given.items())

    def chosen(self, frames: Iterable[tuple[Item, Fraction]]) -> Iterator[tuple[int, Item]]:
        """(number, frame) of those in the part; frames: all from the first, each with its second."""
        opening = begun = None
        due: Place = 0  # after `begun`
        for number, (frame, second) in enumerate(frames):
            opening = second if opening is None else opening
            here = {int: number, Fraction: second - opening}
            if self.end is not None and here[type(self.end)] >= self.end:
                return
            if here[type(self.start)] < self.start:
                continue
            begun = here[type(self.every)] if begun is None else begun
            gone = here[type(self.every)] - begun
            if gone >= due:
                due = (gone // self.every + 1) * self.every
                yield number, frame

    def rate(self, fps: float) -> float:
        """Frames per second of the part of a video that has `fps`."""
        return fps / self.every if isinstance(self.every, int) else min(fps, float(1 / self.every))


def shown_in(part: Part, path: Path) -> dict[int, int] | None:
    """{when it is shown, in units of the stream: number} of the frames of a file that are in the part.

    None where the file does not say when its frames are shown.
    """
    times = shown_times(path)
    if times is None:
        return None
    with open_video(path) as (_, stream):
        unit = stream.time_base
    return {time: number for number, time in part.chosen((time, time * unit) for time in times)}


def _timed(frames: Iterable[Any], fps: float) -> Iterator[tuple[Any, Fraction]]:
    """(frame as PyAV has it, its second); fps: of a file without times, as raw H.264 is."""
    for number, frame in enumerate(frames):
        second = second_of(frame)
        yield frame, number / Fraction(fps) if second is None else second


def decode_part(path: Path, part: Part | None, shown: dict[int, int] | None) -> Iterator[tuple[int, Any]]:
    """Yield (number, frame as PyAV has it) of the frames of a file that are in the part; Damage as `decode`.

    part: None: all
    shown: as of `shown_in`; where it is known, reading starts at the key frame before the first frame
    """
    if part is None:
        yield from enumerate(decode(path))
    elif shown is None:
        yield from part.chosen(_timed(decode(path), part.fps))
    else:
        missing = dict(shown)
        for frame in decode(path, min(missing, default=None)):
            if frame.pts in missing:
                yield missing.pop(frame.pts), frame
            if not missing and part.end is not None:
                return
        if missing:
            raise Damage(f"frame {min(missing.values())} cannot be decoded")
