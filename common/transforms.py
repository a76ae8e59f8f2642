"""Sizes, normalisation, and augmentation applied identically to every frame and label map of a clip."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as TF

from common.config import option

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LONGEST = 2  # the long side of a frame is at most this many times --image_size


def normalise(frames: Tensor) -> Tensor:
    """(..., 3, H, W) uint8 RGB to float32 in ImageNet statistics."""
    return TF.normalize(
        TF.to_dtype(frames, torch.float32, scale=True), list(IMAGENET_MEAN), list(IMAGENET_STD)
    )


def fit_short_side(height: int, width: int, short_side: float, longest: float) -> tuple[int, int]:
    """The (H, W) with this short side, smaller where the long side would pass `longest`."""
    scale = min(short_side / min(height, width), longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_frames(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 3, H, W) uint8 to another size: bilinear with anti-aliasing."""
    return frames if frames.shape[-2:] == size else TF.resize(frames, list(size), antialias=True)


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, H, W) label maps to another size by the nearest pixel, so that no new label appears."""
    if labels.shape[-2:] == size:
        return labels
    return TF.resize(labels, list(size), interpolation=InterpolationMode.NEAREST_EXACT)


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

    def __call__(self, frames: Tensor, labels: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
        """(T, 3, H, W) uint8 frames and (T, H, W) uint8 label maps; draws from torch's generator."""
        if draw(0, 1) < self.crop_probability:
            frames, labels = random_crop(frames, labels, image_size)
        short_side = draw(self.min_scale, self.max_scale) * image_size
        size = fit_short_side(*frames.shape[-2:], short_side, LONGEST * image_size)
        frames, labels = resize_frames(frames, size), resize_labels(labels, size)
        if draw(0, 1) < self.flip_probability:
            frames, labels = frames.flip(-1), labels.flip(-1)
        if self.color_jitter > 0:
            frames = v2.ColorJitter(self.color_jitter, self.color_jitter, self.color_jitter)(frames)
        return frames, labels


def draw(low: float, high: float) -> float:
    """One uniform number from torch's generator."""
    return low + (high - low) * torch.rand(()).item()


def random_crop(frames: Tensor, labels: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
    """The crop of `Augmentation`, in the pixels of the source, so that one resize follows it and not two."""
    H, W = frames.shape[-2:]
    scale = draw(1.04, 1.56) * image_size / min(H, W)
    h, w = (min(side, round(draw(1, 1.56) * image_size / scale)) for side in (H, W))
    top, left = int(draw(0, H - h + 1)), int(draw(0, W - w + 1))
    window = (..., slice(top, top + h), slice(left, left + w))
    return frames[window], labels[window]
