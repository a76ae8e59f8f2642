"""What a run reports and who listens: the interface, and many listeners as one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.progress import say


class Listener:
    """Takes the reports of a run; what a listener does not override, it does not show.

    A context manager, which ends with `close`. Arrays and dictionaries are not changed after they were given.
    """

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self.close(error)

    def begin(self, folder: Path, step: int) -> None:
        """The run has its folder, and goes on after a step, 0 of a new one."""

    def scalars(self, title: str, values: dict[str, float | None], step: int) -> None:
        """One point of each curve {name: value} of a graph; None and what is not finite is left out."""

    def image(self, title: str, series: str, step: int, image: np.ndarray) -> None:
        """A picture, uint8 RGB (H, W, 3)."""

    def video(self, title: str, series: str, step: int, path: Path) -> None:
        """A video file; browsers play H.264 in mp4."""

    def table(self, title: str, rows: list[list[Any]], step: int) -> None:
        """A table; the first row names the columns."""

    def curves(self, title: str, curves: dict[str, tuple[list, list]], step: int, axis: str) -> None:
        """A plot of whole curves, {name: (x, y)}; axis: the name of x."""

    def figure(self, title: str, path: Path, step: int) -> None:
        """A picture file among the plots."""

    def single_value(self, name: str, value: float | None) -> None:
        """A number of the whole run, for a table that compares runs; None is left out."""

    def artifact(self, name: str, content: Path | dict[str, Any]) -> None:
        """A file, or a dict that becomes a JSON file, kept with the run."""

    def model(self, name: str, path: Path, step: int) -> None:
        """A checkpoint as the output model `name`; a later one of the same name replaces it."""

    def close(self, error: BaseException | None = None) -> None:
        """Send what is waiting and end; `error` is what ended the run, if anything did."""


def table_of(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """Rows {column: value} as a table of `Listener`, with the columns of all of them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name) for name in names] for row in rows]
    return [names, *([round(c, 3) if isinstance(c, float) else c for c in row] for row in cells)]


class Forwarding(Listener, ABC):
    """A listener of which every report goes through the one method `forward`."""

    @abstractmethod
    def forward(self, name: str, *report: Any) -> None:
        """Take the report of a method of `Listener`."""


def _forwarded(name: str) -> Callable[..., None]:
    """The method of `Forwarding` for a report."""

    def method(self: Forwarding, *report: Any) -> None:
        self.forward(name, *report)

    return method


for name in [name for name in vars(Listener) if not name.startswith("_")]:
    setattr(Forwarding, name, _forwarded(name))


class Listeners(Forwarding):
    """Several listeners as one, and without any the one that does nothing.

    task: the id of the ClearML task that shows the run; None without one
    """

    def __init__(self, listeners: Sequence[Listener] = (), task: str | None = None) -> None:
        self.listeners, self.task = listeners, task

    def forward(self, name: str, *report: Any) -> None:
        for listener in self.listeners:
            getattr(listener, name)(*report)

    def close(self, error: BaseException | None = None) -> None:
        """Close each of them; a failure of one is reported and does not keep the others open."""
        for listener in self.listeners:
            try:
                listener.close(error)
            except Exception as trouble:
                reason = " ".join(f"{type(trouble).__name__}: {trouble}".split())
                say(f"{type(listener).__name__} has not ended its reports ({reason})", error=True)
