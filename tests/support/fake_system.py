"""A small prompted system that proves the doors: masks or boxes in, soft background, raw pixels, own clips.

An object is the mean feature of its prompted pixels; a pixel belongs to the nearest one, or to the ground.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from annotated.videos import VOSFolder
from common.config import option
from common.seeding import seeded
from common.types import Clip, Prompt, Tracks
from configs.systems import SystemConfigs
from dataset import compact_labels
from training.system import System
from utils import weighted_mean
from video.label_maps import IGNORE
from video.masks import masks_from_labels
from video.transforms import draw


def mean_features(features: Tensor, masks: Tensor) -> Tensor:
    """(B, D, H, W) features and (B, K, H, W) bool masks to (B, K, D), zeros where a mask is empty."""
    sums = torch.einsum("bdhw,bkhw->bkd", features, masks.float())
    return sums / masks.sum((2, 3)).clamp(min=1)[..., None]


class FakeNetwork(nn.Module):
    @dataclass
    class Config:
        width: int = option(8, "channels of the features")

    stride = 1
    takes_prompt = True
    backbone_parts = ("backbone",)
    recomputed_parts = ("head",)

    def __init__(self, config: Config):
        super().__init__()
        self.backbone = nn.Conv2d(3, config.width, 3, padding=1)
        self.head = nn.Conv2d(config.width, config.width, 3, padding=1, bias=False)
        self.ground = nn.Parameter(torch.zeros(config.width))

    def set_epoch(self, epoch: int, epochs: int) -> bool:
        return False

    def encode(self, frames: Tensor) -> Tensor:
        """(M, 3, H, W) raw pixels, 0 to 255, to (M, D, H, W)."""
        return self.head(F.relu(self.backbone(frames / 127.5 - 1)))

    def compare(self, features: Tensor, prototypes: Tensor) -> Tensor:
        """(B, D, H, W) and (B, K + 1, D), the ground first, to logits (B, K + 1, H, W)."""
        prototypes = torch.cat([prototypes[:, :1] + self.ground, prototypes[:, 1:]], 1)
        lengths = prototypes.square().sum(-1)[..., None, None]
        return 2 * torch.einsum("bdhw,bkd->bkhw", features, prototypes) - lengths

    def forward(self, frames: Tensor, prompt: Tensor | None = None) -> dict[str, Tensor]:
        """frames (B, T, 3, H, W) and the masks of the first (B, K, H, W) to `logits` (B, T, K + 1, H, W)."""
        T = frames.shape[1]
        features = self.encode(frames.flatten(0, 1)).unflatten(0, (-1, T))
        masks = torch.cat([~prompt.any(1, keepdim=True), prompt], 1)
        prototypes = mean_features(features[:, 0], masks)
        return {"logits": torch.stack([self.compare(features[:, t], prototypes) for t in range(T)], 1)}


class FakeCriterion(nn.Module):
    @dataclass
    class Config:
        w_pixel: float = option(1.0, "weight of the cross-entropy")

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.stats: dict[str, Tensor] = {}

    def forward(self, outputs: dict[str, Tensor], clip: Clip) -> dict[str, Tensor]:
        labels = clip.labels.flatten(0, 1).long()
        empty = F.pad(clip.ids == 0, (1, 0))[:, None, :, None, None]  # slots that only fill the batch
        logits = outputs["logits"].float().masked_fill(empty, -1e4).flatten(0, 1)
        losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
        return {"pixel": self.config.w_pixel * weighted_mean(losses, labels != IGNORE)}


class FakeTracker:
    needs_prompt = True

    @dataclass
    class Config:
        mask_threshold: float = option(0.5, "probability above which a pixel belongs to an object")

    def __init__(self, network: FakeNetwork, config: Config):
        self.network, self.mask_threshold = network, config.mask_threshold
        self.reset()

    def reset(self) -> None:
        self.prototypes: dict[int, Tensor] = {}  # by id, 0 the ground

    @torch.inference_mode()
    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        features = self.network.encode(frame[None].float())
        if prompt is not None and prompt.ids:
            ids, masks = self._masks(prompt, frame.shape[-2:])
            named = dict(zip(ids, mean_features(features, masks)[0], strict=True))
            self.prototypes |= named | {0: self.prototypes.get(0, named[0])}  # later prompts name few objects
        ids = torch.tensor(sorted(self.prototypes)[1:], dtype=torch.int64)
        if not len(ids):
            return Tracks.empty(*frame.shape[-2:])
        prototypes = torch.stack([self.prototypes[i] for i in sorted(self.prototypes)])
        probs = self.network.compare(features, prototypes[None])[0].softmax(0)  # (K + 1, H, W)
        labels = torch.cat([ids.new_zeros(1), ids])[probs.argmax(0)]
        return Tracks(ids=ids, labels=labels, masks=probs[1:], scores=probs[1:].flatten(1).amax(1))

    def _masks(self, prompt: Prompt, size: tuple[int, int]) -> tuple[list[int], Tensor]:
        """The prompt's ids, the ground first, and their (1, K + 1, H, W) masks."""
        labels = torch.zeros(size, dtype=torch.int64) if prompt.labels is None else prompt.labels.clone()
        for track, (x, y, width, height) in prompt.boxes.items():
            labels[int(y) : int(y + height), int(x) : int(x + width)] = track
        ids = [0, *prompt.ids]
        return ids, masks_from_labels(labels, torch.tensor(ids))[None]

    def state_dict(self) -> dict[str, Any]:
        return dict(self.prototypes)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.prototypes = dict(state)


class FakeDataset(Dataset[Clip]):
    """The middle of two frames of each video, cut out at an odd size that no batch may pad."""

    @dataclass
    class Config:
        crop: int = option(25, "side of the square that is cut out of the middle, pixels")

    def __init__(
        self, folder: VOSFolder, config: Config, *, training: bool, seed: int = 0, skip_bad: bool = False
    ):
        self.folder, self.config, self.training, self.seed = folder, config, training, seed
        self.upright = [False] * len(folder.videos)

    def __len__(self) -> int:
        return len(self.folder.videos)

    def __getitem__(self, key: tuple[int, ...]) -> Clip:
        video, side = self.folder.videos[key[1]], self.config.crop
        with seeded(self.seed, *key[:2]):
            start = int(draw(0, len(video.annotated) - 1)) if self.training else 0
        names = video.annotated[start : start + 2]
        frames = torch.from_numpy(np.stack([video.read_frame(name) for name in names])).permute(0, 3, 1, 2)
        labels, ids = compact_labels([video.read_labels(name) for name in names])
        top, left = ((whole - side) // 2 for whole in labels.shape[-2:])
        window = (..., slice(top, top + side), slice(left, left + side))
        ids = torch.tensor([ids], dtype=torch.int64)
        return Clip(
            frames=frames[window].float()[None],
            labels=labels[window][None],
            ids=ids,
            classes=torch.zeros_like(ids),
            names=[[(video.name, name) for name in names]],
        )

    @staticmethod
    def collate(clips: list[Clip]) -> Clip:
        K = max(clip.ids.shape[1] for clip in clips)
        return Clip(
            frames=torch.cat([clip.frames for clip in clips]),
            labels=torch.cat([clip.labels for clip in clips]),
            ids=torch.cat([F.pad(clip.ids, (0, K - clip.ids.shape[1])) for clip in clips]),
            classes=torch.cat([F.pad(clip.classes, (0, K - clip.ids.shape[1])) for clip in clips]),
            names=[clip.names[0] for clip in clips],
        )

    def largest(self, batch: Clip) -> Clip:
        return batch


def start(network: FakeNetwork, config: FakeNetwork.Config) -> None:
    """It begins with what it was made of."""


FAKE_CONFIGS = SystemConfigs(FakeNetwork.Config, FakeCriterion.Config, FakeTracker.Config, FakeDataset.Config)
SYSTEM = System(FakeNetwork, FakeCriterion, FakeTracker, FakeDataset, start)
