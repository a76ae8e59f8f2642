"""The numbers of a run, one row an epoch, in results.csv; and running means of what an epoch reports."""

import csv
from pathlib import Path

import torch
from torch import Tensor

from common import distributed
from common.files import atomic_write

UNPLOTTED = {"videos", "frames", "id_switches"}  # counts that say nothing as curves
GROUPS = {"loss": "loss", "gradient_norm": "optimiser", "nonfinite_costs": "optimiser"}


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


class History:
    """Rows of {column: number}; `results.csv` is written whole at every change, so columns may join later."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, float]] = []

    def add(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        self._write()

    def resume(self, epoch: int) -> None:
        """Take up the file of an interrupted run, as far as the epoch that its checkpoint has finished."""
        if not self.path.is_file():
            return
        with open(self.path, newline="") as file:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        self.rows = [row for row in rows if row["epoch"] <= epoch]

    def _write(self) -> None:
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        with atomic_write(self.path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in self.rows
            )


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

    def result(self) -> dict[str, float]:
        """The means so far; every process must ask for them."""
        if not self.sums:
            return {}
        device = next(iter(self.sums.values())).device
        totals = torch.stack([total.to(device) for total in self.sums.values()])
        sums = dict(zip(self.sums, distributed.all_reduce_mean(totals).tolist(), strict=True))
        means = {}
        for name, total in sums.items():
            if name.endswith("_sum"):
                count = sums[f"{name.removesuffix('_sum')}_count"]
                if count:
                    means[name.removesuffix("_sum")] = total / count
            elif not name.endswith("_count"):
                means[name] = total / self.calls
        return means
