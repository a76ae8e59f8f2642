"""Which candidate window of a search crop is the object, and what box it has; on the device, in one go."""

import torch
from torch import Tensor

from common.device import on_device
from systems.siammask.anchors import NUM_ANCHORS, decode, make_anchors
from systems.siammask.crops import CONTEXT

MOST_CHANGE = 10.0  # of the logarithm of a side


def object_scores(cls: Tensor) -> Tensor:
    """(K, 2 * A, n, n) logits, the ground's first, to (K, A * n * n) probabilities of the object."""
    return cls.float().unflatten(1, (2, NUM_ANCHORS)).softmax(1)[:, 1].flatten(1)


def predicted_boxes(loc: Tensor) -> Tensor:
    """(K, 4 * A, n, n) offsets to (K, A * n * n, 4) boxes (cx, cy, w, h) in pixels from the crop's middle.

    Sides are at most exp(10) times an anchor's and at least exp(-10) times, so that they are finite.
    """
    anchors = on_device(make_anchors(loc.shape[-1]).flatten(0, 2), loc.device).double()
    offsets = loc.double().unflatten(1, (4, NUM_ANCHORS)).flatten(2).transpose(1, 2)
    offsets = torch.cat([offsets[..., :2], offsets[..., 2:].clamp(-MOST_CHANGE, MOST_CHANGE)], -1)
    return decode(offsets, anchors)


def cosine_window(side: int, device: torch.device) -> Tensor:
    """(A * n * n,) the outer product of two Hann windows, for every anchor."""
    hann = torch.hann_window(side, periodic=False, dtype=torch.float64, device=device)
    return torch.outer(hann, hann).flatten().repeat(NUM_ANCHORS)


def change(ratio: Tensor) -> Tensor:
    """How many times larger or smaller: 1 or more."""
    return torch.maximum(ratio, 1 / ratio)


def size_penalty(boxes: Tensor, sizes: Tensor, strength: float) -> Tensor:
    """(K, N) factors in (0, 1] for boxes (K, N, 4) that differ in size and ratio from (K, 2) last w, h."""

    def side(size: Tensor) -> Tensor:
        return (size + CONTEXT * size.sum(-1, keepdim=True)).prod(-1).sqrt()

    sizes = sizes[:, None]
    scale = change(side(boxes[..., 2:]) / side(sizes))
    ratio = change((sizes[..., 0] / sizes[..., 1]) / (boxes[..., 2] / boxes[..., 3]))
    return (-(scale * ratio - 1) * strength).exp()


def choose(
    cls: Tensor, loc: Tensor, sizes: Tensor, *, penalty_k: float, window_influence: float
) -> tuple[Tensor, Tensor]:
    """The best window of each of K search crops.

    sizes: (K, 2) float64 last width and height, in pixels of the crop
    Returns (K, 3) int64 anchor, row and column, and (K, 6) float64 score, penalty, cx, cy, w, h: the object's
    probability without any penalty, and the box in pixels from the crop's middle.
    """
    side = cls.shape[-1]
    scores, boxes = object_scores(cls).double(), predicted_boxes(loc)
    penalty = size_penalty(boxes, sizes, penalty_k)
    window = cosine_window(side, cls.device)
    best = (penalty * scores * (1 - window_influence) + window * window_influence).argmax(1)
    each = torch.arange(len(best), device=best.device)
    numbers = torch.stack([scores[each, best], penalty[each, best]], 1)
    place = torch.stack([best // side**2, best // side % side, best % side], 1)
    return place, torch.cat([numbers, boxes[each, best]], 1)
