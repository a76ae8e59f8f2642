"""What the folder of a run says of it, whatever has ended it."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import read_json
from training.curves import Curves, read_curves

RECORD, SLIDES = "run.json", "overlays/frames.json"
URI = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]+={0,2}")
PICTURES = ("truth", "tracks")  # of a slide
TABLES = ("environment", "defaults", "commands", "facts")


@dataclass(frozen=True)
class Run:
    """The folder of a run, read.

    flags: every flag, of args.json
    groups: {group: {"group/series": (epochs, values)}} of results.csv, all finite
    metrics: of the final evaluation; empty where there was none
    record: of run.json; {} in folders of older versions
    slides: [{"video", "frame", "truth", "tracks"}], the last two as data: URIs
    """

    folder: Path
    flags: dict[str, Any]
    groups: dict[str, Curves]
    metrics: dict[str, Any]
    record: dict[str, Any]
    slides: list[dict[str, str]]

    @property
    def curves(self) -> Curves:
        """All curves by their full names."""
        return {name: curve for group in self.groups.values() for name, curve in group.items()}

    @property
    def status(self) -> str:
        return str(self.record.get("status", "completed" if self.metrics else "unfinished"))

    @property
    def num_epochs(self) -> int:
        """The epochs that are done."""
        return round(max((x[-1] for x, _ in self.curves.values()), default=0))

    @property
    def best(self) -> tuple[int, float] | None:
        """(epoch, J&F) of the best evaluation, of equals the last; None before the first."""
        epochs, values = self.curves.get("val/J&F", ([], []))
        value, epoch = max(zip(values, epochs, strict=True), default=(0.0, None))
        return None if epoch is None else (round(epoch), value)

    @property
    def scores(self) -> dict[str, Any]:
        """The numbers of the final evaluation, or of the last one where the run did not come so far."""
        if self.metrics:
            return self.metrics
        return {name.partition("/")[2]: y[-1] for name, (_, y) in self.groups.get("val", {}).items()}

    @property
    def defaults(self) -> dict[str, Any]:
        """The default of every flag; empty where that is not known."""
        return self.record.get("defaults", {})

    @property
    def environment(self) -> dict[str, Any]:
        """Where it was made; empty where that is not known."""
        return self.record.get("environment", {})

    @property
    def changed(self) -> list[str]:
        """The flags that differ from their defaults, those of which the default is known."""
        names = self.flags.keys() & self.defaults.keys()
        return [name for name in self.flags if name in names and self.flags[name] != self.defaults[name]]


def _read_dict(path: Path) -> dict[str, Any]:
    """The object in a JSON file, {} where there is no file; UserError where it holds something else."""
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no JSON object: remove it, or take it from a backup")
    return values


def finite(curves: Curves) -> Curves:
    """The curves without points that are not finite, and without those that have no other."""
    kept: Curves = {}
    for name, (x, y) in curves.items():
        points = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
        if points:
            kept[name] = tuple(map(list, zip(*points, strict=True)))
    return kept


def number_or_none(value: Any) -> float | None:
    """The value where it is a number, which in a file that was edited it may not be."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_record(folder: Path) -> dict[str, Any]:
    """What run.json of a folder says, less what is not of its form; {} where it cannot be read."""
    try:
        record = _read_dict(folder / RECORD)
    except UserError:
        return {}
    kept = {name: values for name, values in record.items() if name not in TABLES or isinstance(values, dict)}
    videos = kept.get("videos", [])
    is_table = isinstance(videos, list) and all(isinstance(row, list) and row for row in videos)
    if not is_table or len({len(row) for row in videos}) > 1:
        kept["videos"] = []
    return kept


def _read_slides(path: Path) -> list[dict[str, str]]:
    """The frames to look at, less those that are none."""
    slides = read_json(path) if path.is_file() else []
    return [
        {name: str(slide.get(name)) for name in ("video", "frame", *PICTURES)}
        for slide in (slides if isinstance(slides, list) else [])
        if isinstance(slide, dict) and all(URI.fullmatch(str(slide.get(name))) for name in PICTURES)
    ]


def read_run(folder: Path) -> Run:
    """Read the folder of a run; UserError where it is none, or a file of it cannot be read."""
    if not (folder / "args.json").is_file():
        raise UserError(f"{folder} holds no args.json: give the folder of a run of main.py")
    table = folder / "results.csv"
    try:
        groups = read_curves(table)[1] if table.is_file() else {}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{table} cannot be read ({error}): take it from a backup, or remove it") from error
    return Run(
        folder=folder,
        flags=_read_dict(folder / "args.json"),
        groups={group: curves for group, found in groups.items() if (curves := finite(found))},
        metrics=_read_dict(folder / "metrics.json"),
        record=read_record(folder),
        slides=_read_slides(folder / SLIDES),
    )
