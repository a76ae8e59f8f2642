"""A run is recorded by ClearML, offline or on a (fake) server, and no trouble with that reaches the training.

ClearML's state is global to a process and written under HOME, so every test runs a small training script in a
process of its own, in a git repository and a home of its own.
"""

import json
import os
import subprocess
import sys
import time
import zipfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from tests.support.clearml_stub import ClearMLStub
from training.experiment import ClearMLExperiment, Experiment, open_experiment

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import argparse, json, signal, sys
from pathlib import Path
import numpy as np
from PIL import Image
from training import experiment
from common.errors import UserError, run_command

def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    experiment.add_experiment_flags(parser)
    parser.add_argument("--lr", type=float, default=1)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--run_dir", type=Path, default=Path("runs"))
    parser.add_argument("--sizes", type=int, nargs=2, default=[1, 2])
    parser.add_argument("--amp", choices=["off", "bf16"], default="off")
    parser.add_argument("--flip", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--skip_bad", action="store_true")
    parser.add_argument("--trouble", default="")
    args = parser.parse_args()
    opened = experiment.open_experiment(
        args, parser, enabled=args.enable_clearml, offline=args.clearml_offline,
        project_name=args.project_name, task_name=args.task_name, queue=args.queue,
    )
    with opened as run:
        train(run, args)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    values = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    print(json.dumps({"args": values, "clearml": "clearml" in sys.modules}))

def train(run, args):
    if "server goes away" in args.trouble:
        experiment.PATIENCE_SECONDS = 1.0
        print("ready", flush=True)
        sys.stdin.readline()
    for epoch in range(2):
        run.scalars("loss", {"total": 1.5 - epoch, "bce": float("nan"), "dice": None}, epoch)
    picture = np.full((8, 8, 3), 200, np.uint8)
    run.image("overlays", "video", 1, picture)
    Image.fromarray(picture).save("results.png")
    run.figure("results", "results.png", 1)
    run.media("film", "video", 1, "results.png")
    run.table("per video", [["video", "J"], ["a", 90.5]], 1)
    run.single_value("J&F", 80.5)
    run.single_value("HOTA", None)
    run.artifact("metrics", {"J": 1.0})
    Path("best.pth").write_bytes(b"weights")
    run.model("best", "best.pth")
    run.model("best", Path("best.pth"))
    if "missing files" in args.trouble:
        run.artifact("first", "first.pth")
        run.model("second", "second.pth")
    if "crash" in args.trouble:
        raise RuntimeError("the loss is\\nnot finite")
    if "bad input" in args.trouble:
        raise UserError("bad input")

run_command(main)
"""


def finish(process: subprocess.Popen, text: str = "") -> tuple[str, str]:
    """What a process still prints, to stdout and stderr; one that hangs is killed."""
    try:
        return process.communicate(text, timeout=45)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"the process hangs: {process.communicate()}")


class Runner:
    """Runs the script in a git repository; `environment` holds what ClearML finds there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "train.py").write_text(SCRIPT)
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("CLEARML_", "TRAINS_"))
        }
        paths = {"HOME": str(folder), "CLEARML_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
        self.environment = clean | paths | {"OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1"}
        author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        for command in (["init", "-q"], ["add", "train.py"], [*author, "commit", "-q", "-m", "first"]):
            subprocess.run(["git", *command], cwd=folder, check=True)

    def start(self, *flags: str) -> subprocess.Popen:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "train.py", *flags]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **pipes)

    def __call__(self, *flags: str, status: int = 0) -> subprocess.CompletedProcess:
        process = self.start(*flags)
        output, errors = finish(process)
        assert process.returncode == status, output + errors
        return subprocess.CompletedProcess(process.args, status, output, errors)

    def session(self) -> zipfile.ZipFile:
        """The one offline session that was recorded."""
        (path,) = (self.folder / "cache").rglob("*.zip")
        return zipfile.ZipFile(path)


@pytest.fixture
def run(tmp_path) -> Runner:
    pytest.importorskip("clearml")
    return Runner(tmp_path)


@pytest.fixture
def stub(run) -> Iterator[ClearMLStub]:
    with ClearMLStub() as stub:
        run.environment |= stub.environment
        yield stub


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


EXPECTED_SCALARS = [("loss", "total", 0, 1.5), ("loss", "total", 1, 0.5), ("Summary", "J&F", -(2**31), 80.5)]


def test_an_offline_session_holds_everything(run):
    result = run(
        "--enable_clearml", "--clearml_offline", "--lr", "0.25", "--project_name", "P", "--task_name", "T"
    )
    assert own_lines(result.stderr) == []
    with run.session() as session:
        names = session.namelist()
        task = json.loads(session.read("task.json"))
        events = [event for line in session.read("metrics.jsonl").splitlines() for event in json.loads(line)]
        metrics = next(name for name in names if name.endswith("artifacts/metrics/metrics.json"))
        weights = next(name for name in names if name.endswith("artifacts/best/best.pth"))
        assert json.loads(session.read(metrics)) == {"J": 1.0}
        assert session.read(weights) == b"weights"
    assert scalars(events) == EXPECTED_SCALARS
    assert any("metrics/overlays/video/" in name for name in names)
    assert any("metrics/film/video/" in name for name in names)
    assert {event["metric"] for event in events if event["type"] == "plot"} == {"per video", "results"}
    assert (task["project_name"], task["name"]) == ("P", "T")
    assert {
        key: task["hyperparams"]["Args"][key]["value"] for key in ("lr", "run_dir", "skip_bad", "epochs")
    } == {
        "lr": "0.25",
        "run_dir": "runs",
        "skip_bad": "False",
        "epochs": "",
    }
    assert len(task["script"]["version_num"]) == 40  # the commit
    assert len(task["execution"]["artifacts"]) == 2  # no checkpoint beside the one that was named


def test_a_server_receives_everything(run, stub):
    result = run("--enable_clearml")
    assert own_lines(result.stderr) == []
    task, model = only(stub.tasks), only(stub.models)
    assert task["status"] == "completed"
    assert scalars(stub.events) == EXPECTED_SCALARS
    kinds = {event["metric"]: event["type"] for event in stub.events if "metric" in event}
    assert kinds["overlays"] == "training_debug_image"
    assert kinds["results"] == kinds["per video"] == "plot"
    assert model["name"] == "best"
    assert stub.files[model["uri"].removeprefix(stub.url)] == b"weights"
    assert any("overlays" in path and len(content) > 100 for path, content in stub.files.items())
    assert [artifact["key"] for artifact in task["execution"]["artifacts"]] == ["metrics"]
    assert task["hyperparams"]["Args"]["sizes"]["value"] == "[1, 2]"


def make_task(stub: ClearMLStub, **edited: str) -> None:
    """A task as an agent finds it: the arguments of an earlier run, some of them edited in the web page."""
    values = {"lr": "1.0", "epochs": "", "run_dir": "runs", "sizes": "[1, 2]", "amp": "off", "flip": "True"}
    values |= {"enable_clearml": "True", "skip_bad": "False", "trouble": "", "queue": "default"} | edited
    parameters = {name: {"section": "Args", "name": name, "value": value} for name, value in values.items()}
    stub.tasks["cloned"] = {
        "id": "cloned",
        "status": "queued",
        "name": "clone",
        "output": {},
        "models": {},
        "execution": {},
        "hyperparams": {"Args": parameters},
    }


def test_an_agent_runs_with_the_edited_arguments(run, stub):
    make_task(
        stub,
        lr="0.5",
        epochs="3",
        run_dir="elsewhere",
        sizes="[4, 5]",
        amp="bf16",
        flip="False",
        skip_bad="True",
    )
    run.environment["CLEARML_TASK_ID"] = "cloned"
    args = final(run("--enable_clearml", "--queue", "default").stdout)["args"]
    expected = {"lr": 0.5, "epochs": 3, "run_dir": "elsewhere", "sizes": [4, 5], "amp": "bf16", "flip": False}
    assert {key: args[key] for key in expected} == expected
    assert args["skip_bad"] is True and args["trouble"] == ""
    assert scalars(stub.events) == EXPECTED_SCALARS
    assert list(stub.tasks) == ["cloned"]


@pytest.mark.parametrize(("name", "value"), [("epochs", "many"), ("amp", "fp8")])
def test_an_edited_value_that_its_flag_refuses_is_told_in_one_line(run, stub, name, value):
    make_task(stub, **{name: value})
    run.environment["CLEARML_TASK_ID"] = "cloned"
    (line,) = own_lines(run("--enable_clearml", status=2).stderr)
    assert f"Args/{name} was edited to '{value}'" in line


def test_a_queue_takes_the_run_and_an_unknown_one_is_told_in_one_line(run, stub):
    assert "args" not in run("--enable_clearml", "--queue", "default").stdout
    task = only(stub.tasks)
    assert task["status"] == "queued" and task["queue"] == "q"
    assert scalars(stub.events) == []
    (line,) = own_lines(run("--enable_clearml", "--queue", "nobody", status=2).stderr)
    assert line.startswith("error: --queue nobody:")


def test_without_credentials_the_run_is_recorded_offline(run):
    (line,) = own_lines(run("--enable_clearml").stderr)
    assert line == "ClearML: no credentials (run clearml-init); this run is recorded offline"
    with run.session() as session:
        assert "metrics.jsonl" in session.namelist()


def test_a_server_that_does_not_answer_does_not_hold_the_run(run):
    run.environment |= {"CLEARML_API_HOST": "http://127.0.0.1:9", "CLEARML_WEB_HOST": "http://127.0.0.1:9"}
    run.environment |= {"CLEARML_API_ACCESS_KEY": "access", "CLEARML_API_SECRET_KEY": "secret"}
    start = time.monotonic()
    (line,) = own_lines(run("--enable_clearml").stderr)
    assert line == "ClearML: no server answers at http://127.0.0.1:9; this run is recorded offline"
    assert time.monotonic() - start < 30
    run.environment["CLEARML_TASK_ID"] = "cloned"
    (line,) = own_lines(run("--enable_clearml", status=2).stderr)
    assert "the run of an agent, need the server" in line


def test_refused_credentials_leave_the_run_offline(run, stub):
    stub.refuses_logins = True
    (line,) = own_lines(run("--enable_clearml").stderr)
    assert line.endswith("this run is recorded offline")
    with run.session() as session:
        assert "metrics.jsonl" in session.namelist()


@pytest.mark.parametrize(("end", "status"), [("normally", 0), ("crash", 1), ("bad input", 2)])
def test_a_server_that_goes_away_holds_neither_the_training_nor_the_exit(run, stub, end, status):
    process = run.start("--enable_clearml", "--trouble", f"server goes away, {end}")
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    stub.__exit__()
    output, errors = finish(process, "go on\n")
    assert process.returncode == status
    assert ('"args"' in output) == (status == 0)
    assert "ClearML: the server does not answer; what it had not received is lost" in own_lines(errors)


def test_failed_reports_are_told_once_and_counted(run):
    errors = run("--enable_clearml", "--clearml_offline", "--trouble", "missing files").stderr
    first, last = own_lines(errors)
    assert "first.pth" in first and first.endswith("training goes on")
    assert last == "ClearML: 2 reports failed in all"


def test_a_run_that_crashes_is_marked_as_failed(run, stub):
    result = run("--enable_clearml", "--trouble", "crash", status=1)
    task = only(stub.tasks)
    assert task["status"] == "failed"
    assert task["status_reason"] == "RuntimeError: the loss is not finite"
    assert scalars(stub.events) == EXPECTED_SCALARS  # what led to it is there
    assert "Traceback" in result.stderr


def test_nothing_of_clearml_is_imported_when_it_is_not_enabled(run):
    assert final(run().stdout)["clearml"] is False
    assert not (run.folder / "cache").exists() and not (run.folder / ".clearml").exists()


def closed_twin(**flags: Any) -> Experiment:
    names = {"enabled": False, "offline": False, "project_name": "P", "task_name": "T"}
    return open_experiment(Namespace(), ArgumentParser(), **(names | flags))


def test_the_silent_twin_takes_every_report():
    methods: list[Callable] = [value for name, value in vars(Experiment).items() if not name.startswith("_")]
    assert len(methods) == 9
    assert all(method.__name__ in vars(ClearMLExperiment) for method in methods)
    twin = closed_twin()
    assert type(twin) is Experiment
    assert [method(twin, *[None] * (method.__code__.co_argcount - 1)) for method in methods] == [None] * 9


@pytest.mark.parametrize("flags", [{}, {"enabled": True, "offline": True}])
def test_a_queue_without_a_server_is_refused(flags):
    with pytest.raises(UserError, match="--queue needs a ClearML server"):
        closed_twin(queue="default", **flags)


def test_clearml_that_is_not_installed_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "clearml", None)
    with pytest.raises(UserError, match="--enable_clearml needs clearml"):
        closed_twin(enabled=True)
