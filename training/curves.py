"""Draws results.png, the curves of a run, from its results.csv."""

import csv
import math
from collections import defaultdict
from pathlib import Path

from common.files import atomic_write

Curves = dict[str, tuple[list[float], list[float]]]  # name: (x, y)


def read_curves(csv_path: Path) -> tuple[str, dict[str, Curves]]:
    """The name of the first column, and the curves of the others by the part of their name before "/".

    Empty cells are left out. Columns without a "/" are no curves.
    """
    groups: dict[str, Curves] = defaultdict(dict)
    with open(csv_path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        axis, *names = reader.fieldnames or ["step"]
        curves = {name: ([], []) for name in names if "/" in name}
        for row in reader:
            for name, (x, y) in curves.items():
                if row[name]:
                    x.append(float(row[axis]))
                    y.append(float(row[name]))
    for name, curve in curves.items():
        groups[name.partition("/")[0]][name] = curve
    return axis, groups


def plot_curves(csv_path: Path, png_path: Path) -> None:
    """Draw the columns of a results.csv against its first ("step" or "epoch"), one plot for each group.

    The group is the part of a column's name before "/", as in loss/total; empty cells are left out.
    """
    from cycler import cycler
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    axis, groups = read_curves(csv_path)
    columns = min(3, max(1, len(groups)))
    rows = max(1, math.ceil(len(groups) / columns))
    figure = Figure(figsize=(5 * columns, 3.5 * rows), layout="constrained")
    plots = figure.subplots(rows, columns, squeeze=False).flat
    ten_colours = cycler(color=colormaps["tab10"].colors)  # then again, with other lines
    for (group, curves), plot in zip(groups.items(), plots, strict=False):
        plot.set_prop_cycle(cycler(linestyle=["-", "--", ":", "-."]) * ten_colours)
        for name, (x, y) in curves.items():
            plot.plot(x, y, label=name.partition("/")[2], marker="." if len(x) < 50 else "")
        plot.set(title=group, xlabel=axis)
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no epoch 12.5
        plot.grid(alpha=0.3)
        plot.legend(fontsize="x-small", ncols=1 + (len(curves) > 6), framealpha=0.6)
    for plot in plots:
        plot.set_axis_off()
    with atomic_write(png_path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
