"""JSON files of boxes or clicks, {video: {id: value}}."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from common.errors import UserError
from common.files import read_json
from video.images import MAX_LABEL
from video.label_maps import IGNORE

Value = TypeVar("Value")
ID = re.compile("[1-9][0-9]{0,4}")
MOST_NAMES = 5  # that a line lists


def named(names: Iterable[str]) -> str:
    """Names in words, of many only the first ones."""
    names = sorted(names)
    rest = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + rest


def read_prompt_file(
    flag: str, path: Path, form: str, read: Callable[[Any, str], Value]
) -> dict[str, dict[int, Value]]:
    """What a JSON file has for each id of each video; UserError where it has another form.

    flag: that names the file; form: of the file, in words
    read: makes a value of what the file has for an id; its second argument is the source, for messages
    """
    if not path.is_file():
        raise UserError(f"{flag} {path}: no such file; it holds {form}")
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(by_id, dict) for by_id in content.values()):
        raise UserError(f"{flag} {path} has another form than {form}")
    for video, by_id in content.items():
        for track in by_id:
            if not ID.fullmatch(track) or int(track) > MAX_LABEL or int(track) == IGNORE:
                remedy = f"ids are whole numbers from 1 to {MAX_LABEL}, not {IGNORE}"
                raise UserError(f"{flag} {path}: {video} has the id {track!r}: {remedy}")
    return {
        video: {int(track): read(value, f"{flag} {path}, {video}") for track, value in by_id.items()}
        for video, by_id in content.items()
    }
