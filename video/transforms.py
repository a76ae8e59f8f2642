"""Sizes, normalisation, and augmentation applied identically to every frame and label map of a clip."""

import platform
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import EllipsisType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.device import zeros
from common.types import Clip
from configs.augmentation import Augmentation

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GREY = (0.299, 0.587, 0.114)  # the weights of R, G and B in brightness (ITU-R BT.601)
Window = tuple[EllipsisType | slice, ...]  # an index of the last two axes
LONGEST = 2  # the long side of a frame is at most this many times --image_size


def normalise(frames: Tensor) -> Tensor:
    """(..., 3, H, W) uint8 RGB to float32 in ImageNet statistics."""
    scaled = frames.float().mul_(1 / 255)
    for channel, mean, std in zip(scaled.unbind(-3), IMAGENET_MEAN, IMAGENET_STD, strict=True):
        channel.sub_(mean).div_(std)  # by numbers, for which no device has to wait
    return scaled


def fit_short_side(height: int, width: int, short_side: float, longest: float) -> tuple[int, int]:
    """The (H, W) with this short side, smaller where the long side would pass `longest`."""
    scale = min(short_side / min(height, width), longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resizes_bytes(device: torch.device) -> bool:
    """Whether uint8 is resized as it is; elsewhere torch is slow at that, or unable to."""
    vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return device.type == "cpu" and (vectors or platform.machine() in ("aarch64", "arm64"))


def resize_frames(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., C, H, W) uint8 or float32 to another size, as torchvision does: bilinear with anti-aliasing."""
    if frames.shape[-2:] == size:
        return frames
    images = frames.reshape(-1, *frames.shape[-3:])
    if len(images) == 1 and images.is_contiguous(memory_format=torch.channels_last):
        # The stride of the one image must say so too, for torch to write its result in the same order.
        images = images.as_strided(images.shape, (images.numel(), *images.stride()[1:]))
    rounded = images.dtype == torch.uint8 and not _resizes_bytes(images.device)
    resized = F.interpolate(images.float() if rounded else images, size, mode="bilinear", antialias=True)
    resized = resized.round_().to(torch.uint8) if rounded else resized
    return resized.reshape(*frames.shape[:-2], *size)


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., H, W) label maps to another size by the nearest pixel, so that no new label appears."""
    if labels.shape[-2:] == size:
        return labels
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for old, new in zip(labels.shape[-2:], size, strict=True)
    )
    return torch.from_numpy(labels.numpy().take(rows, -2).take(columns, -1))


def jitter(frames: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """(T, 3, 4), of each frame (3, H, W) uint8 the affine map from its colours, 0 to 255, to others that are
    normalised; the factors 1 only normalise.

    Brightness scales, contrast mixes with the mean grey of each frame, saturation with the grey of each
    pixel, as torchvision's ColorJitter does. Without rounding and clipping between them their order does not
    matter, and one affine map of the colours is all three and the normalisation.
    """
    grey, mean, std = (torch.tensor(values) for values in (GREY, IMAGENET_MEAN, IMAGENET_STD))
    mixing = brightness * contrast * (saturation * torch.eye(3) + (1 - saturation) * grey.expand(3, 3))
    brightnesses = frames.flatten(2).mean(2, dtype=torch.float32) @ grey / 255  # (T,)
    shift = (brightness * (1 - contrast) * brightnesses[:, None] - mean) / std
    mixing = (mixing / (255 * std[:, None])).expand(len(frames), 3, 3)
    return torch.cat([mixing, shift.unsqueeze(2)], 2)


def recolour(frames: Tensor, colours: Tensor) -> Tensor:
    """As `normalise` for (T, 3, H, W) uint8, with other colours: the (T, 3, 4) of `jitter`, not beyond white
    and black.
    """
    with torch.autocast(frames.device.type, enabled=False):
        pixels = frames.float().flatten(2)  # (T, 3, H*W)
        changed = torch.baddbmm(colours[..., 3:], colours[..., :3], pixels).view(frames.shape)
    for channel, mean, std in zip(changed.unbind(1), IMAGENET_MEAN, IMAGENET_STD, strict=True):
        channel.clamp_(-mean / std, (1 - mean) / std)
    return changed


def upload(clip: Clip, device: torch.device | str) -> Clip:
    """A batch on a device, its frames float32 there, with zeros around what each clip fills.

    Frames of uint8 travel as they are, a quarter of the bytes, and get their colours where they arrive;
    frames of float32 are not changed.
    """
    clip = clip.to(device, non_blocking=True)
    if clip.frames.dtype != torch.uint8:
        return clip
    frames = zeros(*clip.frames.shape, device=device)
    for b, (h, w) in enumerate(clip.sizes):
        part = clip.frames[b, ..., :h, :w]
        frames[b, ..., :h, :w] = normalise(part) if clip.colours is None else recolour(part, clip.colours[b])
    return replace(clip, frames=frames, colours=None)


def draw(low: float, high: float) -> float:
    """One uniform number from torch's generator."""
    return low + (high - low) * torch.rand(()).item()


def glide(knots: Tensor, count: int) -> Tensor:
    """(N, D) values that follow one another, to (count, D) on the Bezier curve from the first to the last."""
    times = torch.linspace(0, 1, count)[:, None]
    curve = knots[:, None]  # (N, 1, D)
    while len(curve) > 1:  # de Casteljau
        curve = curve[:-1] + times * (curve[1:] - curve[:-1])
    return curve[0].expand(count, -1)


class Geometry(NamedTuple):
    """How large the frames of a batch are; one draw for all clips of it, so that they fill it alike.

    short_side, longest: of the frames after all, as `fit_short_side` takes them, pixels
    crop: what is cut out first: the short side that frames are thought of at, and the height and width that
        are kept of them, pixels; None: they stay whole
    """

    short_side: float
    longest: float
    crop: tuple[float, float, float] | None


def random_window(height: int, width: int, crop: tuple[float, float, float]) -> Window:
    """A part of frames of this size, as an index of the last two axes; only where it lies is drawn.

    It is in the pixels of the source, so that one resize follows it and not two.
    """
    short_side, *kept = crop
    scale = short_side / min(height, width)
    h, w = (min(side, round(part / scale)) for side, part in zip((height, width), kept, strict=True))
    top, left = int(draw(0, height - h + 1)), int(draw(0, width - w + 1))
    return ..., slice(top, top + h), slice(left, left + w)


def crop(frame: Tensor, window: Window) -> Tensor:
    """The window of a frame (3, H, W), its colours side by side in memory: so torch resizes it fastest."""
    return frame[window].permute(1, 2, 0).contiguous().permute(2, 0, 1)


def draw_geometry(config: Augmentation, image_size: int, longest: float) -> Geometry:
    """The geometry of a batch whose frames have no side above `longest`; draws from torch's generator."""
    crop = None
    if draw(0, 1) < config.crop_probability:
        crop = (draw(1.04, 1.56) * image_size, draw(1, 1.56) * image_size, draw(1, 1.56) * image_size)
    return Geometry(draw(config.min_scale, config.max_scale) * image_size, longest, crop)


def augment(
    config: Augmentation, geometry: Geometry, frames: Iterable[Tensor], labels: Sequence[Tensor] | Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """T frames (3, H, W) uint8 and label maps (H, W) uint8 to (T, 3, h, w) and (T, h, w) uint8.

    The third result are the colours of the frames, as `jitter` tells them; None: as they are. Draws from
    torch's generator.
    """
    window: Window = (...,)
    if geometry.crop:
        window = random_window(*labels[0].shape, geometry.crop)
    size = fit_short_side(*labels[0][window].shape, geometry.short_side, geometry.longest)
    frames = torch.stack([resize_frames(crop(frame, window), size) for frame in frames])
    labels = torch.stack([resize_labels(label_map[window], size) for label_map in labels])
    if draw(0, 1) < config.flip_probability:
        frames, labels = frames.flip(-1), labels.flip(-1)
    if config.color_jitter == 0:
        return frames, labels, None
    weakest, strongest = 1 - config.color_jitter, 1 + config.color_jitter
    return frames, labels, jitter(frames, *(draw(weakest, strongest) for _ in range(3)))
