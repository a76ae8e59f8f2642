"""What a prompt says of each object: its box, from which a template is cut, and its mask on that frame."""

from typing import NamedTuple

import numpy as np
import torch

from common.errors import UserError
from common.types import BoxXYWH, Prompt
from systems.siammask.crops import fill_box
from tracking.sparse_prompts.boxes import check_box
from video.masks import masks_from_labels, windows


class PromptedObject(NamedTuple):
    """centre (x, y) and size (w, h) of an object, pixels; mask: (H, W) float32 of 0 and 1."""

    track: int
    centre: tuple[float, float]
    size: tuple[float, float]
    mask: np.ndarray


def object_in_box(track: int, box: BoxXYWH, frame_size: tuple[int, int]) -> PromptedObject:
    """An object that fills a box; UserError where that cannot be."""
    check_box(track, box, frame_size)
    x, y, width, height = map(float, box)
    centre, mask = (x + width / 2, y + height / 2), fill_box((x, y, width, height), frame_size)
    return PromptedObject(track, centre, (width, height), mask)


def read_prompt(prompt: Prompt | None, frame_size: tuple[int, int]) -> list[PromptedObject]:
    """The objects that a prompt names, by id; of one with a box and a mask the box is the template's.

    Raises UserError where a box is wrong, and where there are clicks.
    """
    if prompt is None or not prompt.ids:
        return []
    if prompt.clicks:
        raise UserError("SiamMask takes boxes and label maps as prompts, no clicks")
    labels = torch.zeros(frame_size, dtype=torch.int64) if prompt.labels is None else prompt.labels.cpu()
    masks = masks_from_labels(labels, torch.tensor(prompt.ids))
    objects = []
    for track, mask, (rows, columns) in zip(prompt.ids, masks, windows(masks), strict=True):
        if track in prompt.boxes:
            one = object_in_box(track, prompt.boxes[track], frame_size)
            objects.append(one._replace(mask=mask.float().numpy()) if mask.any() else one)
            continue
        width, height = columns.stop - columns.start, rows.stop - rows.start
        centre = columns.start + width / 2, rows.start + height / 2
        objects.append(PromptedObject(track, centre, (float(width), float(height)), mask.float().numpy()))
    return objects
