"""One video under work: painted prompts, a run of the tracker that can be stopped, and its label maps."""

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import numpy as np

from common.device import autocast, pick_device
from common.errors import UserError, is_out_of_memory
from common.files import below
from common.parallel import prefetch
from common.progress import say
from common.types import Tracker
from tracking.config import RunConfig
from tracking.prompts import PromptFolder
from tracking.states import SpacedStates
from video.images import list_files, read_label_map, write_label_map
from video.reader import Video
from video.seek import Pictures
from video.streams.parts import Part


class Session:
    """A video whose prompts are painted, and its tracks as far as they follow from these.

    prompt_root: prompts are <prompt_root>/<video>/<frame>.png, those that are there are taken up
    work: an empty folder for label maps and states, which is the caller's to remove
    `tracked` frames from the first have tracks that follow from the prompts as they are; those up to
    `reached` have older ones. A changed prompt of frame k makes `tracked` k at most, and the next run goes on
    from there: the tracks are those of an unbroken run with the same prompts. Prompts change while no run is
    on. Raises UserError where the video, or a prompt that is there, cannot be read.
    """

    def __init__(self, tracker: Tracker, video: Video, prompt_root: Path, work: Path, config: RunConfig):
        self.tracker, self.video, self.config = tracker, video, config
        self.prompt_root = prompt_root
        self.prompt_folder = below(prompt_root, video.name)
        self.maps = work / "maps"
        self.maps.mkdir()
        video.check()
        self.size, self.pictures = video.size, Pictures(video)
        if self.prompt_folder.is_dir():
            PromptFolder(prompt_root, "all").check(video, needed=False)
        numbers = map(self.pictures.number, [path.stem for path in list_files(self.prompt_folder, {".png"})])
        self.prompted = {number for number in numbers if number is not None}
        self.states = SpacedStates(work)
        self.tracked = self.reached = 0
        self.speed, self.error = 0.0, ""
        self._stopping, self._thread = Event(), Thread()
        self._painting = Lock()  # of the files of prompts: one request may read what another changes

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def labels(self, k: int) -> tuple[str, np.ndarray]:
        """The map of frame k, (H, W), and what it is: a `prompt`, a `track`, or `none`, all background."""
        with self._painting:
            if k in self.prompted:
                folder = PromptFolder(self.prompt_root, "all")
                return "prompt", folder.labels(self.video, self.pictures.name(k))
        if k < self.reached:
            return "track", read_label_map(self._map_path(k))
        return "none", np.zeros(self.size, dtype=np.uint8)

    def paint(self, k: int, labels: np.ndarray) -> None:
        """Make an (H, W) map of ids the prompt of frame k; one without objects takes the prompt away."""
        if self.running:
            raise UserError("the tracker runs: stop it, then paint")
        with self._painting:
            if labels.any():
                write_label_map(self._prompt_path(k), labels)
                self.prompted.add(k)
            else:
                self._prompt_path(k).unlink(missing_ok=True)
                self.prompted.discard(k)
                with suppress(OSError):  # there are others
                    self.prompt_folder.rmdir()
        self.tracked = min(self.tracked, k)
        self.states.drop_after(k)

    def run(self) -> None:
        """Track on, in a thread, from the first frame whose tracks do not follow from the prompts."""
        if self.running or self.tracked == self.pictures.num_frames:
            return
        if self.tracker.needs_prompt and not self.prompted:
            raise UserError("this system follows what is painted: paint an object first")
        self.error = ""
        self._stopping.clear()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the run after the frame that it is at, and wait for it."""
        self._stopping.set()
        if self.running:
            self._thread.join()

    def status(self) -> dict[str, Any]:
        """How far the work is: what the page shows."""
        return {
            "running": self.running,
            "tracked": self.tracked,
            "reached": self.reached,
            "prompted": sorted(self.prompted),
            "speed": round(self.speed, 1),
            "error": self.error,
        }

    def _prompt_path(self, k: int) -> Path:
        return below(self.prompt_folder, self.pictures.name(k), ".png")

    def _map_path(self, k: int) -> Path:
        return self.maps / f"{k}.png"

    def _run(self) -> None:
        try:
            with autocast(pick_device(self.config.device), self.config.amp):
                self._track()
        except Exception as error:
            known = isinstance(error, UserError | OSError) or is_out_of_memory(error)
            self.error = str(error) if known else f"{type(error).__name__}: {error}"
            say(f"{self.video.name}: {self.error}", error=True)

    def _track(self) -> None:
        """Step from the nearest state; frames that are tracked already only bring the tracker up to date."""
        taken = self.states.restore(self.tracker, self.tracked, pick_device(self.config.device))
        prompt_of = None
        if self.prompted:
            prompt_of = PromptFolder(self.prompt_root, "all").of_video(self.video)
        begun, first = time.monotonic(), taken
        rest = replace(self.video, part=Part(start=taken)) if taken else self.video  # the page has no parts
        frames = prefetch(rest.frames())
        try:
            for name, frame in frames:
                prompt = prompt_of(name, frame) if prompt_of else None
                labels = self.tracker.step(frame, prompt).labels.cpu().numpy()
                if taken >= self.tracked:
                    write_label_map(self._map_path(taken), labels)
                    self.tracked = taken + 1
                    self.reached = max(self.reached, self.tracked)
                taken += 1
                self.speed = (taken - first) / (time.monotonic() - begun)
                self.states.offer(taken, self.tracker)
                if self._stopping.is_set():
                    break
        finally:
            frames.close()
        if taken == self.tracked:
            self.states.keep(taken, self.tracker)  # from which the next run goes on
