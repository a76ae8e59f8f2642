"""From a frame to crops around an object, and from a mask of a window back to the frame.

Frames are (H, W, 3) uint8 BGR NumPy arrays; boxes are (x, y, w, h) or a centre (x, y) with a size (w, h), in
pixels of the frame.
"""

from typing import NamedTuple

import numpy as np

from common.errors import require
from common.types import BoxXYWH
from video.masks import box_window

TEMPLATE, SEARCH = 127, 255  # sides of the crops, pixels
CONTEXT = 0.5  # share of the mean side that is added around a box
OUTSIDE = -1.0  # what a pasted mask is outside of its window
LEAST_AREA = 100  # of a contour that gives a rotated box, pixels


class Window(NamedTuple):
    """A square of the frame: its corner (x, y) and its side, pixels, not rounded."""

    x: float
    y: float
    side: float


def to_bgr(frame: np.ndarray) -> np.ndarray:
    """A frame (3, H, W) RGB as (H, W, 3) BGR, contiguous."""
    return np.ascontiguousarray(frame[::-1].transpose(1, 2, 0))


def context_side(width: float, height: float) -> float:
    """Side of the square around a box that a template shows."""
    margin = CONTEXT * (width + height)
    return float(np.sqrt((width + margin) * (height + margin)))


def search_side(template_side: float) -> int:
    """Side of the square that a search crop shows, whole pixels, where a template shows so much."""
    margin = (SEARCH - TEMPLATE) / 2
    return round(template_side + 2 * (margin / (TEMPLATE / template_side)))


def crop(
    frame: np.ndarray, centre: tuple[float, float], size: int, side: int, colour: np.ndarray
) -> np.ndarray:
    """The square of `side` pixels around a centre, resized to (size, size, 3) uint8.

    colour: (3,) what lies outside of the frame, cut to whole numbers
    """
    cv2 = require("cv2", "SiamMask")
    H, W = frame.shape[:2]
    x0, y0 = (round(float(along) - (side + 1) / 2) for along in centre)  # halves go to even, as published
    left, top = max(0, -x0), max(0, -y0)
    right, bottom = max(0, x0 + side - W), max(0, y0 + side - H)
    if left or top or right or bottom:
        patch = np.empty((side, side, 3), np.uint8)
        patch[:] = np.asarray(colour).astype(np.uint8)
        if left + right < side and top + bottom < side:
            patch[top : side - bottom, left : side - right] = frame[
                y0 + top : y0 + side - bottom, x0 + left : x0 + side - right
            ]
    else:
        patch = frame[y0 : y0 + side, x0 : x0 + side]
    return patch.copy() if side == size else cv2.resize(patch, (size, size))


def paste_matrix(window: Window, size: int, frame_size: tuple[int, int]) -> np.ndarray:
    """(2, 3) affine map from pixels of a window's (size, size) mask to those of a frame (H, W).

    The published convention, in which a frame of W pixels is W - 1 wide.
    """
    H, W = frame_size
    scale = size / window.side
    a, b = (W - 1) / (W * scale), (H - 1) / (H * scale)
    return np.array([[a, 0, a * window.x * scale], [0, b, b * window.y * scale]], dtype=np.float64)


def paste(mask: np.ndarray, window: Window, frame: np.ndarray) -> None:
    """Write a window's square float32 mask into a frame (H, W) float32, and -1 outside of the window."""
    cv2 = require("cv2", "SiamMask")
    matrix = paste_matrix(window, mask.shape[0], frame.shape)
    options = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_CONSTANT, "borderValue": OUTSIDE}
    cv2.warpAffine(mask, matrix, frame.shape[::-1], dst=frame, **options)


def largest_contour(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """The points (N, 2) of the outer contour with the largest area of an (H, W) bool mask, and that area.

    No point and 0 where the mask is empty.
    """
    cv2 = require("cv2", "SiamMask")
    results = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contours = results[-2]  # some versions return the image before it
    if not contours:
        return np.zeros((0, 2), np.int32), 0.0
    areas = [cv2.contourArea(contour) for contour in contours]
    best = int(np.argmax(areas))
    return contours[best].reshape(-1, 2), float(areas[best])


def rotated_box(mask: np.ndarray) -> np.ndarray | None:
    """(4, 2) corners of the smallest rectangle around a mask's largest part; None where that is small."""
    cv2 = require("cv2", "SiamMask")
    contour, area = largest_contour(mask)
    return cv2.boxPoints(cv2.minAreaRect(contour)) if area > LEAST_AREA else None


def box_corners(x: float, y: float, width: float, height: float) -> np.ndarray:
    """(4, 2) corners of a box: top left, top right, bottom right, bottom left."""
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def fill_box(box: BoxXYWH, frame_size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32, 1 inside of a box (x, y, w, h), 0 elsewhere."""
    mask = np.zeros(frame_size, np.float32)
    mask[box_window(box)] = 1
    return mask
