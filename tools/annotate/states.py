"""States of a tracker within a video, on disk, from which it goes on at an earlier frame."""

from pathlib import Path

import torch

from common.types import Tracker

EVERY = 8  # frames from one state to the next, at first
MOST_STATES, MOST_BYTES = 64, 2 << 30  # beyond either, every other state goes


class States:
    """What a tracker knew after so many frames of a video.

    The states lie apart by `every` frames, which doubles whenever there are too many: however long a video
    is, they take bounded room, and going back costs a bounded share of the frames before.
    """

    def __init__(self, folder: Path):
        self.folder, self.every = folder, EVERY
        self.sizes: dict[int, int] = {}  # {frames taken: bytes}

    def offer(self, taken: int, tracker: Tracker) -> None:
        """Keep the state after `taken` frames, where one is due."""
        if taken % self.every == 0:
            self.keep(taken, tracker)

    def keep(self, taken: int, tracker: Tracker) -> None:
        """Keep the state after `taken` frames."""
        torch.save(tracker.state_dict(), self._path(taken))
        self.sizes[taken] = self._path(taken).stat().st_size
        while self.sizes and (len(self.sizes) > MOST_STATES or sum(self.sizes.values()) > MOST_BYTES):
            self.every *= 2
            self._drop([former for former in self.sizes if former % self.every])

    def drop_after(self, taken: int) -> None:
        """Forget the states of more frames than these."""
        self._drop([former for former in self.sizes if former > taken])

    def restore(self, tracker: Tracker, taken: int) -> int:
        """Bring the tracker to the latest state of at most `taken` frames; returns how many it has taken."""
        tracker.reset()
        nearest = max((former for former in self.sizes if former <= taken), default=0)
        if nearest:
            tracker.load_state_dict(torch.load(self._path(nearest), weights_only=True))
        return nearest

    def _path(self, taken: int) -> Path:
        return self.folder / f"{taken}.pt"

    def _drop(self, leaving: list[int]) -> None:
        for taken in leaving:
            self._path(taken).unlink()
            del self.sizes[taken]
