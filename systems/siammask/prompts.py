"""What a prompt says of each object: its box, from which a template is cut, and its mask on that frame."""

from typing import NamedTuple

import numpy as np
import torch

from common.types import Prompt
from systems.siammask.crops import fill_box
from tracking.boxes import check_box
from video.masks import BoxXYWH, masks_from_labels, windows


class Named(NamedTuple):
    """centre (x, y) and size (w, h) of an object, pixels; mask: (H, W) float32 of 0 and 1."""

    track: int
    centre: tuple[float, float]
    size: tuple[float, float]
    mask: np.ndarray


def named_by_box(track: int, box: BoxXYWH, frame_size: tuple[int, int]) -> Named:
    """An object in a box (x, y, w, h), which it fills; UserError where that cannot be."""
    check_box(track, box, frame_size)
    x, y, width, height = map(float, box)
    return Named(
        track, (x + width / 2, y + height / 2), (width, height), fill_box((x, y, width, height), frame_size)
    )


def read_prompt(prompt: Prompt | None, frame_size: tuple[int, int]) -> list[Named]:
    """The objects that a prompt names, by id; of one with a box and a mask the box is the template's."""
    if prompt is None or not prompt.ids:
        return []
    labels = torch.zeros(frame_size, dtype=torch.int64) if prompt.labels is None else prompt.labels.cpu()
    masks = masks_from_labels(labels, torch.tensor(prompt.ids))
    found = []
    for track, mask, (rows, columns) in zip(prompt.ids, masks, windows(masks), strict=True):
        if track in prompt.boxes:
            named = named_by_box(track, prompt.boxes[track], frame_size)
            found.append(named._replace(mask=mask.float().numpy()) if mask.any() else named)
            continue
        width, height = columns.stop - columns.start, rows.stop - rows.start
        centre = columns.start + width / 2, rows.start + height / 2
        found.append(Named(track, centre, (float(width), float(height)), mask.float().numpy()))
    return found
