"""The refinement module: one response of a candidate window (RoW) to a mask of 127x127, by way of p2, p1, p0.

The residual upward path of SiamMask's figure 4: features of the response and of the frame, each through two
convolutions, are added and enlarged, three times.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of p0, p1, p2: side of the window that belongs to one response, its step from a response to the next, and
# how far the first window of a search crop begins outside of it.
WINDOWS = ((61, 4, 16), (31, 2, 8), (15, 1, 4))
REFINED = 127  # side of the masks


def two_convolutions(*channels: int) -> nn.Sequential:
    first, between, last = channels
    return nn.Sequential(
        nn.Conv2d(first, between, 3, padding=1), nn.ReLU(), nn.Conv2d(between, last, 3, padding=1), nn.ReLU()
    )


def window_at(features: Tensor, place: Tensor, side: int, step: int, margin: int) -> Tensor:
    """The windows (K, C, side, side) of (K, C, S, S) features at places (K, 2) as (y, x), zero outside.

    They are gathered on the device, without a word to the CPU.
    """
    K, _, size, _ = features.shape
    rows, columns = (
        (place[:, axis, None] * step - margin) + torch.arange(side, device=place.device) for axis in (0, 1)
    )
    inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None]
    rows, columns = rows.clamp(0, size - 1), columns.clamp(0, size - 1)
    each = torch.arange(K, device=place.device)[:, None, None]
    windows = features.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None]]  # (K, side, side, C)
    return (windows * inside[..., None]).permute(0, 3, 1, 2)


def all_windows(features: Tensor, side: int, step: int) -> Tensor:
    """Every window inside of (B, C, S, S), in the order sample, row, column: (B * n * n, C, side, side)."""
    windows = features.unfold(2, side, step).unfold(3, side, step)  # (B, C, n, n, side, side)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


class Refinement(nn.Module):
    """Refines responses, each with its windows of p0, p1 and p2."""

    def __init__(self, channels: tuple[int, ...], features: int):
        """channels: of p0, p1, p2; features: of a response"""
        super().__init__()
        c0, c1, c2 = channels[:3]
        self.v0 = two_convolutions(c0, c0 // 4, 4)
        self.v1 = two_convolutions(c1, c1 // 4, 16)
        self.v2 = two_convolutions(c2, c2 // 4, 32)
        self.h2, self.h1, self.h0 = (two_convolutions(c, c, c) for c in (32, 16, 4))
        self.deconv = nn.ConvTranspose2d(features, 32, 15, 15)
        self.post0, self.post1, self.post2 = (
            nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in ((32, 16), (16, 4), (4, 1))
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_uniform_(part.weight, a=1)

    def forward(self, responses: Tensor, windows: list[Tensor]) -> Tensor:
        """responses (K, C), windows of p0, p1, p2 (K, c, 61, 61), (K, c, 31, 31), (K, c, 15, 15) to mask
        logits (K, 127, 127).
        """
        w0, w1, w2 = windows
        x = self.deconv(responses[..., None, None])
        # The nearest pixel, and before the convolution: the meaning of the published weights.
        x = self.post0(F.interpolate(self.h2(x) + self.v2(w2), 31))
        x = self.post1(F.interpolate(self.h1(x) + self.v1(w1), 61))
        return self.post2(F.interpolate(self.h0(x) + self.v0(w0), REFINED))[:, 0]
