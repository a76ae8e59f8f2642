"""Sends reports to a ClearML task, one after the other, each as the method of `Listener` describes it."""

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from training.listeners.listener import Listener


def one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _figure_of_picture(path: Path) -> Any:
    """A matplotlib figure that shows a picture file pixel by pixel, and nothing else."""
    from matplotlib.figure import Figure

    picture = Image.open(path)
    figure = Figure(figsize=(picture.width / 100, picture.height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture)
    axes.axis("off")
    return figure


class ClearMLReports(Listener):
    """Reports to a ClearML task, on a server or in an offline session; every call waits for ClearML."""

    def __init__(self, clearml: ModuleType, task: Any, *, default_name: str | None = None) -> None:
        """default_name: the task gets this name and that of the run's folder, unless it is None."""
        self.clearml, self.task, self.default_name = clearml, task, default_name
        self._logger = task.get_logger()
        self._models: dict[str, Any] = {}  # {name: OutputModel}

    @property
    def is_offline(self) -> bool:
        return self.clearml.Task.is_offline()

    def flush(self) -> None:
        """Wait until the server has all reports; while it does not answer, that is for ever."""
        self.task.flush(wait_for_uploads=True)

    def begin(self, folder: Path, step: int) -> None:
        if self.default_name:
            self.task.set_name(f"{self.default_name}-{folder.name}")
        if not self.is_offline:
            self.task.set_user_properties(run_folder=str(folder.resolve()))
        else:
            self.task.set_comment(f"run folder: {folder.resolve()}")

    def scalars(self, title: str, values: dict[str, float | None], step: int) -> None:
        for series, value in values.items():
            # ClearML would draw what is not finite as 0.
            if value is not None and math.isfinite(value):
                self._logger.report_scalar(title, series, value, step)

    def image(self, title: str, series: str, step: int, image: np.ndarray) -> None:
        self._logger.report_image(title, series, step, image=image)

    def video(self, title: str, series: str, step: int, path: Path) -> None:
        self._logger.report_media(title, series, step, local_path=str(Path(path).resolve(strict=True)))

    def table(self, title: str, rows: list[list[Any]], step: int) -> None:
        self._logger.report_table(title, title, step, table_plot=rows)

    def curves(self, title: str, curves: dict[str, tuple[list, list]], step: int, axis: str) -> None:
        lines = [
            {"type": "scatter", "mode": "lines+markers", "name": name, "x": list(x), "y": list(y)}
            for name, (x, y) in curves.items()
        ]
        layout = {"title": title, "xaxis": {"title": axis}, "showlegend": True}
        self._logger.report_plotly(title, title, {"data": lines, "layout": layout}, step)

    def figure(self, title: str, path: Path, step: int) -> None:
        figure = _figure_of_picture(path)
        self._logger.report_matplotlib_figure(title, title, figure, step, report_interactive=False)

    def single_value(self, name: str, value: float | None) -> None:
        if value is not None:
            self._logger.report_single_value(name, value)

    def artifact(self, name: str, content: Path | dict[str, Any]) -> None:
        if not isinstance(content, dict):
            content = Path(content).resolve(strict=True)  # ClearML would keep a path to nothing as text
        if not self.task.upload_artifact(name, artifact_object=content):
            raise OSError(f"artifact {name} was not uploaded")

    def model(self, name: str, path: Path, step: int) -> None:
        if self.is_offline:  # where ClearML's output models crash
            return self.artifact(name, path)
        if name not in self._models:
            self._models[name] = self.clearml.OutputModel(task=self.task, name=name, framework="PyTorch")
        path = Path(path).resolve(strict=True)
        self._models[name].update_weights(str(path), iteration=step, auto_delete_file=False)

    def close(self, error: BaseException | None = None) -> None:
        self.task.close()  # as completed; a task marked otherwise before would have ClearML end the process
        if isinstance(error, KeyboardInterrupt):
            self.task.stopped(force=True, status_reason="interrupted")
        elif error is not None and not (isinstance(error, SystemExit) and not error.code):
            self.task.mark_failed(status_reason=one_line(error), force=True)
