"""The way of pixels into SAM's square and back: resizing, padding, masks on the grid of cells."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from video.transforms import normalise

Size = tuple[int, int]


def fit_long_side(height: int, width: int, image_size: int) -> Size:
    """The (H, W) whose long side is `image_size`."""
    scale = image_size / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_exactly(frame: Tensor, image_size: int) -> Tensor:
    """(3, H, W) uint8 RGB to the long side `image_size`, with Pillow, as published."""
    H, W = fit_long_side(*frame.shape[-2:], image_size)
    picture = Image.fromarray(frame.permute(1, 2, 0).cpu().contiguous().numpy())
    resized = np.array(picture.resize((W, H), Image.Resampling.BILINEAR))
    return torch.from_numpy(resized).permute(2, 0, 1)


def resize_smoothly(x: Tensor, size: Size) -> Tensor:
    """(N, C, H, W) float to another size: bilinear with anti-aliasing."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)


def pad_to(x: Tensor, size: Size) -> Tensor:
    """(..., h, w) with zeros at the right and the bottom to (..., *size)."""
    return F.pad(x, (0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]))


def prepare_frame(frame: Tensor, image_size: int, device: torch.device | str = "cpu") -> Tensor:
    """(3, H, W) uint8 RGB to the encoder's input (1, 3, image_size, image_size), exactly as published.

    SAM's mean and deviation are ImageNet's.
    """
    image = normalise(resize_exactly(frame, image_size).to(device))[None]
    return pad_to(image, (image_size, image_size))


def prepare_frames(frames: Tensor, image_size: int) -> Tensor:
    """As `prepare_frame`, of normalised frames (N, 3, H, W) on any device: a grey level may differ by one."""
    resized = resize_smoothly(frames, fit_long_side(*frames.shape[-2:], image_size))
    return pad_to(resized, (image_size, image_size))


def masks_on_grid(masks: Tensor, image_size: int, grid: int) -> Tensor:
    """(N, H, W) masks in [0, 1] to the share of each cell of SAM's square that they cover, (N, grid, grid).

    The cells of the padding hold nothing.
    """
    size = fit_long_side(*masks.shape[-2:], image_size)
    resized = resize_smoothly(masks.float().unsqueeze(1), size)
    shares = F.avg_pool2d(pad_to(resized, (image_size, image_size)), image_size // grid)
    return shares.squeeze(1).clamp(0, 1)


def padding_on_grid(size: Size, image_size: int, grid: int) -> Tensor:
    """(grid, grid) bool: the cells that hold nothing of a frame of this size (H, W)."""
    height, width = fit_long_side(*size, image_size)
    begins = torch.arange(grid) * (image_size // grid)
    return (begins >= height)[:, None] | (begins >= width)[None]


def restore(masks: Tensor, size: Size, image_size: int) -> Tensor:
    """(N, M, h, w) maps of SAM's square to (N, M, H, W) ones of the frame that it was made of."""
    resized = fit_long_side(*size, image_size)
    masks = F.interpolate(masks, (image_size, image_size), mode="bilinear", align_corners=False)
    masks = masks[..., : resized[0], : resized[1]]
    return F.interpolate(masks, size, mode="bilinear", align_corners=False)


def batch_on_grid(masks: Tensor, sizes: list[Size], image_size: int, grid: int) -> Tensor:
    """`masks_on_grid` of (B, K, H, W) masks of clips whose frames fill `sizes`: (B, K, grid, grid)."""
    clips = zip(masks, sizes, strict=True)
    return torch.stack([masks_on_grid(x[:, :h, :w], image_size, grid) for x, (h, w) in clips])
