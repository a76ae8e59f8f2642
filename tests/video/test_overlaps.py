"""Overlaps of masks, and non-maximum suppression, by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from video.overlaps import Overlaps, count_bits, multiply, suppress


def masks_of(*rows: str) -> Tensor:
    """(K, 1, P) bool masks, one for each string of digits."""
    return torch.tensor([[[c == "1" for c in row]] for row in rows], dtype=torch.bool).view(len(rows), 1, -1)


def test_overlaps_by_hand():
    overlaps = Overlaps.of(masks_of("1100", "0000", "0100"), masks_of("0111", "1100", "0000"))
    assert overlaps.ious()[:2, 3:].tolist() == [[0.25, 1, 0], [0, 0, 0]]
    assert overlaps.shares().tolist() == [[1, 0, 0.5], [0, 0, 0], [1, 0, 1]]
    chosen = overlaps.chosen(torch.tensor([2, 0]))
    assert chosen.common.tolist() == [[1, 1, 1, 1, 0], [1, 2, 1, 2, 0]]
    assert chosen.areas.tolist() == [1, 2, 3, 2, 0]
    assert Overlaps.of(masks_of("11")[:0], masks_of("11")).ious().shape == (0, 1)


@pytest.mark.skipif(not hasattr(np, "bitwise_count"), reason="bits are counted with NumPy 2 only")
@pytest.mark.parametrize("K, R, size", [(5, 7, (9, 31)), (1, 0, (8, 8)), (0, 3, (3, 5)), (3, 1, (96, 160))])
@pytest.mark.parametrize("share", [0.001, 0.5, 1.0])
def test_bits_are_counted_as_the_product_of_the_masks_counts_them(K, R, size, share):
    generator = torch.Generator().manual_seed(K)
    masks, others = torch.rand(K + R, *size, generator=generator).lt(share).split([K, R])
    counts = count_bits(masks, others)
    assert counts.dtype == torch.float32 and torch.equal(counts, multiply(masks, others))


def kept(
    masks: Tensor, scores: list[float], prompted: list[int] = (), iou: float = 0.6, inside: float = 0.8
) -> list:
    protected = torch.zeros(len(scores), dtype=torch.bool)
    protected[list(prompted)] = True
    overlaps = Overlaps.of(masks, masks[:0])
    return suppress(overlaps, torch.tensor(scores), protected, iou, inside).tolist()


def test_suppression_keeps_the_better_of_two_that_overlap_and_drops_what_lies_inside_a_better_one():
    overlapping = masks_of("11111110", "01111111")  # IoU 6/8
    assert kept(overlapping, [0.3, 0.4]) == [1] and kept(overlapping, [0.3, 0.4], iou=0.8, inside=0.9) == [
        1,
        0,
    ]
    nested = masks_of("11111111", "11000000")  # IoU 1/4
    assert kept(nested, [0.9, 0.4]) == [0]
    assert kept(nested, [0.4, 0.9]) == [1, 0]  # a small one before a large one hides nothing
    chain = masks_of("1111000000", "0111110000", "0000111110")
    assert kept(chain, [0.5, 0.6, 0.7], iou=0.1) == [2, 0]  # what is dropped drops nobody


def test_suppression_drops_empty_masks_and_takes_the_first_of_equals():
    assert kept(masks_of("0000", "1100", "1100"), [0.9, 0.5, 0.5]) == [1]
    assert kept(masks_of("1111")[:0], []) == []


def test_what_a_prompt_shows_is_never_dropped_and_comes_first():
    masks = masks_of("11111111", "11110000", "11111111")
    assert kept(masks, [0.9, 0.1, 0.5]) == [0]
    assert kept(masks, [0.9, 0.1, 0.5], prompted=[1]) == [1, 0]
    assert kept(masks, [0.9, 0.1, 0.5], prompted=[1, 2]) == [2, 1]
