"""Runs that a ClearML agent does: left to a queue by one process, done by another with edited arguments."""

import argparse
import ast
import os
import shlex
import sys
from typing import Any

from common.errors import UserError
from training.listeners.clearml_reports import one_line
from training.listeners.clearml_task import (
    open_task,
    require_clearml,
    show_arguments,
    why_offline,
)

AGENT_TASK = ("CLEARML_TASK_ID", "TRAINS_TASK_ID")  # by which an agent tells a process its task


def agent_task() -> str | None:
    """The id of the task that this process does for an agent; None where it runs by itself."""
    return next((os.environ[name] for name in AGENT_TASK if os.environ.get(name)), None)


def _words(name: str, value: str) -> list[str]:
    """A flag with its values, as on the command line; nothing where ClearML shows None."""
    if value in ("", "None"):
        return []
    if value[0] not in "[(":
        return [f"--{name}={value}"]
    try:
        values = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        values = shlex.split(value.strip("[()]").replace(",", " "))
    return [f"--{name}", *map(str, values)] if values else []


def arguments() -> list[str]:
    """The arguments of this process: of the command line, or those of the task that it does for an agent.

    Raises UserError where the task cannot be read.
    """
    task = agent_task()
    if task is None:
        return sys.argv[1:]
    clearml = require_clearml()
    problem = why_offline(clearml)
    try:
        if problem is None:
            section = clearml.Task.get_task(task_id=task).get_parameters_as_dict().get("Args", {})
            return [word for name, value in section.items() for word in _words(name, str(value))]
    except Exception as error:
        problem = one_line(error)
    raise UserError(f"ClearML: {problem}; the run of an agent needs the server, and its task {task}")


def left_to_queue(args: argparse.Namespace, parser: argparse.ArgumentParser, **names: Any) -> bool:
    """Leave the run to the agents of `--queue`, if it is given and this process is not an agent's.

    Of several processes of torchrun the first does; the agent starts as many. Where it can, it ends the
    process. names: as of `init_task`
    Raises UserError without a server, and where it has no such queue.
    """
    if not args.queue or agent_task():
        return False
    if int(os.environ.get("RANK", 0)) > 0:
        return True
    if not args.enable_clearml or args.clearml_offline:
        raise UserError("--queue needs a ClearML server: pass --enable_clearml, and no --clearml_offline")
    args.devices = max(args.devices, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    task = open_task(require_clearml(), offline=False, online=True, **names)
    show_arguments(task, args, parser)
    try:
        task.execute_remotely(queue_name=args.queue)
    except ValueError as error:
        raise UserError(f"--queue {args.queue}: {error}") from error
    return True


def take_dataset(args: argparse.Namespace) -> None:
    """Put the folder of a local copy of `--clearml_dataset`, where it is given, into `--dataset_root`.

    Raises UserError where it cannot be loaded.
    """
    if not args.clearml_dataset:
        return
    clearml = require_clearml("--clearml_dataset")
    problem = why_offline(clearml)
    try:
        if problem is None:
            dataset = clearml.Dataset.get(dataset_id=args.clearml_dataset)
            args.dataset_root = (dataset.get_local_copy(),)
            return
    except Exception as error:
        problem = one_line(error)
    raise UserError(f"--clearml_dataset {args.clearml_dataset} cannot be fetched ({problem}): check the id")
