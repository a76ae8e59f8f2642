"""Keeps in run.json what the other files of a run do not say, and writes report.html."""

import argparse
import time
from pathlib import Path
from typing import Any

from common import distributed
from common.errors import UserError
from common.files import write_json
from common.progress import say
from tools.run_report.environment import environment
from tools.run_report.folder import RECORD, read_record
from tools.run_report.report import write_report
from training.listeners.listener import Listener


def status_of(error: BaseException | None) -> str:
    """How a run has ended, by what ended it."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "completed"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


class RunRecord(Listener):
    """Takes the reports that report.html shows; the page is made at evaluations and at the end.

    A disk that is full, or a page that cannot be made of the folder's files, is reported and ends nothing.
    """

    def __init__(self, args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
        self._args = args
        self._defaults = {name: parser.get_default(name) for name in vars(args)}
        self._folder: Path | None = None
        self._record: dict[str, Any] = {}
        self._is_evaluated = False  # since the page was made

    def begin(self, folder: Path, step: int) -> None:
        former = read_record(folder) if step else {}
        self._folder = folder
        self._record = {
            "status": "running",
            "reason": "",
            "begun": former.get("begun", time.time()),
            "ended": None,
            "environment": environment(self._args.device, self._args.amp, distributed.world_size()),
            "defaults": self._defaults,
            "commands": {},
            "facts": {},
            "videos": former.get("videos", []),
        }
        self._write()

    def artifact(self, name: str, content: Path | dict[str, Any]) -> None:
        if name == "commands" and isinstance(content, dict):
            self._record["commands"] = content
            self._write()

    def single_value(self, name: str, value: float | None) -> None:
        self._record["facts"][name] = value

    def table(self, title: str, rows: list[list[Any]], step: int) -> None:
        if title == "videos":
            self._record["videos"] = rows
            self._is_evaluated = True

    def scalars(self, title: str, values: dict[str, float | None], step: int) -> None:
        if self._is_evaluated:  # results.csv has the evaluation now
            self._write(page=True)

    def close(self, error: BaseException | None = None) -> None:
        if self._folder is None:  # the run has ended before it began
            return
        status = status_of(error)
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        self._record |= {"status": status, "reason": reason if status == "failed" else ""}
        self._record["ended"] = time.time()
        self._write(page=True)

    def _write(self, page: bool = False) -> None:
        try:
            write_json(self._folder / RECORD, self._record)
            if page:
                self._is_evaluated = False
                write_report(self._folder)
        except (OSError, ValueError) as error:
            say(f"the report of the run is not written: {error}", error=True)
