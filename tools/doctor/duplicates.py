"""Videos that show the same, found by small pictures of their frames, however they were encoded."""

import numpy as np
from PIL import Image

SIDE = 16  # pixels of a thumbnail
MAX_DIFFERENCE = 4  # of 255, of any value of the thumbnails of one picture in two encodings
MIN_CONTRAST = 4.0  # standard deviation without which a picture is blank, and tells nothing


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """The luminance of a frame, (H, W, 3) uint8, averaged over the cells of a grid: (16, 16) uint8."""
    return np.array(Image.fromarray(frame).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def _coarse(thumbnails: np.ndarray) -> np.ndarray:
    """(V, T, 16, 16) averaged over the quarters of the frames, (V, T*2*2) float32.

    Two of them differ by no more than their thumbnails do.
    """
    V, T, half = *thumbnails.shape[:2], SIDE // 2
    quarters = thumbnails.reshape(V, T, 2, half, 2, half).mean((3, 5), dtype=np.float32)
    return quarters.reshape(V, -1)


def find_repeated(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """(video, an earlier one that shows the same) for each that repeats one, in order.

    thumbnails: (V, T, 16, 16) uint8, of T frames of each video; blank ones repeat nothing
    """
    from scipy.spatial import cKDTree

    if not len(thumbnails):
        return []
    coarse = _coarse(thumbnails)
    tree = cKDTree(coarse)
    earlier_of: dict[int, int] = {}
    for one in np.flatnonzero(thumbnails.std((1, 2, 3)) >= MIN_CONTRAST).tolist():
        if one in earlier_of:
            continue
        near = np.array(tree.query_ball_point(coarse[one], MAX_DIFFERENCE, p=np.inf))
        near = near[near > one]
        differences = np.abs(thumbnails[near].astype(np.int16) - thumbnails[one])
        for other in near[differences.max((1, 2, 3), initial=0) <= MAX_DIFFERENCE].tolist():
            earlier_of.setdefault(other, one)
    return sorted(earlier_of.items())
