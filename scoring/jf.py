"""J (region similarity), F (boundary measure) and their statistics, as the DAVIS evaluation defines them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BOUND_TH = 0.008  # the tolerance of F as a share of the picture's diagonal


class Overlap(NamedTuple):
    """Pixel counts of K true objects against N results in one frame.

    intersection, union: (K, N) int64
    truth_area, prediction_area: (K,), (N,) int64
    """

    intersection: np.ndarray
    union: np.ndarray
    truth_area: np.ndarray
    prediction_area: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """(K, N) float64 J: intersection over union, 1 where both masks are empty."""
        return (self.intersection + (self.union == 0)) / np.maximum(self.union, 1)


class Contour(NamedTuple):
    """The boundary of one mask in a picture.

    y, x: (P,) int64 coordinates of the boundary pixels in the whole picture
    near: (h, w) bool crop of the pixels within the tolerance of the boundary; outside of it there are none
    top, left: where the crop lies in the picture
    """

    y: np.ndarray
    x: np.ndarray
    near: np.ndarray
    top: int
    left: int


def slots_of(labels: np.ndarray, ids: Sequence[int], void: np.ndarray | None = None) -> np.ndarray:
    """(H, W) map of slots: 1 + k where the label is ids[k], 0 on any other label and on void pixels.

    Its type is the smallest unsigned integer that holds the K slots.
    """
    ids = np.asarray(ids, dtype=np.int64)
    highest = max(labels.max(initial=0), ids.max(initial=0))
    table = np.zeros(int(highest) + 1, dtype=np.min_scalar_type(len(ids)))
    table[ids] = np.arange(1, len(ids) + 1)
    slots = table.take(labels)
    return slots if void is None else np.where(void, 0, slots)


def pairwise_overlap(truth_slots: np.ndarray, prediction_slots: np.ndarray, K: int, N: int) -> Overlap:
    """Count the pixels that K true objects and N results share, from two (H, W) maps of slots."""
    number = (K + 1) * (N + 1)
    pairs = truth_slots.astype(np.min_scalar_type(number)) * (N + 1) + prediction_slots
    pairs = np.bincount(pairs.ravel(), minlength=number).reshape(K + 1, N + 1)
    truth_area, prediction_area = pairs.sum(1)[1:], pairs.sum(0)[1:]
    intersection = pairs[1:, 1:]
    union = truth_area[:, None] + prediction_area - intersection
    return Overlap(intersection, union, truth_area, prediction_area)


def boundary_radius(height: int, width: int, bound_th: float = BOUND_TH) -> int:
    """The tolerance of F in pixels: below 1 a share of the picture's diagonal, from 1 on whole pixels."""
    return int(bound_th) if bound_th >= 1 else math.ceil(bound_th * math.sqrt(height**2 + width**2))


def _stretch(used: np.ndarray, margin: int) -> slice:
    """The part of a line of (L,) bool that holds all that is set and a margin; one place where nothing is."""
    places = np.flatnonzero(used)
    return slice(max(places[0] - margin, 0), places[-1] + 1 + margin) if len(places) else slice(0, 1)


def box_of(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The rows and columns that hold all of an (H, W) mask, or label map, and a margin on each side."""
    return _stretch(mask.any(1), margin), _stretch(mask.any(0), margin)


def boundary_of(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that differ from their right, lower or lower right neighbour in the picture."""
    boundary = np.zeros_like(mask)
    boundary[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    boundary[:-1] |= mask[:-1] != mask[1:]
    boundary[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return boundary


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Dilate an (H, W) bool mask by the disk dy^2 + dx^2 <= radius^2; outside the picture there is nothing.

    A disk is a stack of rows that grow wider towards its middle, so 4 * radius shifted copies are enough. The
    rows of the mask lie end to end with `radius` empty pixels between them: a shift of the whole line, the
    fastest of all, then moves no pixel into another row.
    """
    H, W = mask.shape
    pitch = W + radius
    line = np.zeros((H, pitch), dtype=bool)
    line[:, :W] = mask
    line = line.ravel()
    wide, half_width = line.copy(), 0  # the mask widened by half_width to both sides
    dilated = np.zeros_like(line)
    for dy in range(min(radius, H - 1), -1, -1):
        while half_width < math.isqrt(radius**2 - dy**2):
            half_width += 1
            wide[half_width:] |= line[:-half_width]
            wide[:-half_width] |= line[half_width:]
        end = len(line) - dy * pitch
        dilated[-end:] |= wide[:end]
        dilated[:end] |= wide[-end:]
    return dilated.reshape(H, pitch)[:, :W]


def contours_of(slots: np.ndarray, K: int, radius: int) -> list[Contour]:
    """The boundaries of the objects 1..K of an (H, W) map of slots.

    Each is found in its bounding box plus a margin that neither boundary nor dilation leaves.
    """
    contours = []
    for slot in range(1, K + 1):
        mask = slots == slot
        box = box_of(mask, margin=radius + 2)
        boundary = boundary_of(mask[box])
        y, x = np.unravel_index(np.flatnonzero(boundary), boundary.shape)  # np.nonzero is far slower
        top, left = (side.start for side in box)
        contours.append(Contour(y + top, x + left, dilate(boundary, radius), top, left))
    return contours


def pixels_near(boundaries: list[Contour], others: list[Contour]) -> np.ndarray:
    """(A, B) int64: how many boundary pixels of each of A contours lie near each of B others."""
    A, B = len(boundaries), len(others)
    owner = np.repeat(np.arange(A), [len(contour.y) for contour in boundaries])
    y = np.concatenate([contour.y for contour in boundaries] or [owner])
    x = np.concatenate([contour.x for contour in boundaries] or [owner])
    counts = np.zeros((A, B), dtype=np.int64)
    for column, other in enumerate(others):
        h, w = other.near.shape
        dy, dx = y - other.top, x - other.left
        inside = (dy >= 0) & (dy < h) & (dx >= 0) & (dx < w)
        near = other.near[dy[inside], dx[inside]]
        counts[:, column] = np.bincount(owner[inside][near], minlength=A)
    return counts


def pairwise_boundary(truth: list[Contour], prediction: list[Contour]) -> np.ndarray:
    """(K, N) float64 F of every pair of contours: the harmonic mean of boundary precision and recall.

    1 where both boundaries are empty, 0 where one is.
    """
    truth_pixels = np.array([len(contour.y) for contour in truth], dtype=np.int64)[:, None]  # (K, 1)
    prediction_pixels = np.array([len(contour.y) for contour in prediction], dtype=np.int64)[None]  # (1, N)
    precision = pixels_near(prediction, truth).T / np.maximum(prediction_pixels, 1)
    recall = pixels_near(truth, prediction) / np.maximum(truth_pixels, 1)
    total = precision + recall
    measure = 2 * precision * recall / np.where(total > 0, total, 1)
    return np.where((truth_pixels == 0) & (prediction_pixels == 0), 1.0, measure)


def pairwise_jf(
    truth_labels: np.ndarray,
    prediction_labels: np.ndarray,
    truth_ids: Sequence[int],
    prediction_ids: Sequence[int],
    void: np.ndarray | None = None,
    bound_th: float = BOUND_TH,
) -> tuple[np.ndarray, np.ndarray]:
    """J and F, each (K, N) float64, of K true objects against N results in one frame.

    truth_labels, prediction_labels: (H, W) maps of ids; an id that is not in its map has an empty mask
    void: (H, W) bool, pixels that count for nothing
    """
    K, N = len(truth_ids), len(prediction_ids)
    radius = boundary_radius(*truth_labels.shape, bound_th)
    box = box_of(truth_labels | prediction_labels, margin=radius + 2)  # no count needs what lies outside
    void = None if void is None else void[box]
    truth = slots_of(truth_labels[box], truth_ids, void)
    prediction = slots_of(prediction_labels[box], prediction_ids, void)
    measure = pairwise_boundary(contours_of(truth, K, radius), contours_of(prediction, N, radius))
    return pairwise_overlap(truth, prediction, K, N).iou, measure


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def statistics(values: Sequence[float], official_decay: bool = True) -> tuple[float, float, float]:
    """Mean, recall and decay of one object's J or F over the frames of a video; NaN marks an undefined value.

    Recall is the share of frames above 0.5. Decay is the mean of the first quarter less that of the last; the
    quarters share their border frames.
    official_decay: keep the DAVIS code's 8-bit frame numbers, which wrap in videos of more than 256 frames
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return math.nan, math.nan, math.nan
    borders = np.round(np.linspace(1, len(x), 5) + 1e-10).astype(np.int64) - 1
    if official_decay:
        borders = borders.astype(np.uint8).astype(np.int64)
    first, last = x[borders[0] : borders[1] + 1], x[borders[3] : borders[4] + 1]
    return _mean_of_defined(x), float(np.mean(x > 0.5)), _mean_of_defined(first) - _mean_of_defined(last)
