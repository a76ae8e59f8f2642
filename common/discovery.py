"""Discovery: a system that finds objects by itself gives the prompts of one that propagates them."""

from typing import Any, Protocol

import torch
from torch import Tensor

from common.types import IGNORE, Prompt, Tracker, Tracks

MOST_COVERED = 0.5  # share of a found object under tracked ones, above which it is none of its own
LEAST_SHARE = 1e-3  # of the frame's pixels that a newcomer must add


class Propagator(Tracker, Protocol):
    """A tracker whose `step` can ask for newcomers, once it knows where in the frame its objects are."""

    def step(self, frame: Tensor, prompt: Prompt | None = None, newcomers: Any = None) -> Tracks: ...


class DiscoveringTracker:
    """A tracker that needs no prompt, because another gives it.

    What `finder` sees where nothing is tracked starts a track of `tracker`, with an id never used before.
    finder: a tracker that needs no prompt; of it only what it finds in single frames is used
    every: it looks at the first frame, and at each so many frames after it; 0: at the first alone
    """

    needs_prompt = False

    def __init__(self, tracker: Propagator, finder: Tracker, every: int):
        self.tracker, self.finder, self.every = tracker, finder, every
        self.mask_threshold = tracker.mask_threshold
        self.reset()

    def reset(self) -> None:
        """Forget the video; ids start at 1 again."""
        self.tracker.reset()
        self.frame, self.next_id = 0, 1

    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        """Frame uint8 RGB (3, H, W); a prompt is passed on, and its ids are not given to newcomers."""
        if prompt is not None:
            self.next_id = max(self.next_id, *(i + 1 for i in prompt.ids), 1)
        due = self.frame % self.every == 0 if self.every else self.frame == 0
        self.frame += 1
        if not due:
            return self.tracker.step(frame, prompt)
        return self.tracker.step(frame, prompt, lambda tracks: self._newcomers(frame, tracks))

    def _newcomers(self, frame: Tensor, tracks: Tracks) -> Prompt | None:
        """The label map of those that lie mostly where nothing is tracked; None where there are none."""
        self.finder.reset()
        found = self.finder.step(frame)
        free = tracks.labels == 0
        labels = torch.zeros_like(tracks.labels)
        for track in found.ids[found.scores.argsort(descending=True)].tolist():
            inside = found.labels == track
            new = inside & free
            if new.sum() < max(1, LEAST_SHARE * new.numel()) or new.sum() < (1 - MOST_COVERED) * inside.sum():
                continue
            self.next_id += self.next_id == IGNORE  # in a label map it would be ignored
            labels[new] = self.next_id
            self.next_id += 1
        return Prompt(labels) if labels.any() else None

    def state_dict(self) -> dict[str, Any]:
        return {"tracker": self.tracker.state_dict(), "frame": self.frame, "next_id": self.next_id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tracker.load_state_dict(state["tracker"])
        self.frame, self.next_id = state["frame"], state["next_id"]
