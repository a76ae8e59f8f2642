"""Online assignment: what a frame shows, to tracks and to the objects of a prompt."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.device import in_float32, on_device
from common.errors import UserError
from common.types import Prompt
from video.images import MAX_LABEL
from video.label_maps import IGNORE
from video.masks import masks_from_labels
from video.overlaps import Overlaps


class Detections(NamedTuple):
    """What a network detects in one frame, as it is compared with tracks.

    embeddings: (K, E) float32 of unit length, on the CPU
    scores: (K,) float32 in [0, 1], on the CPU
    masks: (K, h, w) bool on any device, or None
    overlaps: of the masks with one another and with the last masks of tracks, or None
    class_probs: (K, C) float32, on the CPU
    prompted_ids: (K,) int64 the id that a prompt gives, 0 where it gives none, on the CPU
    """

    embeddings: Tensor
    scores: Tensor
    masks: Tensor | None
    overlaps: Overlaps | None
    class_probs: Tensor
    prompted_ids: Tensor

    def are_clear(self, least_score: float, max_overlap: float) -> Tensor:
        """(K,) bool: which update the memory bank: none that is weak, and none mostly behind another."""
        clear = self.scores >= least_score
        if self.overlaps is not None and len(clear):
            share = self.overlaps.shares().fill_diagonal_(0).amax(1)
            clear &= share <= max_overlap
        return clear


@dataclass
class TrackRecord:
    """What is known of an active track beside its embedding: the bank's parallel record.

    last_seen: the frame
    hits: frames in which it was seen
    score: of the last detection
    class_probs: (C,) sum over the frames in which it was seen
    mask: (h, w) bool, the last one, or None
    """

    last_seen: int
    hits: int
    score: float
    class_probs: Tensor
    mask: Tensor | None


def bi_softmax(cosine: Tensor, temperature: float) -> Tensor:
    """(K, R) cosines to the mean of the softmax over rows and over columns (QDTrack, Pang et al. 2021)."""
    logits = cosine / temperature
    return (logits.softmax(0) + logits.softmax(1)) / 2


def assign(similarity: Tensor, allowed: Tensor) -> list[tuple[int, int]]:
    """Pairs (detection, track) of the largest sum of (K, R) positive similarities among the allowed ones.

    Every detection has a dummy column of its own that costs nothing: where all its pairs are forbidden, it
    takes that.
    """
    from scipy.optimize import linear_sum_assignment

    K, R = similarity.shape
    cost = np.zeros((K, R + K))
    cost[:, :R] = torch.where(allowed, -similarity, 1.0).numpy()
    rows, columns = linear_sum_assignment(cost)
    taken = cost[rows, columns] < 0
    return list(zip(rows[taken].tolist(), columns[taken].tolist(), strict=True))


def give_id(next_id: int) -> tuple[int, int]:
    """The id of a new track, counted from `next_id`, and the next one; id 0 where none is left.

    255 is left out, because label maps ignore it, and the last is what they can hold. Warns as it is given.
    """
    next_id += next_id == IGNORE
    if next_id > MAX_LABEL:
        return 0, next_id
    if next_id == MAX_LABEL:
        end = f"id {MAX_LABEL} is the last that a label map can hold"
        warnings.warn(f"{end}: no more objects are found in this video; split it", stacklevel=2)
    return next_id, next_id + 1


def assign_prompt(prompt: Prompt | None, masks: Tensor) -> Tensor:
    """(N,) int64 the prompt's id of each of (N, h, w) bool masks, 0 for none: Hungarian on their IoU.

    They are on the CPU, wherever the masks are. Warns of objects on which no mask lies; raises UserError
    where the prompt has boxes or clicks.
    """
    prompted_ids = torch.zeros(len(masks), dtype=torch.int64)
    if prompt is not None and (prompt.boxes or prompt.clicks):
        raise UserError("VITA-TCOVIS takes label maps as prompts, no boxes and no clicks")
    if prompt is None or prompt.labels is None:
        return prompted_ids
    ids = torch.tensor(prompt.ids)
    shares = masks_from_labels(prompt.labels.to(masks.device), on_device(ids, masks.device)).float()
    shares = F.adaptive_avg_pool2d(shares, masks.shape[-2:])  # of cells, so that no object is too small
    with in_float32(masks.device):
        intersection = torch.einsum("khw,nhw->kn", shares, masks.float())
    union = shares.sum((1, 2))[:, None] + masks.sum((1, 2)) - intersection
    iou = (intersection / union.clamp(min=1e-6)).cpu()
    pairs = assign(iou, iou > 0)
    for row, token in pairs:
        prompted_ids[token] = ids[row]
    lost = sorted(set(ids.tolist()) - {int(ids[row]) for row, _ in pairs})
    if lost:
        warnings.warn(f"no token lies on the prompted objects {lost}: they are not tracked", stacklevel=2)
    return prompted_ids
