"""The blocks of which STCN's value encoder and decoder are built.

Tensors are (B, K, C, h, w): each of K objects has features of its own, and what belongs to the frame alone is
(B, 1, C, h, w). A convolution of the two joined is the sum of the convolutions of each, so that the frame's
part is computed once, whatever the number of objects.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.stcn.winograd import WinogradConv2d


def over_objects(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function of (M, C, h, w) to (B, K, C, h, w)."""
    return function(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def parts_of_objects(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors (B, K, ...) in parts of a few objects: on a CPU of one each, because large features that do not
    fit its caches, or the memory that its allocator keeps at hand, cost more than many small ones.
    """
    together = 1 if tensors[0].device.type == "cpu" else max(1, tensors[0].shape[1])
    return zip(*(x.split(together, 1) for x in tensors), strict=True)


def upsample(x: Tensor, factor: int) -> Tensor:
    """(M, C, h, w) enlarged bilinearly by a whole factor."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class JoinedConv2d(WinogradConv2d):
    """A convolution of objects and their frame, joined along the channels in either order.

    Given (B, K, C1, h, w) of the objects and (B, 1, C2, h, w) of the frame, the result is that of
    `nn.Conv2d` on K times the frame with each object, (B, K, C, h, w).
    frame_first: whether the frame's channels come first
    """

    def __init__(self, *args: Any, frame_first: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.frame_first = frame_first

    def forward(self, objects: Tensor, frame: Tensor) -> Tensor:
        first, second = (frame, objects) if self.frame_first else (objects, frame)
        result = over_objects(lambda x: self.on_channels(x, 0, self.bias), first)
        return result + over_objects(lambda x: self.on_channels(x, first.shape[2], None), second)


class ResBlock(nn.Module):
    """A pre-activation residual block without normalisation, 3x3 convolutions throughout."""

    def __init__(self, inputs: int, channels: int):
        super().__init__()
        self.downsample = WinogradConv2d(inputs, channels, 3, padding=1) if inputs != channels else None
        self.conv1 = WinogradConv2d(inputs, channels, 3, padding=1)
        self.conv2 = WinogradConv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(M, C1, h, w) to (M, C2, h, w)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return shortcut + self.conv2(self.conv1(F.relu(x)).relu_())


class JoinedResBlock(nn.Module):
    """The same residual block on objects and their frame, joined in either order."""

    def __init__(self, inputs: int, channels: int, *, frame_first: bool = False):
        super().__init__()
        self.downsample = JoinedConv2d(inputs, channels, 3, padding=1, frame_first=frame_first)
        self.conv1 = JoinedConv2d(inputs, channels, 3, padding=1, frame_first=frame_first)
        self.conv2 = WinogradConv2d(channels, channels, 3, padding=1)

    def forward(self, objects: Tensor, frame: Tensor) -> Tensor:
        """(B, K, C1, h, w) and (B, 1, C2, h, w) to (B, K, C3, h, w)."""
        residual = self.conv1(F.relu(objects), F.relu(frame)).relu_()
        return self.downsample(objects, frame) + over_objects(self.conv2, residual)


class ChannelGate(nn.Module):
    """A weight for each channel, from its mean and its largest value over the picture."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        narrow = channels // reduction
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, narrow), nn.ReLU(), nn.Linear(narrow, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * logits.sigmoid()[..., None, None]


class SpatialGate(nn.Module):
    """A weight for each place, from the largest and the mean value over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.ModuleDict({"conv": nn.Conv2d(2, 1, 7, padding=3)})

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * self.spatial["conv"](pooled).sigmoid()


class CBAM(nn.Module):
    """Channel and spatial attention (Woo et al., ECCV 2018)."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.ChannelGate = ChannelGate(channels, reduction)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, h, w) to the same, gated."""
        return self.SpatialGate(self.ChannelGate(x))


class FeatureFusionBlock(nn.Module):
    """Joins an object's features with those of its frame, in either order, with attention."""

    def __init__(self, inputs: int, channels: int, *, frame_first: bool = False):
        super().__init__()
        self.block1 = JoinedResBlock(inputs, channels, frame_first=frame_first)
        self.attention = CBAM(channels)
        self.block2 = ResBlock(channels, channels)

    def forward(self, objects: Tensor, frame: Tensor) -> Tensor:
        """(B, K, C1, h, w) and (B, 1, C2, h, w) to (B, K, C3, h, w)."""
        x = self.block1(objects, frame)
        return over_objects(lambda x: self.block2(x + self.attention(x)), x)


class UpsampleBlock(nn.Module):
    """Brings objects to twice the size, with the finer features of their frame.

    `skip_conv` brings those to the objects' channels, once for all objects.
    """

    def __init__(self, skip_channels: int, inputs: int, channels: int):
        super().__init__()
        self.skip_conv = WinogradConv2d(skip_channels, inputs, 3, padding=1)
        self.out_conv = ResBlock(inputs, channels)

    def forward(self, objects: Tensor, skip: Tensor) -> Tensor:
        """(B, K, C1, h, w) and `skip_conv` of the frame's, (B, C1, 2h, 2w), to (B, K, C2, 2h, 2w)."""
        finer = over_objects(lambda x: upsample(x, 2), objects)
        return over_objects(self.out_conv, finer + skip.unsqueeze(1))
