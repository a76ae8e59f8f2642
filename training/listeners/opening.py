"""The listeners that the flags of a command ask for."""

import argparse
import signal
from collections.abc import Sequence
from typing import Any

from common.config import boolean
from common.errors import UserError
from common.progress import say
from training.listeners.agent import agent_task
from training.listeners.clearml_listener import ClearMLListener
from training.listeners.clearml_reports import ClearMLReports, one_line
from training.listeners.clearml_task import open_task, require_clearml, show_arguments
from training.listeners.listener import Listener, Listeners
from training.listeners.tensorboard import TensorBoard


def add_clearml_flags(parser: argparse.ArgumentParser, task_name: str) -> None:
    """Add the flags of every command that can report to ClearML; task_name: what it is called there."""
    add = parser.add_argument_group("ClearML").add_argument
    switch = {"type": boolean, "nargs": "?", "const": True, "default": False}
    add("--enable_clearml", **switch, help="show this run in ClearML (docs/clearml.md)")
    add("--clearml_offline", **switch, help="record on this disk, to be imported into a server later")
    add("--project_name", default="VITA-TCOVIS", help="ClearML project (default: %(default)s)")
    add("--task_name", default=task_name, help="ClearML task (default: %(default)s)")
    add("--clearml_tags", nargs="+", default=(), help="tags of the task, beside the name of the system")


def add_listener_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the listeners of a training run."""
    add_clearml_flags(parser, "train")
    add = parser.add_argument_group("listeners").add_argument
    add("--queue", help="leave the run to the agents of this ClearML queue instead of running it here")
    add(
        "--clearml_continue",
        choices=("same", "new"),
        default="same",
        help="the ClearML task of a run that --resume continues (default: %(default)s)",
    )
    add("--clearml_dataset", help="id of a ClearML data set, in place of --dataset_root")
    add(
        "--tensorboard",
        type=boolean,
        nargs="?",
        const=True,
        default=False,
        help="write the reports for TensorBoard into the run's folder, too",
    )


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
) -> Listeners:
    """The listeners of a command; nothing is imported of those that its flags do not ask for.

    Call it in the main thread, and seed after it: `Task.init` seeds random, numpy and torch with a number of
    its own. Without credentials, or where the server does not answer, one line says so and the run is
    recorded offline.
    tags: of the task, beside --clearml_tags; continued: the id of the task of a run that goes on
    Raises UserError: a package is not installed; an agent without a server.
    """
    listeners: list[Listener] = []
    task = continued
    if getattr(args, "tensorboard", False):
        listeners.append(TensorBoard())
    if args.enable_clearml:
        opened, task = _open_clearml(args, parser, tags, continued)
        listeners += opened
    return Listeners(listeners, task)
