"""States of a tracker within a video, on disk, from which it goes on at a later time or an earlier frame."""

from pathlib import Path

import torch

from common.files import atomic_write
from common.types import Tracker

EVERY = 8  # frames from one spaced state to the next, at first
MOST_STATES, MOST_BYTES = 64, 2 << 30  # beyond either, every other spaced state goes


class States:
    """What a tracker knew after so many frames of a video: <folder>/<frames>.pt, each whole or not there.

    Those that the folder holds already are taken up.
    sizes: {frames taken: bytes}
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.sizes = {int(path.stem): path.stat().st_size for path in folder.glob("[0-9]*.pt")}

    def keep(self, taken: int, tracker: Tracker) -> None:
        """Keep the state after `taken` frames."""
        with atomic_write(self._path(taken)) as temporary:
            torch.save(tracker.state_dict(), temporary)
        self.sizes[taken] = self._path(taken).stat().st_size

    def drop_after(self, taken: int) -> None:
        """Forget the states of more frames than these."""
        self._drop([former for former in self.sizes if former > taken])

    def drop_before(self, taken: int) -> None:
        """Forget the states of fewer frames than these."""
        self._drop([former for former in self.sizes if former < taken])

    def restore(self, tracker: Tracker, taken: int, device: torch.device) -> int:
        """Bring the tracker to the latest state of at most `taken` frames; returns how many it has taken.

        device: where its tensors go, wherever they were; a tracker brings those to the CPU that belong there
        """
        tracker.reset()
        nearest = max((former for former in self.sizes if former <= taken), default=0)
        if nearest:
            state = torch.load(self._path(nearest), map_location=device, weights_only=True)
            tracker.load_state_dict(state)
        return nearest

    def _path(self, taken: int) -> Path:
        return self.folder / f"{taken}.pt"

    def _drop(self, leaving: list[int]) -> None:
        for taken in leaving:
            self._path(taken).unlink()
            del self.sizes[taken]


class SpacedStates(States):
    """States that lie apart by `every` frames, which doubles whenever there are too many.

    However long a video is, they take bounded room; going back costs a bounded share of the frames before.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.every = EVERY

    def offer(self, taken: int, tracker: Tracker) -> None:
        """Keep the state after `taken` frames, where one is due."""
        if taken % self.every == 0:
            self.keep(taken, tracker)

    def keep(self, taken: int, tracker: Tracker) -> None:
        """Keep the state after `taken` frames."""
        super().keep(taken, tracker)
        while self.sizes and (len(self.sizes) > MOST_STATES or sum(self.sizes.values()) > MOST_BYTES):
            self.every *= 2
            self._drop([former for former in self.sizes if former % self.every])
