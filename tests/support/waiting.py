"""Waits for what a thread, a process or a page does: as long as a slow machine needs, and no longer."""

import time
from collections.abc import Callable

SECONDS = 240  # in which it must have happened


def wait_for(happened: Callable[[], object], pause: Callable[[float], object] = time.sleep) -> None:
    """Wait until a function is true; a test fails where it is not.

    pause: waits so many seconds
    """
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it does not happen"
        pause(0.05)
