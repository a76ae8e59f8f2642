"""Two programs in turns, each in processes of its own: their time, memory and results."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


# Runs a command, from a process of its own: what this one takes would count as the command's memory.
MEASURED = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(status)
"""


class Turns(NamedTuple):
    """Of the rounds (rounds, 2) CPU milliseconds, ours and theirs, and (2,) the peaks of memory, MiB."""

    cpu: np.ndarray
    peaks: np.ndarray


def command(module: str, *argv: object) -> list[str]:
    """A module of this folder, run from the root of the project."""
    return [sys.executable, "-m", f"{__package__}.{module}", *map(str, argv)]


def failed(folder: Path, errors: Path) -> UserError:
    """What to raise where the program of a folder has ended early; the last line of its errors says why."""
    last = (errors.read_text(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
    return UserError(f"the program of {folder} has failed ({last:.300}): try it by itself")


class Worker:
    """A process that tracks its clip once for each `turn`, as of `official.serve`."""

    def __init__(self, command: Sequence[str], folder: Path, errors: Path):
        self.folder, self.errors = folder, errors  # what is told where it fails
        with open(errors, "wb") as file:
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": file}
            self._process = subprocess.Popen(command, cwd=ROOT, text=True, **streams)

    def turn(self) -> tuple[float, float]:
        """CPU milliseconds, and the peak of memory so far in MiB; UserError where the program fails."""
        try:
            print(file=self._process.stdin, flush=True)
            answer = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            self._process.wait()
            raise failed(self.folder, self.errors) from error
        return answer["cpu"], answer["peak"]

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def track_in_turns(job: dict[str, Any], folder: Path, rounds: int) -> tuple[Turns, float]:
    """Both trackers on one clip; and the share of pixels after the first frame on which they agree."""
    results = [folder / "ours.npy", folder / "theirs.npy"]
    jobs = [json.dumps(job | {"result": str(result)}) for result in results]
    workers = [
        Worker(command("ours", jobs[0]), ROOT, folder / "ours.txt"),
        Worker(command("official", jobs[1]), Path(job["checkout"]), folder / "theirs.txt"),
    ]
    try:
        taken = np.array([[worker.turn() for worker in workers] for _ in range(rounds)])  # (rounds, 2, 2)
    finally:
        for worker in workers:
            worker.end()
    ours, theirs = (np.load(result) for result in results)
    return Turns(taken[..., 0], taken[..., 1].max(0)), float((ours == theirs)[1:].mean())


def run(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """CPU milliseconds of a command with its processes, and the peak of memory of the largest in MiB.

    folder: that of the program, which is told where it fails
    """
    with tempfile.TemporaryDirectory() as place:
        errors = Path(place) / "errors.txt"
        with open(errors, "wb") as file:
            measured = [sys.executable, "-c", MEASURED, *command]
            outcome = subprocess.run(measured, cwd=ROOT, stdout=subprocess.PIPE, stderr=file, check=False)
        if outcome.returncode:
            raise failed(folder, errors)
    seconds, kibibytes = outcome.stdout.split()
    return 1000 * float(seconds), float(kibibytes) / 1024


def run_in_turns(
    ours: Sequence[str], theirs: Sequence[str], checkout: Path, rounds: int, stale: Sequence[Path] = ()
) -> Turns:
    """Two commands, both run from the root of this project.

    stale: files that are removed before each round
    """
    taken = []
    for _ in range(rounds):
        for path in stale:
            path.unlink(missing_ok=True)
        taken.append([run(ours, ROOT), run(theirs, checkout)])
    return Turns(np.array(taken)[..., 0], np.array(taken)[..., 1].max(0))
