"""Records reports in an offline session of ClearML, in a process beside one whose server has gone away."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from training.listeners.clearml_reports import ClearMLReports
from training.listeners.clearml_task import init_task, require_clearml

ROOT = Path(__file__).resolve().parents[2]
MAX_SECONDS = 300.0
# By which the process would take the task of the other for its own.
OF_THE_OTHER = "CLEARML_PROC_MASTER_ID TRAINS_PROC_MASTER_ID CLEARML_TASK_ID TRAINS_TASK_ID".split()


def record_offline(calls: Iterable[tuple[str, tuple]], *, project_name: str, task_name: str) -> str:
    """Record calls of `Listener` in an offline session; returns the path of its zip file.

    ClearML cannot leave a server within a process. Raises OSError or SubprocessError where it fails.
    """
    environment = {name: value for name, value in os.environ.items() if name not in OF_THE_OTHER}
    done = subprocess.run(
        [sys.executable, "-P", __file__],
        input=pickle.dumps((list(calls), project_name, task_name)),
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=MAX_SECONDS,
        check=True,
    )
    return done.stdout.decode().splitlines()[-1]


def main() -> None:
    """Record what stands on stdin, and print the path of the session."""
    calls, project_name, task_name = pickle.load(sys.stdin.buffer)
    clearml = require_clearml()
    clearml.Task.set_offline(True)
    reports = ClearMLReports(clearml, init_task(clearml, project_name=project_name, task_name=task_name))
    for name, report in calls:
        with suppress(OSError):  # a file may have gone since
            getattr(reports, name)(*report)
    folder = reports.task.get_offline_mode_folder()
    reports.close()
    print(f"{folder}.zip")


if __name__ == "__main__":
    main()
