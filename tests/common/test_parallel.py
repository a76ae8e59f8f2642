import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from common import parallel
from common.errors import UserError
from common.parallel import BackgroundWriter, prefetch, process_map
from tests.support.commands import ROOT


class Source:
    """Counts how many of its items were fetched, and notes that it was closed."""

    def __init__(self, length: int, error: Exception | None = None):
        self.length, self.error = length, error
        self.fetched, self.closed, self.thread = 0, False, None

    def __iter__(self) -> Iterator[int]:
        self.thread = threading.current_thread()
        for item in range(self.length):
            self.fetched += 1
            yield item
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("length", [0, 1, 10])
def test_prefetch_yields_every_item_in_order_from_another_thread(length: int, depth: int):
    source = Source(length)
    assert list(prefetch(source, depth)) == list(range(length))
    assert source.thread is not threading.current_thread() and not source.thread.is_alive() and source.closed


def test_prefetch_raises_the_exception_after_the_items_before_it():
    items, error = [], ValueError("the fourth is bad")
    with pytest.raises(ValueError) as caught:
        for item in prefetch(Source(3, error), depth=1):
            items.append(item)
    assert items == [0, 1, 2] and caught.value is error


@pytest.mark.parametrize("depth", [1, 4])
def test_prefetch_stops_its_thread_when_the_consumer_stops(depth: int):
    source = Source(1_000_000)
    items = prefetch(source, depth)
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert not source.thread.is_alive() and source.closed
    assert source.fetched <= 2 + depth + 2  # the queue, and the items in flight


def test_prefetch_closes_a_generator_that_holds_a_resource():
    released = []

    def generate() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            released.append(True)

    items = prefetch(generate(), depth=2)
    next(items)
    items.close()
    assert released == [True]


def test_calls_run_in_order_in_one_other_thread():
    calls = []
    with BackgroundWriter(depth=2) as writer:
        for number in range(50):
            writer.submit(lambda *args: calls.append((*args, threading.current_thread())), number)
    assert [number for number, _ in calls] == list(range(50))
    assert len({thread for _, thread in calls} - {threading.current_thread()}) == 1


def test_the_first_failure_is_raised_once_and_the_later_calls_are_dropped():
    calls = []

    def fail() -> None:
        raise OSError("disk full")

    writer = BackgroundWriter(depth=8)
    writer.submit(fail)
    with pytest.raises(OSError, match="disk full"):
        for number in range(1000):  # never blocks, although the calls do not run
            writer.submit(calls.append, number)
        writer.close()
    writer.close()
    assert calls == []


def test_an_exception_in_the_block_goes_on_and_drops_pending_calls():
    calls, gate = [], threading.Event()

    def fail_late() -> None:
        gate.wait()
        raise OSError("disk full")

    with pytest.raises(KeyboardInterrupt), BackgroundWriter(depth=8) as writer:
        writer.submit(fail_late)
        writer.submit(calls.append, 1)
        gate.set()
        raise KeyboardInterrupt
    assert calls == [] and not writer._thread.is_alive()


def test_results_of_processes_come_in_the_order_of_the_arguments():
    assert process_map(operator.sub, [5, 7, 9], [1, 2, 3]) == [4, 5, 6]
    assert process_map(operator.sub, [5, 7, 9], [1, 2, 3], num_workers=2) == [4, 5, 6]
    assert process_map(operator.sub, [], []) == []


def test_what_is_submitted_is_not_written_after_an_interruption_of_the_wait(monkeypatch):
    written, begun, go_on = [], threading.Event(), threading.Event()

    def write(item: int) -> None:
        begun.set()
        go_on.wait()
        written.append(item)

    join, calls = threading.Thread.join, []

    def interrupted(thread: threading.Thread) -> None:
        calls.append(thread)
        if len(calls) == 1:
            begun.wait()
            raise KeyboardInterrupt
        go_on.set()
        join(thread)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    writer = BackgroundWriter()
    for item in range(3):
        writer.submit(write, item)
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    assert written == [0]


def stop_itself(number: int) -> None:
    if number == 2:
        os.kill(os.getpid(), signal.SIGSTOP)


def test_a_process_that_is_stopped_is_told_in_time_and_ended(monkeypatch):
    monkeypatch.setattr(parallel, "PATIENCE", 0.5)
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"scoring: no process .* 0\.5 seconds.*--num_workers 0"):
        process_map(stop_itself, range(1, 6), num_workers=2)
    assert time.monotonic() - begun < 30 and not multiprocessing.active_children()


def test_one_that_is_slow_has_time_as_long_as_others_have_results(monkeypatch):
    monkeypatch.setattr(parallel, "PATIENCE", 1)
    with ThreadPoolExecutor(2) as executor:
        futures = [executor.submit(time.sleep, seconds) for seconds in [2.5, *[0.3] * 9]]
        assert list(parallel._results(futures, "scoring")) == [None] * 10


def fail_or_wait(number: int) -> None:
    if number == 1:
        raise TimeoutError("its own")
    time.sleep(60)


def test_an_error_of_one_process_ends_the_others_at_once():
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="its own"):
        process_map(fail_or_wait, [1, 2], num_workers=2)
    assert time.monotonic() - begun < 30 and not multiprocessing.active_children()


def kill_itself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_told_in_one_line():
    with pytest.raises(UserError, match=r"scoring: one of 2 processes was killed.*--num_workers"):
        process_map(kill_itself, [1, 2], num_workers=2)


WORKING = """
import sys
from common.errors import run_command
from common.parallel import process_map
from tests.common.test_parallel import say_and_wait

run_command(lambda: process_map(say_and_wait, [1, 2], num_workers=2))
"""


def say_and_wait(_: int) -> None:
    print("begun", flush=True)
    time.sleep(100)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_all_processes_ends_them_without_a_word(number):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", WORKING]
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes) as process:
        assert process.stdout.read(12).count(b"begun") == 2  # lines of two processes may run into each other
        os.killpg(process.pid, number)
        assert process.communicate(timeout=30) == (b"", b"") and process.returncode == 130
