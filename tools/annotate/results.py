"""Writes the results of annotated videos as inference.py does, beside the page, which shows how far it is.

What is stopped or killed goes on from its last saved state, by the same command here or without the page.
"""

from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from torch import Tensor

from common.errors import UserError, is_out_of_memory
from common.progress import say
from common.types import Prompt, Tracker, Tracks
from tracking.batch import process_videos
from tracking.config import RunConfig
from tracking.prompts import PromptFolder
from tracking.work import Work
from video.reader import Video


class _Stopped(Exception):
    """The user ends the run."""


class _Watched:
    """A tracker whose frames are counted, and which stops when it is asked to."""

    def __init__(self, tracker: Tracker):
        self.tracker, self.count, self.stopping = tracker, 0, Event()
        self.needs_prompt, self.mask_threshold = tracker.needs_prompt, tracker.mask_threshold

    def reset(self) -> None:
        self.tracker.reset()

    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        if self.stopping.is_set():
            raise _Stopped
        self.count += 1
        return self.tracker.step(frame, prompt)

    def state_dict(self) -> dict[str, Any]:
        return self.tracker.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tracker.load_state_dict(state)


class Results:
    """One run at a time over all videos that have prompts, or all where the tracker needs none.

    settings: as of `Work.goes_on`
    """

    def __init__(
        self,
        tracker: Tracker,
        videos: list[Video],
        output: Path,
        config: RunConfig,
        prompt_root: Path,
        settings: dict[str, Any] | None = None,
    ):
        self.tracker, self.videos, self.output = tracker, videos, output
        self.config, self.prompt_root, self.settings = config, prompt_root, settings
        self.error, self.done = "", False
        self._watched, self._thread = _Watched(tracker), Thread()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def status(self) -> dict[str, Any]:
        done = {"running": self.running, "done": self.done, "error": self.error}
        return done | {"count": self._watched.count, "folder": str(self.output)}

    def start(self) -> None:
        """Begin, in a thread; UserError where no video has prompts, or something else is in the way."""
        root = self.prompt_root if self.prompt_root.is_dir() else None
        videos = self.videos
        if self.tracker.needs_prompt:
            videos = [video for video in videos if root and (root / video.name).is_dir()]
        if not videos:
            raise UserError("no video has a prompt: paint an object first")
        Work(self.output).check(videos, self.settings, overwrite=True)
        self.error, self.done, self._watched = "", False, _Watched(self.tracker)
        self._thread = Thread(target=self._run, args=(videos, root), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the run, which leaves the results of finished videos and the last saved state; wait for it."""
        self._watched.stopping.set()
        if self.running:
            self._thread.join()

    def _run(self, videos: list[Video], root: Path | None) -> None:
        prompts, config = PromptFolder(root, "all") if root else None, replace(self.config, overwrite=True)
        try:
            failed = process_videos(
                self._watched, videos, prompts, self.output, config, settings=self.settings
            )
            self.done = not failed
            self.error = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        except _Stopped:
            self.error = "stopped: Write results goes on from the last saved state"
        except Exception as error:
            known = isinstance(error, UserError | OSError) or is_out_of_memory(error)
            self.error = str(error) if known else f"{type(error).__name__}: {error}"
            say(self.error, error=True)
