"""The ClearML task of a run: whether there is a server for it, and its settings and hyper-parameters."""

import argparse
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any

from common.errors import UserError, require
from common.progress import say
from training.listeners.clearml_reports import one_line
from video.streams.live import LiveRoot

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.txt"  # what a ClearML agent installs
DEFAULT = " (default: %(default)s)"  # of a flag's help
PROBE_SECONDS = 3.0  # how long a server may take to answer a ping


def require_clearml(purpose: str = "--enable_clearml") -> ModuleType:
    return require("clearml", purpose)


def host_of(clearml: ModuleType) -> str:
    return clearml.backend_api.Session.get_api_server_host()


def answers(host: str) -> bool:
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


def why_offline(clearml: ModuleType) -> str | None:
    """Why no server can be used, or None."""
    config = clearml.config.config_obj
    keys = [
        os.environ.get(f"CLEARML_API_{kind.upper()}_KEY") or config.get(f"api.credentials.{kind}_key", None)
        for kind in ("access", "secret")
    ]
    if not all(keys) and not os.environ.get("CLEARML_AUTH_TOKEN"):
        return "no credentials (run clearml-init)"
    return None if answers(host_of(clearml)) else f"no server answers at {host_of(clearml)}"


@contextmanager
def _one_process(clearml: ModuleType) -> Iterator[None]:
    """A task that is begun inside is reported to from the threads of this process alone.

    ClearML would fork a process to report from, and report from those that are forked later, such as the
    workers of a data loader. They would share this process's connections to the server: each takes answers
    that are for another, and all wait for theirs.
    """
    hooks = getattr(clearml.binding.environ_bind, "PatchOsFork", None)
    if hooks is None or not hasattr(clearml.Task, "_report_subprocess_enabled"):  # no documented interface
        say("ClearML: this version reports from forked processes, by which a run may hang", error=True)
    # The setting report_use_subprocess would not do: it goes unheeded once other settings were read.
    clearml.Task._report_subprocess_enabled = False
    yield
    if hooks is not None:
        hooks.patch_fork(None)


def init_task(
    clearml: ModuleType,
    *,
    project_name: str,
    task_name: str,
    tags: Sequence[str] = (),
    continued: str | None = None,
) -> Any:
    """Begin a task, or go on with the one of the id `continued`; offline where ClearML was set so."""
    clearml.Task.force_requirements_env_freeze(False, str(REQUIREMENTS))
    with _one_process(clearml):
        return clearml.Task.init(
            project_name=project_name,
            task_name=task_name,
            tags=list(tags),
            reuse_last_task_id=continued or False,  # by default a run overwrites the one of the same day
            continue_last_task=0 if continued else False,  # steps are absolute: nothing is added to them
            output_uri=True,
            auto_connect_arg_parser=False,
            # No upload of every checkpoint, and nothing twice that goes to TensorBoard, too.
            auto_connect_frameworks={"pytorch": False, "matplotlib": False, "tensorboard": False},
        )


def _is_known(clearml: ModuleType, task: str) -> bool:
    """Whether the server has a task, of this id."""
    try:
        return bool(clearml.Task.get_task(task_id=task))
    except ValueError:
        return False


def open_task(
    clearml: ModuleType, *, offline: bool, online: bool, continued: str | None = None, **names: Any
) -> Any:
    """A new task, or the one that an agent runs; offline if `offline` or where the server cannot be used.

    continued: the id of a task to go on with, which an offline session cannot
    names: as of `init_task`
    Raises UserError where the server cannot be used and the run must be `online`.
    """
    offline = offline or clearml.Task.is_offline()  # CLEARML_OFFLINE_MODE=1
    if not offline:
        problem = why_offline(clearml)
        try:
            if problem is None:
                if continued and not _is_known(clearml, continued):
                    say(f"ClearML: the server has no task {continued}; a new one goes on with this run")
                    continued = None
                return init_task(clearml, continued=continued, **names)
        except Exception as error:
            problem = one_line(error)
        if online:
            raise UserError(f"ClearML: {problem}; --queue, and the run of an agent, need the server")
        say(f"ClearML: {problem}; this run is recorded offline", error=True)
    clearml.Task.set_offline(True)
    return init_task(clearml, **names)


def show_arguments(task: Any, args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Show the arguments under Args, where they can be edited in a copy of the task, with their help."""
    helps = {action.dest: (action.help or "").removesuffix(DEFAULT) for action in parser._actions}
    shown_as_text = (Path, LiveRoot)  # the latter without a password
    values = {name: str(x) if isinstance(x, shown_as_text) else x for name, x in vars(args).items()}
    descriptions = {f"Args/{name}": helps.get(name, "").replace("%%", "%") for name in values}
    floats = {f"Args/{action.dest}": float for action in parser._actions if action.type is float}
    hidden = {"prefix": "Args", "descriptions": descriptions, "types": floats}
    task.set_parameters(values, **{f"__parameters_{name}": value for name, value in hidden.items()})
