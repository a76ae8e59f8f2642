"""Masks as tensors: conversions, padding, soft aggregation."""

import numpy as np
import pytest
import torch

from video.masks import (
    extreme_points,
    labels_at_once,
    labels_from_masks,
    labels_in_turn,
    mask_confidence,
    masks_from_labels,
    pad_around,
    pad_to_stride,
    soft_aggregate,
    windows,
)


def test_masks_of_a_label_map_by_hand():
    labels = torch.tensor([[0, 7], [300, 7]])
    masks = masks_from_labels(labels, torch.tensor([300, 7, 5]))
    assert masks.tolist() == [
        [[False, False], [True, False]],
        [[False, True], [False, True]],
        [[False] * 2] * 2,
    ]
    assert masks_from_labels(labels.expand(4, 3, 2, 2), torch.tensor([7])).shape == (4, 3, 1, 2, 2)
    assert masks_from_labels(labels, torch.zeros(0, dtype=torch.int64)).shape == (0, 2, 2)


def test_the_largest_probability_above_the_threshold_wins_and_among_equals_the_first():
    masks = torch.tensor([[[0.6, 0.5, 0.7, 0.9]], [[0.8, 0.5, 0.7, 0.2]]])
    ids = torch.tensor([4, 300])
    assert labels_from_masks(masks, ids).tolist() == [[300, 0, 4, 4]]
    assert labels_from_masks(masks, ids, threshold=0.75).tolist() == [[300, 0, 0, 4]]
    assert labels_from_masks(masks, ids, binary_masks=masks > 0.75).tolist() == [[300, 0, 0, 4]]


def test_scores_decide_among_what_is_above_the_threshold():
    masks = torch.tensor([[[0.6, 0.5, 0.7]], [[0.8, 0.4, 0.9]]])
    labels = labels_from_masks(masks, torch.tensor([4, 300]), 0.5, torch.tensor([0.9, 0.6]))
    assert labels.tolist() == [[4, 0, 4]]
    assert not labels_from_masks(masks, torch.tensor([4, 300]), 0.5, torch.zeros(2)).any()


@pytest.mark.parametrize("seed", range(5))
def test_masks_in_turn_give_the_labels_of_all_at_once(seed):
    torch.manual_seed(seed)
    masks = (torch.rand(seed, 9, 14) * 5).round() / 5  # with equals
    masks[:, :, : 2 * seed] = 0
    arguments = masks, masks > 0.4, torch.randperm(400)[:seed] + 1, (torch.rand(seed) * 3).round() / 3
    assert torch.equal(labels_in_turn(*arguments), labels_at_once(*arguments))
    assert labels_in_turn(*arguments).dtype == labels_at_once(*arguments).dtype == torch.int64


def test_windows_hold_the_masks_and_nothing_else():
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 1:7] = masks[2, 5, 0] = masks[2, 0, 7] = True
    assert windows(masks) == [
        (slice(2, 4), slice(1, 7)),
        (slice(0, 0), slice(0, 0)),
        (slice(0, 6), slice(0, 8)),
    ]


def test_no_masks_make_a_map_of_background():
    labels = labels_from_masks(torch.zeros(0, 2, 3), torch.zeros(0, dtype=torch.int64))
    assert labels.dtype == torch.int64 and labels.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_labels_come_back_from_their_masks():
    labels = torch.randint(0, 4, (6, 5), generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([3, 1, 2])
    assert torch.equal(labels_from_masks(masks_from_labels(labels, ids).float(), ids), labels)


@pytest.mark.parametrize("size, padded", [((64, 32), (64, 32)), ((1, 33), (32, 64))])
def test_padding_reaches_the_next_multiple_at_the_right_and_the_bottom(size, padded):
    frames = torch.ones(2, 3, *size)
    result = pad_to_stride(frames, 32)
    assert result.shape == (2, 3, *padded)
    assert result[..., : size[0], : size[1]].eq(1).all() and result.sum() == frames.sum()


@pytest.mark.parametrize(
    ("size", "padded", "start"),
    [((90, 149), (96, 160), (3, 5)), ((16, 32), (16, 32), (0, 0)), ((1, 17), (16, 32), (7, 7))],
)
def test_padding_around_puts_the_smaller_half_first(size, padded, start):
    frames = torch.rand(2, *size)
    framed, window = pad_around(frames, 16)
    assert framed.shape == (2, *padded) and (window[0].start, window[1].start) == start
    assert framed[(..., *window)].equal(frames) and framed.sum().item() == pytest.approx(frames.sum().item())


def test_soft_aggregation_is_worked_by_hand():
    probs = torch.tensor([0.8, 0.5]).view(1, 2, 1, 1)
    odds = torch.tensor([0.1 / 0.9, 0.8 / 0.2, 0.5 / 0.5])  # the background is 0.2 * 0.5
    logits = soft_aggregate(probs).flatten()
    assert logits.tolist() == pytest.approx(odds.log().tolist(), abs=1e-5)
    assert logits.softmax(0).tolist() == pytest.approx((odds / odds.sum()).tolist(), abs=1e-6)


def test_soft_aggregation_of_certainty_and_of_nothing_is_finite():
    certain = soft_aggregate(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
    assert certain.isfinite().all() and certain.softmax(1)[0, 1].item() == pytest.approx(1, abs=1e-6)
    nobody = soft_aggregate(torch.zeros(1, 0, 4, 5))
    assert nobody.shape == (1, 1, 4, 5) and nobody.softmax(1).eq(1).all()
    assert soft_aggregate(torch.rand(1, 2, 4, 5).half()).dtype == torch.float32


def test_extreme_points_are_the_middles_of_the_outermost_rows_and_columns():
    mask = np.zeros((8, 9), dtype=bool)
    mask[2:5, 3:8] = True
    mask[6, 5] = True
    assert extreme_points(mask) == [[3, 3], [5, 2], [7, 3], [5, 6]]
    single = np.zeros((3, 3), dtype=bool)
    single[1, 2] = True
    assert extreme_points(single) == [[2, 1]] * 4


def test_a_mask_is_as_confident_as_its_pixels_are_on_average():
    logits = torch.full((3, 2, 2), -20.0)
    logits[0, 0] = torch.tensor([0.75, 0.95]).logit()
    logits[1, 1, 1] = 20
    assert mask_confidence(logits).tolist() == pytest.approx([0.85, 1, 0])
    assert mask_confidence(logits[:0]).shape == (0,)
