"""Clicks on objects on the first frames of videos: in flags, or for many videos in a JSON file."""

from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.types import Click
from tracking.sparse_prompts.files import read_prompt_file

FORM = "{video: {id: [[x, y, 1], ...]}}, with 0 for 1 where a click is not on the object"


def check_clicks(track: int, clicks: list[Click], frame_size: tuple[int, int], *, has_box: bool) -> None:
    """Raise UserError where a click is outside of the frame (H, W), or nothing says where the object is."""
    H, W = frame_size
    for x, y, _ in clicks:
        if not (0 <= x < W and 0 <= y < H):
            place = f"the click of id {track}, {x:g},{y:g}, lies outside of the frame of {W}x{H}"
            raise UserError(f"{place}: give x from 0 to {W - 1} and y from 0 to {H - 1}")
    if not has_box and not any(label for *_, label in clicks):
        raise UserError(f"id {track} has no click on the object itself: give one, or a box")


def read_click(numbers: Any, source: str) -> Click:
    """A click of two numbers and its label, 0 or 1; UserError, which names the source, where it is none."""
    fine = isinstance(numbers, list) and len(numbers) == 3 and all(type(x) in (int, float) for x in numbers)
    words = f"{source}: {str(numbers)[:60]}"
    if not fine or not np.isfinite(numbers[:2]).all():
        raise UserError(f"{words} is no click: give [x, y, 1], or 0 for 1 where it is not on the object")
    if numbers[2] not in (0, 1):
        raise UserError(f"{words} has another label than 1, on the object, and 0, not on it")
    return float(numbers[0]), float(numbers[1]), int(numbers[2])


def read_clicks_of_id(clicks: Any, source: str) -> list[Click]:
    """The clicks of one object; UserError, which names the source, where these are none."""
    if not isinstance(clicks, list) or not clicks:
        raise UserError(f"{source}: {str(clicks)[:60]} are no clicks: give [[x, y, 1], ...]")
    return [read_click(click, source) for click in clicks]


def read_clicks(path: Path) -> dict[str, dict[int, list[Click]]]:
    """The clicks in a JSON file, {video: {id: clicks}}; UserError where it has another form."""
    return read_prompt_file("--clicks", path, FORM, read_clicks_of_id)


def clicks_of_flag(flag: str, text: str, label: int) -> list[Click]:
    """The clicks of one label in the text of a flag: x and y of each in turn, with commas between them."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or len(numbers) % 2:
        raise UserError(f"{flag} {text[:60]} are no clicks: give x,y or x,y,x,y,... in pixels")
    return [read_click([x, y, label], flag) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
