"""YouTubeVOSDataset: short clips of annotated videos, with the most frequent objects of each.

What the datasets of all systems share is here too: the base class, object choice, batches and their order.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from annotated.paste import CutOut, draw_cut_outs, identities, paste, require_others
from annotated.videos import AnnotatedVideo, VideoSet
from common import distributed
from common.device import zeros
from common.errors import UserError
from common.progress import every
from common.seeding import seeded
from common.types import Clip
from configs.vita_tcovis import DataConfig
from training.loader import EpochSampler, Key, make_loader
from training.system import Plan
from video.label_maps import IGNORE, void_in
from video.transforms import (
    LONGEST,
    Geometry,
    augment,
    draw,
    draw_geometry,
    fit_short_side,
    resize_frames,
    resize_labels,
)
from video.warps import clip_of_still

STRIDE = 32  # batches are padded to multiples of this
MOST_SLOTS = IGNORE - 1  # what a uint8 label map can hold
ATTEMPTS = 10  # clips drawn in place of one with a bad file before giving up


def compact_labels(label_maps: list[np.ndarray]) -> tuple[Tensor, list[int]]:
    """Label maps of any integer ids to (T, H, W) uint8 of slots, and the id of each slot.

    255 stays "ignore" in 8-bit maps; ids beyond the 254 smallest become "ignore" too.
    """
    void = np.stack([void_in(label_map) for label_map in label_maps])
    source = np.where(void, 0, np.stack(label_maps))
    areas = np.bincount(source.ravel())
    ids = [int(i) for i in areas.nonzero()[0] if i]
    slots = np.full(len(areas), IGNORE, dtype=np.uint8)
    slots[[0, *ids[:MOST_SLOTS]]] = np.arange(min(len(ids), MOST_SLOTS) + 1)
    return torch.from_numpy(np.where(void, np.uint8(IGNORE), slots[source])), ids[:MOST_SLOTS]


def label_slots(label_maps: list[np.ndarray]) -> tuple[list[Tensor], list[int]]:
    """As `compact_labels`, but ids of 8 bits stay as they are: every one of them is a slot of its own."""
    if all(label_map.dtype == np.uint8 for label_map in label_maps):
        return [torch.from_numpy(label_map) for label_map in label_maps], list(range(1, IGNORE))
    labels, ids = compact_labels(label_maps)
    return list(labels), ids


def read_frames(video: AnnotatedVideo, names: list[str]) -> Iterator[Tensor]:
    """Frames (3, H, W) uint8 RGB of a video, each read when it is asked for."""
    return (torch.from_numpy(video.read_frame(name)).permute(2, 0, 1) for name in names)


def label_areas(labels: Tensor) -> Tensor:
    """(T, H, W) uint8 label maps to (T, 255) the pixels of background and each label; 255 is ignored."""
    return torch.stack([torch.bincount(frame.flatten(), minlength=256) for frame in labels])[:, :IGNORE]


def select_objects(labels: Tensor, num_objects: int, min_area: int) -> list[int]:
    """The labels of the most frequent objects of a clip, most frequent first.

    labels (T, H, W) uint8. Frequency is the number of frames in which an object covers at least `min_area`
    pixels; ties go to the larger total area, then to the smaller label. An object that never does is not
    selected.
    """
    areas = label_areas(labels)
    frequency, area = (areas >= min_area).sum(0).tolist(), areas.sum(0).tolist()
    candidates = [label for label in range(1, IGNORE) if frequency[label]]
    candidates.sort(key=lambda label: (-frequency[label], -area[label], label))
    return candidates[:num_objects]


def keep_objects(labels: Tensor, kept: list[int], others: int = IGNORE) -> Tensor:
    """Relabel (T, H, W) so that kept[k] becomes slot k + 1, and all other objects `others`."""
    table = np.full(256, others, dtype=np.uint8)
    table[[0, *kept]] = np.arange(len(kept) + 1)
    table[IGNORE] = IGNORE
    return torch.from_numpy(table.take(labels.numpy()))  # NumPy takes indices of 8 bits as they are


def pad_and_stack(tensors: list[Tensor], stride: int | None = None) -> Tensor:
    """Tensors (1, ...) as one batch: zeros at the ends of the axes make them alike.

    With a `stride` the last two axes, H and W, grow to multiples of it.
    """
    size = [max(sides) for sides in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    if stride:
        size[-2:] = [side + -side % stride for side in size[-2:]]
    batch = zeros(len(tensors), *size, dtype=tensors[0].dtype)
    for item, tensor in zip(batch, tensors, strict=True):
        item[tuple(slice(side) for side in tensor.shape[1:])] = tensor[0]
    return batch


def collate(clips: list[Clip]) -> Clip:
    """One batch of single clips: padded at the right and the bottom, with background, to multiples of 32."""
    colours = [clip.colours for clip in clips if clip.colours is not None]
    return Clip(
        frames=pad_and_stack([clip.frames for clip in clips], STRIDE),
        labels=pad_and_stack([clip.labels for clip in clips], STRIDE),
        ids=pad_and_stack([clip.ids for clip in clips]),
        classes=pad_and_stack([clip.classes for clip in clips]),
        names=[names for clip in clips for names in clip.names],
        skipped=[path for clip in clips for path in clip.skipped],
        sizes=[size for clip in clips for size in clip.sizes],
        colours=torch.cat(colours) if colours else None,
    )


class VOSDataset(Dataset[Clip]):
    """Clips of annotated videos, each a `Clip` of B = 1, of which `collate` makes a batch.

    An item is asked for by a `Key`, and everything random in it depends on the seed and the key alone, so
    that neither the number of workers nor a resumed run changes what is drawn. An epoch draws
    `clips_per_video` clips from each video; without `training`, one. A subclass says how in `_draw`.
    """

    Config: type
    collate = staticmethod(collate)

    def __init__(
        self, folder: VideoSet, config: Any, *, training: bool, seed: int = 0, skip_bad: bool = False
    ):
        self.videos, self.config, self.training = folder.videos, config, training
        self.seed, self.skip_bad = seed, skip_bad

    def __len__(self) -> int:
        return len(self.videos) * (self.config.clips_per_video if self.training else 1)

    @property
    def upright(self) -> list[bool]:
        """Of each clip of an epoch; here all are alike, because a batch needs no clips of one shape."""
        return [False] * len(self)

    def __getitem__(self, key: tuple[int, ...]) -> Clip:
        """The clip of a `Key`. One with bad files raises UserError, or OSError where they have gone; with
        `skip_bad` another is drawn, and the clip that is good holds the errors' texts.
        """
        key, skipped = Key(*key), []
        for attempt in range(ATTEMPTS):
            with seeded(self.seed, key.epoch, key.index, attempt):
                try:
                    clip = self._draw(key if attempt == 0 else self._another(key))
                except (UserError, OSError) as error:
                    if not self.skip_bad:
                        raise
                    skipped.append(str(error))
                    continue
            clip.skipped = skipped
            return clip
        raise UserError(f"{ATTEMPTS} clips in a row have bad files, the last: {skipped[-1]}")

    def largest(self, batch: Clip) -> Clip:
        """A batch of the same kind as large as any; this one, where all are alike."""
        return batch

    def _another(self, key: Key) -> Key:
        """Any clip of the same orientation, in place of one with bad files."""
        upright = self.upright
        alike = [index for index in range(len(self)) if upright[index] == upright[key.index]]
        return key._replace(index=alike[int(draw(0, len(alike)))])

    def _draw(self, key: Key) -> Clip:
        """One clip, of the video at `index` modulo their number; draws from torch's generator."""
        raise NotImplementedError


class YouTubeVOSDataset(VOSDataset):
    """Clips of `clip_length` frames with the most frequent objects of each, at most `num_tokens`.

    Scale and size of the crop are drawn for a batch, from (seed, epoch, batch); the rest for each clip.
    Without `training`, a clip is one run of consecutive frames of each video, unchanged but for its size.

    Raises UserError where `num_classes` is not the number of categories in meta.json.
    """

    Config = DataConfig

    def __init__(
        self, folder: VideoSet, config: Config, *, training: bool, seed: int = 0, skip_bad: bool = False
    ):
        if config.num_classes > 1 and config.num_classes != len(folder.categories):
            sources = ", ".join(sorted({str(video.meta) for video in folder.videos}))
            categories = f"{len(folder.categories)} categories in {sources}"
            raise UserError(f"--num_classes {config.num_classes}, but there are {categories}; 1 uses none")
        if config.num_classes > 1:
            for video in folder.videos:
                folder.classes_of(video)  # what meta.json lacks is reported now, not after hours
        if training:
            require_others(config.paste_probability, folder.root, folder.videos)
        super().__init__(folder, config, training=training, seed=seed, skip_bad=skip_bad)
        self.folder = folder

    @property
    def upright(self) -> list[bool]:
        """Of each clip of an epoch, as the headers of its video said; without a look at them, none is."""
        sizes = [self.videos[index % len(self.videos)].size or (0, 0) for index in range(len(self))]
        return [H > W for H, W in sizes]

    @property
    def largest_size(self) -> tuple[int, int]:
        """Short and long side of training frames at most, pixels, before they are padded."""
        longest = LONGEST * self.config.image_size
        return min(round(self.config.max_scale * self.config.image_size), longest), longest

    def geometry(self, key: Key) -> Geometry:
        """Of the clip's batch. One of both orientations is a square, with no more pixels than others."""
        longest = self.largest_size[1]
        if key.is_mixed:
            longest = max(STRIDE, math.isqrt(math.prod(self.largest_size)) // STRIDE * STRIDE)
        with seeded(self.seed, key.epoch, key.batch, ATTEMPTS):  # no clip has so many attempts
            return draw_geometry(self.config, self.config.image_size, longest)

    def _draw(self, key: Key) -> Clip:
        video = self.videos[key.index % len(self.videos)]
        names = self._names(video)
        is_still = self.training and len(video.annotated) == 1
        files = names[:1] if is_still else names
        labels, ids = label_slots([video.read_labels(name) for name in files])
        frames, pasted = read_frames(video, files), {}
        if self.training:
            frames, labels, colours = augment(self.config, self.geometry(key), frames, labels)
            if is_still:
                frames, labels = clip_of_still(frames[0], labels[0], len(names))
                colours = None if colours is None else colours.expand(len(names), -1, -1)
            frames, labels, pasted = paste(frames, labels, self._cut_outs(video))
        else:
            size = fit_short_side(*labels[0].shape, self.config.image_size, LONGEST * self.config.image_size)
            frames = torch.stack([resize_frames(frame, size) for frame in frames])
            labels, colours = torch.stack([resize_labels(label_map, size) for label_map in labels]), None
        kept = select_objects(labels, self.config.num_tokens, self.config.min_area)
        slot_ids = identities(ids, pasted)
        objects = {label: (video, i) for label, i in enumerate(ids, 1)}
        objects |= {label: (cut.video, cut.id) for label, cut in pasted.items()}
        return Clip(
            frames=frames.unsqueeze(0),
            labels=keep_objects(labels, kept).unsqueeze(0),
            ids=torch.tensor([[slot_ids[label] for label in kept]], dtype=torch.int64),
            classes=torch.tensor([[self._class(*objects[label]) for label in kept]], dtype=torch.int64),
            names=[[(video.name, name) for name in names]],
            sizes=[tuple(labels.shape[-2:])],
            colours=None if colours is None else colours.unsqueeze(0),
        )

    def _names(self, video: AnnotatedVideo) -> list[str]:
        return [video.annotated[place] for place in self._places(len(video.annotated))]

    def _cut_outs(self, video: AnnotatedVideo) -> list[CutOut]:
        config = self.config
        return draw_cut_outs(
            config.paste_probability, self.videos, video, self._names, min_area=config.min_area
        )

    def largest(self, batch: Clip) -> Clip:
        """The batch with empty frames of the largest size that training draws."""
        size = tuple(side + -side % STRIDE for side in self.largest_size)
        frames, labels = (x.new_zeros(*x.shape[:-2], *size) for x in (batch.frames, batch.labels))
        return dataclasses.replace(batch, frames=frames, labels=labels, sizes=[size] * len(frames))

    def _places(self, length: int) -> list[int]:
        """Which annotated frames of a video a clip takes; a video that is too short repeats its last."""
        T = self.config.clip_length
        reach = max(1, (length - 1) // max(1, T - 1))  # the largest step that fits into the video
        step = int(draw(1, min(self.config.clip_stride, reach) + 1)) if self.training else 1
        start = int(draw(0, max(1, length - (T - 1) * step)))
        places = [min(start + i * step, length - 1) for i in range(T)]
        return places[::-1] if self.training and draw(0, 1) < 0.5 else places

    def _class(self, video: AnnotatedVideo, identity: int) -> int:
        if self.config.num_classes == 1:
            return 0
        classes = self.folder.classes_of(video)
        if identity not in classes:
            raise UserError(f"{video.meta} lacks object {identity} of video {video.name}: add it")
        return classes[identity]


class Loaders(NamedTuple):
    """Batches: of training, in the order of `sampler`, and one clip of every held-out video."""

    sampler: EpochSampler
    train: DataLoader[Clip]
    valid: DataLoader[Clip]


def make_loaders(plan: Plan, train: VideoSet, valid: VideoSet, device: torch.device) -> Loaders:
    """Each process has a share of the training clips, and all held-out ones."""
    options, make_dataset = plan.options, plan.system.dataset
    drawing = {"seed": options.seed, "skip_bad": options.skip_bad}
    loading = {"num_workers": options.num_workers, "pin_memory": device.type == "cuda"}
    loading["timeout"] = options.loader_timeout
    clips = make_dataset(train, plan.configs["data"], training=True, **drawing)
    share = {"rank": distributed.rank(), "world_size": distributed.world_size(), "upright": clips.upright}
    sampler = EpochSampler(len(clips), options.batch_size, seed=options.seed, **share)
    held_out = make_dataset(valid, plan.configs["data"], training=False, **drawing)
    batches = list(every([(0, index) for index in range(len(held_out))], options.batch_size))
    return Loaders(sampler, make_loader(clips, sampler, **loading), make_loader(held_out, batches, **loading))
