"""The ClearML task of a run: reporting to it never stops, delays or hangs training.

Reports are handed to a thread and sent from there, because some of ClearML's calls wait for hours where a
server has gone away. What fails is reported once, counted, and reported again at the end. What a server that
has gone away had not received is put into an offline session.
"""

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple

from common.errors import UserError
from common.progress import say
from training.listeners.clearml_reports import ClearMLReports, one_line
from training.listeners.clearml_rescue import record_offline
from training.listeners.clearml_task import answers, host_of
from training.listeners.listener import Forwarding

PATIENCE_SECONDS = 15.0  # at the end: how long to wait before asking whether the server still answers
MAX_WAITS = 40  # at the end: how often to wait while the server answers (10 minutes of uploads)


class Call(NamedTuple):
    """A report: a method of `Listener`, and what it was given."""

    name: str
    report: tuple


def _leave(status: int) -> None:
    """End the process at its exit, before ClearML's own hooks, which would wait for the server for hours.

    status: of `run_command`, which reported a mistake or an interruption, or 0; what ended in a
    traceback is 1 anyway
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # it is closed, or full
            stream.flush()
    os._exit(1 if hasattr(sys, "last_value") else status)


def _status_of(error: BaseException | None) -> int:
    """The exit status of a command that an error ends."""
    return 130 if isinstance(error, KeyboardInterrupt) else 2 if isinstance(error, UserError | OSError) else 0


class ClearMLListener(Forwarding):
    """Hands reports to a thread that sends them to the task."""

    def __init__(self, reports: ClearMLReports, handlers: dict[int, Any]) -> None:
        """handlers: {signal number: handler} from before `Task.init`, to be put back at the end."""
        self._reports, self._handlers = reports, handlers
        self._calls: SimpleQueue[Call] = SimpleQueue()
        self._unconfirmed: list[Call] = []  # given to ClearML, and perhaps not received by the server
        self._waiting: set[str] = set()  # models whose upload has not begun
        self._num_failures = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def forward(self, name: str, *report: Any) -> None:
        if name == "model":
            if report[0] in self._waiting:
                return  # what waits will be the file as it is then
            self._waiting.add(report[0])
        self._calls.put(Call(name, report))

    def close(self, error: BaseException | None = None) -> None:
        self.forward("close", error)
        if trouble := self._wait_for_end():
            self._rescue(trouble)
            atexit.register(_leave, _status_of(error))
        if self._num_failures > 1:
            say(f"ClearML: {self._num_failures} reports failed in all", error=True)
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    def _run(self) -> None:
        """What the thread does: one report after the other, whatever becomes of it."""
        name = ""
        while name != "close":
            call = self._calls.get()
            name = call.name
            self._unconfirmed.append(call)
            try:
                if name == "model":
                    self._waiting.discard(call.report[0])
                getattr(self._reports, name)(*call.report)
                if name != "close" and self._calls.empty():
                    self._confirm()
            except Exception as error:
                self._num_failures += 1
                if self._num_failures == 1:
                    say(f"ClearML: a report failed ({one_line(error)}); the run goes on", error=True)

    def _confirm(self) -> None:
        """Wait until the server has what it was given, and forget that."""
        self._reports.flush()
        if self._reports.is_offline or answers(host_of(self._reports.clearml)):
            self._unconfirmed.clear()

    def _wait_for_end(self) -> str:
        """Wait until everything is sent; why that is given up, or an empty string."""
        for _ in range(MAX_WAITS):
            self._thread.join(PATIENCE_SECONDS)
            if not self._thread.is_alive():
                return ""
            if not self._reports.is_offline and not answers(host_of(self._reports.clearml)):
                return "ClearML: the server does not answer"
        return f"ClearML: not everything was sent in {MAX_WAITS * PATIENCE_SECONDS:.0f} s"

    def _rescue(self, trouble: str) -> None:
        """Put what the server had not received into an offline session, and say where that is."""
        calls = [*self._unconfirmed]
        while not self._calls.empty():
            calls.append(self._calls.get())
        task = self._reports.task
        names = {"project_name": task.get_project_name(), "task_name": task.name}
        try:
            session = record_offline([call for call in calls if call.name != "close"], **names)
        except Exception as error:
            say(f"{trouble}, and what the server had not received is lost ({one_line(error)})", error=True)
            return
        remedy = f"Task.import_offline_session({session!r}, previous_task_id={task.id!r})"
        say(f"{trouble}; what the server had not received is in {session}: {remedy}", error=True)
