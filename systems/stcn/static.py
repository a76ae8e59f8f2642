"""Still images with masks, from which STCN is pretrained: each becomes a clip of warped copies."""

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from annotated.still_images import find_pairs
from common.errors import UserError
from common.types import Clip
from dataset import collate
from systems.stcn.augmentation import vary_image
from video.images import exif_remedy, read_frame, read_header, read_pixels

FIVEFOLD = ("BIG", "HRSOD")  # folders of fine masks, which count five times, as published


@dataclass(kw_only=True)
class SoftClip(Clip):
    """A clip whose first masks are soft: at their edges, which were warped, they lie between 0 and 1.

    soft: (B, K, H, W)
    """

    soft: Tensor

    @property
    def prompt(self) -> Tensor:
        return self.soft

    @property
    def hard(self) -> Clip:
        """The same with masks of 0 and 1."""
        return Clip(**{item.name: getattr(self, item.name) for item in fields(Clip)})


def collate_soft(clips: list[SoftClip]) -> SoftClip:
    """One batch of clips of one size."""
    return SoftClip(**vars(collate(clips)), soft=torch.cat([clip.soft for clip in clips]))


def weighted_pairs(root: Path) -> list[tuple[Path, Path]]:
    """As `find_pairs`, with those in the folders of fine masks five times."""
    pairs = find_pairs(root)
    folders = (image.relative_to(root).parts[:-1] for image, _ in pairs)
    fine = [
        pair
        for pair, names in zip(pairs, folders, strict=True)
        if any(name.startswith(FIVEFOLD) for name in names)
    ]
    return pairs + 4 * fine


def read_mask(path: Path) -> Tensor:
    """(1, H, W) float in [0, 1]: where a palette PNG is not 0, or how bright a grey one is."""
    mode, _ = read_header(path)
    if mode in ("P", "1"):
        return torch.from_numpy(read_pixels(path) > 0)[None].float()
    brightness = torch.from_numpy(read_frame(path)).amax(-1)[None]
    return brightness / brightness.max().clamp(min=1)


class StillClips:
    """Clips of one object, each of one still image that is warped anew for every frame."""

    def __init__(self, root: Path, size: int, num_frames: int):
        if not root.is_dir():
            raise UserError(f"--static_root {root}: no such folder; it holds images and their masks")
        self.pairs, self.size, self.num_frames = weighted_pairs(root), size, num_frames

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, index: int) -> SoftClip:
        """A clip of B = 1; UserError where a mask has another size than its image."""
        image_path, mask_path = self.pairs[index]
        frame, mask = torch.from_numpy(read_frame(image_path)).permute(2, 0, 1), read_mask(mask_path)
        if frame.shape[1:] != mask.shape[1:]:
            (h, w), (H, W) = mask.shape[1:], frame.shape[1:]
            trouble = f"mask {mask_path} is {w}x{h} but its image is {W}x{H}"
            raise UserError(trouble + exif_remedy(image_path, (h, w)))
        frames, masks = vary_image(frame, mask, self.size, self.num_frames)
        is_visible = bool((masks[0] > 0.5).any())
        name = str(image_path.with_suffix(""))
        return SoftClip(
            frames=frames[None],
            labels=(masks[:, 0] > 0.5).to(torch.uint8)[None] * is_visible,
            ids=torch.tensor([[int(is_visible)]]),
            classes=torch.zeros(1, 1, dtype=torch.int64),
            names=[[(name, str(t)) for t in range(self.num_frames)]],
            sizes=[tuple(frames.shape[-2:])],
            soft=masks[0][None] * is_visible,
        )
