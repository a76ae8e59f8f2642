"""Discovery: a system that finds objects by itself gives the prompts of one that propagates them."""

from collections.abc import Collection
from typing import Any, Protocol

import torch
from torch import Tensor

from common.types import Prompt, Tracker, Tracks
from tracking.assignment import give_id

MOST_COVERED = 0.5  # share of a found object under tracked ones, above which it is none of its own
LEAST_SHARE = 1e-3  # of the frame's pixels that a newcomer must add


class Propagator(Tracker, Protocol):
    """A tracker whose `step` can ask for newcomers, once it knows where in the frame its objects are.

    The score of an object that is nowhere in a frame is 0.
    """

    def step(self, frame: Tensor, prompt: Prompt | None = None, newcomers: Any = None) -> Tracks: ...
    def forget(self, ids: Collection[int]) -> None: ...


def is_propagator(tracker: Tracker | type[Tracker]) -> bool:
    """Whether a tracker, or a class of them, can take newcomers and forget objects."""
    return hasattr(tracker, "forget")


class DiscoveringTracker:
    """A tracker that needs no prompt, because another gives it.

    What `finder` sees where nothing is tracked starts a track of `tracker`, with an id never used before.
    finder: a tracker that needs no prompt; of it only what it finds in single frames is used
    every: it looks at the first frame, and at each so many frames after it; 0: at the first alone
    most: objects that are followed. For a newcomer without room the object that has been nowhere for longest
        is forgotten; where none is, the newcomer waits. So memory and time have a bound, however long the
        video and whatever is found in it.
    """

    needs_prompt = False

    def __init__(self, tracker: Propagator, finder: Tracker, every: int, most: int = 20):
        self.tracker, self.finder, self.every, self.most = tracker, finder, every, most
        self.mask_threshold = tracker.mask_threshold
        self.reset()

    def reset(self) -> None:
        """Forget the video; ids start at 1 again."""
        self.tracker.reset()
        self.frame, self.next_id = 0, 1
        self.last_seen: dict[int, int] = {}  # the last frame of each object that is followed

    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        """Frame uint8 RGB (3, H, W); a prompt is passed on, and its ids are not given to newcomers."""
        if prompt is not None:
            self.next_id = max(self.next_id, *(i + 1 for i in prompt.ids), 1)
        due = self.frame % self.every == 0 if self.every else self.frame == 0
        self.frame += 1
        if due:
            tracks = self.tracker.step(frame, prompt, lambda tracks: self._newcomers(frame, tracks))
        else:
            tracks = self.tracker.step(frame, prompt)
        self._make_room(tracks)
        return tracks

    def _make_room(self, tracks: Tracks) -> None:
        """Forget the objects that have been nowhere for longest, as far as there are too many."""
        for track, score in zip(tracks.ids.tolist(), tracks.scores.tolist(), strict=True):
            if score > 0 or track not in self.last_seen:
                self.last_seen[track] = self.frame
        lost = [track for track, frame in self.last_seen.items() if frame < self.frame]
        surplus = max(0, len(self.last_seen) - self.most)
        leaving = sorted(lost, key=self.last_seen.__getitem__)[:surplus]
        if leaving:
            self.tracker.forget(leaving)
        for track in leaving:
            del self.last_seen[track]

    def _newcomers(self, frame: Tensor, tracks: Tracks) -> Prompt | None:
        """The label map of those that lie mostly where nothing is tracked; None where there are none.

        The surest come first, as far as there is room beside the objects that are seen in the frame.
        """
        room = self.most - int((tracks.scores > 0).sum())
        if room <= 0:
            return None
        self.finder.reset()
        detected = self.finder.step(frame)
        free = tracks.labels == 0
        labels = torch.zeros_like(tracks.labels)
        for track in detected.ids[detected.scores.argsort(descending=True)].tolist():
            inside = detected.labels == track
            new = inside & free
            if new.sum() < max(1, LEAST_SHARE * new.numel()) or new.sum() < (1 - MOST_COVERED) * inside.sum():
                continue
            labels[new], self.next_id = give_id(self.next_id)
            room -= 1
            if not room:
                break
        return Prompt(labels) if labels.any() else None

    def state_dict(self) -> dict[str, Any]:
        counts = {"frame": self.frame, "next_id": self.next_id, "last_seen": dict(self.last_seen)}
        return {"tracker": self.tracker.state_dict(), **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tracker.load_state_dict(state["tracker"])
        self.frame, self.next_id, self.last_seen = state["frame"], state["next_id"], dict(state["last_seen"])
