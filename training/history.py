"""The numbers of a run, one row an epoch, in results.csv; and running means of what an epoch reports."""

import csv
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import distributed
from common.files import atomic_write
from common.progress import say

UNPLOTTED = {"videos", "frames", "id_switches"}  # counts that say nothing as curves
GROUPS = {"gradient_norm": "optimiser", "nonfinite_costs": "optimiser"}


def columns_of(figures: dict[str, float], split: str) -> dict[str, float]:
    """Figures of "train" or "val" under their names in results.csv: group/series, a group being one graph.

    Losses are named so already; cosines of both splits share a graph; scores in percent are "val/...".
    """
    columns = {}
    for name, value in figures.items():
        if "/" in name:
            columns[name] = value
        elif name.startswith("cosine_"):
            columns[f"cosine/{split}_{name.removeprefix('cosine_')}"] = value
        elif name.startswith("id_switches_"):
            columns[f"id_switches/{name.removeprefix('id_switches_')}"] = value
        elif name not in UNPLOTTED:
            group = GROUPS.get(name, split)
            columns[f"{group}/{name if group in ('val', 'optimiser') else split}"] = value
    return columns


def with_margin(means: dict[str, float]) -> dict[str, float]:
    """Add `cosine_margin`: how much more alike the same object is than different ones."""
    if "cosine_positive" in means and "cosine_negative" in means:
        means["cosine_margin"] = means["cosine_positive"] - means["cosine_negative"]
    return means


Row = dict[str, float]  # of an epoch: {column of results.csv: number}


def _are_numbers(values: Any) -> bool:
    """Whether this is {name: number}."""
    return isinstance(values, dict) and all(
        isinstance(name, str) and type(value) in (int, float) for name, value in values.items()
    )


def _is_row(values: Any) -> bool:
    return _are_numbers(values) and values.keys() >= {"epoch", "step", "seconds"}


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write results.csv whole, so that a later row may bring new columns."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def read_rows(path: Path, epoch: int) -> list[Row]:
    """The rows of a results.csv up to an epoch; those that cannot be read, as after an edit, are left out."""
    if not path.is_file():
        return []
    rows = []
    with open(path, newline="", encoding="utf-8", errors="replace") as file, suppress(csv.Error):
        for cells in csv.DictReader(file):
            with suppress(AttributeError, TypeError, ValueError):  # a cell too many, or no number
                rows.append({name: float(value) for name, value in cells.items() if value})
    return [row for row in rows if row.get("epoch", math.inf) <= epoch]


class Means:
    """Running means of scalars that stay on their device until somebody asks.

    A pair `x_sum` and `x_count` becomes the one mean `x`; every other name is averaged over the calls. Those
    of all processes count.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.calls = 0

    def add(self, values: dict[str, Tensor]) -> None:
        self.calls += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach().double()

    def share(self) -> None:
        """Make the sums the mean of those of all processes; every process must ask for it."""
        if self.sums:
            device = next(iter(self.sums.values())).device
            totals = torch.stack([total.to(device) for total in self.sums.values()])
            self.sums = dict(zip(self.sums, distributed.all_reduce_mean(totals), strict=True))

    def result(self) -> dict[str, float]:
        """The means so far; every process must ask for them."""
        self.share()
        sums = self.state_dict()["sums"]
        means = {}
        for name, total in sums.items():
            if name.endswith("_sum"):
                count = sums[f"{name.removesuffix('_sum')}_count"]
                if count:
                    means[name.removesuffix("_sum")] = total / count
            elif not name.endswith("_count"):
                means[name] = total / self.calls
        return means

    def state_dict(self) -> dict[str, Any]:
        """{"calls": int, "sums": {name: float}}, as this process has them."""
        values = torch.stack(list(self.sums.values())).tolist() if self.sums else []
        return {"calls": self.calls, "sums": dict(zip(self.sums, values, strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls = state["calls"]
        self.sums = {name: torch.tensor(total, dtype=torch.float64) for name, total in state["sums"].items()}


def num_without_improvement(rows: list[Row], best: dict[str, float] | None) -> int:
    """The number of evaluations after that of the best weights, {"J&F", "epoch"}."""
    return sum("val/J&F" in row and row["epoch"] > best["epoch"] for row in rows) if best else 0


@dataclass
class History:
    """What a run has reported so far, as its checkpoints keep it.

    rows: of the epochs that are trained and evaluated
    row: of an epoch that is trained and whose evaluation is to come; None where there is none
    means, seconds: of the steps that the epoch under way has done
    interval: of the steps since the last report within it, which is not kept
    begun: when this process began, by the monotonic clock
    run_before: seconds of the processes before it, up to the checkpoints from which the run continued
    """

    rows: list[Row] = field(default_factory=list)
    row: Row | None = None
    means: Means = field(default_factory=Means)
    interval: Means = field(default_factory=Means)
    seconds: float = 0.0
    begun: float = field(default_factory=time.monotonic)
    run_before: float = 0.0

    @property
    def run_seconds(self) -> float:
        """Of the whole run until now, times between its processes aside."""
        return self.run_before + time.monotonic() - self.begun

    def add(self, values: dict[str, Tensor]) -> None:
        """Count what a step has reported."""
        self.means.add(values)
        self.interval.add(values)

    def end_interval(self) -> Row:
        """What the steps since the last call have reported; every process must ask for it."""
        interval, self.interval = self.interval, Means()
        return columns_of(with_margin(interval.result()), "train")

    def end_epoch(self, epoch: int, step: int, rates: Row) -> None:
        """Make the row of an epoch from what its steps have reported; every process must ask for it."""
        means = columns_of(with_margin(self.means.result()), "train")
        self.row = {"epoch": epoch, "step": step, "seconds": self.seconds} | means | rates
        self.means, self.seconds = Means(), 0.0

    def end_evaluation(self, scores: dict[str, float]) -> Row:
        """Complete the row of the epoch by the scores of its evaluation, if it had one; returns the row."""
        self.rows.append(self.row | columns_of(scores, "val"))
        self.row = None
        return self.rows[-1]

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "row": self.row,
            "means": self.means.state_dict(),
            "seconds": self.seconds,
            "run_seconds": self.run_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint; older ones lack `run_seconds`. ValueError where it has another form."""
        rows = [*state["rows"], *([] if state["row"] is None else [state["row"]])]
        numbers = {"seconds": state["seconds"], "run_seconds": state.get("run_seconds", 0.0)}
        means, sums = state["means"], state["means"]["sums"]
        counted = {f"{name.removesuffix('_sum')}_count" for name in sums if name.endswith("_sum")}
        if not all(_is_row(row) for row in rows) or not _are_numbers(numbers | sums):
            raise ValueError("its history holds what is no number")
        if type(means["calls"]) is not int or (sums and means["calls"] < 1) or counted - sums.keys():
            raise ValueError("its history has sums without counts")
        self.rows, self.row, self.seconds = list(state["rows"]), state["row"], state["seconds"]
        self.run_before = numbers["run_seconds"]
        self.means.load_state_dict(means)


def say_metrics(metrics: dict[str, Any]) -> None:
    """Print what metrics.json holds, {name: number}, a line each; what does not apply is "-"."""
    for name, value in metrics.items():
        text = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else value
        say(f"{name:28} {text}")
