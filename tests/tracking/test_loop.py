"""Any tracker over a video: a reset, prompts, tracks frame by frame, and what is recorded of them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from common.types import BinaryTracks, Prompt, Tracker, Tracks
from tracking.loop import binarise, record_video, track_video

FRAME = torch.zeros(3, 2, 3, dtype=torch.uint8)


class FakeTracker:
    """Tracks nothing and notes the prompts that reach it."""

    mask_threshold = 0.5

    def __init__(self, *, needs_prompt: bool):
        self.needs_prompt, self.resets = needs_prompt, 0
        self.prompts: list[Prompt | None] = []

    def reset(self) -> None:
        self.resets += 1

    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        self.prompts.append(prompt)
        return Tracks.empty(*frame.shape[-2:])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def on_first_frame(name: str, frame: Tensor) -> Prompt | None:
    """A prompt of id 1 on the frame 00."""
    return Prompt(torch.ones(2, 3, dtype=torch.int64)) if name == "00" else None


def run(tracker: Tracker, prompt_of=None, frames: int = 3) -> list[tuple]:
    video = ((f"{t:02d}", FRAME) for t in range(frames))
    return list(track_video(tracker, "cat", video, prompt_of))


def test_a_video_runs_frame_by_frame_after_a_reset_and_prompts_reach_the_tracker():
    tracker = FakeTracker(needs_prompt=True)
    results = run(tracker, on_first_frame)
    assert tracker.resets == 1 and [name for name, *_ in results] == ["00", "01", "02"]
    assert [prompt for *_, prompt in results] == tracker.prompts
    assert tracker.prompts[0].ids == [1] and tracker.prompts[1:] == [None, None]


def test_each_frame_is_given_as_it_is_decided():
    tracker = FakeTracker(needs_prompt=False)
    video = ((str(t), FRAME) for t in range(100))
    next(track_video(tracker, "cat", video))
    assert len(tracker.prompts) == 1 and next(video)[0] == "1"


def test_a_video_that_ends_without_a_prompt_is_a_mistake_only_for_a_tracker_that_needs_one():
    assert len(run(FakeTracker(needs_prompt=False))) == 3
    with pytest.raises(UserError, match="video cat has no prompt: give label maps with --prompt_root"):
        run(FakeTracker(needs_prompt=True), lambda name, frame: None)
    assert run(FakeTracker(needs_prompt=False), frames=0) == []


def test_frames_are_recorded_in_order_with_binary_masks_and_counted():
    tracker, recorded = FakeTracker(needs_prompt=False), []
    video = [(f"{t:02d}", FRAME) for t in range(9)]
    count = record_video(tracker, "cat", video, on_first_frame, lambda *frame: recorded.append(frame))
    assert count == 9 and [name for name, *_ in recorded] == [name for name, _ in video]
    assert {type(tracks) for *_, tracks, _ in recorded} == {BinaryTracks}
    assert {tracks.binary_masks.dtype for *_, tracks, _ in recorded} == {torch.bool}
    assert [prompt for *_, prompt in recorded] == tracker.prompts


def test_what_recording_raises_ends_the_video():
    def record(*_: Any) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        record_video(FakeTracker(needs_prompt=False), "cat", [("00", FRAME)] * 50, None, record)


def test_masks_that_the_tracker_has_made_binary_are_taken_and_others_meet_the_threshold():
    labels, masks = torch.zeros(2, 3, dtype=torch.int64), torch.rand(2, 2, 3)
    tracks = Tracks(torch.tensor([4, 5]), labels, masks, torch.ones(2))
    assert torch.equal(binarise(tracks, 0.6).binary_masks, tracks.masks > 0.6)
    tracks.binary_masks = tracks.masks > 0.4
    assert binarise(tracks, 0.6).binary_masks is tracks.binary_masks
    assert binarise(tracks, 0.6).labels is tracks.labels
