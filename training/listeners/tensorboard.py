"""Writes the reports of a run as TensorBoard's files, into tensorboard/ in its folder."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.errors import require
from training.listeners.listener import Listener


def _markdown(rows: list[list[Any]]) -> str:
    """A table for TensorBoard's texts; the first row names the columns."""
    lines = [" | ".join("" if cell is None else str(cell) for cell in row) for row in rows]
    return "\n".join([lines[0], " | ".join("---" for _ in rows[0]), *lines[1:]])


class TensorBoard(Listener):
    """Scalars, pictures and tables; of models, files and videos TensorBoard shows none."""

    def __init__(self) -> None:
        """Raises MissingPackage without TensorBoard."""
        require("tensorboard", "--tensorboard")
        self._writer: Any = None
        self._single_values: dict[str, float] = {}

    def begin(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a killed run wrote of later steps is hidden: they are done again.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def scalars(self, title: str, values: dict[str, float | None], step: int) -> None:
        for series, value in values.items():
            if value is not None and math.isfinite(value):
                self._writer.add_scalar(f"{title}/{series}", value, step)

    def image(self, title: str, series: str, step: int, image: np.ndarray) -> None:
        self._writer.add_image(f"{title}/{series}", image, step, dataformats="HWC")

    def table(self, title: str, rows: list[list[Any]], step: int) -> None:
        self._writer.add_text(title, _markdown(rows), step)

    def figure(self, title: str, path: Path, step: int) -> None:
        self.image("plots", title, step, np.asarray(Image.open(path).convert("RGB")))

    def single_value(self, name: str, value: float | None) -> None:
        if value is not None:
            self._single_values[name] = value

    def close(self, error: BaseException | None = None) -> None:
        if self._writer is None:  # the run has ended before it began
            return
        if self._single_values:
            self.table("summary", [["name", "value"], *map(list, self._single_values.items())], 0)
        self._writer.close()
