"""Boxes that a person gave on the first frames of videos: by a flag, or for many videos in a JSON file."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from common.errors import UserError
from common.files import read_json
from common.progress import say
from common.types import BoxXYWH, Prompt
from video.images import MAX_LABEL
from video.label_maps import IGNORE
from video.masks import box_window
from video.reader import Video

FORM = "{video: {id: [x, y, width, height]}}, or 8 numbers, the corners of a rotated box, for 4"
ID = re.compile("[1-9][0-9]{0,4}")
MOST_NAMES = 5  # that a line lists
LARGEST = 4  # a box is at most this many times as wide and high as its frame


def named(names: Iterable[str]) -> str:
    """Names in words, of many only the first ones."""
    names = sorted(names)
    rest = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + rest


def region_box(region: list[float]) -> BoxXYWH:
    """The upright box of a region of 8 numbers, the corners of a rotated box in turn, as VOT gives them.

    It has the centre of the corners, the ratio of the upright box around them, and the area of the rotated
    one.
    """
    points = np.asarray(region, dtype=np.float64).reshape(4, 2)
    with np.errstate(all="ignore"):  # `check_box` refuses what has no area, or an infinite one
        around = points.max(0) - points.min(0)
        sides = [np.linalg.norm(points[i] - points[i + 1]) for i in (0, 1)]
        size = np.sqrt(sides[0] * sides[1] / np.prod(around)) * around + 1
        corner = points.mean(0) - size / 2
    return (*corner.tolist(), *size.tolist())


def check_box(track: int, box: BoxXYWH, frame_size: tuple[int, int]) -> None:
    """Raise UserError where a box has no area, holds no pixel of the frame (H, W), or is enormous."""
    x, y, width, height = box
    name = f"the box of id {track}, {x:g},{y:g},{width:g},{height:g},"
    if not np.isfinite(box).all() or width <= 0 or height <= 0:
        raise UserError(f"{name} has no area: give x,y,width,height in pixels")
    H, W = frame_size
    if x >= W or y >= H or x + width <= 0 or y + height <= 0:
        raise UserError(f"{name} lies outside of the frame of {W}x{H}: give x,y,width,height in its pixels")
    if width > LARGEST * W or height > LARGEST * H:
        raise UserError(f"{name} is more than {LARGEST} times as large as the frame of {W}x{H}")
    if not all(part.start < min(part.stop, side) for part, side in zip(box_window(box), (H, W), strict=True)):
        raise UserError(f"{name} holds no pixel of {W}x{H}: give one of a pixel or more")


def read_box(numbers: Any, source: str) -> BoxXYWH:
    """A box from 4 or 8 numbers; UserError, which names the source, where it is anything else."""
    fine = isinstance(numbers, list) and all(type(x) in (int, float) for x in numbers)
    if not fine or len(numbers) not in (4, 8):
        raise UserError(
            f"{source}: {str(numbers)[:60]} is no box: give x,y,width,height, or 8 numbers of a rotated box"
        )
    return region_box(numbers) if len(numbers) == 8 else tuple(map(float, numbers))


def box_of_flag(text: str) -> BoxXYWH:
    """The box in the text of a flag: numbers with commas between them."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = None
    return read_box(numbers if numbers else text, "--box")


def read_boxes(path: Path) -> dict[str, dict[int, BoxXYWH]]:
    """The boxes in a JSON file, {video: {id: box}}; UserError where it has another form."""
    if not path.is_file():
        raise UserError(f"--boxes {path}: no such file; it holds {FORM}")
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(boxes, dict) for boxes in content.values()):
        raise UserError(f"--boxes {path} has another form than {FORM}")
    for video, boxes in content.items():
        for track in boxes:
            if not ID.fullmatch(track) or int(track) > MAX_LABEL or int(track) == IGNORE:
                remedy = f"ids are whole numbers from 1 to {MAX_LABEL}, not {IGNORE}"
                raise UserError(f"--boxes {path}: {video} has the id {track!r}: {remedy}")
    return {
        video: {int(track): read_box(box, f"--boxes {path}, {video}") for track, box in boxes.items()}
        for video, boxes in content.items()
    }


class BoxPrompts:
    """As `PromptFolder`: what starts objects is a box on the first frame of each video."""

    unused: frozenset[str] = frozenset()  # no frame is named that may not come

    def __init__(self, boxes: dict[str, dict[int, BoxXYWH]], source: str):
        """source: of the boxes, for messages"""
        self.boxes, self.source = boxes, source

    def check(self, video: Video, *, needed: bool) -> None:
        """Look at a video's boxes before anything is tracked; UserError where one is absent or wrong."""
        boxes = self.boxes.get(video.name, {})
        if needed and not boxes:
            raise UserError(
                f"video {video.name} has no box: {self.source} names {', '.join(self.boxes) or 'none'}"
            )
        for track, box in boxes.items():
            check_box(track, box, video.size)

    def sources(self, video: Video) -> dict[str, BoxXYWH]:
        """What a video's prompts are made from."""
        return {str(track): list(box) for track, box in self.boxes.get(video.name, {}).items()}

    def of_video(self, video: Video) -> Callable[[str, Tensor], Prompt | None]:
        """Begin a video: a function of a frame's name and the frame that tells its prompt."""
        waiting = [Prompt(boxes=dict(self.boxes[video.name]))] if self.boxes.get(video.name) else []
        return lambda name, frame: waiting.pop() if waiting else None


def check_names(boxes: dict[str, dict[int, BoxXYWH]], videos: list[Video], source: str) -> None:
    """Say which names of boxes belong to no video; UserError where no video has a box."""
    others = boxes.keys() - {video.name for video in videos}
    if not any(boxes.get(video.name) for video in videos):
        there = f", but of {named(others)}" if others else ""
        raise UserError(f"{source} has no box of a video, such as {videos[0].name}{there}")
    if others:
        say(f"{source}: no video has the name of {named(others)}, not used", error=True)


def boxes_for(videos: list[Video], box: str | None, boxes: str | None) -> BoxPrompts | None:
    """What --box or --boxes say; None where neither is given."""
    if box and boxes:
        raise UserError("--box and --boxes: give one of the two")
    if boxes:
        boxes_by_video = read_boxes(Path(boxes))
        check_names(boxes_by_video, videos, f"--boxes {boxes}")
        return BoxPrompts(boxes_by_video, f"--boxes {boxes}")
    if box and len(videos) != 1:
        raise UserError(
            f"--box is for one video, and there are {len(videos)}: give boxes for each with --boxes"
        )
    return BoxPrompts({videos[0].name: {1: box_of_flag(box)}}, "--box") if box else None
