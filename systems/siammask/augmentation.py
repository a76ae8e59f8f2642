"""How a pair's crops are cut and varied: a square of 511 pixels around the object, then a random part of it.

Images are (S, S, 3) uint8 BGR NumPy arrays. All draws come from torch's generator.
"""

from typing import NamedTuple

import numpy as np
import torch

from common.errors import require
from systems.siammask.crops import TEMPLATE, context_side
from video.transforms import draw

WIDE = 511  # side of the square around an object from which crops are taken, pixels
MASK_THRESHOLD = 0.2  # above which a pixel of that square belongs to the object
# Deviations of R, G, B along their principal axes, which shift the colours of a crop.
COLOURS = np.array(
    [
        [-0.55919361, 0.98062831, -0.41940627],
        [1.72091413, 0.19879334, -1.82968581],
        [4.64467907, 4.73710203, 4.88324118],
    ]
)

BoxXYXY = tuple[float, float, float, float]  # left, top, right, bottom in pixels


class Variation(NamedTuple):
    """Draws in [-1, 1] of shift and scale along x and y, and the strengths that they are multiplied by.

    shift: pixels; scale: relative
    """

    draws: tuple[float, float, float, float]
    shift: float
    scale: float


class Part(NamedTuple):
    """A crop (N, N, 3), float32 or uint8, with its mask (N, N) bool and the object's box in its pixels."""

    image: np.ndarray
    mask: np.ndarray
    box: BoxXYXY


def draw_variation(shift: float, scale: float) -> Variation:
    return Variation(tuple(draw(-1, 1) for _ in range(4)), shift, scale)


def warp(image: np.ndarray, box: BoxXYXY, size: int, border: tuple[float, ...] = (0.0,) * 4) -> np.ndarray:
    """The part of an image in a box, its corners in the middles of the corner pixels of (size, size).

    border: the value of each of at most four channels outside of the image
    """
    cv2 = require("cv2", "SiamMask")
    a, b = (size - 1) / (box[2] - box[0]), (size - 1) / (box[3] - box[1])
    matrix = np.array([[a, 0, -a * box[0]], [0, b, -b * box[1]]], dtype=np.float64)
    return cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_CONSTANT, borderValue=border)


def mask_box(mask: np.ndarray) -> BoxXYXY:
    """The box of an (H, W) mask that is not empty, as wide as its pixels are many."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def wide_crop(frame: np.ndarray, mask: np.ndarray, box: BoxXYXY) -> tuple[np.ndarray, np.ndarray]:
    """The square around a box of an RGB frame in which a template of 127 pixels would be the middle of 511.

    Returns (511, 511, 3) uint8 BGR, around the frame its mean colour, and the mask (511, 511) bool.
    """
    cv2 = require("cv2", "SiamMask")
    side = context_side(box[2] - box[0], box[3] - box[1])
    side += (WIDE - TEMPLATE) * side / TEMPLATE
    x, y = (box[0] + box[2]) / 2 - side / 2, (box[1] + box[3]) / 2 - side / 2
    square = (x, y, x + side, y + side)
    image = cv2.cvtColor(warp(frame, square, WIDE, cv2.mean(frame)), cv2.COLOR_RGB2BGR)
    return image, warp(mask.astype(np.float32), square, WIDE) > MASK_THRESHOLD


def box_in_wide(box: BoxXYXY) -> BoxXYXY:
    """The box of the object in its square of 511 pixels."""
    width, height = box[2] - box[0], box[3] - box[1]
    scale = TEMPLATE / context_side(width, height)
    middle = WIDE // 2
    half = width * scale / 2, height * scale / 2
    return middle - half[0], middle - half[1], middle + half[0], middle + half[1]


def varied_square(size: int, variation: Variation) -> tuple[BoxXYXY, tuple[float, float]]:
    """The part of a square of 511 pixels that a crop of `size` shows, and by what it is larger along x and y.

    It stays inside of the square.
    """
    side, middle = size - 1, WIDE // 2
    scales = [1 + u * variation.scale for u in variation.draws[2:]]
    low, high = [], []
    for u, scale in zip(variation.draws[:2], scales, strict=True):
        half = side * min(scale, WIDE / side) / 2
        shift = max(half - middle, min(WIDE - 1 - middle - half, u * variation.shift))
        low.append(middle - half + shift)
        high.append(middle + half + shift)
    return (*low, *high), tuple(scales)


def cut(image: np.ndarray, mask: np.ndarray, box: BoxXYXY, size: int, variation: Variation) -> Part:
    """A crop of `size` pixels around the middle of a square of 511, with mask and box."""
    square, scales = varied_square(size, variation)
    x1, y1, x2, y2 = box
    moved = (
        (x1 - square[0]) / scales[0],
        (y1 - square[1]) / scales[1],
        (x2 - square[0]) / scales[0],
        (y2 - square[1]) / scales[1],
    )
    return Part(warp(image, square, size), warp(mask.astype(np.float32), square, size) > 0.5, moved)


def shift_colours(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Take a random colour from all pixels, noise (3,) normal: float, not clipped to what pixels can be."""
    return image - (COLOURS @ noise)[::-1]


def greyed(image: np.ndarray) -> np.ndarray:
    """The image without colour, (S, S, 3) uint8."""
    cv2 = require("cv2", "SiamMask")
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)


def blur_kernel(size: int, share: float) -> np.ndarray:
    """(size, size) a cross: a vertical bar of weight `share`, a horizontal one of the rest."""
    kernel = np.zeros((size, size))
    kernel[:, size // 2] += share / size
    kernel[size // 2] += (1 - share) / size
    return kernel


def blurred(image: np.ndarray) -> np.ndarray:
    """Half of the time the image blurred by a cross of random size."""
    size = 2 * round(torch.randn(()).item()) + 1
    if size < 0 or draw(0, 1) < 0.5:
        return image
    return require("cv2", "SiamMask").filter2D(image, -1, blur_kernel(size, draw(0, 1)))


def vary(part: Part, blur: float) -> Part:
    """Other colours, and with probability `blur` perhaps a blur."""
    image = shift_colours(part.image, torch.randn(3).double().numpy())
    return part._replace(image=blurred(image) if draw(0, 1) < blur else image)
