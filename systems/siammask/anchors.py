"""Anchors: the boxes that the region-proposal branch moves and scores, and what each is taught.

One centre for each of n x n responses, 8 pixels apart, and five shapes on each. Boxes of anchors are
(cx, cy, w, h) in pixels of a search crop; centres are relative to the middle of the crop unless a crop is
named.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from common import distributed
from common.device import on_device

STRIDE = 8  # pixels of the search crop from one response to the next
RATIOS, SCALE = (0.33, 0.5, 1.0, 2.0, 3.0), 8  # height over width, and size in strides
NUM_ANCHORS = len(RATIOS)
POSITIVE_IOU, NEGATIVE_IOU = 0.6, 0.3
MOST_POSITIVE, MOST_TAUGHT, MOST_OF_A_NEGATIVE_PAIR = 16, 64, 16
CENTRE = 7  # side of the part of the map in which a negative pair is taught


def anchor_shapes() -> Tensor:
    """(A, 2) widths and heights: whole pixels at the stride, times the scale."""
    widths = [int((STRIDE * STRIDE / ratio) ** 0.5) for ratio in RATIOS]
    shapes = [(w * SCALE, int(w * ratio) * SCALE) for w, ratio in zip(widths, RATIOS, strict=True)]
    return torch.tensor(shapes, dtype=torch.float32)


def make_anchors(side: int, middle: float = 0.0) -> Tensor:
    """(A, side, side, 4) boxes (cx, cy, w, h); `middle` is the crop's, for boxes in pixels of the crop."""
    centres = middle + STRIDE * (torch.arange(side) - side // 2).float()
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    grid = torch.stack([x, y], -1).expand(NUM_ANCHORS, side, side, 2)
    shapes = anchor_shapes()[:, None, None].expand(NUM_ANCHORS, side, side, 2)
    return torch.cat([grid, shapes], -1)


def corners(boxes: Tensor) -> Tensor:
    """(..., 4) boxes (cx, cy, w, h) to (x1, y1, x2, y2)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Offsets (..., 4) of anchors (..., 4) to the boxes (cx, cy, w, h) that they mean."""
    centre = offsets[..., :2] * anchors[..., 2:] + anchors[..., :2]
    return torch.cat([centre, offsets[..., 2:].exp() * anchors[..., 2:]], -1)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The offsets that `decode` turns into (..., 4) boxes (cx, cy, w, h)."""
    centre = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:]
    return torch.cat([centre, (boxes[..., 2:] / anchors[..., 2:]).log()], -1)


def box_iou(left: Tensor, right: Tensor) -> Tensor:
    """IoU of boxes (x1, y1, x2, y2), whose shapes broadcast."""
    low, high = torch.maximum(left[..., :2], right[..., :2]), torch.minimum(left[..., 2:], right[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (left, right)]
    return common / (areas[0] + areas[1] - common)


class AnchorTargets(NamedTuple):
    """What the branches are taught, of B pairs.

    classes: (B, A, n, n) int64: 1 object, 0 background, -1 not taught
    offsets: (B, A, n, n, 4), of use where the class is 1
    weights: (B, A, n, n): 1 / number of positives of the pair at those, else 0
    """

    classes: Tensor
    offsets: Tensor
    weights: Tensor


def keep_some(chosen: Tensor, most: Tensor | int) -> Tensor:
    """At random at most so many of each row's True in (B, N), (B, 1) or one number for all rows.

    Draws from torch's generator.
    """
    B, N = chosen.shape
    values = distributed.draw_rows(lambda rows: torch.rand(rows, N, device=chosen.device), B)
    order = values.masked_fill(~chosen, 2.0).argsort(1).argsort(1)
    return chosen & (order < most)


def anchor_targets(
    boxes: Tensor, positive: Tensor, search: int, side: int, *, every: bool = False
) -> AnchorTargets:
    """Targets of B pairs.

    boxes: (B, 4) of the object in the search crop, (x1, y1, x2, y2)
    positive: (B,) bool: whether the search shows the template's object
    search, side: of the search crop in pixels, and of the map of responses
    every: teach all anchors that qualify, and not a few at random
    """
    anchors = on_device(make_anchors(side, search // 2), boxes.device)
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)  # a negative pair may have no box
    target = torch.cat([(boxes[:, 2:] + boxes[:, :2]) / 2, sizes], 1)[:, None, None, None]
    iou = box_iou(corners(anchors), corners(target)).flatten(1)  # (B, A * n * n)
    has_object = positive[:, None]
    central = torch.zeros(NUM_ANCHORS, side, side, dtype=torch.bool, device=boxes.device)
    first = max(0, side // 2 - CENTRE // 2)
    central[:, first : first + CENTRE, first : first + CENTRE] = True
    is_object = (iou > POSITIVE_IOU) & has_object
    is_ground = torch.where(has_object, iou < NEGATIVE_IOU, central.flatten())
    if not every:
        is_object = keep_some(is_object, MOST_POSITIVE)
        most = torch.where(positive, MOST_TAUGHT - is_object.sum(1), MOST_OF_A_NEGATIVE_PAIR)
        is_ground = keep_some(is_ground, most[:, None])
    classes = is_object.long() - (~is_object & ~is_ground).long()
    weights = is_object / (is_object.sum(1, keepdim=True) + 1e-6)
    shape = (NUM_ANCHORS, side, side)
    return AnchorTargets(classes.unflatten(1, shape), encode(target, anchors), weights.unflatten(1, shape))
