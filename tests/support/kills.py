"""Runs in processes of their own, which are killed at any moment."""

from collections.abc import Callable
from multiprocessing import get_context

PROCESSES = get_context("forkserver")
# Imported once for all runs.
PROCESSES.set_forkserver_preload(["tests.support.commands", "matplotlib.figure", "pycocotools.mask"])


def run_for(seconds: float | None, start: Callable[..., None]) -> int:
    """The exit status of a run; -9 where it was killed after so many seconds."""
    process = PROCESSES.Process(target=start)
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode
