"""Runs are killed at any moment, as often as it pleases, and end as if nothing had happened."""

import random
import time
from pathlib import Path

import pytest

from tests.support.commands import TINY
from tests.support.forks import kill_after, run_forked
from tests.support.runs import assert_same_run

RUNS, MOST_KILLS = 100, 3
FLAGS = [*TINY, "--epochs", "3", "--checkpoint_steps", "3", "--threads", "1", "--resume", "auto"]


@pytest.fixture(scope="module")
def unbroken(small_data, tmp_path_factory) -> tuple[Path, float]:
    """The folder of a run that nothing stops, and the seconds it takes."""
    run_dir = tmp_path_factory.mktemp("unbroken")
    run_forked("-c", "")  # the imports
    begun = time.monotonic()
    outcome = run_forked("main.py", *FLAGS, "--dataset_root", small_data, "--run_dir", run_dir)
    assert outcome.status == 0, outcome.err
    return run_dir / "1", time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize("number", range(RUNS))
def test_a_run_that_is_killed_at_random_ends_like_an_unbroken_one(small_data, tmp_path, unbroken, number):
    folder, seconds = unbroken
    command = ["main.py", *FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path]
    moments = random.Random(number)
    statuses = [
        kill_after(moments.uniform(0, seconds), *command) for _ in range(moments.randint(1, MOST_KILLS))
    ]
    assert set(statuses) <= {0, -9}
    assert run_forked(*command).status == 0
    run = max(tmp_path.glob("*/last.pth"), key=lambda path: int(path.parent.name)).parent
    assert_same_run(run, folder)
    assert run_forked(*command).status == 0  # a restart loop ends
