"""Ctrl-C, and the signals of schedulers and closed terminals, at a moment that suits the program."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from common import distributed
from common.errors import ENDING_SIGNALS, handle_signals


class Interrupted(KeyboardInterrupt):
    """The end that all processes of a run have agreed on."""


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, they only set what the yielded function tells; Ctrl-C pressed again interrupts at once.

    The function says whether any process was asked to end, so all must call it together. Several processes
    do not heed what comes after: torchrun passes Ctrl-C on to those that have it from the terminal already,
    and asks all to end where one has ended.
    """
    asked = is_done = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        if distributed.world_size() == 1:
            handle_signals([signal.SIGINT], signal.default_int_handler)

    former = handle_signals([signal.SIGINT, *ENDING_SIGNALS], ask)
    try:
        yield lambda: distributed.any_process(asked)
        is_done = True
    finally:
        if is_done or distributed.world_size() == 1:
            for number, handler in former.items():
                signal.signal(number, handler)
