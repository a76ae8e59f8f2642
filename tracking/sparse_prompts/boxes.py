"""Boxes of objects on the first frames of videos: in a flag, or for many videos in a JSON file."""

from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.types import BoxXYWH
from tracking.sparse_prompts.files import read_prompt_file
from video.masks import box_window

FORM = "{video: {id: [x, y, width, height]}}, or 8 numbers, the corners of a rotated box, for 4"
LARGEST = 4  # a box is at most this many times as wide and high as its frame


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
    return read_prompt_file("--boxes", path, FORM, read_box)
