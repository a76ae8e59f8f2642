"""Scripts that report to ClearML, each in a process, a git repository and a home of its own.

ClearML's state is global to a process and written under HOME.
"""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ROOT
from tests.support.waiting import SECONDS

SCRIPT = """
import json, multiprocessing, os, signal, sys, threading
from pathlib import Path
import numpy as np
from PIL import Image
from common.config import Parser, add_config_flags, boolean
from common.errors import UserError, run_command
from configs.listeners import TrainingListenersConfig
from training.listeners import clearml_listener
from training.listeners.agent import arguments, left_to_queue
from training.listeners.opening import open_listeners, task_names

forks = []
os.register_at_fork(before=lambda: forks.append("fork"))

def main():
    parser = Parser()
    add_config_flags(parser, TrainingListenersConfig, "listeners")
    parser.add_argument("--lr", type=float, default=1, help="learning rate (default: %(default)s)")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--score", type=float, default=80.5)
    parser.add_argument("--run_dir", type=Path, default=Path("runs"))
    parser.add_argument("--sizes", type=int, nargs=2, default=[1, 2])
    parser.add_argument("--amp", choices=["off", "bf16"], default="off")
    parser.add_argument("--skip_bad", type=boolean, nargs="?", const=True, default=False)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--trouble", default="none")
    parser.add_argument("--continued")
    args = parser.parse_args(arguments())
    if left_to_queue(args, parser, **task_names(args)):
        return print("left to the queue")
    with open_listeners(args, parser, tags=["stcn"], continued=args.continued) as run:
        train(run, args)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    values = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    print(json.dumps({"args": values, "clearml": "clearml" in sys.modules, "task": run.task}))

def work():
    print(f"a worker of {threading.active_count()} threads, fork {len(forks)}")

def wait():
    print("ready", flush=True)
    sys.stdin.readline()

def train(run, args):
    if "worker" in args.trouble:
        worker = multiprocessing.get_context("fork").Process(target=work)
        worker.start()
        worker.join()
    if "calls without an end" in args.trouble:
        clearml_listener.PATIENCE_SECONDS = 0.1
        reports = clearml_listener.ClearMLReports
        reports.flush = reports.close = lambda *report: threading.Event().wait()
    if "server goes away" in args.trouble:
        clearml_listener.PATIENCE_SECONDS = 1.0
        run.scalars("loss", {"early": 2.5}, 0)
        wait()
    run.begin(args.run_dir / "7", 0)
    for epoch in range(2):
        run.scalars("loss", {"total": 1.5 - epoch, "bce": float("nan"), "dice": None}, epoch)
    picture = np.full((8, 8, 3), 200, np.uint8)
    run.image("overlays", "video", 1, picture)
    Image.fromarray(picture).save("results.png")
    run.figure("results", Path("results.png"), 1)
    run.curves("loss by epoch", {"total": ([1, 2], [1.5, 0.5])}, 1, "epoch")
    run.video("film", "video", 1, Path("results.png"))
    run.table("per video", [["video", "J"], ["a", 90.5]], 1)
    run.single_value("J&F", args.score)
    run.single_value("HOTA", None)
    run.artifact("metrics", {"J": 1.0})
    Path("best.pth").write_bytes(b"weights")
    run.model("best", Path("best.pth"), 1)
    run.model("best", Path("best.pth"), 2)
    if "killed" in args.trouble:
        wait()
    if "missing files" in args.trouble:
        run.artifact("first", Path("first.pth"))
        run.model("second", Path("second.pth"), 3)
    if "crash" in args.trouble:
        raise RuntimeError("the loss is\\nnot finite")
    if "bad input" in args.trouble:
        raise UserError("bad input")
    if "interrupted" in args.trouble:
        raise KeyboardInterrupt

run_command(main)
"""


def finish(process: subprocess.Popen, text: str = "") -> tuple[str, str]:
    """What a process still prints, to stdout and stderr; one that hangs is killed."""
    try:
        return process.communicate(text, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"the process hangs: {process.communicate()}")


class Runner:
    """Runs a script in a git repository; `environment` holds what ClearML finds there."""

    def __init__(self, folder: Path, script: str = SCRIPT) -> None:
        self.folder = folder
        (folder / "train.py").write_text(script)
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("CLEARML_", "TRAINS_"))
        }
        paths = {"HOME": str(folder), "CLEARML_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
        self.environment = clean | paths | {"OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1"}
        author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        for command in (["init", "-q"], ["add", "train.py"], [*author, "commit", "-q", "-m", "first"]):
            subprocess.run(["git", *command], cwd=folder, check=True)

    def start(self, *flags: object, through: Sequence[str] = ("train.py",)) -> subprocess.Popen:
        """Run `python through... flags...`."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, *through, *map(str, flags)]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **pipes)

    def __call__(self, *flags: object, status: int = 0, **start: Any) -> subprocess.CompletedProcess:
        process = self.start(*flags, **start)
        output, errors = finish(process)
        assert process.returncode == status, output + errors
        return subprocess.CompletedProcess(process.args, status, output, errors)

    def waiting(self, *flags: object) -> subprocess.Popen:
        """The process of the script, when it waits for a line."""
        process = self.start(*flags)
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None, process.stderr.read()
        return process

    def session(self) -> zipfile.ZipFile:
        """The one offline session that was recorded."""
        (path,) = (self.folder / "cache").rglob("*.zip")
        return zipfile.ZipFile(path)


def events_in(session: zipfile.ZipFile) -> list[dict]:
    """The events of an offline session."""
    lines = session.read("metrics.jsonl").splitlines()
    return [event for line in lines for event in json.loads(line)]


def own_lines(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith(("ClearML:", "error:"))]


def final(output: str) -> dict[str, Any]:
    """What the script printed last."""
    return json.loads(output.splitlines()[-1])


def scalars(events: list[dict]) -> list[tuple]:
    found = [event for event in events if event["type"] == "training_stats_scalar"]
    return [
        (e["metric"], e["variant"], e["iter"], e["value"]) for e in found if not e["metric"].startswith(":")
    ]


def only(items: dict[str, Any]) -> Any:
    (item,) = items.values()
    return item
