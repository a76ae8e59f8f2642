"""Warps of frames and label maps, affine and by thin-plate splines, and clips that they make of still images.

All draws come from torch's generator.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from video.label_maps import IGNORE
from video.transforms import glide

KNOTS = 3  # of a still image's motion: where it begins, bends and ends
DEGREES, SHEAR = 12.0, 6.0  # the most that a still image is turned and slanted
ZOOM, ZOOM_SPREAD = 0.1, 0.2  # the mean of its scale and how far it strays, as logarithms
SHIFT = 0.15  # its way to each side at most, where 2 is the side of the frame
CONTROL_POINTS, BEND = 8, 0.02  # of the thin-plate spline, and how far each strays, in the unit of SHIFT
BEND_STEP = 8  # bends are smooth: every eighth pixel is computed


def affine_grid(height: int, width: int, *, degrees: float, shear: float, scale: float) -> Tensor:
    """(1, H, W, 2) where each pixel is read from, for `grid_sample`: a turn, a shear along x and a scaling
    around the middle, as torchvision's `affine`, whose product of matrices takes longer than these sums.
    """
    turn, slant = math.radians(degrees), math.tan(math.radians(shear))
    cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
    x = torch.arange(width) - (width - 1) / 2
    y = (torch.arange(height) - (height - 1) / 2)[:, None]
    read_x = (cos - slant * sin) * x + (sin + slant * cos) * y
    read_y = cos * y - sin * x
    return torch.stack([read_x / (width / 2), read_y / (height / 2)], -1)[None]


def read_by(grid: Tensor, image: Tensor, fill: Sequence[float] | None, mode: str) -> Tensor:
    """(C, H, W) read where the grid says; outside of the image that is `fill`, or None: what it mirrors."""
    ground = torch.tensor(fill or 0.0).view(-1, 1, 1)
    padding = "zeros" if fill else "reflection"
    moved = F.grid_sample(image[None] - ground, grid, mode, padding, align_corners=False)[0] + ground
    return moved.to(image.dtype) if image.is_floating_point() else moved.round_().to(image.dtype)


def thin_plate_grid(points: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    """(1, H, W, 2) where each pixel is read from, for `grid_sample`: the thin-plate spline (Bookstein 1989)
    that moves (N, 2) points in [-1, 1] by (N, 2) offsets.
    """
    N = len(points)
    x, y = ((torch.arange(side) + 0.5) * 2 / side - 1 for side in (width, height))
    places = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flatten(0, 1).flip(-1)  # (H*W, 2)

    def kernel(distance: Tensor) -> Tensor:
        return distance.square() * (distance + 1e-6).log()

    system = torch.zeros(N + 3, N + 3)
    system[:N, :N] = kernel(torch.cdist(points, points))
    system[:N, N:] = torch.cat([torch.ones(N, 1), points], 1)
    system[N:, :N] = system[:N, N:].T
    solution = torch.linalg.lstsq(system, F.pad(offsets, (0, 0, 0, 3))).solution
    basis = torch.cat([kernel(torch.cdist(places, points)), torch.ones(len(places), 1), places], 1)
    return (places + basis @ solution).view(1, height, width, 2)


def bend_grid(points: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    """(1, H, W, 2), how far from itself each pixel is read by `thin_plate_grid`, computed coarsely."""
    size = max(2, height // BEND_STEP), max(2, width // BEND_STEP)
    bend = thin_plate_grid(points, offsets, *size) - thin_plate_grid(points, torch.zeros_like(offsets), *size)
    full = {"size": (height, width), "mode": "bilinear", "align_corners": False}
    return F.interpolate(bend.movedim(-1, 1).contiguous(), **full).movedim(1, -1)  # else 8 times as slow


def clip_of_still(frame: Tensor, labels: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """One image (3, H, W) uint8 and its label map (H, W) uint8 to a clip (T, 3, H, W) and (T, H, W) in
    which it is turned, slanted, scaled, shifted and bent along smooth random curves.

    Outside of the image frames show what it mirrors, and labels are 255, to be ignored.
    """
    H, W = labels.shape
    limits = torch.tensor([DEGREES, SHEAR, ZOOM_SPREAD, SHIFT, SHIFT])
    curves = glide(limits * (2 * torch.rand(KNOTS, 5) - 1), num_frames)
    points = 2 * torch.rand(CONTROL_POINTS, 2) - 1
    bends = glide(BEND * torch.randn(KNOTS, 2 * CONTROL_POINTS), num_frames).view(-1, CONTROL_POINTS, 2)
    frames, label_maps = [], []
    for (degrees, shear, zoom, *shift), offsets in zip(curves.tolist(), bends, strict=True):
        grid = affine_grid(H, W, degrees=degrees, shear=shear, scale=math.exp(ZOOM + zoom))
        grid = grid + torch.tensor(shift) + bend_grid(points, offsets, H, W)
        frames.append(read_by(grid, frame, None, "bilinear"))
        label_maps.append(read_by(grid, labels[None], [float(IGNORE)], "nearest")[0])
    return torch.stack(frames), torch.stack(label_maps)
