"""Work beside work: a thread that reads ahead, one that writes behind, processes that share videos."""

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from queue import Empty, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Any, TypeVar

from common.errors import ENDING_SIGNALS, UserError
from common.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 1800  # seconds without a result after which processes count as stopped


def _safe_context(module: str) -> BaseContext:
    """A way to start processes that is safe beside threads; where it can, it imports the module but once."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["__main__", module])
    return context


@contextmanager
def signals_held() -> Iterator[None]:
    """Inside, the signals that end a command wait, and for ever in the processes that are started inside.

    A terminal and a scheduler send them to all processes alike, of which this one ends the others.
    """
    if not hasattr(signal, "pthread_sigmask"):  # as on Windows
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, *ENDING_SIGNALS])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _results(futures: list[Future], title: str) -> Iterator[Any]:
    """The results in order; UserError where none comes from any process for `PATIENCE` seconds."""
    for future in futures:
        former = -1
        while not wait([future], PATIENCE).done:
            num_done = sum(one.done() for one in futures)
            if num_done == former:
                problem = f"{title}: no process has had a result for {PATIENCE} seconds: is one stopped?"
                raise UserError(f"{problem} --num_workers 0 has no such limit")
            former = num_done
        yield future.result()


def _kill_processes() -> None:
    """End the child processes of this one, without which an executor waits for what they have begun.

    One that is stopped heeds nothing milder.
    """
    for process in active_children():
        process.kill()


def process_map(
    function: Callable[..., Result], *arguments: Iterable, num_workers: int = 0, title: str = "scoring"
) -> list[Result]:
    """Apply a top-level function, or a partial of one, to the arguments of each video, in order.

    num_workers: processes to share the work; 0 or 1 stays in this one
    Raises UserError where one of them is killed, or none has a result for `PATIENCE` seconds.
    """
    columns = [list(column) for column in arguments]
    total = len(columns[0])
    if num_workers <= 1 or total <= 1:
        return list(progress(map(function, *columns), title, total))
    context = _safe_context(getattr(function, "func", function).__module__)
    with signals_held():
        executor = ProcessPoolExecutor(min(num_workers, total), mp_context=context)
    try:
        with signals_held():
            futures = [executor.submit(function, *items) for items in zip(*columns, strict=True)]
        return list(progress(_results(futures, title), title, total))
    except BrokenProcessPool as error:
        problem = f"{title}: one of {num_workers} processes was killed, as happens when memory runs out"
        raise UserError(f"{problem}: use fewer --num_workers") from error
    except BaseException:
        _kill_processes()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


class _End(Exception):
    """The last thing that a producer thread sends."""


def _produce(items: Iterable[Item], queue: Queue, stopped: Event) -> None:
    """Send (item, None) for every item, then (None, what ended it); at most one of them after a stop."""
    try:
        for item in items:
            queue.put((item, None))
            if stopped.is_set():
                return
        queue.put((None, _End()))
    except BaseException as error:  # whatever it is, it belongs to the consumer
        queue.put((None, error))
    finally:
        if hasattr(items, "close"):  # a generator may hold a file open
            items.close()


def _drain(queue: Queue) -> None:
    """Make room, so that a producer blocked in `put` goes on and sees that it should stop."""
    try:
        while True:
            queue.get_nowait()
    except Empty:
        pass


def prefetch(items: Iterable[Item], depth: int = 4) -> Iterator[Item]:
    """Yield the items in order while a thread fetches up to `depth` of them ahead.

    An exception of `items` is raised after the items before it. Where the consumer stops early (`close`, or
    an exception in its loop), the thread ends and `items` is closed before control returns.
    """
    queue: Queue[tuple[Any, BaseException | None]] = Queue(depth)
    stopped = Event()
    thread = Thread(target=_produce, args=(items, queue, stopped), daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if isinstance(error, _End):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        _drain(queue)
        thread.join()


class BackgroundWriter:
    """Runs calls in the order of their submission, in one thread; `depth` of them may be pending.

    After the first call that fails the rest are dropped, and that call's exception is raised by the next
    `submit` or by `close`. As a context manager it finishes the pending calls at the end of the block, or
    drops them where the block ends with an exception.
    """

    def __init__(self, depth: int = 8):
        self._queue: Queue[tuple[Callable[..., Any], tuple] | None] = Queue(depth)
        self._dropping = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Queue `function(*args)`, when there is room; raises what an earlier call raised."""
        self._raise_error()
        self._queue.put((function, args))

    def close(self) -> None:
        """Wait for the pending calls; raises what a call raised."""
        try:
            self._join()
        except KeyboardInterrupt:  # nothing may be written after the caller has cleaned up
            self._dropping.set()
            self._join()
            raise
        self._raise_error()

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # the block's own exception goes on, so nothing else may be raised here
            self._dropping.set()
            self._join()

    def _join(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            if self._dropping.is_set():
                continue
            function, args = call
            try:
                function(*args)
            except BaseException as error:  # whatever it is, it belongs to the submitter
                self._error = error
                self._dropping.set()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
