"""The training command in two processes: they train into one folder, and end together."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from common.checkpoint import read_checkpoint
from tests.support.commands import TINY, Outcome, run_apart
from tests.support.forks import Forked, script
from tests.support.processes import place_of

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
Start = Callable[..., list[Forked]]


def flags_of(data: Path, runs: Path) -> list[str]:
    return [*TINY, "--dataset_root", str(data), "--run_dir", str(runs), "--batch_size", "1"]


@pytest.fixture
def start(small_data, tmp_path) -> Iterator[Start]:
    """A function of Python's arguments that starts an endless run in two processes, as torchrun does."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with ExitStack() as processes:

        def begin(*argv: str) -> list[Forked]:
            work, begun = script(*argv, *flags_of(small_data, tmp_path), *ENDLESS), []
            for rank in range(2):
                place = place_of(rank, 2, store.port) | {"TORCHELASTIC_USE_AGENT_STORE": "True"}
                begun.append(processes.enter_context(Forked(work, place)))
            return begun

        yield begin


def wait_for_step(main_process: Forked, number: int) -> None:
    """Read what the first process prints until it has trained so many steps."""
    for line in main_process.stdout:
        if f" step {number}/" in line:
            return
    raise AssertionError(main_process.stderr.read())


def ends_of(processes: list[Forked]) -> tuple[list[int], list[str]]:
    """The exit statuses, and the lines on stderr of all processes together."""
    ends = [process.outcome() for process in processes]
    return [end.status for end in ends], [line for end in ends for line in end.err]


def assert_one_run(outcome: Outcome, runs: Path) -> None:
    """Assert that two processes have trained, with a clip each, into one folder."""
    assert outcome.run == runs / "1" and list(runs.iterdir()) == [outcome.run]
    assert read_checkpoint(outcome.run / "last.pth")["step"] == 2
    assert (outcome.run / "metrics.json").is_file()


@pytest.mark.slow
def test_two_processes_of_torchrun_train_into_one_folder(small_data, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    outcome = run_apart(*launcher, "main.py", *flags_of(small_data, tmp_path), "--epochs", 1)
    assert_one_run(outcome, tmp_path)


def test_devices_start_two_processes_which_train_into_one_folder(small_data, tmp_path):
    outcome = run_apart("main.py", *flags_of(small_data, tmp_path), "--devices", 2, "--epochs", 1)
    assert_one_run(outcome, tmp_path)


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
    first, others = processes[0].outcome(), ends_of(processes[1:])
    assert others == ([130], []) and first.status == 130
    step = read_checkpoint(tmp_path / "1" / "last.pth")["step"]
    told = [line for line in first.out if "interrupted" in line]
    assert len(told) == 1 and re.match(rf"interrupted at step {step};.*--resume", told[0])
