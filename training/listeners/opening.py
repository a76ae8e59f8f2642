"""The listeners that the flags of a command ask for."""

import argparse
import signal
from collections.abc import Sequence
from typing import Any

from common.errors import UserError
from common.progress import say
from training.listeners.agent import agent_task
from training.listeners.clearml_listener import ClearMLListener
from training.listeners.clearml_reports import ClearMLReports, one_line
from training.listeners.clearml_task import open_task, require_clearml, show_arguments
from training.listeners.listener import Listener, Listeners
from training.listeners.tensorboard import TensorBoard


def task_names(args: argparse.Namespace, tags: Sequence[str] = ()) -> dict[str, Any]:
    """What the task of a command is called, as `init_task` takes it."""
    names = {"project_name": args.project_name, "task_name": args.task_name}
    return names | {"tags": [*tags, *args.clearml_tags]}


def _open_clearml(
    args: argparse.Namespace, parser: argparse.ArgumentParser, tags: Sequence[str], continued: str | None
) -> tuple[list[Listener], str | None]:
    """The listener of a run's task, and the task's id; a line says where there is neither."""
    clearml, remote = require_clearml(), agent_task() is not None
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        names = task_names(args, tags) | {"continued": continued}
        task = open_task(clearml, offline=args.clearml_offline, online=remote, **names)
        show_arguments(task, args, parser)
        is_default = args.task_name == parser.get_default("task_name")
        reports = ClearMLReports(clearml, task, default_name=args.task_name if is_default else None)
        # An offline session leaves the task on the server, to which it is imported, to go on with.
        return [
            ClearMLListener(reports, handlers)
        ], continued if reports.is_offline and continued else task.id
    except UserError:
        raise
    except Exception as error:
        say(f"ClearML: {one_line(error)}; this run is not recorded", error=True)
        return [], continued


def open_listeners(
    args: argparse.Namespace,
    parser: argparse.ArgumentParser,
    *,
    tags: Sequence[str] = (),
    continued: str | None = None,
    own: Sequence[Listener] = (),
) -> Listeners:
    """The listeners of a command; nothing is imported of those that its flags do not ask for.

    Call it in the main thread, and seed after it: `Task.init` seeds random, numpy and torch with a number of
    its own. Without credentials, or where the server does not answer, one line says so and the run is
    recorded offline.
    tags: of the task, beside --clearml_tags; continued: the id of the task of a run that goes on
    own: listeners of the command itself, which are called first
    Raises UserError: a package is not installed; an agent without a server.
    """
    listeners: list[Listener] = [*own]
    task = continued
    if getattr(args, "tensorboard", False):
        listeners.append(TensorBoard())
    if args.enable_clearml:
        opened, task = _open_clearml(args, parser, tags, continued)
        listeners += opened
    return Listeners(listeners, task)
