"""STCNTracker: carries the masks of a prompt through a video, one frame at a time."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.device import on_device
from common.errors import UserError
from common.types import Prompt, Tracks
from configs.stcn import TrackerConfig
from systems.stcn.affinity import memory_terms, query_terms
from systems.stcn.memory import MemoryBank
from systems.stcn.modules import STCN, KeyFeatures, others_of
from video.masks import masks_from_labels, masks_of_prompt, mean_inside, pad_around, soft_aggregate
from video.transforms import normalise

OBJECTS_AT_ONCE = 8  # whose masks are decoded together, which bounds memory


def scaled_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(H, W) brought to a short side; the long one is rounded down, as published. -1 keeps the size."""
    shorter = min(size)
    if short_side in (-1, shorter):
        return size
    return tuple(short_side if side == shorter else int(short_side * side / shorter) for side in size)


def resize_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """(K, H, W) bool to (K, h, w) float by the nearest pixel; what would vanish is every cell it touches."""
    if masks.shape[-2:] == size or not len(masks):
        return masks.float()
    nearest = F.interpolate(masks[:, None].float(), size, mode="nearest")[:, 0]
    touched = F.adaptive_max_pool2d(masks.float(), size)
    return torch.where(nearest.flatten(1).any(1)[:, None, None], nearest, touched)


@dataclass
class Group:
    """Objects that started on one frame, which share keys and affinity: the slots `start` to `stop`."""

    start: int
    stop: int
    bank: MemoryBank

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def slots(self) -> slice:
        return slice(self.start, self.stop)


Newcomers = Callable[[Tracks], Prompt | None]  # what is new in a frame, given the tracks that go on in it


class STCNTracker:
    """STCN on one video: every frame is read from the memory of frames before it.

    A prompt on any frame starts its new ids and corrects its known ones; its frame is remembered. Before the
    first prompt all is background. Nothing but the memory grows with the video, and `max_memory_frames`
    bounds that.
    """

    needs_prompt = True
    mask_threshold = 0.5
    frame_mode = "bicubic"  # by which frames are resized

    Config = TrackerConfig

    def __init__(self, network: STCN, config: Config):
        if config.short_side < 1 and config.short_side != -1:
            raise UserError(
                f"--short_side {config.short_side} is no size: give pixels, or -1 to keep the size"
            )
        self.network, self.config = network, config
        self.reset()

    def reset(self) -> None:
        """Forget the video."""
        self.ids: list[int] = []  # of the slots, in the order in which they came
        self.groups: list[Group] = []
        self.since_memory = 0  # frames since the last that is remembered

    @torch.inference_mode()
    def step(self, frame: Tensor, prompt: Prompt | None = None, newcomers: Newcomers | None = None) -> Tracks:
        """Frame uint8 RGB (3, H, W) of any size, on any device; the tracks are where the network is.

        newcomers: is asked, once the known objects are found in the frame, for a further prompt
        """
        size, device = tuple(frame.shape[-2:]), next(self.network.parameters()).device
        prompted_ids, masks = masks_of_prompt(prompt, size)
        if not self.ids and not prompted_ids and newcomers:
            prompted_ids, masks = masks_of_prompt(newcomers(Tracks.empty(*size, device=device)), size)
            newcomers = None
        if not self.ids and not prompted_ids:
            return Tracks.empty(*size, device=device)
        needs_propagation = not set(self.ids) <= set(prompted_ids)
        is_memory_frame = bool(prompted_ids) or self.since_memory + 1 >= self.config.mem_every
        image, window = self._image(frame.to(device))
        features = self.network.encode_key(image)
        if needs_propagation:
            probs = self._propagate(features, is_memory_frame=is_memory_frame)
        else:
            probs = image.new_zeros(len(self.ids) + 1, *image.shape[-2:])
        if prompted_ids:
            probs = self._admit(probs, prompted_ids, masks)
        if newcomers:
            new_ids, masks = masks_of_prompt(newcomers(self._tracks(probs[(..., *window)], size)), size)
            if new_ids:
                probs, is_memory_frame = self._admit(probs, new_ids, masks), True
        self._remember(image, features, probs, is_memory_frame=is_memory_frame)
        return self._tracks(probs[(..., *window)], size)

    def forget(self, ids: Collection[int]) -> None:
        """Let these objects go, with all that is remembered of them."""
        self._keep([slot for slot, track in enumerate(self.ids) if track not in ids])

    def _keep(self, slots: list[int]) -> None:
        """Keep these slots, in their order, and no other."""
        groups, self.groups = self.groups, []
        for group in groups:
            kept = [slot - group.start for slot in slots if group.start <= slot < group.stop]
            if kept:
                group.bank.keep(kept, len(group))
                start = self.groups[-1].stop if self.groups else 0
                self.groups.append(Group(start, start + len(kept), group.bank))
        self.ids = [self.ids[slot] for slot in slots]

    def _image(self, frame: Tensor) -> tuple[Tensor, tuple[slice, slice]]:
        """A frame (3, H, W) as the network sees it, (1, 3, h, w), and the window that is not padding."""
        image = normalise(frame)[None]
        image = image.flip(-1) if self.config.flip else image
        size = scaled_size(tuple(image.shape[-2:]), self.config.short_side)
        if image.shape[-2:] != size:  # after normalisation and without anti-aliasing, as published
            image = F.interpolate(image, size, mode=self.frame_mode, align_corners=False)
        return pad_around(image, self.network.stride)

    def _masks(self, masks: Tensor) -> Tensor:
        """(K, H, W) bool masks of a frame in the place and at the size of its image, (K, h, w)."""
        masks = masks.flip(-1) if self.config.flip else masks
        masks = resize_masks(masks, scaled_size(tuple(masks.shape[-2:]), self.config.short_side))
        return pad_around(masks, self.network.stride)[0]

    def _make_bank(self) -> MemoryBank:
        return MemoryBank(self.config.max_memory_frames)

    def _propagate(self, features: KeyFeatures, *, is_memory_frame: bool) -> Tensor:
        """(K + 1, h, w) probabilities of the background and of the objects known so far, read from memory."""
        query = query_terms(features.k16[0].flatten(1))
        probs = []
        for group in self.groups:
            readout = group.bank.read(query, self.config.top_k)  # (L, K * value_dim)
            readout = readout.T.unflatten(0, (len(group), -1))
            readout = readout.unflatten(-1, features.k16.shape[-2:])
            for few in readout.split(OBJECTS_AT_ONCE):
                probs.append(self.network.decode(few[None], features)[0].float().sigmoid())
        return soft_aggregate(torch.cat(probs)[None])[0].softmax(0)

    def _admit(self, probs: Tensor, ids: list[int], masks: Tensor) -> Tensor:
        """Put the (N, H, W) bool masks of a prompt into (K + 1, h, w) probabilities; new ids join at the end.

        Inside of any mask the prompt alone counts.
        """
        masks = self._masks(masks.to(probs.device))  # (N, h, w)
        known = len(self.ids)
        self.ids += [i for i in ids if i not in self.ids]
        if len(self.ids) > known:
            self.groups.append(Group(known, len(self.ids), self._make_bank()))
        objects = F.pad(probs[1:], (0, 0, 0, 0, 0, len(self.ids) - known))
        objects = objects.masked_fill(masks.any(0), 0.0)
        objects[on_device([self.ids.index(i) for i in ids], probs.device)] = masks
        return soft_aggregate(objects[None])[0].softmax(0)

    def _remember(
        self, image: Tensor, features: KeyFeatures, probs: Tensor, *, is_memory_frame: bool
    ) -> None:
        """Add a memory frame for good, and any other for the next frame alone or not at all."""
        self.since_memory = 0 if is_memory_frame else self.since_memory + 1
        if not is_memory_frame and not self.config.include_last:
            return
        values = self._values(image, features, probs).flatten(2).permute(2, 0, 1)  # (L, K, value_dim)
        terms = memory_terms(features.k16[0].flatten(1))
        for group in self.groups:
            group.bank.add(terms, values[:, group.slots].flatten(1), temporary=not is_memory_frame)

    def _values(self, image: Tensor, features: KeyFeatures, probs: Tensor) -> Tensor:
        """(K, value_dim, h, w) of the objects in (K + 1, H, W) probabilities."""
        masks = probs[1:][None]
        parts = zip(masks.split(OBJECTS_AT_ONCE, 1), others_of(masks).split(OBJECTS_AT_ONCE, 1), strict=True)
        return torch.cat([self.network.encode_value(image, features.f16, *part)[0] for part in parts])

    def _tracks(self, probs: Tensor, size: tuple[int, int]) -> Tracks:
        """(K + 1, h, w) probabilities to the tracks at the frame's size (H, W).

        The score of a track, its confidence in this frame, is its mean probability where the label map shows
        it: 0 where it is lost.
        """
        probs = probs.flip(-1) if self.config.flip else probs
        if probs.shape[-2:] != size:
            probs = F.interpolate(probs[None], size, mode="bilinear", align_corners=False)[0]
        ids = on_device(self.ids, probs.device)
        masks = probs[1:].clamp(0, 1)
        labels = F.pad(ids, (1, 0))[probs.max(0).indices]  # on a CPU several times as fast as argmax
        scores = mean_inside(masks, masks_from_labels(labels, ids))
        return Tracks(ids=ids, labels=labels, masks=masks, scores=scores)

    def state_dict(self) -> dict[str, Any]:
        groups = [{"start": g.start, "stop": g.stop, "bank": g.bank.state_dict()} for g in self.groups]
        return {"ids": list(self.ids), "groups": groups, "since": self.since_memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ids, self.since_memory = list(state["ids"]), state["since"]
        self.groups = []
        for group in state["groups"]:
            bank = self._make_bank()
            bank.load_state_dict(group["bank"])
            self.groups.append(Group(group["start"], group["stop"], bank))
