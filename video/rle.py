"""Run-length encodings of masks, as COCO and YouTube-VIS have them, and polygons: made, checked, drawn."""

import math
from typing import Any

import numpy as np

from common.config import MAX_PIXELS
from common.errors import UserError, require
from video.label_maps import span

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
