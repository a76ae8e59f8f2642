"""Sizes, normalisation, and augmentation applied identically to every frame and label map of a clip."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from common.config import option
from video.allocate import empty

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GREY = (0.299, 0.587, 0.114)  # the weights of R, G and B in brightness (ITU-R BT.601)
Window = tuple[EllipsisType | slice, ...]  # an index of the last two axes
LONGEST = 2  # the long side of a frame is at most this many times --image_size


def normalise(frames: Tensor) -> Tensor:
    """(..., 3, H, W) uint8 RGB to float32 in ImageNet statistics."""
    scaled = TF.to_dtype(frames, torch.float32, scale=True)
    return TF.normalize(scaled, list(IMAGENET_MEAN), list(IMAGENET_STD), inplace=True)


def fit_short_side(height: int, width: int, short_side: float, longest: float) -> tuple[int, int]:
    """The (H, W) with this short side, smaller where the long side would pass `longest`."""
    scale = min(short_side / min(height, width), longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_frames(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 3, H, W) uint8 to another size: bilinear with anti-aliasing."""
    return frames if frames.shape[-2:] == size else TF.resize(frames, list(size), antialias=True)


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., H, W) label maps to another size by the nearest pixel, so that no new label appears."""
    if labels.shape[-2:] == size:
        return labels
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for old, new in zip(labels.shape[-2:], size, strict=True)
    )
    return torch.from_numpy(labels.numpy().take(rows, -2).take(columns, -1))


def recolour(frames: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """As `normalise` for (T, 3, H, W), with other colours; the factors 1 change nothing.

    Brightness scales, contrast mixes with the mean grey of each frame, saturation with the grey of each
    pixel, as torchvision's ColorJitter does. Without rounding and clipping between them their order does not
    matter, and one affine map of the colours is all three and the normalisation.
    """
    grey, mean, std = (torch.tensor(values) for values in (GREY, IMAGENET_MEAN, IMAGENET_STD))
    mixing = brightness * contrast * (saturation * torch.eye(3) + (1 - saturation) * grey.expand(3, 3))
    mixing /= 255 * std[:, None]
    lowest, highest = (-mean / std).tolist(), ((1 - mean) / std).tolist()
    normalised = empty(*frames.shape)
    for frame, new in zip(frames, normalised, strict=True):
        colours = frame.flatten(1).float()  # (3, H * W)
        shift = brightness * (1 - contrast) * (colours.mean(1) @ grey) / 255
        torch.addmm(((shift - mean) / std)[:, None], mixing, colours, out=new.flatten(1))
        for channel, low, high in zip(new, lowest, highest, strict=True):
            channel.clamp_(low, high)
    return normalised


def draw(low: float, high: float) -> float:
    """One uniform number from torch's generator."""
    return low + (high - low) * torch.rand(()).item()


def random_window(height: int, width: int, image_size: int) -> Window:
    """The crop of `augment` as an index of the last two axes of frames and label maps of this size.

    It is in the pixels of the source, so that one resize follows it and not two.
    """
    scale = draw(1.04, 1.56) * image_size / min(height, width)
    h, w = (min(side, round(draw(1, 1.56) * image_size / scale)) for side in (height, width))
    top, left = int(draw(0, height - h + 1)), int(draw(0, width - w + 1))
    return ..., slice(top, top + h), slice(left, left + w)


def crop(frame: Tensor, window: Window) -> Tensor:
    """The window of a frame (3, H, W), its colours side by side in memory: so torch resizes it fastest."""
    return frame[window].permute(1, 2, 0).contiguous().permute(2, 0, 1)


@dataclass
class Augmentation:
    """Random geometry and colour for one clip.

    Half the time (`crop_probability`) a part of the frames is cut out first: frames are thought of at a short
    side of 1.04 to 1.56 times `image_size`, and 1 to 1.56 times `image_size` of each side are kept. These are
    the ratios of the usual video instance segmentation recipe (resize 400-600, crop 384-600, at 384).
    """

    min_scale: float = option(
        0.75, "least short side of training frames, relative to --image_size", least=0.1
    )
    max_scale: float = option(
        1.33, "largest short side of training frames, relative to --image_size", least=0.1
    )
    crop_probability: float = option(0.5, "probability of a random crop of the clip", least=0, most=1)
    flip_probability: float = option(0.5, "probability of a horizontal flip of the clip", least=0, most=1)
    color_jitter: float = option(
        0.1, "strength of brightness, contrast and saturation jitter of the clip", least=0, most=1
    )


def augment(
    config: Augmentation, frames: Iterable[Tensor], labels: Sequence[Tensor] | Tensor, image_size: int
) -> tuple[Tensor, Tensor]:
    """T frames (3, H, W) uint8 and label maps (H, W) uint8 to (T, 3, h, w) float32 and (T, h, w) uint8.

    The frames are normalised. Draws from torch's generator.
    """
    window: Window = (...,)
    if draw(0, 1) < config.crop_probability:
        window = random_window(*labels[0].shape, image_size)
    short_side = draw(config.min_scale, config.max_scale) * image_size
    size = fit_short_side(*labels[0][window].shape, short_side, LONGEST * image_size)
    frames = torch.stack([resize_frames(crop(frame, window), size) for frame in frames])
    labels = torch.stack([resize_labels(label_map[window], size) for label_map in labels])
    if draw(0, 1) < config.flip_probability:
        frames, labels = frames.flip(-1), labels.flip(-1)
    if config.color_jitter == 0:
        return normalise(frames), labels
    weakest, strongest = 1 - config.color_jitter, 1 + config.color_jitter
    return recolour(frames, *(draw(weakest, strongest) for _ in range(3))), labels
