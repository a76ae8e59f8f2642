"""Conversions of label maps, masks and run-length encodings; overlaps; padding to a stride."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import require

RLE = dict[str, Any]  # {"size": [H, W], "counts": str}, the compressed encoding of COCO and YouTube-VIS


def masks_from_labels(labels: Tensor, ids: Tensor) -> Tensor:
    """(..., H, W) label maps and (K,) ids to (..., K, H, W) bool masks."""
    return labels.unsqueeze(-3) == ids.to(labels)[:, None, None]


def labels_from_masks(masks: Tensor, ids: Tensor, threshold: float = 0.5) -> Tensor:
    """(K, H, W) scores and (K,) ids to an (H, W) int64 label map: the largest above a threshold.

    Background (0) is where no probability exceeds the threshold; among equals the first wins.
    """
    floor = (
        torch.full_like(masks[:1], threshold)
        if len(masks)
        else masks.new_full((1, *masks.shape[1:]), threshold)
    )
    winner = torch.cat([floor, masks]).argmax(0)
    return torch.cat([ids.new_zeros(1), ids]).long()[winner]


def pad_to_stride(frames: Tensor, stride: int) -> Tensor:
    """Pad (..., H, W) with zeros at the right and the bottom to multiples of `stride`."""
    H, W = frames.shape[-2:]
    return F.pad(frames, (0, -W % stride, 0, -H % stride))


def mask_intersections(masks: Tensor, others: Tensor) -> Tensor:
    """(K, h, w) and (R, h, w) bool to the (K, R) float numbers of common pixels."""
    return masks.flatten(1).float() @ others.flatten(1).float().T


def mask_ious(masks: Tensor, others: Tensor) -> Tensor:
    """(K, h, w) and (R, h, w) bool to (K, R) intersection over union, 0 where the union is empty."""
    common = mask_intersections(masks, others)
    areas, other_areas = masks.flatten(1).sum(1), others.flatten(1).sum(1)
    return common / (areas[:, None] + other_areas - common).clamp(min=1)


def suppress(masks: Tensor, scores: Tensor, named: Tensor, max_iou: float, max_inside: float) -> Tensor:
    """Non-maximum suppression: the indices, best first, of the masks that are kept.

    masks (K, h, w) bool, scores (K,). What overlaps a better one by more than `max_iou`, or lies inside a
    better one by more than `max_inside` of itself, is dropped; so is an empty mask. What a person named
    ((K,) bool) is better than the rest and is not dropped.
    """
    order = (scores + named.to(scores)).argsort(descending=True, stable=True)
    masks = masks[order]
    areas = masks.flatten(1).sum(1)
    bad = (mask_ious(masks, masks) > max_iou) | (
        mask_intersections(masks, masks) / areas[:, None].clamp(min=1) > max_inside
    )
    bad, areas = (bad & ~named[order, None]).cpu(), areas.tolist()
    kept: list[int] = []
    for index in range(len(order)):
        if areas[index] and not bad[index, kept].any():
            kept.append(index)
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def encode_rle(mask: np.ndarray) -> RLE:
    """(H, W) bool mask to a compressed run-length encoding with text counts, as JSON wants it."""
    coder = require("pycocotools.mask", "run-length encoding of masks")
    rle = coder.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: RLE) -> np.ndarray:
    """A run-length encoding, compressed (text) or not (a list of runs), to an (H, W) bool mask."""
    coder = require("pycocotools.mask", "run-length decoding of masks")
    if isinstance(rle["counts"], list):
        rle = coder.frPyObjects(rle, *rle["size"])
    return coder.decode(rle).astype(bool)
