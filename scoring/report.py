"""The report that every protocol returns: overall scores, those of each video, and what was left out.

{"protocol": its name, "overall": {...}, "videos": {name: {...}}, "warnings": [line, ...]}, with None for what
is undefined. A warning names a file or a video of which the official program silently leaves something out.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

Scores = dict[str, Any]
Report = dict[str, Any]
MOST_IDS = 10  # that a warning lists


class ScoredVideo(NamedTuple):
    """The objects of one video, {name: its scores}, and the warnings about the video."""

    objects: dict[str, Scores]
    warnings: list[str]


def mean_of(objects: Iterable[Scores], name: str) -> float:
    """The mean of one score over objects, NaN without any; their order does not change a bit of it."""
    values = [scores[name] for scores in objects]
    return math.fsum(values) / len(values) if values else math.nan


def mean_jf(objects: Collection[Scores]) -> Scores:
    """J&F, J and F as means over objects."""
    J, F = mean_of(objects, "J"), mean_of(objects, "F")
    return {"J&F": (J + F) / 2, "J": J, "F": F}


def null_for_undefined(value: Any) -> Any:
    """The value with None for every number in its dictionaries that is not finite, as JSON wants it."""
    if isinstance(value, dict):
        return {key: null_for_undefined(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_report(
    protocol: str, overall: Scores, videos: dict[str, Scores], warnings: Iterable[str], **more: Any
) -> Report:
    """A report, with further entries where a protocol has some."""
    report = {"protocol": protocol, "overall": overall, "videos": videos, **more, "warnings": list(warnings)}
    return null_for_undefined(report)


def nothing_scored(num_objects: Mapping[str, int]) -> list[str]:
    """A warning where there is no object in any of the videos, {name: number of its objects}; else none."""
    if any(num_objects.values()):
        return []
    names = sorted(num_objects)
    shown = ", ".join(names[:MOST_IDS])
    rest = f" and {len(names) - MOST_IDS} more" if len(names) > MOST_IDS else ""
    line = f"nothing is scored in {shown}{rest}: the true masks that count show no object"
    return [f"{line} (ids are pixel values from 1; in 8 bits 255 is void beside others)"]


def report_objects(
    protocol: str,
    summarise: Callable[[Collection[Scores]], Scores],
    videos: dict[str, ScoredVideo],
    warnings: Iterable[str],
    **more: Any,
) -> Report:
    """A report on videos whose objects are scored: every object weighs the same in `summarise`.

    A video's entry has its objects under "objects"; `warnings` come before those of the videos.
    """
    objects = [scores for video in videos.values() for scores in video.objects.values()]
    entries = {
        name: {**summarise(video.objects.values()), "objects": video.objects}
        for name, video in videos.items()
    }
    about_videos = [line for video in videos.values() for line in video.warnings]
    empty = nothing_scored({name: len(one.objects) for name, one in videos.items()})
    return make_report(protocol, summarise(objects), entries, [*warnings, *about_videos, *empty], **more)


def name_ids(ids: Iterable[int | str]) -> str:
    """Ids as words of a warning: "id 4", "ids 4, 7"; of many only the first ones."""
    names = [str(i) for i in sorted(ids)]
    shown = ", ".join(names[:MOST_IDS])
    rest = f" and {len(names) - MOST_IDS} more" if len(names) > MOST_IDS else ""
    return f"{'id' if len(names) == 1 else 'ids'} {shown}{rest}"


def is_number(value: Any) -> bool:
    """Whether a value of a report is a score: not a list, a table, a text."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def numbers_of(rows: Iterable[Scores]) -> list[str]:
    """The names of all numbers in the rows of a report, undefined ones too, in their order."""
    items = (item for row in rows for item in row.items())
    return list(dict.fromkeys(name for name, value in items if value is None or is_number(value)))
