"""SAMTrackDataset: a frame and the one before it, its template, with one object that both show."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from common.types import Clip
from configs.sam_track import DataConfig
from dataset import VOSDataset, keep_objects, label_areas, label_slots, pad_and_stack, read_frames
from systems.sam_track.embedding_cache import file_key
from systems.sam_track.modules import Templates
from training.loader import Key
from video.label_maps import IGNORE
from video.transforms import draw

RETRIES = 5  # draws of a pair that shows no object twice


@dataclass(kw_only=True)
class PairClip(Clip):
    """A batch of pairs at their own sizes, padded at the right and the bottom with pixels to ignore.

    sizes: of each pair the (H, W) that its frames fill
    files: files[b][t] says where a frame comes from, as the cache of embeddings knows it; None: not known
    """

    sizes: list[tuple[int, int]]
    files: list[list[str]] | None

    @property
    def prompt(self) -> Templates:
        return Templates(super().prompt, self.sizes, self.files)


def collate(clips: list[PairClip]) -> PairClip:
    """One batch of single pairs of any sizes."""
    labels = pad_and_stack([clip.labels for clip in clips])
    sizes = [size for clip in clips for size in clip.sizes]
    for padded, (h, w) in zip(labels, sizes, strict=True):
        padded[:, h:], padded[:, :, w:] = IGNORE, IGNORE
    return PairClip(
        frames=pad_and_stack([clip.frames for clip in clips]),
        labels=labels,
        ids=pad_and_stack([clip.ids for clip in clips]),
        classes=pad_and_stack([clip.classes for clip in clips]),
        names=[names for clip in clips for names in clip.names],
        skipped=[path for clip in clips for path in clip.skipped],
        sizes=sizes,
        files=[files for clip in clips for files in clip.files],
    )


def choose_instance(labels: Tensor, instance: str, min_area: int) -> int:
    """The label of an object that both of (2, H, W) label maps show; 0 where there is none.

    instance: `largest`, by its pixels in the template (the first map), or `random`
    """
    areas, later = label_areas(labels).tolist()
    candidates = [label for label in range(1, IGNORE) if areas[label] >= min_area and later[label]]
    if not candidates:
        return 0
    if instance == "largest":
        return max(candidates, key=lambda label: areas[label])
    return candidates[int(draw(0, len(candidates)))]


class SAMTrackDataset(VOSDataset):
    """Pairs of annotated frames of a video, each a `PairClip` of B = 1 with one slot: template, then image.

    All other objects are background. Without `training`, a pair is in the middle of each video and has its
    largest object. A video of one frame is paired with itself; where no object is in both frames after some
    draws, the pair has no slot.
    """

    Config = DataConfig

    collate = staticmethod(collate)

    def largest(self, batch: PairClip) -> PairClip:
        """The batch as if no embedding of its files were known."""
        return replace(batch, files=None)

    def _draw(self, key: Key) -> PairClip:
        video = self.videos[key.index % len(self.videos)]
        instance = self.config.instance if self.training else "largest"
        for _ in range(RETRIES if self.training else 1):
            names = [video.annotated[place] for place in self._places(len(video.annotated))]
            labels, ids = label_slots([video.read_labels(name) for name in names])
            labels = torch.stack(labels)
            chosen = choose_instance(labels, instance, self.config.min_area)
            if chosen:
                break
        kept = [chosen] if chosen else []
        labels, frames = keep_objects(labels, kept, others=0), torch.stack(list(read_frames(video, names)))
        files = [file_key(video.frame_path(name)) for name in names]
        if self.training and draw(0, 1) < self.config.flip_probability:
            frames, labels = frames.flip(-1), labels.flip(-1)
            files = [f"{name}|flipped" for name in files]
        slots = torch.tensor([[ids[label - 1] for label in kept]], dtype=torch.int64)
        return PairClip(
            frames=frames[None],
            labels=labels[None],
            ids=slots,
            classes=torch.zeros_like(slots),
            names=[[(video.name, name) for name in names]],
            sizes=[tuple(frames.shape[-2:])],
            files=[files],
        )

    def _places(self, length: int) -> tuple[int, int]:
        """The places of template and image among the annotated frames of a video."""
        if length == 1:
            return 0, 0
        if not self.training:
            return (length - 1) // 2, (length - 1) // 2 + 1
        gap = int(draw(1, min(self.config.max_gap, length - 1) + 1))
        template = int(draw(0, length - gap))
        return template, template + gap
