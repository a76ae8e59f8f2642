"""How STCN's clips are varied: once for the clip, and a little for each frame; videos and still images.

Frames are uint8 (T, 3, H, W), masks (T, 1, H, W); whatever moves a frame moves its mask. All draws come from
torch's generator.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from video.transforms import draw, jitter, resize_frames
from video.warps import affine_grid, read_by, thin_plate_grid

GROUND = [124.0, 116.0, 104.0]  # the mean of ImageNet, which fills what an affine map uncovers
CONTROL_POINTS, WARP_SIGMA, WARP_PROBABILITY = 12, 0.02, 0.33


def around(value: float) -> float:
    return draw(-value, value)


def random_affine(
    frame: Tensor, mask: Tensor, *, degrees: float, shear: float, scale: tuple[float, float], mode: str
) -> tuple[Tensor, Tensor]:
    """One random turn, shear and scaling of a frame and its mask, which is read by `mode`."""
    turn = {"degrees": around(degrees), "scale": draw(*scale), "shear": around(shear)}
    grid = affine_grid(*frame.shape[-2:], **turn)
    return read_by(grid, frame, GROUND, "bilinear"), read_by(grid, mask, [0.0], mode)


def jitter_clip(frames: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Other colours, drawn once for all frames; one frame after the other, which stays in the CPU's cache."""
    from torchvision.transforms import v2

    transform = v2.ColorJitter(brightness, contrast, saturation)
    params = transform.make_params([frames])
    return torch.stack([transform.transform(frame, params) for frame in frames])


def random_colours(frames: Tensor, strength: float) -> Tensor:
    """(T, 3, 4), what `recolour` makes of each frame: brightness, contrast and saturation of its own."""
    return torch.cat([jitter(frame[None], *(1 + around(strength) for _ in range(3))) for frame in frames])


def random_flip(frames: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    return (frames.flip(-1), masks.flip(-1)) if draw(0, 1) < 0.5 else (frames, masks)


def random_resized_crop(
    frames: Sequence[Tensor], labels: Sequence[Tensor], size: int, scale: tuple[float, float], mode: str
) -> tuple[Tensor, Tensor]:
    """A part with that share of the area and a ratio of 3:4 to 4:3, brought to a square; frames by `mode`.

    T frames (3, H, W) and label maps (H, W) to (T, 3, size, size) and (T, 1, size, size).
    """
    from torchvision.transforms import InterpolationMode, v2
    from torchvision.transforms.v2.functional import resized_crop

    window = v2.RandomResizedCrop(size, scale=scale).make_params([frames[0]])
    box = [window[name] for name in ("top", "left", "height", "width")]
    smooth = {"interpolation": InterpolationMode(mode), "antialias": True}
    frames = [resized_crop(frame, *box, [size, size], **smooth) for frame in frames]
    nearest = {"interpolation": InterpolationMode.NEAREST}
    labels = [resized_crop(label_map[None], *box, [size, size], **nearest) for label_map in labels]
    return torch.stack(frames), torch.stack(labels)


def random_crop(frame: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A square of one frame and its mask, which are at least that large."""
    H, W = frame.shape[-2:]
    top, left = int(draw(0, H - size + 1)), int(draw(0, W - size + 1))
    window = (..., slice(top, top + size), slice(left, left + size))
    return frame[window], mask[window]


def random_warp(frame: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Bend one frame and its mask by a thin-plate spline through a few random points."""
    points = torch.rand(CONTROL_POINTS, 2) * 2 - 1
    offsets = torch.randn(CONTROL_POINTS, 2) * WARP_SIGMA
    grid = thin_plate_grid(points, offsets, *frame.shape[-2:])
    return read_by(grid, frame, GROUND, "bilinear"), read_by(grid, mask, [0.0], "bilinear")


def vary_video(
    frames: Sequence[Tensor],
    labels: Sequence[Tensor],
    size: int,
    *,
    min_crop: float,
    degrees: float,
    shear: float,
    mode: str = "bicubic",
) -> tuple[Tensor, Tensor, Tensor]:
    """The published augmentation of videos: T frames (3, H, W) and label maps (H, W) to squares of a size.

    The third result are the colours of the frames, for `recolour`.
    min_crop: least share of the area that is kept; degrees, shear: of each frame by itself; mode: by which
    the crop is resized
    """
    from torchvision.transforms import v2

    crop = random_resized_crop(frames, labels, size, (min_crop, 1.0), mode)
    frames, labels = random_flip(*crop)  # fewer pixels than before the crop
    frames = v2.RandomGrayscale(0.05)(jitter_clip(frames, 0.1, 0.03, 0.03))
    turn = {"degrees": degrees, "shear": shear, "scale": (1.0, 1.0), "mode": "nearest"}
    pairs = [random_affine(*pair, **turn) for pair in zip(frames, labels, strict=True)]
    frames, labels = (torch.stack(maps) for maps in zip(*pairs, strict=True))
    return frames, labels.squeeze(1), random_colours(frames, 0.01)


def vary_image(frame: Tensor, mask: Tensor, size: int, num_frames: int) -> tuple[Tensor, Tensor]:
    """The published augmentation that makes a clip of one image: (3, H, W) uint8 and its mask (1, H, W),
    float in [0, 1], to (T, 3, size, size) and (T, 1, size, size), whose edges are soft.
    """
    from torchvision.transforms import v2

    whole = {"degrees": 0.0, "shear": 0.0, "scale": (0.8, 1.5), "mode": "bilinear"}
    frame, mask = random_flip(*random_affine(frame, mask, **whole))
    frame = v2.RandomGrayscale(0.05)(v2.ColorJitter(0.1, 0.05, 0.05, 0.05)(frame))
    clip = [_vary_frame(frame, mask, size) for _ in range(num_frames)]
    return torch.stack([frame for frame, _ in clip]), torch.stack([mask for _, mask in clip]).clamp(0, 1)


def _vary_frame(frame: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """One frame of a clip that is made of an image."""
    from torchvision.transforms import v2

    turn = {"degrees": 20.0, "shear": 10.0, "scale": (0.9, 1.1), "mode": "bilinear"}
    frame, mask = random_affine(frame, mask, **turn)
    shorter = min(frame.shape[-2:])
    fitted = tuple(max(size, round(side * size / shorter)) for side in frame.shape[-2:])
    frame, mask = random_crop(resize_frames(frame, fitted), resize_frames(mask, fitted), size)
    frame = v2.ColorJitter(0.1, 0.05, 0.05)(frame)
    return random_warp(frame, mask) if draw(0, 1) < WARP_PROBABILITY else (frame, mask)
