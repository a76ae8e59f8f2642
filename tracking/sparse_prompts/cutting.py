"""Cutting out: the label map of the objects that boxes and clicks mark in a frame."""

from typing import Protocol

import torch
from torch import Tensor

from common.errors import UserError
from common.types import BoxXYWH, Prompt, Tracker
from tracking.assignment import assign
from video.masks import above, box_window, labels_from_masks, windows

LEAST_FIT = 0.5  # IoU of a box with that around an object, from which it is the object's


class Cutter(Protocol):
    """What cuts objects out of a frame; takes_clicks: whether clicks may mark them, not boxes alone."""

    takes_clicks: bool

    def cut(self, frame: Tensor, prompt: Prompt) -> Prompt:
        """The prompt of a frame, uint8 RGB (3, H, W), with a label map in place of boxes and clicks.

        A box stays where nothing is found in it. Raises UserError where that happens to clicks.
        """


class EncodingCutter(Cutter, Protocol):
    """One that encodes a frame once for many prompts."""

    def encode(self, frame: Tensor) -> Tensor:
        """(3, H, W) uint8 RGB to its embedding."""

    def cut_encoded(self, embedding: Tensor, size: tuple[int, int], prompt: Prompt) -> Prompt:
        """As `cut`, of a frame of size (H, W) by its embedding."""


def marked_ids(prompt: Prompt) -> list[int]:
    """The ids of boxes and clicks, ascending."""
    return sorted({*prompt.boxes, *prompt.clicks})


def with_masks(prompt: Prompt, ids: list[int], probs: Tensor) -> Prompt:
    """The prompt with objects of K ids by their (K, H, W) probabilities, in place of boxes and clicks.

    Of several objects a pixel is the most probable one's, and a pixel of the prompt's label map is of none
    of them. A box whose object has no pixel of its own stays; UserError where that happens to clicks.
    """
    labels, marked = labels_from_masks(probs.cpu(), torch.tensor(ids, dtype=torch.int64)), marked_ids(prompt)
    if prompt.labels is not None:
        given = prompt.labels.cpu()
        is_kept = (given > 0) & ~torch.isin(given, torch.tensor(marked))
        labels = torch.where(is_kept, given, labels)
    lost = set(marked) - set(labels.unique().tolist())
    if without_box := sorted(lost - prompt.boxes.keys()):
        raise UserError(f"nothing is found at the clicks of id {without_box[0]}: click elsewhere")
    return Prompt(labels, {track: box for track, box in prompt.boxes.items() if track in lost})


def box_ious(boxes: list[BoxXYWH], masks: Tensor) -> Tensor:
    """(B, K) IoU of B boxes and those around (K, H, W) bool masks, in whole pixels of the frame."""
    H, W = masks.shape[-2:]

    def bounds(window: tuple[slice, slice]) -> list[int]:
        rows, columns = window
        return [min(columns.start, W), min(rows.start, H), min(columns.stop, W), min(rows.stop, H)]

    a = torch.tensor([bounds(box_window(box)) for box in boxes]).view(-1, 1, 4)
    b = torch.tensor([bounds(window) for window in windows(masks)]).view(1, -1, 4)
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    common, areas = sides.prod(-1), [(x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b)]
    return common / (areas[0] + areas[1] - common).clamp(min=1)


class DiscoveryCutter:
    """Cuts out what a tracker that needs no prompt finds in boxes: the object whose own box fits best."""

    takes_clicks = False

    def __init__(self, finder: Tracker):
        self.finder = finder

    def cut(self, frame: Tensor, prompt: Prompt) -> Prompt:
        self.finder.reset()
        tracks = self.finder.step(frame)
        masks, ids = tracks.masks.cpu(), sorted(prompt.boxes)
        ious = box_ious([prompt.boxes[track] for track in ids], above(masks, self.finder.mask_threshold))
        pairs = assign(ious, ious >= LEAST_FIT)
        chosen = masks[[column for _, column in pairs]]
        return with_masks(prompt, [ids[row] for row, _ in pairs], chosen)
