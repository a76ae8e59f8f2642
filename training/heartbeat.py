"""The processes of a run end together: where one fails or dies, the others end within half a minute, too."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from torch.distributed import DistError

from common import distributed
from common.errors import ENDING_SIGNALS, UserError, handle_signals, write_line
from training.interrupt import Interrupted

PERIOD = 2.0  # seconds between two beats
MOST_MISSED = 12  # beats without one of the neighbour's; torchrun kills after 30 seconds
GRACE = 10.0  # seconds in which the main thread may end by itself
REMEDY = "continue with the same flags and --resume auto"  # of a training run


class Heartbeat:
    """A thread that shows the other processes of a run that this one lives, and ends it with them.

    A process counts its beats in the store of the run and watches those of the next one, the last those of
    the first. A thread ends the process because the main one may wait for a dead process in a collective,
    from which nothing wakes it. Beats are compared with beats and not with a clock, so that processes that
    are suspended together go on together.
    remedy: what to do where a process has died, for messages
    """

    def __init__(self, remedy: str):
        self.remedy = remedy
        self.store = distributed.open_store("heartbeat")
        self.rank, self.world_size = distributed.rank(), distributed.world_size()
        self.stopped = Event()
        self.thread = Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Beat no more, at the end of the process."""
        self.stopped.set()
        self.thread.join()

    def explain(self, error: BaseException) -> None:
        """Raise what this process ends with in place of an error, if anything.

        Raises SystemExit(1), without a word, where another process has spoken already, and UserError where
        the error comes of the death of another.
        """
        is_lost = isinstance(error, DistError) or "gloo" in str(error)
        dead = self._find_dead() if is_lost else []
        if not self._speaks():
            raise SystemExit(1) from error
        if dead:
            raise UserError(f"process {dead[0]} of {self.world_size} has died: {self.remedy}") from error

    def _speaks(self) -> bool:
        """Whether this process is the first to fail, which speaks for all; without the store rank 0 or 1."""
        try:
            return self.store.add("failures", 1) == 1
        except RuntimeError:
            return self.rank <= 1

    def _find_dead(self) -> list[int]:
        """The processes that do not beat for three periods, unless one has said why it ended.

        It is rank 0 where the store has died with it.
        """
        try:
            if self.store.add("failures", 0):
                return []
            before = [self._beats(rank) for rank in range(self.world_size)]
            time.sleep(3 * PERIOD)
            return [rank for rank, beats in enumerate(before) if self._beats(rank) == beats]
        except RuntimeError:
            return [0]

    def _beats(self, rank: int) -> int:
        return self.store.add(f"beats/{rank}", 0)

    def _run(self) -> None:
        try:
            self._watch((self.rank + 1) % self.world_size)
        except RuntimeError:  # the store is gone, as it is at the end of a run
            if not self.stopped.wait(GRACE):
                self._end("torchrun or the first process has died")

    def _watch(self, neighbour: int) -> None:
        """Beat until the run ends; end this process where the neighbour has died or any one has failed."""
        beats, missed = 0, 0
        while not self.stopped.wait(PERIOD):
            self.store.add(f"beats/{self.rank}", 1)
            former, beats = beats, self._beats(neighbour)
            missed = missed + 1 if beats == former else 0
            if missed == MOST_MISSED:
                self._end(f"process {neighbour} of {self.world_size} has died")
            if self.store.add("failures", 0) and not self.stopped.wait(GRACE):
                os._exit(1)

    def _end(self, message: str) -> None:
        if self._speaks():
            with suppress(OSError):
                write_line(f"error: {message}: {self.remedy}", sys.stderr)
        os._exit(1)


@contextmanager
def joined(remedy: str = REMEDY) -> Iterator[None]:
    """Inside, this process is one of those that torchrun started, if it did; they end together.

    Where one raises an error, it tells it, and the others end with status 1. Where one dies, another tells
    it as a UserError, which ends with the remedy. Interrupted is raised by all of them.
    """
    distributed.init()
    if distributed.world_size() == 1:
        yield
        return
    handle_signals(ENDING_SIGNALS, signal.SIG_DFL)  # torchrun's must end a process that waits for a dead one
    heartbeat, interruption = Heartbeat(remedy), None
    try:
        try:
            yield
        except Interrupted as error:
            interruption = error
        distributed.barrier()  # the first one works longest
    except BaseException as error:
        heartbeat.explain(error)
        raise
    finally:
        heartbeat.stop()
    distributed.shutdown()
    if interruption:
        raise interruption
