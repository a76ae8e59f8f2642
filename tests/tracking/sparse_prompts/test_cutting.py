"""Label maps of what is found in boxes and at clicks, and the objects that a tracker finds in boxes."""

from types import SimpleNamespace

import pytest
import torch

from common.errors import UserError
from common.types import Prompt, Tracks
from tracking.sparse_prompts.cutting import DiscoveryCutter, box_ious, with_masks
from video.masks import masks_from_labels

FRAME = torch.zeros(3, 8, 10, dtype=torch.uint8)


def probs_of(*rectangles: tuple[int, int, int, int, float]) -> torch.Tensor:
    """(K, 8, 10) probabilities of rectangles: left, top, width, height, and how probable inside."""
    probs = torch.full((len(rectangles), 8, 10), 0.1)
    for rows, (x, y, width, height, value) in zip(probs, rectangles, strict=True):
        rows[y : y + height, x : x + width] = value
    return probs


def test_the_most_probable_object_has_a_pixel_and_a_given_map_keeps_its_own():
    given = torch.zeros(8, 10, dtype=torch.int64)
    given[0], given[7] = 9, 4  # 4 is marked anew
    prompt = Prompt(given, {4: (0, 0, 4, 4)}, {6: [(3, 3, 1)]})
    result = with_masks(prompt, [4, 6], probs_of((0, 0, 4, 4, 0.8), (3, 2, 4, 4, 0.9)))
    wanted = torch.zeros(8, 10, dtype=torch.int64)
    wanted[:4, :4], wanted[2:6, 3:7], wanted[0] = 4, 6, 9
    assert result.labels.equal(wanted) and not result.boxes and not result.clicks


def test_a_box_without_an_object_stays_and_clicks_without_one_are_refused():
    boxes = {1: (0.0, 0.0, 2.0, 2.0), 2: (3.0, 3.0, 2.0, 2.0), 3: (0.0, 0.0, 1.0, 1.0)}
    nothing = (0, 0, 0, 0, 0)
    probs = probs_of((0, 0, 2, 2, 0.9), nothing, (0, 0, 1, 1, 0.6))  # 3 is under 1
    result = with_masks(Prompt(boxes=boxes), [1, 2, 3], probs)
    assert result.boxes == {2: boxes[2], 3: boxes[3]}
    assert result.labels.unique().tolist() == [0, 1] and result.ids == [1, 2, 3]
    with pytest.raises(UserError, match="nothing is found at the clicks of id 5: click elsewhere"):
        with_masks(Prompt(clicks={5: [(1, 1, 1)]}), [5], probs_of(nothing))


def test_boxes_are_compared_with_those_around_masks_within_the_frame():
    masks = probs_of((0, 0, 4, 4, 1), (2, 2, 4, 2, 1), (0, 0, 0, 0, 1)) > 0.5
    ious = box_ious([(0, 0, 4, 4), (-5, -5, 9, 7), (6, 6, 90, 90)], masks)
    assert ious.tolist() == [[1, pytest.approx(4 / 20), 0], [0.5, 0, 0], [0, 0, 0]]
    assert box_ious([(0, 0, 4, 4)], masks[:0]).shape == (1, 0)


class Finder:
    """Finds the same objects, ids from 1, in every frame; they may overlap."""

    mask_threshold = 0.5

    def __init__(self, *rectangles: tuple[int, int, int, int, float]):
        self.probs, self.frames = probs_of(*rectangles), 0

    def reset(self) -> None:
        self.frames = 0

    def step(self, frame: torch.Tensor) -> Tracks:
        self.frames += 1
        assert self.frames == 1  # nothing is known of former frames
        K = len(self.probs)
        labels = torch.zeros(8, 10, dtype=torch.int64)
        return Tracks(torch.arange(1, K + 1), labels, self.probs, torch.ones(K))


def test_the_found_object_that_fits_a_box_best_is_cut_out():
    found = probs_of((1, 1, 4, 5, 0.9))
    found[0, 1, 1] = 0.1  # no rectangle
    cutter = DiscoveryCutter(Finder((0, 0, 10, 8, 0.9), (1, 1, 4, 5, 0.9), (6, 1, 3, 3, 0.7)))
    cutter.finder.probs[1] = found[0]
    prompt = Prompt(boxes={8: (1.0, 1.0, 4.0, 4.0), 5: (6.0, 1.0, 3.0, 4.0), 2: (0.0, 6.0, 2.0, 2.0)})
    for _ in range(2):
        result = cutter.cut(FRAME, prompt)
        masks = masks_from_labels(result.labels, torch.tensor([8, 5]))
        assert masks.equal(torch.stack([found[0], cutter.finder.probs[2]]) > 0.5)
        assert result.boxes == {2: (0.0, 6.0, 2.0, 2.0)}  # which no object fits


def test_two_boxes_never_share_an_object():
    cutter = DiscoveryCutter(Finder((1, 1, 4, 4, 0.9)))
    boxes = {1: (1.0, 1.0, 4.0, 5.0), 2: (1.0, 1.0, 4.0, 4.0)}
    result = cutter.cut(FRAME, Prompt(boxes=boxes))
    assert result.boxes == {1: boxes[1]} and result.labels.unique().tolist() == [0, 2]
    empty = DiscoveryCutter(
        SimpleNamespace(reset=lambda: None, step=lambda _: Tracks.empty(8, 10), mask_threshold=0.5)
    )
    assert empty.cut(FRAME, Prompt(boxes=boxes)).boxes == boxes
