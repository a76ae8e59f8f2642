"""Compares the folders of runs, file by file; only times may differ."""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from common.checkpoint import read_checkpoint
from tests.support.commands import files_in

VARYING = {"seconds", "run_seconds", "run_dir", "begun", "ended", "peak memory, MiB", "clips per second"}
VARYING |= {"commands", "environment"}  # paths of the folder; a run may go on elsewhere


def rows_of(run: Path) -> list[dict[str, str]]:
    """The rows of results.csv without their times."""
    with open(run / "results.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def without_times(value: Any) -> Any:
    """The same without what is called by a time or names the folder of runs, and tensors as bytes."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in VARYING}
    if isinstance(value, list | tuple):
        return [without_times(item) for item in value]
    if isinstance(value, Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    return value


def content_of(run: Path, name: str) -> Any:
    """What a file of a run's folder holds, times aside."""
    if name.endswith(".pth"):
        return without_times(read_checkpoint(run / name))
    if name == "results.csv":
        return rows_of(run)
    if name == "report.html":  # of what the other files hold, times among it
        return None
    if name.endswith(".json"):
        return without_times(json.loads((run / name).read_text()))
    return (run / name).read_bytes()


@cache
def _expected(run: Path, name: str) -> Any:
    """The content of a file of a run to which others are compared; it is read once."""
    return content_of(run, name)


def assert_same_run(run: Path, other: Path) -> None:
    """Assert that two folders have the same files, and each the same content, bit for bit.

    other: a run that does not change from one comparison to the next
    """
    names = files_in(other)
    assert files_in(run) == names
    differing = [name for name in names if content_of(run, name) != _expected(other, name)]
    assert not differing
