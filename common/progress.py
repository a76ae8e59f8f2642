"""What a program says while it runs: lines, and a progress bar on a terminal."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import TextIO, TypeVar

from common.errors import MissingPackage, require, write_line

Item = TypeVar("Item")
INTERVAL = 30  # seconds from one line on the progress to the next
READER_LEFT = 141  # the exit status of a program that SIGPIPE ends

_silent = False  # whether another process of the run says the lines
_prefix = ""  # of every line, where several processes of a run say some
_lost: OSError | None = None  # why stdout did not take a line, the first that it did not take


def _discard(stream: TextIO | None) -> None:
    """Lead what is written to a stream, and what waits in it, to nowhere."""
    with suppress(AttributeError, OSError):  # one that is closed, or no file
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def be_silent(silent: bool) -> None:
    """Whether this process says nothing from now on, because another one of its run says it."""
    global _silent
    _silent = silent


def begin_lines(prefix: str) -> None:
    """What every line begins with from now on, where several processes of a run share a terminal."""
    global _prefix
    _prefix = prefix


def say(message: str, *, error: bool = False) -> None:
    """Print a line, in one process of a run only; on stderr where it tells of trouble.

    A stream that is closed or full loses its lines and ends nothing. That of stdout is reported on stderr,
    unless its reader has ended, as `head` does.
    """
    global _lost
    if _silent:
        return
    stream = sys.stderr if error else sys.stdout
    try:
        write_line(_prefix + message, stream)
    except OSError as reason:
        _discard(stream)
        if error or _lost:
            return
        _lost = reason
        if not isinstance(reason, BrokenPipeError):
            say(f"standard output takes no more lines: {reason}", error=True)


def check_shown() -> None:
    """End a command whose lines are its result where stdout did not take them all.

    Its status is 2, or that of a program that SIGPIPE ends where a reader has left.
    """
    if _lost:
        sys.exit(READER_LEFT if isinstance(_lost, BrokenPipeError) else 2)


def plain_lines() -> bool:
    """Whether a program should print its progress as lines, because there is no room for a bar."""
    return _prefix != "" or sys.stderr is None or not sys.stderr.isatty()


def reported(items: Iterable[Item], title: str, total: int | None, unit: str) -> Iterator[Item]:
    """The same items; every `INTERVAL` seconds a line on stderr says how many, how fast, the time left."""
    begun = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last < INTERVAL:
            continue
        last, speed = now, count / (now - begun)
        line = f"{title}: {unit} {count}{f' of {total}' if total else ''}, {speed:.3g} {unit}s/s"
        left = timedelta(seconds=round((total - count) / speed)) if total and total >= count else None
        say(line if left is None else f"{line}, {left} left", error=True)


def progress(
    items: Iterable[Item], title: str, total: int | None = None, unit: str = "item"
) -> Iterable[Item]:
    """The same items, with a tqdm bar if stderr is a terminal and tqdm is installed, else as `reported`."""
    if plain_lines():
        return reported(items, title, total, unit)
    try:
        return require("tqdm", "a progress bar").tqdm(items, desc=title, total=total, leave=False)
    except MissingPackage:
        return items


def every(items: Iterable[Item], number: int) -> Iterator[list[Item]]:
    """Lists of `number` items; the last may be shorter."""
    group: list[Item] = []
    for item in items:
        group.append(item)
        if len(group) == number:
            yield group
            group = []
    if group:
        yield group
