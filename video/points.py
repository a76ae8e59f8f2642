"""Points on which masks are compared, as PointRend and Mask2Former do.

Logits and label maps are read bilinearly at points in [0, 1] x [0, 1] (x right, y down), never resized.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from video.label_maps import IGNORE


def pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """(H*W, 2) the centres of all pixels, as (x, y) in [0, 1]."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flatten(0, 1).flip(-1)


def read_grid(logits: Tensor, grid: Tensor) -> Tensor:
    """Read (M, C, h, w) maps bilinearly at (M, 1, P, 2) points in [-1, 1] x [-1, 1]: (M, C, P)."""
    return F.grid_sample(logits, grid, padding_mode="border", align_corners=False).squeeze(2)


def sample_logits(logits: Tensor, points: Tensor) -> Tensor:
    """Read (M, C, h, w) maps bilinearly at (M, P, 2) points: (M, C, P)."""
    return read_grid(logits, 2 * points.unsqueeze(1) - 1)


class LabelsAtPoints(NamedTuple):
    """The four pixels around each point and what each counts: labels (M, 4, P) uint8, weights (M, 4, P)."""

    labels: Tensor
    weights: Tensor

    def masks(self, slots: Tensor) -> Tensor:
        """(M, P) bilinear value of the mask of one slot for each row; slots (M,) holds labels."""
        masks = (self.weights * (self.labels == slots.to(self.labels)[:, None, None])).sum(1)
        return masks / self.counted.clamp(min=1e-6)  # ignored pixels are not "outside"

    def all_masks(self, num_slots: int) -> Tensor:
        """(M, K, P) bilinear values of the masks of the slots 1 to K, corner by corner to save memory."""
        slots = torch.arange(1, num_slots + 1, dtype=self.labels.dtype, device=self.labels.device)
        masks = self.weights.new_zeros(len(self.labels), num_slots, self.labels.shape[-1])
        for corner in range(4):
            masks += self.weights[:, None, corner] * (self.labels[:, None, corner] == slots[:, None])
        return masks / self.counted.clamp(min=1e-6)[:, None]

    @property
    def counted(self) -> Tensor:
        """(M, P) share of each point that does not lie on ignored pixels."""
        return (self.weights * (self.labels != IGNORE)).sum(1)


def sample_labels(labels: Tensor, rows: Tensor, points: Tensor) -> LabelsAtPoints:
    """Read (B*T, H, W) label maps around (M, P, 2) points, point row m in label map rows[m]."""
    H, W = labels.shape[-2:]
    pixels = torch.stack([points[..., 0] * W, points[..., 1] * H], -1) - 0.5
    low = pixels.floor()
    right, lower = (pixels - low).unbind(-1)  # weights of the pixels at the right and below
    columns, lines = (
        [(low[..., axis] + step).clamp(0, side - 1).long() for step in (0, 1)]
        for axis, side in ((0, W), (1, H))
    )
    first = (rows * H * W)[:, None]  # of each map, among all pixels
    corners = [labels.take(first + y * W + x) for y in lines for x in columns]
    weights = [v * u for v in (1 - lower, lower) for u in (1 - right, right)]
    return LabelsAtPoints(torch.stack(corners, 1), torch.stack(weights, 1))


@torch.no_grad()
def uncertain_points(mask_logits: Tensor, num_points: int) -> Tensor:
    """(M, P, 2) points: of three times as many drawn the 75 % nearest to the decision, and 25 % drawn anew.

    mask_logits is (M, h, w). PointRend (Kirillov et al. 2020), section 3.1, training.
    """
    M, num_uncertain = len(mask_logits), int(0.75 * num_points)
    grid = torch.empty(M, 1, 3 * num_points, 2, device=mask_logits.device).uniform_(-1, 1)
    certainty = read_grid(mask_logits.unsqueeze(1), grid).squeeze(1).abs()
    nearest = certainty.topk(num_uncertain, dim=1, largest=False, sorted=False).indices
    uncertain = grid.squeeze(1).gather(1, nearest[..., None].expand(-1, -1, 2)) / 2 + 0.5
    return torch.cat([uncertain, torch.rand(M, num_points - num_uncertain, 2, device=grid.device)], 1)
