"""The training command in two processes: they train into one folder, and end together."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from common.checkpoint import read_checkpoint
from tests.support.commands import ROOT, TINY, run_apart

ENDLESS = ["--epochs", "10000", "--eval_every", "0", "--save_every", "0", "--log_steps", "1"]
FAILS_AT_ITS_THIRD_STEP = """
import sys, runpy, main
step = main.Trainer.optimise
def optimise(trainer, clips):
    if trainer.state.step == 2 and main.distributed.rank() == 1:
        raise {error}
    return step(trainer, clips)
main.Trainer.optimise = optimise
sys.argv[0] = "main.py"
main.run_command(main.main)
"""
Start = Callable[..., list[subprocess.Popen]]


def flags_of(data: Path, runs: Path) -> list[str]:
    return [*TINY, "--dataset_root", str(data), "--run_dir", str(runs), "--batch_size", "1"]


@pytest.fixture
def start(small_data, tmp_path) -> Iterator[Start]:
    """A function of Python's arguments that starts an endless run in two processes, as torchrun does."""
    processes, store = [], TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def begin(*argv: str) -> list[subprocess.Popen]:
        command = [sys.executable, *argv, *flags_of(small_data, tmp_path), *ENDLESS]
        for rank in range(2):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
            place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
            place |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            processes.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | place, **pipes))
        return processes

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_step(main_process: subprocess.Popen, number: int) -> None:
    """Read what the first process prints until it has trained so many steps."""
    for line in main_process.stdout:
        if f" step {number}/" in line:
            return
    raise AssertionError(main_process.stderr.read())


def ends_of(processes: list[subprocess.Popen], seconds: float = 60.0) -> tuple[list[int], list[str]]:
    """The exit statuses, and the lines on stderr of all processes together."""
    end = time.monotonic() + seconds
    errors = [process.communicate(timeout=end - time.monotonic())[1] for process in processes]
    return [process.returncode for process in processes], "".join(errors).splitlines()


def test_two_processes_train_into_one_folder(small_data, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    outcome = run_apart(*launcher, "main.py", *flags_of(small_data, tmp_path), "--epochs", 1)
    assert outcome.status == 0, outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert read_checkpoint(tmp_path / "1" / "last.pth")["step"] == 2
    assert (tmp_path / "1" / "metrics.json").is_file()


def test_devices_start_the_processes_and_end_with_their_status(small_data, tmp_path):
    flags = [*flags_of(small_data, tmp_path), "--devices", 2]
    outcome = run_apart("main.py", *flags, "--epochs", 1)
    assert outcome.status == 0, outcome.err
    assert read_checkpoint(tmp_path / "1" / "last.pth")["step"] == 2
    assert outcome.run == tmp_path / "1"


@pytest.mark.slow
def test_devices_end_with_the_one_line_of_what_is_wrong(small_data, tmp_path):
    outcome = run_apart("main.py", *flags_of(small_data, tmp_path), "--devices", 2, "--resume", "none.pth")
    assert outcome.status == 2 and len(outcome.err) == 1, outcome.err
    assert "none.pth" in outcome.err[0]


@pytest.mark.parametrize("dies", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_where_one_process_is_killed_the_other_ends_with_one_line(start, dies):
    processes = start("main.py")
    wait_for_step(processes[0], 1)
    processes[dies].kill()
    statuses, errors = ends_of(processes)
    assert statuses[dies] == -signal.SIGKILL and statuses[1 - dies] > 0
    assert len(errors) == 1 and f"process {dies} of 2 has died" in errors[0] and "--resume auto" in errors[0]


@pytest.mark.slow
def test_where_one_process_hangs_the_other_ends_with_one_line(start):
    processes = start("main.py")
    wait_for_step(processes[0], 1)
    processes[1].send_signal(signal.SIGSTOP)
    statuses, errors = ends_of(processes[:1])
    assert statuses == [1] and len(errors) == 1 and "process 1 of 2 has died" in errors[0]


@pytest.mark.slow
def test_where_one_process_is_refused_the_other_ends_without_a_word(start):
    error = "main.UserError('bad.png is no picture: replace it')"
    statuses, errors = ends_of(start("-c", FAILS_AT_ITS_THIRD_STEP.format(error=error)))
    assert statuses[1] == 2 and statuses[0] > 0
    assert errors == ["error: bad.png is no picture: replace it"]


@pytest.mark.slow
def test_a_fault_of_one_process_is_shown_once(start):
    statuses, errors = ends_of(start("-c", FAILS_AT_ITS_THIRD_STEP.format(error="ZeroDivisionError('why')")))
    assert 0 not in statuses
    assert sum(line.endswith("ZeroDivisionError: why") for line in errors) == 1
    assert not any("gloo" in line for line in errors)


@pytest.mark.parametrize(
    "number, asked",
    [
        (signal.SIGINT, [0, 1, 1, 0]),  # as a terminal and torchrun tell all of Ctrl-C
        (signal.SIGTERM, [1]),
        pytest.param(signal.SIGINT, [1], marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, [0], marks=pytest.mark.slow),
    ],
)
def test_where_any_process_is_asked_to_end_all_stop_at_the_same_step(start, tmp_path, number, asked):
    processes = start("main.py")
    wait_for_step(processes[0], 1)
    for rank in asked:
        processes[rank].send_signal(number)
    printed, statuses = processes[0].communicate(timeout=60)[0].splitlines(), ends_of(processes[1:])
    assert statuses == ([130], []) and processes[0].returncode == 130
    step = read_checkpoint(tmp_path / "1" / "last.pth")["step"]
    told = [line for line in printed if "interrupted" in line]
    assert len(told) == 1 and re.match(rf"interrupted at step {step};.*--resume", told[0])
