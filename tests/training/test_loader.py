"""The order of an epoch: every clip at most once, the same for all processes, batches of one orientation.

And what happens when the workers that load it fail.
"""

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from common.errors import UserError
from tests.support.commands import TINY, assert_refused, run_apart
from training.loader import EpochSampler, loader_errors, make_loader


def indices(sampler: EpochSampler) -> list[list[int]]:
    return [[key.index for key in batch] for batch in sampler]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


def test_an_epoch_visits_every_clip_once_in_an_order_of_its_own():
    sampler = EpochSampler(12, 4, seed=0)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert {key.epoch for batch in sampler for key in batch} == {epoch}
        assert [{key.batch for key in batch} for batch in sampler] == [{0}, {1}, {2}]
        orders.append(flat(indices(sampler)))
        assert sorted(orders[-1]) == list(range(12)) and len(sampler) == 3
    assert orders[0] != orders[1] != orders[2]
    again, other = EpochSampler(12, 4, seed=0), EpochSampler(12, 4, seed=1)
    assert flat(indices(again)) == orders[0] != flat(indices(other))


UPRIGHT = [place % 5 == 0 for place in range(27)]  # six of 27


@pytest.mark.parametrize("upright", [(), UPRIGHT])
def test_an_interrupted_epoch_goes_on_where_it_stopped(upright):
    sampler = EpochSampler(27, 4, seed=3, upright=upright)
    sampler.set_epoch(5)
    whole = list(sampler)
    sampler.set_epoch(5, start=3)
    assert list(sampler) == whole[3:] and len(whole) == len(sampler) == 6


@pytest.mark.parametrize("upright", [(), UPRIGHT])
def test_processes_share_an_epoch_in_equal_numbers_of_batches(upright):
    shares = [EpochSampler(27, 2, seed=0, rank=rank, world_size=3, upright=upright) for rank in range(3)]
    batches = [list(sampler) for sampler in shares]
    assert [len(b) for b in batches] == [4, 4, 4]
    together = [[key for part in parts for key in part] for parts in zip(*batches, strict=True)]
    assert together == list(EpochSampler(27, 6, seed=0, upright=upright))  # of one process
    visited = [key.index for batch in together for key in batch]
    assert len(set(visited)) == len(visited) == 24  # three wait for another epoch's order


def test_batches_are_of_one_orientation_but_for_those_that_are_left_over():
    sampler, waiting = EpochSampler(27, 4, seed=0, upright=UPRIGHT), []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        kinds = [{UPRIGHT[key.index] for key in batch} for batch in batches]
        assert [key.is_mixed for batch in batches for key in batch] == [
            len(kind) > 1 for kind in kinds for _ in range(4)
        ]
        assert sum(kind == {False} for kind in kinds) >= 5 - 1 and len(kinds) == 6
        assert sum(len(kind) > 1 for kind in kinds) <= 1 and kinds.count({True}) >= 1
        visited = [key.index for batch in batches for key in batch]
        assert len(set(visited)) == len(visited) == 24
        waiting += sorted(set(range(27)) - set(visited))
    assert len(set(waiting)) > 15 and {UPRIGHT[index] for index in waiting} == {False, True}


def test_a_clip_without_a_partner_joins_a_mixed_batch():
    alone = [True, *[False] * 7]
    visited = [key for batch in EpochSampler(8, 4, seed=0, upright=alone) for key in batch]
    assert sorted(key.index for key in visited) == list(range(8))
    assert [key.is_mixed for key in visited].count(True) == 4


def test_fewer_clips_than_a_batch_come_more_than_once():
    (batch,) = indices(EpochSampler(3, 5, seed=0))
    assert len(batch) == 5 and set(batch) == {0, 1, 2}
    assert flat(indices(EpochSampler(1, 4, seed=0, rank=1, world_size=2))) == [0, 0, 0, 0]


# ----------------------------------------------------------------------------------------------------
# workers


class Items(Dataset):
    """Endless items of a number each."""

    collate = staticmethod(lambda items: SimpleNamespace(items=torch.tensor(items)))

    def __getitem__(self, key: int) -> int:
        return key


@pytest.fixture
def loader() -> Iterator[DataLoader]:
    """A loader of two workers that work ahead; what it sets is undone."""
    former = signal.getsignal(signal.SIGCHLD)
    yield make_loader(Items(), [[key] for key in range(100)], num_workers=2, pin_memory=False, timeout=2)
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    signal.signal(signal.SIGCHLD, former)


def send_to_a_worker(number: signal.Signals) -> None:
    os.kill(multiprocessing.active_children()[0].pid, number)


def test_batches_of_workers_lie_in_shared_memory_before_they_leave(loader):
    assert next(iter(loader)).items.is_shared()


def test_a_batch_that_finds_no_shared_memory_is_told_with_both_remedies(loader, monkeypatch):
    def fail(tensor: torch.Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", fail)
    with (
        pytest.raises(UserError, match=r"^a batch does not fit.*--num_workers 0.*--shm-size"),
        loader_errors(),
    ):
        next(iter(loader))


def test_a_worker_that_is_killed_is_told_in_one_line_with_both_remedies(loader):
    with pytest.raises(UserError) as error, loader_errors():
        for _ in loader:
            send_to_a_worker(signal.SIGKILL)
            time.sleep(1)  # it is dead before the next batch is asked for
    message = str(error.value)
    assert (
        "\n" not in message
        and "killed" in message
        and "--num_workers 0" in message
        and "--shm-size" in message
    )


def test_workers_leave_a_signal_to_all_processes_to_the_one_that_started_them(loader):
    loader.timeout = 60  # a busy machine may start them slowly
    with loader_errors():
        batches = iter(loader)
        next(batches)
        workers = multiprocessing.active_children()
        subprocess.run(["kill", "-TERM", *(str(worker.pid) for worker in workers)], check=True)
        time.sleep(1)
        assert [int(batch.items) for batch in batches] == list(range(1, 100))
    for worker in workers:
        worker.terminate()
        worker.join(10)
        assert worker.exitcode == 0


def test_a_worker_that_is_stopped_is_told_in_time_and_ended(loader):
    with pytest.raises(UserError) as error, loader_errors():
        for number, _ in enumerate(loader):
            if number == 0:
                send_to_a_worker(signal.SIGSTOP)
    message = str(error.value)
    assert "\n" not in message and "2 seconds" in message
    assert all(part in message for part in ("--num_workers 0", "--shm-size", "--loader_timeout"))
    for process in multiprocessing.active_children():
        process.join(10)
        assert process.exitcode == -signal.SIGKILL


def test_errors_of_others_pass_as_they_are():
    for error in (RuntimeError("shape mismatch"), OSError("no such file"), UserError("a mistake")):
        with pytest.raises(type(error)) as caught, loader_errors():
            raise error
        assert caught.value is error


def can_mount() -> bool:
    return (
        os.name == "posix" and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    )


IN_SMALL_MEMORY = """
import os, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm"], check=True)
os.execv(sys.executable, [sys.executable, "main.py", *sys.argv[1:]])
"""


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="this system does not let a test mount a small /dev/shm")
def test_shared_memory_that_is_too_small_for_a_batch_is_told_with_both_remedies(small_data, tmp_path):
    flags = [*TINY, "--image_size", "128", "--num_workers", "1", "--dataset_root", small_data]
    flags += ["--run_dir", tmp_path]
    outcome = run_apart("-c", IN_SMALL_MEMORY, *flags, through=["unshare", "-rm"])
    assert_refused(outcome, "/dev/shm", "--num_workers 0", "--shm-size")
