"""Binary masks of a frame's tracks, and the rows that results keep of them."""

import pytest
import torch

from common.types import Tracks
from tracking.rows import binarise, track_rows
from video.rle import decode_rle


def make_tracks() -> Tracks:
    masks = torch.zeros(3, 2, 3)
    masks[0, 0, 1], masks[2, 1, 2] = 0.9, 0.9
    masks[1] = 0.5  # nowhere above the threshold
    return Tracks(torch.tensor([4, 5, 300]), torch.zeros(2, 3).long(), masks, torch.tensor([0.5, 1.0, 0.25]))


def test_a_frame_keeps_the_tracks_that_have_a_pixel_above_the_threshold():
    rows = track_rows(binarise(make_tracks(), 0.5), encode=False)
    assert [(row.track, row.score, row.category) for row in rows] == [(4, 0.5, 1), (300, 0.25, 1)]
    assert all(row.rle is None for row in rows)
    assert len(track_rows(binarise(make_tracks(), 0.4), encode=False)) == 3
    assert track_rows(binarise(Tracks.empty(2, 3), 0.5), encode=True) == []


def test_a_track_with_a_box_is_kept_without_a_mask_too_and_a_mask_has_extreme_points():
    tracks = make_tracks()
    tracks.boxes = torch.arange(24.0).view(3, 4, 2)
    rows = track_rows(binarise(tracks, 0.5), encode=False)
    assert [row.track for row in rows] == tracks.ids.tolist()
    assert [row.box for row in rows] == tracks.boxes.tolist()
    visible = [bool((mask > 0.5).any()) for mask in tracks.masks]
    assert [row.extremes is not None for row in rows] == visible and not all(visible)


def test_categories_count_from_one_and_masks_are_encoded():
    pytest.importorskip("pycocotools")
    tracks = make_tracks()
    tracks.classes = torch.tensor([0, 1, 2])
    rows = track_rows(binarise(tracks, 0.5), encode=True)
    assert [row.category for row in rows] == [1, 3]
    assert decode_rle(rows[1].rle).tolist() == [[False] * 3, [False, False, True]]


def test_masks_that_the_tracker_has_made_binary_are_taken_and_others_meet_the_threshold():
    tracks = make_tracks()
    assert torch.equal(binarise(tracks, 0.6).masks, tracks.masks > 0.6)
    tracks.binary_masks = tracks.masks > 0.4
    assert binarise(tracks, 0.6).masks is tracks.binary_masks
    assert binarise(tracks, 0.6).labels is tracks.labels
