"""What is recorded of the tracks of one frame: binary masks, and the rows of results.json and tracks.json."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from common.types import Tracks
from video.masks import above, extreme_points
from video.rle import RLE, encode_rle


@dataclass
class BinaryTracks:
    """`Tracks` whose masks are decided; where the masks are on a GPU, so is the rest.

    ids: (K,) int64
    labels: (H, W) int64, the system's own decision
    masks: (K, H, W) bool, where the probability is above the system's threshold
    scores: (K,) float32
    classes: (K,) int64, or None
    boxes: (K, 4, 2) rotated boxes in pixels, or None
    """

    ids: Tensor
    labels: Tensor
    masks: Tensor
    scores: Tensor
    classes: Tensor | None = None
    boxes: Tensor | None = None


def binarise(tracks: Tracks, threshold: float) -> BinaryTracks:
    """Tracks with the pixels above the threshold in place of the probabilities, a quarter of their memory."""
    masks = above(tracks.masks, threshold) if tracks.binary_masks is None else tracks.binary_masks
    return BinaryTracks(tracks.ids, tracks.labels, masks, tracks.scores, tracks.classes, tracks.boxes)


class TrackRow(NamedTuple):
    """One track in one frame.

    track: the id
    score: in [0, 1]
    category: 1 where there are no classes
    rle: the run-length encoding of the mask; None where nothing can encode it and only tracks.json is wanted
    box: the 4 corners (x, y) of a rotated box; None where the system has none
    extremes: beside a box, the mask's extreme points (x, y): left, top, right, bottom; None where it is empty
    """

    track: int
    score: float
    category: int
    rle: RLE | None
    box: list[list[float]] | None = None
    extremes: list[list[int]] | None = None


def track_rows(tracks: BinaryTracks, *, encode: bool) -> list[TrackRow]:
    """What results.json and tracks.json keep of one frame: every track whose mask has a pixel.

    A track that only the label map shows, the likeliest of several unlikely ones, has a score and no mask,
    and so has one of which there is a box alone.
    encode: whether masks are run-length encoded, which needs pycocotools
    """
    classes = [0] * len(tracks.ids) if tracks.classes is None else tracks.classes.tolist()
    boxes = [None] * len(tracks.ids) if tracks.boxes is None else tracks.boxes.tolist()
    rows = []
    for track, score, category, mask, box in zip(
        tracks.ids.tolist(), tracks.scores.tolist(), classes, tracks.masks.cpu().numpy(), boxes, strict=True
    ):
        if mask.any():
            rle, extremes = encode_rle(mask) if encode else None, extreme_points(mask) if box else None
            rows.append(TrackRow(track, score, category + 1, rle, box, extremes))
        elif box or (tracks.labels == track).any():
            rows.append(TrackRow(track, score, category + 1, None, box))
    return rows
