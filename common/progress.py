"""What a program says while it runs: lines, and a progress bar on a terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from common import distributed
from common.errors import MissingPackage, require

Item = TypeVar("Item")


def say(message: str, *, error: bool = False) -> None:
    """Print a line, in one process of a run only; on stderr where it tells of trouble."""
    if distributed.is_main():
        print(message, file=sys.stderr if error else sys.stdout, flush=True)


def progress(items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """The same items, with a tqdm bar where stderr is a terminal and tqdm is installed."""
    if not sys.stderr.isatty():
        return items
    try:
        return require("tqdm", "a progress bar").tqdm(items, desc=title, total=total, leave=False)
    except MissingPackage:
        return items


def plain_lines() -> bool:
    """Whether a program should print its progress as lines, because there is no bar to look at."""
    return not sys.stderr.isatty()


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
