"""Runs are killed at any moment, as often as it pleases, and end as if nothing had happened."""

import random
import time
from functools import partial
from pathlib import Path

import pytest

import main
from tests.support.commands import TINY, run_here
from tests.support.kills import run_for
from tests.support.runs import assert_same_run

RUNS, MOST_KILLS = 100, 3
FLAGS = [*TINY, "--epochs", "3", "--checkpoint_steps", "3", "--threads", "1", "--resume", "auto"]


def end_with_status(*flags: object) -> None:
    raise SystemExit(run_here(main.main, *flags).status)


@pytest.fixture(scope="module")
def unbroken(small_data, tmp_path_factory) -> tuple[Path, float]:
    """The folder of a run that nothing stops, and the seconds it takes."""
    run_dir = tmp_path_factory.mktemp("unbroken")
    start = partial(end_with_status, *FLAGS, "--dataset_root", small_data, "--run_dir", run_dir)
    run_for(0, start)  # the imports
    begun = time.monotonic()
    assert run_for(None, start) == 0
    return run_dir / "1", time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize("number", range(RUNS))
def test_a_run_that_is_killed_at_random_ends_like_an_unbroken_one(small_data, tmp_path, unbroken, number):
    folder, seconds = unbroken
    start = partial(end_with_status, *FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path)
    moments = random.Random(number)
    statuses = [run_for(moments.uniform(0, seconds), start) for _ in range(moments.randint(1, MOST_KILLS))]
    assert set(statuses) <= {0, -9}
    assert run_for(None, start) == 0
    run = max(tmp_path.glob("*/last.pth"), key=lambda path: int(path.parent.name)).parent
    assert_same_run(run, folder)
    assert run_for(None, start) == 0  # a restart loop ends
