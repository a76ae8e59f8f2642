"""Label maps, masks and run-length encodings: conversions, overlaps, suppression, full size, padding."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.device import empty
from common.errors import UserError, require
from common.types import IGNORE, MAX_PIXELS, BoxXYWH, Prompt


def masks_from_labels(labels: Tensor, ids: Tensor) -> Tensor:
    """(..., H, W) label maps and (K,) ids to (..., K, H, W) bool masks."""
    return labels.unsqueeze(-3) == ids.to(labels)[:, None, None]


def box_window(box: BoxXYWH) -> tuple[slice, slice]:
    """The rows and the columns of the pixels that a box fills; empty where it holds none."""
    x, y, width, height = box
    rows = slice(max(0, round(y)), max(0, round(y + height)))
    return rows, slice(max(0, round(x)), max(0, round(x + width)))


def masks_of_prompt(prompt: Prompt | None, size: tuple[int, int]) -> tuple[list[int], Tensor]:
    """The ids that a prompt names and their (K, H, W) bool masks; a box counts as the mask that fills it."""
    H, W = size
    if prompt is None or not prompt.ids:
        return [], torch.zeros(0, H, W, dtype=torch.bool)
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


def span(occupied: np.ndarray) -> slice:
    """From the first to the last True; empty where there is none."""
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


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


def ids_in(labels: np.ndarray) -> list[int]:
    """The ids above 0 in a label map, ascending."""
    flat = labels.ravel()
    begins = flat[1:] != flat[:-1]  # neighbours mostly agree: a look at the pixel that begins a run is enough
    return [i for i in np.unique(np.append(flat[:1], flat[1:][begins])).tolist() if i > 0]


def void_in(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: the void pixels of a label map, 255 in one of 8 bits; in a wider one negative ones."""
    return labels == IGNORE if labels.itemsize == 1 else labels < 0


def prompt_from_labels(labels: np.ndarray) -> Prompt:
    """The prompt of an (H, W) label map, whose void pixels are background in it."""
    return Prompt(torch.from_numpy(np.where(void_in(labels), 0, labels).astype(np.int64)))


def objects_in(labels: np.ndarray) -> list[int]:
    """The ids in a label map, ascending, without that of void pixels."""
    return [i for i in ids_in(labels) if i != IGNORE or labels.itemsize > 1]


def edge_ids(labels: np.ndarray) -> list[int]:
    """The ids of an (H, W) label map that lie on edges alone, as values between two objects do.

    None of their pixels has four neighbours of its own id, and some pixel has one of another object.
    """
    inner, beside = np.ones(labels.shape, dtype=bool), np.zeros(labels.shape, dtype=bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = labels[one] != labels[other]
        inner[one] &= ~differ
        inner[other] &= ~differ
        beside[one] |= differ & (labels[other] > 0)
        beside[other] |= differ & (labels[one] > 0)
    return sorted({*ids_in(labels[beside])} - {*ids_in(labels[inner])})


def has_smoothed_edges(labels: np.ndarray) -> bool:
    """Whether most ids of a label map, three at least, are `edge_ids`, as a paint program leaves them."""
    ids = ids_in(labels)
    return len(ids) > 3 and len(edge_ids(labels)) > max(2, len(ids) // 2)


MOST_CHARACTERS = 7  # of a run in the text of an RLE, which are 35 bits
RLE = dict[str, Any]  # {"size": [H, W], "counts": str}, the compressed encoding of COCO and YouTube-VIS


def encode_rle(mask: np.ndarray) -> RLE:
    """(H, W) bool mask to a compressed run-length encoding with text counts, as JSON wants it.

    Only the columns that hold the object are searched for runs, which go down the columns.
    """
    coder = require("pycocotools.mask", "run-length encoding of masks")
    H, W = mask.shape
    columns = span(mask.any(0))
    strip = np.zeros((columns.stop - columns.start) * H + 2, dtype=bool)  # background before and after it
    strip[1:-1].reshape(-1, H)[:] = mask[:, columns].T
    changes = np.flatnonzero(strip[1:] != strip[:-1]) + columns.start * H
    counts = np.diff(changes, prepend=0, append=H * W).tolist()
    if not counts[-1]:
        counts.pop()
    rle = coder.frPyObjects({"size": [H, W], "counts": counts}, H, W)
    return {"size": [H, W], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: RLE) -> np.ndarray:
    """A run-length encoding, compressed (text) or not (a list of runs), to an (H, W) bool mask."""
    coder = require("pycocotools.mask", "run-length decoding of masks")
    if isinstance(rle["counts"], list):
        rle = coder.frPyObjects(rle, *rle["size"])
    return coder.decode(rle).astype(bool)


def rle_runs(counts: str) -> np.ndarray:
    """The run lengths behind the compressed text of an RLE, background first.

    Each run is a chain of 6-bit characters from "0" on (5 bits of value, low ones first, and one that says
    "more"); from the fourth run on it is the difference to the run before the last.
    Raises ValueError where the text is no such chain.
    """
    code = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((code & 32) == 0)
    if not len(ends) or ends[-1] != len(code) - 1 or code.min() < 0 or code.max() > 63:
        raise ValueError("the text is cut short")
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= MOST_CHARACTERS:
        raise ValueError("a run is too long")
    place = np.arange(len(code)) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((code & 31) << (5 * place), starts)
    runs -= np.where(code[ends] & 16, 1 << (5 * (place[ends] + 1)), 0)  # the last character bears the sign
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def check_mask_size(size: Any, where: str) -> None:
    """Raise UserError unless this is a pair (H, W) of a picture that fits into memory."""
    if any(type(side) is not int or side < 1 for side in size) or math.prod(size) > MAX_PIXELS:
        raise UserError(f"{where} has the size {size!s:.60}: a picture has 1 to {MAX_PIXELS} pixels")


def _runs(counts: Any, num_pixels: int) -> np.ndarray:
    """The runs of an RLE, background first; ValueError or TypeError where they are none, or too many."""
    is_list = isinstance(counts, list)
    if len(counts) > (num_pixels + 1) * (1 if is_list else MOST_CHARACTERS):
        raise ValueError("there are more runs than pixels")
    if is_list and not all(type(run) is int for run in counts):
        raise TypeError("they are not whole numbers")
    return np.asarray(counts, dtype=np.int64) if is_list else rle_runs(counts)


def rle_of_polygons(polygons: list[Any], size: tuple[int, int], where: str) -> RLE:
    """The area of polygons [[x, y, x, y, ...], ...] in a picture of (H, W) `size`, as COCO draws them.

    Raises UserError where one is none, or so large or winding that drawing it takes for ever.
    """
    coder = require("pycocotools.mask", "drawing polygons")
    H, W = size
    outline = 0.0
    for polygon in polygons:
        fine = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        if not fine or not all(type(number) in (int, float) for number in polygon):
            raise UserError(f"{where} is not an RLE, and {polygon!r:.40} no polygon of 3 or more x, y")
        corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
        is_far = np.abs(corners).max() > 4 * max(H, W)  # so far that a length may be infinite
        outline += 0 if is_far else np.abs(corners - np.roll(corners, 1, 0)).max(1).sum()
        if is_far or outline > 4 * (H + 1) * (W + 1):
            raise UserError(f"{where} has a polygon that does not fit {list(size)}: give x, y in its pixels")
    rle = coder.merge(coder.frPyObjects(polygons, H, W))
    return {"size": [H, W], "counts": rle["counts"].decode("ascii")}


def checked_rle(rle: Any, size: tuple[int, int], where: str) -> RLE | None:
    """The compressed RLE of a mask in a JSON file for a picture of (H, W) `size`; UserError where it is none.

    A mask is a compressed RLE, one of counts, or a list of polygons; None or [] is an absent one.
    """
    if rle is None or rle == []:
        return None
    if isinstance(rle, list):
        return rle_of_polygons(rle, size, where)
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise UserError(f'{where} is not an RLE: give {{"size": [height, width], "counts": ...}} or null')
    if rle["size"] != list(size):
        raise UserError(
            f"{where} has the size {rle['size']!s:.60}, but the video has {list(size)}: resize the mask"
        )
    counts = rle["counts"]
    try:
        runs = _runs(counts, math.prod(size))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where} has counts that are no RLE ({error!s:.60}): encode the mask anew"
        ) from error
    # pycocotools would hang on runs of another total
    if (runs < 0).any() or runs.max(initial=0) > math.prod(size) or runs.sum() != math.prod(size):
        raise UserError(f"{where} has runs that do not fill {list(size)}: encode the mask anew")
    rle = {"size": list(size), "counts": counts}  # whole numbers, where the file has 24.0
    if isinstance(counts, list):
        return require("pycocotools.mask", "run-length encoding of masks").frPyObjects(rle, *size)
    return rle


def draw_masks(labels: np.ndarray, masks: list[tuple[Any, int, RLE]]) -> None:
    """Draw masks (rank, label, RLE) into an (H, W) label map: a higher rank on top, of equals the first."""
    for _, label, rle in sorted(reversed(masks), key=lambda mask: mask[0]):
        labels[decode_rle(rle)] = label


def rle_area(rle: RLE) -> int:
    """The pixels of a compressed RLE."""
    return int(require("pycocotools.mask", "run-length encodings of masks").area(rle))
