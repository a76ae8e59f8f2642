"""Masks as tensors: of label maps and prompts and back, overlaps, full size, padding."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.device import empty
from common.errors import UserError
from common.types import BoxXYWH, Prompt
from video.label_maps import span, void_in


def masks_from_labels(labels: Tensor, ids: Tensor) -> Tensor:
    """(..., H, W) label maps and (K,) ids to (..., K, H, W) bool masks."""
    return labels.unsqueeze(-3) == ids.to(labels)[:, None, None]


def box_window(box: BoxXYWH) -> tuple[slice, slice]:
    """The rows and the columns of the pixels that a box fills; empty where it holds none."""
    x, y, width, height = box
    rows = slice(max(0, round(y)), max(0, round(y + height)))
    return rows, slice(max(0, round(x)), max(0, round(x + width)))


def masks_of_prompt(prompt: Prompt | None, size: tuple[int, int]) -> tuple[list[int], Tensor]:
    """The ids that a prompt names and their (K, H, W) bool masks; a box counts as the mask that fills it.

    Raises UserError where a box holds no pixel, and where there are clicks.
    """
    H, W = size
    if prompt is None or not prompt.ids:
        return [], torch.zeros(0, H, W, dtype=torch.bool)
    if prompt.clicks:
        raise UserError("this system takes no clicks: cut the objects out first, with SAM")
    ids = prompt.ids
    labels = torch.zeros(size, dtype=torch.int64) if prompt.labels is None else prompt.labels.cpu()
    masks = masks_from_labels(labels, torch.tensor(ids))
    for track, box in prompt.boxes.items():
        masks[ids.index(track)][box_window(box)] = True
        if not masks[ids.index(track)].any():
            x, y, width, height = box
            raise UserError(f"the box of id {track}, {x} {y} {width} {height}, holds no pixel of {W}x{H}")
    return ids, masks


def above(masks: Tensor, threshold: float) -> Tensor:
    """`masks > threshold`; on the CPU by NumPy, which compares several times as fast as torch."""
    return torch.from_numpy(masks.numpy() > threshold) if masks.device.type == "cpu" else masks > threshold


def extreme_points(mask: np.ndarray) -> list[list[int]]:
    """The left, top, right and bottom pixel (x, y) of an (H, W) bool mask that is not empty.

    Of several pixels that are as far out, the middle one.
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))

    def middle(line: np.ndarray) -> int:
        places = np.flatnonzero(line)
        return int(places[len(places) // 2])

    left, right, top, bottom = (int(x) for x in (columns[0], columns[-1], rows[0], rows[-1]))
    return [
        [left, middle(mask[:, left])],
        [middle(mask[top]), top],
        [right, middle(mask[:, right])],
        [middle(mask[bottom]), bottom],
    ]


def windows(masks: Tensor) -> list[tuple[slice, slice]]:
    """The rows and the columns in which each of (K, H, W) bool masks lies; empty where it is empty."""
    masks = masks.view(torch.uint8)
    rows, columns = (masks.amax(axis).cpu().numpy() for axis in (2, 1))
    return [(span(row), span(column)) for row, column in zip(rows, columns, strict=True)]


def labels_at_once(masks: Tensor, binary_masks: Tensor, ids: Tensor, scores: Tensor) -> Tensor:
    """`labels_from_masks` in a few operations on all masks, as a GPU likes it."""
    weighted = (masks * scores[:, None, None]).where(binary_masks, 0.0)
    winner = torch.cat([masks.new_zeros(1, *masks.shape[1:]), weighted]).argmax(0)
    return torch.cat([ids.new_zeros(1), ids]).long()[winner]


def labels_in_turn(masks: Tensor, binary_masks: Tensor, ids: Tensor, scores: Tensor) -> Tensor:
    """`labels_from_masks`, each mask only where it lies: a CPU has to go through much less memory."""
    labels = ids.new_zeros(masks.shape[1:], dtype=torch.int64)
    best = masks.new_zeros(masks.shape[1:])
    for k, (track, window) in enumerate(zip(ids.tolist(), windows(binary_masks), strict=True)):
        weighted = masks[k][window] * scores[k]
        better = binary_masks[k][window] & (weighted > best[window])
        labels[window].masked_fill_(better, track)
        best[window] = torch.where(better, weighted, best[window])
    return labels


def labels_from_masks(
    masks: Tensor,
    ids: Tensor,
    threshold: float = 0.5,
    scores: Tensor | None = None,
    binary_masks: Tensor | None = None,
) -> Tensor:
    """(K, H, W) probabilities and (K,) ids to an (H, W) int64 label map: the largest above a threshold.

    scores: (K,) what probabilities are multiplied with before they are compared, 1 where it is None
    binary_masks: (K, H, W) bool, where the probabilities exceed the threshold, for callers that know
    Background (0) is where no probability exceeds the threshold, or no product exceeds 0; among equals the
    first wins.
    """
    binary_masks = above(masks, threshold) if binary_masks is None else binary_masks
    scores = masks.new_ones(len(masks)) if scores is None else scores
    label = labels_in_turn if masks.device.type == "cpu" else labels_at_once
    return label(masks, binary_masks, ids, scores)


def pad_to_stride(frames: Tensor, stride: int) -> Tensor:
    """Pad (..., H, W) with zeros at the right and the bottom to multiples of `stride`."""
    H, W = frames.shape[-2:]
    return F.pad(frames, (0, -W % stride, 0, -H % stride))


def pad_around(frames: Tensor, stride: int) -> tuple[Tensor, tuple[slice, slice]]:
    """Pad (..., H, W) with zeros on all sides to multiples of `stride`; returns the window of what was there.

    Of an odd number of rows or columns the one more comes after.
    """
    H, W = frames.shape[-2:]
    top, left = -H % stride // 2, -W % stride // 2
    padded = F.pad(frames, (left, -W % stride - left, top, -H % stride - top))
    return padded, (slice(top, top + H), slice(left, left + W))


def soft_aggregate(probs: Tensor) -> Tensor:
    """(B, K, H, W) probabilities of each object by itself to (B, K + 1, H, W) logits, the background first.

    Their softmax is the probability among all. The background is where no object is: the product of 1 - p
    (STM, Oh et al., ICCV 2019). Always in float32.
    """
    probs = probs.float()
    probs = torch.cat([(1 - probs).prod(1, keepdim=True), probs], 1).clamp(1e-7, 1 - 1e-7)
    return (probs / (1 - probs)).log()


def full_size_probs(
    logits: Tensor, padded: tuple[int, int], size: tuple[int, int], full: tuple[int, int]
) -> Tensor:
    """(K, h, w) mask logits to (K, H, W) probabilities at `full` size: undo stride, padding and resizing.

    padded, size: (H, W) of what the network saw, with its padding and without
    """
    probs = empty(len(logits), *full, device=logits.device)
    together = 1 if logits.device.type == "cpu" else max(1, len(logits))  # a CPU's caches are small
    for part, large in zip(logits.split(together), probs.split(together), strict=True):
        part = part[:, None]  # K is the batch: there may be none
        part = F.interpolate(part, padded, mode="bilinear")[..., : size[0], : size[1]]
        if size != full:
            part = F.interpolate(part, full, mode="bilinear")
        torch.sigmoid(part[:, 0], out=large)
    return probs


def mean_inside(probs: Tensor, inside: Tensor) -> Tensor:
    """(K,) means of (K, H, W) probabilities over (K, H, W) bool masks, 0 where a mask is empty."""
    return (probs * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


def mask_confidence(logits: Tensor) -> Tensor:
    """(N, h, w) mask logits to (N,): the mean probability inside each mask, 0 where it is empty.

    Times the probability of an object it ranks detections (Cheng et al. 2021, MaskFormer).
    """
    return mean_inside(logits.sigmoid(), logits > 0)


def prompt_from_labels(labels: np.ndarray) -> Prompt:
    """The prompt of an (H, W) label map, whose void pixels are background in it."""
    return Prompt(torch.from_numpy(np.where(void_in(labels), 0, labels).astype(np.int64)))
