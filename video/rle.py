"""Run-length encodings of masks, as COCO and YouTube-VIS have them: made, checked, undone."""

import math
from typing import Any

import numpy as np

from common.errors import UserError, require
from video.masks import span

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
    place = np.arange(len(code)) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((code & 31) << (5 * place), starts)
    runs -= np.where(code[ends] & 16, 1 << (5 * (place[ends] + 1)), 0)  # the last character bears the sign
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def checked_rle(rle: Any, size: tuple[int, int], where: str) -> RLE:
    """A compressed RLE whose runs fill a picture of (H, W) `size`; anything else is a UserError."""
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise UserError(f'{where} is not an RLE: give {{"size": [height, width], "counts": ...}} or null')
    if rle["size"] != list(size):
        raise UserError(
            f"{where} has the size {rle['size']}, but the video has {list(size)}: resize the mask"
        )
    counts = rle["counts"]
    try:
        runs = np.asarray(counts, dtype=np.int64) if isinstance(counts, list) else rle_runs(counts)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{where} has counts that are no RLE ({error}): encode the mask anew") from error
    # pycocotools would hang on runs of another total
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != math.prod(size):
        raise UserError(f"{where} has runs that do not fill {list(size)}: encode the mask anew")
    if isinstance(counts, list):
        return require("pycocotools.mask", "run-length encoding of masks").frPyObjects(rle, *size)
    return rle
