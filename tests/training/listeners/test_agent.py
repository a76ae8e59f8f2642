"""Runs are left to a ClearML queue once, and an agent does them with the arguments that were edited."""

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support.clearml_runs import Runner, final, only, own_lines, scalars
from tests.support.clearml_stub import ClearMLStub
from tests.support.waiting import SECONDS
from training.listeners.agent import left_to_queue


def make_task(stub: ClearMLStub, **edited: str) -> None:
    """A task as an agent finds it: the arguments of an earlier run, some of them edited in the web page."""
    values = {"lr": "1.0", "epochs": "", "run_dir": "runs", "sizes": "[1, 2]", "amp": "off"}
    values |= {"enable_clearml": "True", "skip_bad": "False", "clearml_tags": "[]", "queue": "default"}
    parameters = {
        name: {"section": "Args", "name": name, "value": value} for name, value in (values | edited).items()
    }
    stub.tasks["cloned"] = {
        "id": "cloned",
        "status": "queued",
        "name": "clone",
        "output": {},
        "models": {},
        "execution": {},
        "hyperparams": {"Args": parameters},
    }


def test_an_agent_runs_with_the_edited_arguments_and_without_a_command_line(run, stub):
    edited = {"lr": "-0.5", "epochs": "3", "run_dir": "else where", "sizes": "[4, 5]", "amp": "bf16"}
    make_task(stub, **edited, skip_bad="True")
    run.environment["CLEARML_TASK_ID"] = "cloned"
    args = final(run().stdout)["args"]
    expected = {"lr": -0.5, "epochs": 3, "run_dir": "else where", "sizes": [4, 5], "amp": "bf16"}
    assert {key: args[key] for key in expected} == expected
    assert args["skip_bad"] is True and args["trouble"] == "none" and args["clearml_tags"] == []
    assert ("loss", "total", 1, 0.5) in scalars(stub.events)
    assert list(stub.tasks) == ["cloned"]


@pytest.mark.parametrize(("name", "value"), [("epochs", "many"), ("amp", "fp8"), ("no_flag", "1")])
def test_an_edited_value_that_its_flag_refuses_is_told_in_one_line(run, stub, name, value):
    make_task(stub, **{name: value})
    run.environment["CLEARML_TASK_ID"] = "cloned"
    (line,) = own_lines(run(status=2).stderr)
    assert f"--{name}" in line and value in line


def test_a_queue_takes_the_run_and_an_unknown_one_is_told_in_one_line(run, stub):
    assert "args" not in run("--enable_clearml", "--queue", "default").stdout
    task = only(stub.tasks)
    assert task["status"] == "queued" and task["queue"] == "q"
    assert scalars(stub.events) == []
    (line,) = own_lines(run("--enable_clearml", "--queue", "nobody", status=2).stderr)
    assert line.startswith("error: --queue nobody:")


def test_of_several_processes_one_leaves_the_run_to_the_queue_and_the_agent_starts_as_many(run, stub):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py"]
    done = run("--enable_clearml", "--queue", "default", through=launcher)
    task = only(stub.tasks)
    assert task["status"] == "queued"
    assert task["hyperparams"]["Args"]["devices"]["value"] == "2"
    assert "Traceback" not in done.stderr and "args" not in done.stdout


@pytest.mark.parametrize("flags", [{}, {"enable_clearml": True, "clearml_offline": True}])
def test_a_queue_without_a_server_is_refused(flags):
    args = Namespace(**({"queue": "default", "enable_clearml": False, "clearml_offline": False} | flags))
    with pytest.raises(UserError, match="--queue needs a ClearML server"):
        left_to_queue(args, ArgumentParser())


MAKE_DATASET = """
import sys
from clearml import Dataset
dataset = Dataset.create(dataset_name="clips", dataset_project="P")
dataset.add_files(sys.argv[1])
dataset.upload(show_progress=False)
dataset.finalize()
print(dataset.id)
"""
TAKE_DATASET = """
from argparse import Namespace
from common.errors import run_command
import sys
from tests.support.waiting import SECONDS
from training.listeners.agent import take_dataset
args = Namespace(clearml_dataset=sys.argv[1], dataset_root=("none",))
run_command(lambda: take_dataset(args))
print(args.dataset_root[0])
"""


def printed(run: Runner, code: str, argument: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, str(argument)]
    return subprocess.run(
        command, cwd=run.folder, env=run.environment, text=True, timeout=SECONDS, capture_output=True
    )


def test_a_data_set_of_clearml_takes_the_place_of_the_root(run, stub):
    (run.folder / "clips" / "a").mkdir(parents=True)
    (run.folder / "clips" / "a" / "0.txt").write_text("frame")
    made = printed(run, MAKE_DATASET, run.folder / "clips")
    assert made.returncode == 0, made.stderr
    taken = printed(run, TAKE_DATASET, made.stdout.splitlines()[-1])
    assert taken.returncode == 0, taken.stderr
    assert (Path(taken.stdout.splitlines()[-1]) / "a" / "0.txt").read_text() == "frame"


def test_a_data_set_that_is_not_there_is_told_in_one_line(run, stub):
    taken = printed(run, TAKE_DATASET, "nobody")
    assert taken.returncode == 2
    (line,) = own_lines(taken.stderr)
    assert line.startswith("error: --clearml_dataset nobody cannot be fetched")
