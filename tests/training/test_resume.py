"""A run that was killed or interrupted continues, and ends as if nothing had happened."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import main
from common.checkpoint import read_checkpoint, save_checkpoint
from tests.support.commands import TINY, assert_refused, files_in, run_here
from tests.support.forks import end_of
from tests.support.runs import assert_same_run, rows_of
from training import report
from training.interrupt import interruptible

# Two steps an epoch; the state is written before the first, after every third, and at the end of an epoch,
# before its evaluation and after it.
FLAGS = ["--epochs", 3, "--checkpoint_steps", 3]


def quicken(setattr: Callable) -> None:
    """Leave out what these tests are not about: tracking, whose J&F is then 0, and drawing."""
    setattr(main, "evaluate_tracker", lambda *_, **__: {"J&F": 0.0})
    setattr(main.Gallery, "picture", lambda _: np.zeros((4, 4, 3), dtype=np.uint8))
    setattr(report, "plot_curves", lambda *_: None)


def train_until(name: str, number: int, flags: list[object]) -> None:
    """Train in this process, whose last moment is a call of this number, an optimiser step or a save."""
    owner, attribute = {"step": (torch.optim.AdamW, "step"), "save": (torch, "save")}[name]
    function, calls = getattr(owner, attribute), []

    def fatal(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            if name == "save":
                args[1].write(b"half a checkpoint")
                args[1].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    quicken(setattr)
    setattr(owner, attribute, fatal)
    run_here(main.main, *flags)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch.setattr)
        yield


@pytest.fixture(scope="module")
def unbroken(quick, small_data, tmp_path_factory) -> Path:
    """The folder of a run without interruption."""
    flags = [*TINY, *FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path_factory.mktemp("unbroken")]
    return run_here(main.main, *flags).run


@pytest.fixture
def finished(unbroken, tmp_path) -> Path:
    """A copy of the unbroken run as the only one in the `train` fixture's --run_dir."""
    return Path(shutil.copytree(unbroken, tmp_path / "runs" / "1"))


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, number: int, by: int = signal.SIGINT
) -> None:
    """Press Ctrl-C, or send another signal, at the end of a call of this number."""
    function, calls = getattr(owner, name), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        result = function(*args, **kwargs)
        if len(calls) == number:
            signal.raise_signal(by)
        return result

    monkeypatch.setattr(owner, name, interrupted)


# ----------------------------------------------------------------------------------------------------
# killed


@pytest.mark.parametrize("name, number, saved", [("step", 4, 3), ("save", 6, 2)])
def test_a_killed_run_continues_and_ends_like_an_unbroken_one(
    small_data, tmp_path, train, unbroken, name, number, saved
):
    flags = [*TINY, *FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path / "runs"]
    killed = end_of(partial(train_until, name, number, flags))
    assert killed.status == -signal.SIGKILL, killed.err
    run = tmp_path / "runs" / "1"
    assert read_checkpoint(run / "last.pth")["step"] == saved
    assert train(*FLAGS, "--resume", "auto").run == run
    assert_same_run(run, unbroken)


class Crash(BaseException):
    """The end of a run at a moment of a test's choice."""


def crash_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, number: int) -> None:
    """Let a call of this number end the run before it does anything."""
    function, calls = getattr(owner, name), []

    def crashing(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            raise Crash
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, crashing)


# The files of a run take their names in this order: last.pth, args.json, run.json twice, and for each epoch
# last.pth, frames.json, the picture, best.pth, model_epoch_X.pth, results.csv, last.pth; an epoch has one
# last.pth more after step 3.
@pytest.mark.parametrize(
    "number", [4, 7, 9, 10, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 29))]
)
def test_a_run_that_ends_before_one_of_its_files_is_there_continues(train, unbroken, monkeypatch, number):
    with monkeypatch.context() as patch, pytest.raises(Crash):
        crash_at(patch, os, "replace", number)
        train(*FLAGS)
    run = train(*FLAGS, "--resume", "auto").run
    assert_same_run(run, unbroken)


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_run_that_ends_in_an_evaluation_continues_with_it(train, unbroken, monkeypatch, epoch):
    with monkeypatch.context() as patch, pytest.raises(Crash):
        crash_at(patch, main.Trainer, "evaluate", epoch)
        train(*FLAGS)
    steps, step = [], main.Trainer.optimise
    monkeypatch.setattr(main.Trainer, "optimise", lambda *a: (steps.append(1), step(*a))[1])
    run = train(*FLAGS, "--resume", "auto").run
    assert len(steps) == 6 - 2 * epoch
    assert_same_run(run, unbroken)


# ----------------------------------------------------------------------------------------------------
# interrupted


WARNINGS = [signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM]  # slurm's is the first


@pytest.mark.parametrize(
    "number, by", [*((n, signal.SIGINT) for n in (1, 2, 3, 6)), *((1, by) for by in WARNINGS)]
)
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_continue(train, unbroken, monkeypatch, number, by):
    with monkeypatch.context() as patch:
        interrupt_at(patch, torch.optim.AdamW, "step", number, by)
        stopped = train(*FLAGS)
    assert stopped.status == 130 and stopped.err == []
    last = Path(stopped.out[-1].split()[-1])
    assert stopped.out[-1].startswith(f"interrupted at step {number}") and "--resume" in stopped.out[-1]
    assert read_checkpoint(last)["step"] == number
    assert train(*FLAGS, "--resume", last).run == last.parent
    assert_same_run(last.parent, unbroken)


@pytest.mark.parametrize("epoch", [1, 3])
def test_ctrl_c_in_an_evaluation_stops_after_its_epoch(train, unbroken, monkeypatch, epoch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, main.Trainer, "evaluate", epoch)
        stopped = train(*FLAGS)
    assert stopped.status == 130 and stopped.out[-1].startswith(f"interrupted at step {2 * epoch}")
    run = train(*FLAGS, "--resume", "auto").run
    assert_same_run(run, unbroken)


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), interruptible() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_end_that_a_scheduler_asks_for_waits_for_the_step():
    with interruptible() as interrupted:
        signal.raise_signal(signal.SIGTERM)
        assert interrupted()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_is_ignored_on_entry_stops_no_training():
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interruptible() as interrupted:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupted()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)


# ----------------------------------------------------------------------------------------------------
# what can be continued


def test_other_videos_are_refused_as_many_or_not(train, finished, small_data, tmp_path):
    (finished / "metrics.json").unlink()
    fewer, others = (Path(shutil.copytree(small_data, tmp_path / name)) for name in ("fewer", "others"))
    for kind in ("JPEGImages", "Annotations"):
        (others / "train" / kind / "train_00000").rename(others / "train" / kind / "other")
        for number in (0, 1):
            shutil.rmtree(fewer / "train" / kind / f"train_{number:05d}")
    resumed = [train(*FLAGS, "--dataset_root", root, "--resume", "auto") for root in (fewer, others)]
    assert_refused(resumed[0], "had 2 steps and has 1 now", "same videos")
    assert_refused(resumed[1], "it was trained on other videos", "same --dataset_root")


def test_a_finished_run_has_nothing_to_resume_which_is_no_error(train, finished):
    before = {name: (finished / name).read_bytes() for name in files_in(finished)}
    outcome = train(*FLAGS, "--resume", "auto")
    assert outcome.run == finished
    assert str(finished / "last.pth") in outcome.out[0] and "nothing to resume" in outcome.out[0]
    assert {name: (finished / name).read_bytes() for name in files_in(finished)} == before


def test_a_finished_run_goes_on_with_more_epochs(train, finished):
    outcome = train(*FLAGS, "--epochs", 4, "--resume", "auto")
    assert outcome.run == finished
    assert read_checkpoint(finished / "last.pth")["epoch"] == 4
    assert [float(row["epoch"]) for row in rows_of(finished)] == [1, 2, 3, 4]


def test_a_run_that_died_in_its_final_evaluation_only_scores(train, finished):
    (finished / "metrics.json").unlink()
    weights = (finished / "last.pth").read_bytes()
    assert train(*FLAGS, "--resume", "auto").run == finished
    assert (finished / "metrics.json").is_file() and (finished / "last.pth").read_bytes() == weights


@pytest.mark.parametrize("content", [None, b"epoch;loss\n1;2\n", b'\xff\xfe\x00,,\n"'])
def test_results_that_were_edited_or_removed_are_written_anew(train, unbroken, finished, content):
    (finished / "metrics.json").unlink()
    (finished / "results.csv").unlink()
    if content is not None:
        (finished / "results.csv").write_bytes(content)
    train(*FLAGS, "--resume", "auto")
    assert_same_run(finished, unbroken)


def test_a_checkpoint_of_an_older_version_takes_its_rows_from_the_results(train, finished):
    (finished / "metrics.json").unlink()
    for name in ("last.pth", "best.pth"):
        older = read_checkpoint(finished / name)
        del older["history"]
        save_checkpoint(finished / name, older)
    rows = rows_of(finished)
    train(*FLAGS, "--epochs", 4, "--resume", "auto")
    assert rows_of(finished)[:3] == rows and len(rows_of(finished)) == 4


def test_a_checkpoint_without_its_best_one_beside_it_continues(train, finished, tmp_path):
    last = tmp_path / "elsewhere" / "1" / "last.pth"
    last.parent.mkdir(parents=True)
    shutil.copy(finished / "last.pth", last)
    outcome = train(*FLAGS, "--resume", last)
    assert outcome.run == last.parent and "last.pth" in outcome.out[-2]


def test_auto_without_a_former_run_begins_anew(train, tmp_path):
    outcome = train("--resume", "auto")
    assert outcome.run == tmp_path / "runs" / "1"


@pytest.mark.parametrize(
    "flag",
    [
        "--hidden_dim 32",
        "--w_dice 1.0",
        "--batch_size 1",
        "--clip_length 3",
        "--lr_head 1.0",
        "--seed 7",
        "--dataset_weights 2",
    ],
)
def test_other_options_are_refused_with_the_flags_to_give(train, finished, flag):
    (finished / "metrics.json").unlink()
    name, value = flag.split()
    given = dict(zip(TINY[::2], TINY[1::2], strict=True))
    given |= {"--w_dice": "5.0", "--seed": "0", "--lr_head": "0.001"}
    told = f"{name} {given[name]}" if name in given else f"no {name}"
    assert_refused(train(*FLAGS, name, value, "--resume", "auto"), finished, told, "same flags")
    assert not (finished / "metrics.json").exists()


def test_weights_alone_and_another_system_are_refused(train, finished, fake_system, small_data, tmp_path):
    weights = finished / "model_epoch_1.pth"
    assert_refused(train("--resume", weights), weights, "weights only", "last.pth")
    flags = ["--system", "fake", "--dataset_root", small_data, "--resume", finished / "last.pth"]
    assert_refused(run_here(main.main, *flags), finished / "last.pth", "vita_tcovis", "fake")


def changed(value: Any, place: str, new: Any) -> Any:
    """A copy of nested dictionaries and lists with another entry at a place such as "args/seed"."""
    key, _, rest = place.partition("/")
    key = int(key) if key.isdecimal() else key
    copy = value.copy()
    copy[key] = changed(value[key], rest, new) if rest else new
    return copy


ODD = {
    "optimizer": [[], {}, 3, "x"],
    "optimizer/state": [[], {0: {}}, {"x": 1}],
    "optimizer/state/0/exp_avg": [None, 1.0, torch.zeros(3), "x"],
    "optimizer/state/0/step": [None, torch.zeros(2), torch.tensor(torch.nan)],
    "optimizer/param_groups": [None, {}, []],
    "optimizer/param_groups/0": [None, {}, {"params": [0]}],
    "optimizer/param_groups/0/lr": [None, "x", [1.0]],
    "optimizer/param_groups/0/params": [None, [0], 3],
    "scheduler": [None, [], {}],
    "scheduler/last_epoch": [None, "x", 1.5],
    "scheduler/base_lrs": [None, [], ["x"] * 4],
    "scaler": [None, []],
    "criterion": [None, [], {"x": 1}],
    "history": [None, [], {}],
    "history/rows": [None, 3, [{}], [{"epoch": "x", "step": 1, "seconds": 1.0}]],
    "history/row": [3, {}, []],
    "history/means": [None, {}, {"calls": 1, "sums": {"a_sum": 1.0}}, {"calls": "x", "sums": {}}],
    "history/seconds": [None, "x"],
    "history/run_seconds": [None, "x"],
    "epoch": [-1, 7],
    "step": [-1, 1000],
    "best": [{}, {"J&F": "x", "epoch": 1}],
    "args/steps_per_epoch": [None, 0, "x", 2.0],
    "args/amp": [None, 3, []],
    "args/seed": ["x", None, {}],
    "model": [{}],
    "ema": [{"tokens": torch.zeros(1)}],
}


@pytest.mark.parametrize("place", ODD)
def test_entries_of_odd_types_are_refused_in_one_line(train, finished, place):
    (finished / "metrics.json").unlink()
    last = finished / "last.pth"
    state = read_checkpoint(last)
    for odd in ODD[place]:
        torch.save(changed(state, place, odd), last)
        assert_refused(train(*FLAGS, "--epochs", 4, "--resume", "auto"), last)
    key = place.partition("/")[0]
    if key not in ("best", "ema", "history"):  # which older versions did not write, or may be None
        torch.save({name: value for name, value in state.items() if name != key}, last)
        assert_refused(train(*FLAGS, "--epochs", 4, "--resume", "auto"), last)


@pytest.mark.parametrize("role", ["model", "ema"])
def test_weights_that_are_not_finite_are_not_trained_on(train, finished, role):
    (finished / "metrics.json").unlink()
    state = read_checkpoint(finished / "last.pth")
    state[role]["tokens"][0] = torch.nan
    torch.save(state, finished / "last.pth")
    assert_refused(train(*FLAGS, "--resume", "auto"), finished / "last.pth", "1 not finite (tokens)")


def test_a_device_is_no_checkpoint(train):
    assert_refused(train("--resume", "/dev/null"), "/dev/null is a pipe, a device or a socket")


def test_the_seconds_of_a_run_are_those_of_all_its_processes(train, unbroken, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, torch.optim.AdamW, "step", 3)
        stopped = train(*FLAGS)
    last = Path(stopped.out[-1].split()[-1])
    state = read_checkpoint(last)
    assert 0 < state["history"]["run_seconds"] < 100
    torch.save(changed(state, "history/run_seconds", 3600.0), last)
    run = train(*FLAGS, "--resume", last).run
    assert 3600 < json.loads((run / "metrics.json").read_text())["seconds"] < 3700


@pytest.mark.parametrize("content", [None, b"junk"])
def test_a_checkpoint_that_cannot_be_read_is_refused_and_nothing_is_written(train, tmp_path, content):
    path = tmp_path / "elsewhere" / "last.pth"
    if content:
        path.parent.mkdir()
        path.write_bytes(content)
    assert_refused(train("--resume", path, "--synthetic", "easy"), path)
    assert files_in(tmp_path) == (["elsewhere/last.pth"] if content else [])
