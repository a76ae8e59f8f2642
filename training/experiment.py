"""The ClearML experiment of a run, and its silent twin: reporting never stops, delays or hangs training.

Reports are handed to a thread and sent from there, because some of ClearML's calls wait for hours where a
server has gone away. What fails is told once, counted, and told again at the end. Only one process of a run
reports (rank 0).
"""

import argparse
import atexit
import math
import os
import signal
import ssl
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from common.errors import UserError, require
from common.progress import say

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"  # what a ClearML agent installs
PROBE_SECONDS = 3.0  # how long a server may take to answer a ping
PATIENCE_SECONDS = 15.0  # at the end: how long to wait before asking whether the server still answers
MAX_WAITS = 40  # at the end: how often to wait while the server answers (10 minutes of uploads)


def add_experiment_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of experiment tracking: what `open_experiment` is told by its keywords."""
    add = parser.add_argument_group("experiment tracking (ClearML)").add_argument
    add("--enable_clearml", action="store_true", help="log curves, masks and machine metrics to ClearML")
    add(
        "--clearml_offline",
        action="store_true",
        help="record on this disk, to be imported into a server later",
    )
    add("--project_name", default="VITA-TCOVIS", help="ClearML project (default: %(default)s)")
    add("--task_name", default="train", help="ClearML task (default: %(default)s)")
    add("--queue", help="leave the run to the agents of this ClearML queue instead of running it here")


class Experiment:
    """The silent twin: takes every report and does nothing. Use it as a context manager, or call `close`."""

    def __enter__(self) -> "Experiment":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self.close(error)

    def scalars(self, title: str, values: dict[str, float | None], step: int) -> None:
        """One point of each curve {name: value} of a graph; None and what is not finite is left out."""

    def image(self, title: str, series: str, step: int, image: np.ndarray) -> None:
        """A picture, uint8 RGB (H, W, 3), among the debug samples."""

    def media(self, title: str, series: str, step: int, path: str | Path) -> None:
        """A picture or video file among the debug samples; browsers play H.264 in mp4."""

    def table(self, title: str, rows: list[list[Any]], step: int) -> None:
        """A table among the plots; the first row names the columns."""

    def figure(self, title: str, figure: Any, step: int) -> None:
        """A matplotlib figure, not to be changed afterwards, or the path of a picture, among the plots."""

    def single_value(self, name: str, value: float | None) -> None:
        """A number of the whole run, for the table that compares experiments; None is left out."""

    def artifact(self, name: str, content: str | Path | dict[str, Any]) -> None:
        """A file, or a dict that becomes a JSON file, kept with the experiment."""

    def model(self, name: str, path: str | Path) -> None:
        """A checkpoint, as the output model `name`; a later one of the same name replaces it."""

    def close(self, error: BaseException | None = None) -> None:
        """Send what is waiting and end the experiment; `error` is what ended the run, if anything did."""


class ClearMLExperiment(Experiment):
    """Reports to a ClearML task, on a server or in an offline session."""

    def __init__(self, clearml: ModuleType, task: Any, handlers: dict[int, Any]) -> None:
        """handlers: {signal number: handler} from before `Task.init`, to be put back at the end."""
        self._clearml, self._task, self._handlers = clearml, task, handlers
        self._logger = task.get_logger()
        self._models: dict[str, Any] = {}  # {name: OutputModel}
        self._num_failures = 0
        self._reports: SimpleQueue = SimpleQueue()  # of calls; None ends it
        self._reporter = threading.Thread(target=self._report, daemon=True)
        self._reporter.start()

    def scalars(self, title: str, values: dict[str, float | None], step: int) -> None:
        self._put(self._report_scalars, title, dict(values), step)

    def image(self, title: str, series: str, step: int, image: np.ndarray) -> None:
        self._put(self._logger.report_image, title, series, step, image=image.copy())

    def media(self, title: str, series: str, step: int, path: str | Path) -> None:
        self._put(self._logger.report_media, title, series, step, local_path=str(path))

    def table(self, title: str, rows: list[list[Any]], step: int) -> None:
        self._put(self._logger.report_table, title, title, step, table_plot=rows)

    def figure(self, title: str, figure: Any, step: int) -> None:
        self._put(self._report_figure, title, figure, step)

    def single_value(self, name: str, value: float | None) -> None:
        if value is not None:
            self._put(self._logger.report_single_value, name, value)

    def artifact(self, name: str, content: str | Path | dict[str, Any]) -> None:
        self._put(self._upload_artifact, name, content)

    def model(self, name: str, path: str | Path) -> None:
        # ClearML's output models crash offline; an artifact keeps the file just as well.
        upload = self._upload_artifact if self._clearml.Task.is_offline() else self._upload_model
        self._put(upload, name, path)

    def close(self, error: BaseException | None = None) -> None:
        self._put(self._end_task, error)
        self._reports.put(None)
        if not self._reporter_ends():
            say("ClearML: the server does not answer; what it had not received is lost", error=True)
            atexit.register(_leave, 2 if isinstance(error, UserError | OSError) else 0)
        if self._num_failures > 1:
            say(f"ClearML: {self._num_failures} reports failed in all", error=True)
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    def _put(self, function: Any, *args: Any, **kwargs: Any) -> None:
        self._reports.put(partial(function, *args, **kwargs))

    def _report(self) -> None:
        """What the reporting thread does: one report after the other, whatever becomes of it."""
        for report in iter(self._reports.get, None):
            try:
                report()
            except Exception as error:
                self._num_failures += 1
                if self._num_failures == 1:
                    say(f"ClearML: a report failed ({_one_line(error)}); training goes on", error=True)

    def _report_scalars(self, title: str, values: dict[str, float | None], step: int) -> None:
        for series, value in values.items():
            if value is not None and math.isfinite(value):  # ClearML would draw the others as 0
                self._logger.report_scalar(title, series, value, step)

    def _report_figure(self, title: str, figure: Any, step: int) -> None:
        if isinstance(figure, str | Path):
            figure = _figure_of_picture(figure)
        self._logger.report_matplotlib_figure(title, title, figure, step, report_interactive=False)

    def _upload_artifact(self, name: str, content: str | Path | dict[str, Any]) -> None:
        if not isinstance(content, dict):
            content = Path(content).resolve(strict=True)  # ClearML would keep a path to nothing as text
        if not self._task.upload_artifact(name, artifact_object=content):
            raise OSError(f"artifact {name} was not uploaded")

    def _upload_model(self, name: str, path: str | Path) -> None:
        if name not in self._models:
            self._models[name] = self._clearml.OutputModel(task=self._task, name=name, framework="PyTorch")
        self._models[name].update_weights(str(Path(path).resolve(strict=True)), auto_delete_file=False)

    def _end_task(self, error: BaseException | None) -> None:
        self._task.close()  # as completed; a task marked failed before would have ClearML end the process
        if isinstance(error, Exception):
            self._task.mark_failed(status_reason=_one_line(error), force=True)

    def _reporter_ends(self) -> bool:
        """Wait until everything is sent, but not any more once the server does not answer."""
        for _ in range(MAX_WAITS):
            self._reporter.join(PATIENCE_SECONDS)
            if not self._reporter.is_alive():
                return True
            if not self._clearml.Task.is_offline() and not _answers(_host(self._clearml)):
                return False
        return False


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _leave(status: int) -> None:
    """End the process at its exit, before ClearML's own hooks, which would wait for the server for hours.

    status: 2 where `run_command` told the user of a mistake, or 0; what ended in a traceback is 1 anyway
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # it is closed, or full
            stream.flush()
    os._exit(1 if hasattr(sys, "last_value") else status)


def _figure_of_picture(path: str | Path) -> Any:
    """A matplotlib figure that shows a picture file pixel by pixel, and nothing else."""
    from matplotlib.figure import Figure

    picture = Image.open(path)
    figure = Figure(figsize=(picture.width / 100, picture.height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture)
    axes.axis("off")
    return figure


def _host(clearml: ModuleType) -> str:
    return clearml.backend_api.Session.get_api_server_host()


def _answers(host: str) -> bool:
    """Whether an API server answers; ClearML itself would try a dead one for hours, in silence."""
    try:
        with urllib.request.urlopen(f"{host}/debug.ping", timeout=PROBE_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # it answers; whom to trust is for clearml.conf to say
    except (OSError, ValueError, HTTPException):
        return False


def _why_offline(clearml: ModuleType) -> str | None:
    """Why no server can be used, or None."""
    config = clearml.config.config_obj
    keys = [
        os.environ.get(f"CLEARML_API_{kind.upper()}_KEY") or config.get(f"api.credentials.{kind}_key", None)
        for kind in ("access", "secret")
    ]
    if not all(keys) and not os.environ.get("CLEARML_AUTH_TOKEN"):
        return "no credentials (run clearml-init)"
    return None if _answers(_host(clearml)) else f"no server answers at {_host(clearml)}"


def _init_task(clearml: ModuleType, project_name: str, task_name: str) -> Any:
    try:
        # ClearML's default is to report from a forked process, which can hold the exit for minutes.
        overrides = {"sdk": {"development": {"report_use_subprocess": False}}}
        clearml.config.config_obj.set_overrides(overrides)
    except AttributeError:  # not a documented interface
        say("ClearML: report_use_subprocess could not be set; the exit may be slow", error=True)
    clearml.Task.force_requirements_env_freeze(False, str(REQUIREMENTS))
    task = clearml.Task.init(
        project_name=project_name,
        task_name=task_name,
        reuse_last_task_id=False,  # or a second run within a day overwrites the first
        output_uri=True,
        auto_connect_arg_parser=False,
        auto_connect_frameworks={"pytorch": False, "matplotlib": False},  # no upload of every checkpoint
    )
    task.set_initial_iteration(0)  # steps are absolute, in a resumed task too
    return task


def _open_task(clearml: ModuleType, *, offline: bool, online: bool, **names: str) -> Any:
    """A new task, or the one that an agent runs; offline if `offline` or where the server cannot be used.

    Raises UserError where the server cannot be used and the run must be `online`.
    """
    offline = offline or clearml.Task.is_offline()  # CLEARML_OFFLINE_MODE=1
    if not offline:
        problem = _why_offline(clearml)
        try:
            if problem is None:
                return _init_task(clearml, **names)
        except Exception as error:
            problem = _one_line(error)
        if online:
            raise UserError(f"ClearML: {problem}; --queue, and the run of an agent, need the server")
        say(f"ClearML: {problem}; this run is recorded offline", error=True)
    clearml.Task.set_offline(True)
    return _init_task(clearml, **names)


def _connectable(args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The arguments as ClearML keeps them: it edits a value in the type of its default."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    floats = {action.dest for action in parser._actions if action.type is float}
    return {name: float(v) if name in floats and isinstance(v, int) else v for name, v in values.items()}


def _parse_edited(action: argparse.Action, value: Any) -> Any:
    """A value from ClearML, where text passes through the flag's own type as on the command line."""
    if isinstance(value, list | tuple):
        return [_parse_edited(action, item) for item in value]
    if not isinstance(value, str):
        return value
    try:
        value = (action.type or str)(value)
        if action.choices is not None and value not in action.choices:
            raise ValueError(f"choose from {', '.join(map(str, action.choices))}")
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        raise UserError(f"ClearML: Args/{action.dest} was edited to {value!r}: {error}") from error
    return value


def _connect(task: Any, args: argparse.Namespace, parser: argparse.ArgumentParser, *, edited: bool) -> None:
    """Show the arguments under Args; where they may have been edited, put them back into `args`."""
    connected = task.connect(_connectable(args, parser), name="Args")
    if not edited:
        return
    for action in parser._actions:
        if action.dest in connected:
            setattr(args, action.dest, _parse_edited(action, connected[action.dest]))


def _leave_to_agent(task: Any, queue: str) -> None:
    """End this process and leave the run to an agent of the queue; in the agent's own process, do nothing."""
    try:
        task.execute_remotely(queue_name=queue)
    except ValueError as error:
        raise UserError(f"--queue {queue}: {error}") from error


def open_experiment(
    args: argparse.Namespace,
    parser: argparse.ArgumentParser,
    *,
    enabled: bool,
    offline: bool,
    project_name: str,
    task_name: str,
    queue: str | None = None,
) -> Experiment:
    """The experiment of a run; the silent twin where ClearML is not enabled, and nothing of it is imported.

    Call it in the main thread, before anything is built from `args`: under a ClearML agent the values that
    were edited in the web page are put into them. Seed after it: `Task.init` seeds random, numpy and torch
    with a number of its own. Without credentials, or where the server does not answer, one line says so and
    the run is recorded offline.
    Raises UserError: ClearML is not installed; `queue`, or an agent, without a server; an edited value that
    its flag refuses.
    """
    if queue and (offline or not enabled):
        raise UserError("--queue needs a ClearML server: pass --enable_clearml, and no --clearml_offline")
    if not enabled:
        return Experiment()
    clearml = require("clearml", "--enable_clearml")
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    remote = not clearml.Task.running_locally()
    names = {"project_name": project_name, "task_name": task_name}
    try:
        task = _open_task(clearml, offline=offline, online=remote or queue is not None, **names)
        _connect(task, args, parser, edited=remote)
        if queue:
            _leave_to_agent(task, queue)
        return ClearMLExperiment(clearml, task, handlers)
    except UserError:
        raise
    except Exception as error:
        say(f"ClearML: {_one_line(error)}; this run is not recorded", error=True)
        return Experiment()
