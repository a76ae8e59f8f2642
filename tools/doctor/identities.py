"""Where an annotation changes its mind about who is who: ids that jump between two masks."""

import numpy as np

MIN_IOU = 0.5  # of an object with another id in the next mask, to count as the same object
MAX_OWN_IOU = 0.1  # of an id with itself, to count as gone from there
SAMPLED_SIDE = 240  # pixels that are left at least of the shorter side, by leaving out rows and columns


def sampled(labels: np.ndarray) -> np.ndarray:
    """Every s-th row and column of an (H, W) label map, enough for the overlaps of objects."""
    step = max(1, min(labels.shape) // SAMPLED_SIDE)
    return labels[::step, ::step].copy()


def overlaps(before: np.ndarray, after: np.ndarray, ids: list[int]) -> np.ndarray:
    """IoU of object i in one label map with object j in another of the same size, (K, K) float64.

    ids: ascending; where an object is in neither map, its IoU is 0
    """
    K = len(ids)
    table = np.zeros(max(0, *ids, int(before.max(initial=0)), int(after.max(initial=0))) + 1, dtype=np.int64)
    table[ids] = np.arange(1, K + 1)
    rows, columns = (table[np.maximum(labels, 0)].ravel() for labels in (before, after))
    joint = np.bincount(rows * (K + 1) + columns, minlength=(K + 1) ** 2).reshape(K + 1, K + 1)
    union = joint.sum(1, keepdims=True) + joint.sum(0, keepdims=True) - joint
    return (joint / np.maximum(union, 1))[1:, 1:]


def changed_ids(before: np.ndarray, after: np.ndarray, ids: list[int]) -> list[tuple[int, int]]:
    """(id in the first map, id in the second) of each object that seems to have another id there.

    That is where the two overlap by `MIN_IOU`, while neither id overlaps with itself.
    """
    if len(ids) < 2 or before.shape != after.shape:
        return []
    iou = overlaps(before, after, ids)
    gone = np.diagonal(iou) < MAX_OWN_IOU
    found = np.argwhere((iou >= MIN_IOU) & gone[:, None] & gone[None, :])
    return [(ids[i], ids[j]) for i, j in found.tolist()]
