"""Prompts by frame, any tracker over a video, and the rows that results keep of a frame."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from common.errors import UserError
from common.types import Prompt, Tracker, Tracks
from tracking.loop import track_video
from tracking.prompts import PromptFolder
from tracking.spool import track_rows
from video.rle import decode_rle

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


def write_map(root: Path, name: str, rows: list[list[int]], dtype=np.uint8) -> None:
    path = root / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, dtype=dtype)).save(path)


def prompts_of(folder: PromptFolder, video: str, frames: list[str]) -> dict[str, list[list[int]]]:
    """The label maps that a video is prompted with, by frame."""
    prompt_of = folder.of_video(video)
    prompts = {frame: prompt_of(frame, FRAME) for frame in frames}
    return {frame: prompt.labels.tolist() for frame, prompt in prompts.items() if prompt is not None}


@pytest.fixture
def root(tmp_path) -> Path:
    write_map(tmp_path, "cat/00", [[0, 1, 1], [0, 0, 255]])
    write_map(tmp_path, "cat/05", [[1, 1, 2], [0, 2, 0]])
    write_map(tmp_path, "cat/09", [[1, 2, 2], [0, 0, 0]])
    write_map(tmp_path, "dog/00", [[0, 0, 0], [0, 0, 0]])
    write_map(tmp_path, "dog/01", [[300, 0, 0], [0, 0, 1]], np.uint16)
    return tmp_path


def test_each_id_is_taken_from_the_first_map_in_which_it_appears(root):
    assert prompts_of(PromptFolder(root), "cat", ["00", "01", "05", "09"]) == {
        "00": [[0, 1, 1], [0, 0, 255]],
        "05": [[0, 0, 2], [0, 2, 0]],
    }


def test_every_map_is_taken_where_all_are_wanted_but_an_empty_one_is_no_prompt(root):
    folder = PromptFolder(root, "all")
    assert list(prompts_of(folder, "cat", ["00", "01", "05", "09"])) == ["00", "05", "09"]
    assert prompts_of(folder, "cat", ["09"]) == {"09": [[1, 2, 2], [0, 0, 0]]}
    assert prompts_of(folder, "dog", ["00", "01"]) == {"01": [[300, 0, 0], [0, 0, 1]]}


def test_every_video_begins_anew_and_one_without_maps_has_no_prompt(root):
    folder = PromptFolder(root)
    assert prompts_of(folder, "cat", ["05"]) == prompts_of(folder, "cat", ["05"])
    assert prompts_of(folder, "dog", ["01"]) == {"01": [[300, 0, 0], [0, 0, 1]]}
    assert prompts_of(folder, "bird", ["00"]) == {}


def test_an_absent_folder_and_a_map_of_another_size_are_told_with_path_and_remedy(root):
    with pytest.raises(UserError, match=r"--prompt_root .*absent: no such folder"):
        PromptFolder(root / "absent")
    prompt_of = PromptFolder(root).of_video("cat")
    with pytest.raises(UserError, match=r"00\.png is 3x2 but its frame is 5x4"):
        prompt_of("00", torch.zeros(3, 4, 5, dtype=torch.uint8))


def run(tracker: Tracker, prompt_of=None, frames: int = 3) -> list[tuple]:
    video = ((f"{t:02d}", FRAME) for t in range(frames))
    return list(track_video(tracker, "cat", video, prompt_of))


def test_a_video_runs_frame_by_frame_after_a_reset_and_prompts_reach_the_tracker(root):
    tracker = FakeTracker(needs_prompt=True)
    results = run(tracker, PromptFolder(root).of_video("cat"))
    assert tracker.resets == 1 and [name for name, *_ in results] == ["00", "01", "02"]
    assert [prompt for *_, prompt in results] == tracker.prompts
    assert tracker.prompts[0].ids == [1] and tracker.prompts[1:] == [None, None]


def test_each_frame_is_given_as_it_is_decided():
    tracker = FakeTracker(needs_prompt=False)
    video = ((str(t), FRAME) for t in range(100))
    next(track_video(tracker, "cat", video))
    assert len(tracker.prompts) == 1 and next(video)[0] == "1"


def test_a_video_that_ends_without_a_prompt_is_a_mistake_only_for_a_tracker_that_needs_one(root):
    assert len(run(FakeTracker(needs_prompt=False))) == 3
    with pytest.raises(UserError, match="video cat has no prompt: give label maps with --prompt_root"):
        run(FakeTracker(needs_prompt=True), PromptFolder(root).of_video("bird"))
    assert run(FakeTracker(needs_prompt=False), frames=0) == []


def make_tracks() -> Tracks:
    masks = torch.zeros(3, 2, 3)
    masks[0, 0, 1], masks[2, 1, 2] = 0.9, 0.9
    masks[1] = 0.5  # nowhere above the threshold
    return Tracks(torch.tensor([4, 5, 300]), torch.zeros(2, 3).long(), masks, torch.tensor([0.5, 1.0, 0.25]))


def test_a_frame_keeps_the_tracks_that_have_a_pixel_above_the_threshold():
    rows = track_rows(make_tracks(), 0.5, encode=False)
    assert [(row.track, row.score, row.category) for row in rows] == [(4, 0.5, 1), (300, 0.25, 1)]
    assert all(row.rle is None for row in rows)
    assert len(track_rows(make_tracks(), 0.4, encode=False)) == 3
    assert track_rows(Tracks.empty(2, 3), 0.5, encode=True) == []


def test_a_track_with_a_box_is_kept_without_a_mask_too_and_a_mask_has_extreme_points():
    tracks = make_tracks()
    tracks.boxes = torch.arange(24.0).view(3, 4, 2)
    rows = track_rows(tracks, 0.5, encode=False)
    assert [row.track for row in rows] == tracks.ids.tolist()
    assert [row.box for row in rows] == tracks.boxes.tolist()
    seen = [bool((mask > 0.5).any()) for mask in tracks.masks]
    assert [row.extremes is not None for row in rows] == seen and not all(seen)


def test_categories_count_from_one_and_masks_are_encoded():
    pytest.importorskip("pycocotools")
    tracks = make_tracks()
    tracks.classes = torch.tensor([0, 1, 2])
    rows = track_rows(tracks, 0.5, encode=True)
    assert [row.category for row in rows] == [1, 3]
    assert decode_rle(rows[1].rle).tolist() == [[False] * 3, [False, False, True]]
