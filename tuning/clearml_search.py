"""A search over the flags of a run by ClearML's own optimizer: agents train copies of a template task.

The optimizer clones the template, edits `Args/<flag>` of the copy and enqueues it; an agent runs it as it
runs any task of main.py. What is compared are the numbers of the final evaluation.
"""

import math
import time
from argparse import Namespace
from types import ModuleType
from typing import Any, NamedTuple

from common.errors import UserError, require
from common.progress import say
from training.listeners.clearml_reports import one_line
from training.listeners.clearml_task import init_task, require_clearml, why_offline
from training.report import METRICS
from tuning.search import Trial
from tuning.space import Choice, Range, Space, text_of

SUMMARY = "Summary"  # the title under which ClearML keeps the single values of a task
POLL_MINUTES = 0.2  # from one look at the agents' tasks to the next
NUM_STEPS = 12  # values of a range of whole numbers that is even in its logarithm, which ClearML has not
OPTIMIZERS = {
    "grid": ("clearml.automation", "GridSearch"),
    "random": ("clearml.automation", "RandomSearch"),
    "optuna": ("clearml.automation.optuna", "OptimizerOptuna"),
}


class Searched(NamedTuple):
    """A trial, and the id of its task."""

    trial: Trial
    task: str


def parameter_of(automation: ModuleType, name: str, values: Choice | Range) -> Any:
    """What ClearML's optimizer draws for a flag."""
    title = f"Args/{name}"
    if isinstance(values, Choice):
        return automation.DiscreteParameterRange(title, list(values.values))
    if values.is_log and values.is_whole:
        steps = (text_of(values.draw(k / (NUM_STEPS - 1)), True) for k in range(NUM_STEPS))
        return automation.DiscreteParameterRange(title, list(dict.fromkeys(steps)))
    if values.is_log:
        return automation.LogUniformParameterRange(title, math.log10(values.low), math.log10(values.high))
    if values.is_whole:
        return automation.UniformIntegerParameterRange(title, int(values.low), int(values.high))
    return automation.UniformParameterRange(title, values.low, values.high)


def open_template(clearml: ModuleType, task_id: str, space: Space) -> Any:
    """The task whose copies are trained; UserError where it cannot be loaded, or has not all the flags."""
    problem = why_offline(clearml)
    try:
        if problem is None:
            task = clearml.Task.get_task(task_id=task_id)
            arguments = task.get_parameters_as_dict().get("Args", {})
    except Exception as error:
        problem = one_line(error)
    if problem:
        raise UserError(f"--clearml_template {task_id} cannot be fetched ({problem}): check the id")
    if absent := [name for name in space if name not in arguments]:
        remedy = "give the id of a task of main.py --enable_clearml"
        raise UserError(f"--clearml_template {task_id} has no Args/{absent[0]}: {remedy}")
    return task


def trial_of(task: Any, space: Space) -> Searched:
    """What the server has of a copy: its flags, and the numbers of its final evaluation, None without one."""
    metrics, arguments = task.get_last_scalar_metrics().get(SUMMARY, {}), task.get_parameters()
    numbers = {name: metrics.get(name, {}).get("last") for name in [*METRICS, "seconds"]}
    return Searched(Trial({name: arguments[f"Args/{name}"] for name in space}, numbers), task.id)


def search(args: Namespace) -> list[Searched]:
    """Let agents train what ClearML's optimizer asks for; Ctrl-C ends it, and what agents are at.

    args: of `parse_hpo`
    Raises UserError where the server, the template or the queue cannot be loaded; MissingPackage.
    """
    clearml = require_clearml("--clearml_template")
    template = open_template(clearml, args.clearml_template, args.space)
    module, name = OPTIMIZERS[args.method]
    automation, strategy = require("clearml.automation", "--clearml_template"), require(module, args.method)
    task = init_task(
        clearml, project_name=template.get_project_name(), task_name=f"search of {template.name}"
    )
    task.set_task_type("optimizer")
    optimizer = automation.HyperParameterOptimizer(
        base_task_id=template.id,
        hyper_parameters=[parameter_of(automation, *one) for one in args.space.items()],
        objective_metric_title=SUMMARY,
        objective_metric_series=args.by,
        objective_metric_sign="max",
        optimizer_class=getattr(strategy, name),
        execution_queue=args.queue,
        max_number_of_concurrent_tasks=args.concurrent,
        total_max_jobs=args.trials,
        pool_period_min=POLL_MINUTES,
    )
    say(f"agents of {args.queue} train copies of {template.name}: {task.get_output_log_web_page()}")
    optimizer.set_report_period(POLL_MINUTES)  # its end is waited for, by default minutes
    optimizer.start()
    try:
        while optimizer.is_active():
            time.sleep(1)
    finally:
        optimizer.stop()
    copies = clearml.Task.get_tasks(task_filter={"parent": task.id})
    return [trial_of(copy, args.space) for copy in copies]
