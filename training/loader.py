"""Which clips make which batch of an epoch, and the worker processes that load them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from common.errors import UserError
from common.parallel import signals_held
from common.seeding import mix
from common.types import Clip

SHARED_MEMORY = "use --num_workers 0, or give more shared memory (docker run --shm-size 8g)"


class Key(NamedTuple):
    """What a clip is asked for by.

    epoch, index: which clip of an epoch it is
    batch: the number of its batch in the epoch, the same on all processes
    is_mixed: whether that batch has clips of both orientations
    """

    epoch: int
    index: int
    batch: int = 0
    is_mixed: bool = False


class EpochSampler(Sampler[list[Key]]):
    """Batches of keys in an order that depends on (seed, epoch) alone, shared among processes.

    Every process gets the same number of batches; clips that do not fill a last round of batches wait for the
    next epoch's order. The clips of a round are all upright or none is, but for those that are left over.
    `start` skips the batches that an interrupted epoch has already had.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        upright: Sequence[bool] = (),
    ):
        """upright: of each clip; all are alike where it is empty"""
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.upright = upright or [False] * length
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return max(1, self.length // (self.batch_size * self.world_size))

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[list[Key]]:
        rounds = self._rounds()
        for batch in range(self.start, len(self)):
            is_mixed = len({self.upright[index] for index in rounds[batch]}) > 1
            first = self.rank * self.batch_size
            share = rounds[batch][first : first + self.batch_size]
            yield [Key(self.epoch, index, batch, is_mixed) for index in share]

    def _rounds(self) -> list[list[int]]:
        """The clips of each batch, of all processes together."""
        size = self.batch_size * self.world_size
        order = np.random.default_rng(mix(self.seed, self.epoch)).permutation(self.length).tolist()
        if len(order) < size:
            order = (order * -(-size // len(order)))[:size]  # some come more than once
        rounds, left_over = [], []
        for is_upright in (False, True):
            alike = [place for place, index in enumerate(order) if self.upright[index] == is_upright]
            whole = len(alike) // size * size
            rounds += [alike[i : i + size] for i in range(0, whole, size)]
            left_over += alike[whole:]
        left_over.sort()
        rounds += [left_over[i : i + size] for i in range(0, len(left_over) // size * size, size)]
        return [[order[place] for place in places] for places in sorted(rounds)]


def use_one_thread() -> None:
    """Let this process compute by one thread, OpenCV included: workers are as many as cores already."""
    torch.set_num_threads(1)
    with suppress(ImportError):
        import cv2

        cv2.setNumThreads(0)


def _heed_parent_alone() -> None:
    """Let SIGTERM end this process only where its parent sends it, as torch does at the end of a loader.

    A scheduler sends it to all processes of a run. The main one then still needs batches, to finish its step
    and to write a checkpoint. It is held since this process began, by `signals_held`.
    """

    def wait() -> None:
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
            pass
        os._exit(0)

    if not hasattr(signal, "sigwaitinfo"):  # as on macOS
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        return
    threading.Thread(target=wait, daemon=True).start()


def _start_worker(_worker: int) -> None:
    """What a process does before it loads its first clip."""
    use_one_thread()
    _heed_parent_alone()


def _share(collate: Callable[[list[Clip]], Clip], clips: list[Clip]) -> Clip:
    """A batch in the shared memory by which it leaves a worker.

    torch does that by itself, but in a thread, where it loses a batch that finds no room, and waits for it.
    """
    batch = collate(clips)
    try:
        for value in vars(batch).values():
            if isinstance(value, Tensor):
                value.share_memory_()
    except RuntimeError as error:
        raise UserError(f"a batch does not fit into /dev/shm: {SHARED_MEMORY}") from error
    return batch


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """Raise torch's error in the block after so many seconds; 0: never.

    torch's own limit does not hold while it fetches a batch's memory from a worker, which may have stopped.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: Any) -> None:
        raise RuntimeError(f"DataLoader timed out after {seconds} seconds")

    former = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


class TimedLoader(DataLoader):
    """A loader that waits no longer than its `timeout` for a batch."""

    def __iter__(self) -> Iterator[Any]:
        with signals_held():  # and in its workers, which are started here, for ever
            batches = super().__iter__()
        while True:
            with _time_limit(self.timeout):
                try:
                    batch = next(batches)
                except StopIteration:
                    return
            yield batch


def make_loader(
    clips: Dataset[Clip],
    batches: Iterable[list[tuple[int, ...]]],
    *,
    num_workers: int,
    pin_memory: bool,
    timeout: int = 0,
) -> DataLoader[Clip]:
    """A loader of batches of keys, which the data set's own `collate` makes of single clips.

    Its worker processes live as long as it does, and have one thread each.
    timeout: seconds to wait for a batch of theirs; 0: for ever
    """
    return TimedLoader(
        clips,
        batch_sampler=batches,
        collate_fn=partial(_share, clips.collate) if num_workers else clips.collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        timeout=timeout if num_workers else 0,
        persistent_workers=num_workers > 0,
        worker_init_fn=_start_worker,
    )


def _kill_workers() -> None:
    """End the child processes of this one; a stopped one would heed nothing else, and be waited for."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where torch raises an error for a worker that dies
    for process in multiprocessing.active_children():
        process.kill()


@contextmanager
def loader_errors() -> Iterator[None]:
    """Inside, a fault of a loader's workers is a UserError: an error, a death, or no answer in time.

    torch raises it wherever the main process is at that moment. A UserError of a worker keeps its message.
    """
    try:
        yield
    except (UserError, OSError, RuntimeError) as error:
        message = str(error).strip()
        if message.startswith("Caught ") and not isinstance(error, RuntimeError):
            # It comes wrapped in the text of its traceback, whose last line is "Name: message".
            raise UserError(message.splitlines()[-1].partition(": ")[2]) from error
        if message.startswith("DataLoader timed out"):
            _kill_workers()
            problem = f"{message}, because its workers are stopped or too slow"
            raise UserError(f"{problem}: {SHARED_MEMORY}, or raise --loader_timeout") from error
        if message.startswith("DataLoader worker"):
            problem = "a process that loads data was killed, as happens when memory runs out"
            raise UserError(f"{problem} ({message.splitlines()[0]}): {SHARED_MEMORY}") from error
        raise
