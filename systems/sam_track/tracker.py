"""SAMTracker: carries masks through a video, each frame prompted by the one before it, and encoded once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.device import on_device
from common.errors import UserError
from common.progress import every
from common.types import Prompt, Tracks
from configs.sam_track import TrackerConfig
from systems.sam_track.cutter import cutter_of
from systems.sam_track.images import masks_on_grid, prepare_frame
from systems.sam_track.modules import SAMTrack
from tracking.sparse_prompts.cutting import marked_ids
from video.masks import above, labels_from_masks, masks_from_labels, masks_of_prompt, mean_inside

OBJECTS_AT_ONCE = 8  # whose masks are decoded together, which bounds memory


@dataclass
class Template:
    """A frame by its number, and the share of each of its cells that an object covers, (g, g)."""

    frame: int
    mask: Tensor


class SAMTracker:
    """SAM on one video: what an object looks like is shown by a template, a frame and its mask there.

    `first` is the frame of the object's last prompt, `previous` the latest whose mask is to be trusted: one
    that is empty, or whose mean probability is below `gate`, is passed over, so that an object which leaves
    is looked for by what it was. A prompt on any frame starts its new ids and corrects its known ones. All
    objects share the embedding of a frame; of former ones those are kept that are some object's template, at
    most two for each.
    Where the network has SAM's prompt encoder, boxes and clicks are cut out by it; those of a known id
    correct the mask that it would have.
    """

    needs_prompt = True
    mask_threshold = 0.5

    Config = TrackerConfig

    def __init__(self, network: SAMTrack, config: Config):
        patch = network.config.patch_size
        self.image_size = config.track_size or network.config.image_size
        if self.image_size % patch:
            raise UserError(f"--track_size {config.track_size} must be a multiple of the patch, {patch}")
        self.network, self.config = network, config
        self.cutter = cutter_of(network, self.image_size)
        self.reset()

    @property
    def sparse_prompts(self) -> tuple[str, ...]:
        """What is taken for what it is; without a prompt encoder, boxes are filled."""
        return ("boxes", "clicks") if self.cutter else ()

    def reset(self) -> None:
        """Forget the video."""
        self.count = 0  # frames since the first prompt
        self.embeddings: dict[int, Tensor] = {}  # (1, C, g, g) of frames that are templates
        self.first: dict[int, Template] = {}  # of each id, in the order in which they came
        self.previous: dict[int, Template] = {}

    @torch.inference_mode()
    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        """Frame uint8 RGB (3, H, W) of any size, on any device; the tracks are where the network is.

        The score of a track is its mean probability where the label map shows it: 0 where it is lost.
        """
        size, device = tuple(frame.shape[-2:]), next(self.network.parameters()).device
        if not self.first and not (prompt and prompt.ids):
            return Tracks.empty(*size, device=device)
        embedding = self.network.encode(prepare_frame(frame, self.image_size, device))
        prompted_ids, prompted_masks = masks_of_prompt(self._cut(embedding, size, prompt), size)
        ids = [*self.first, *(track for track in prompted_ids if track not in self.first)]
        needs_propagation = [track not in prompted_ids for track in ids]
        masks = torch.zeros(len(ids), *size, device=device)
        for rows in every([row for row, needed in enumerate(needs_propagation) if needed], OBJECTS_AT_ONCE):
            logits = self._propagate(embedding, [ids[row] for row in rows], size)
            masks[on_device(rows, device)] = self.network.to_frame(logits, size, self.image_size)[:, 0]
        if prompted_ids:  # inside of its masks a prompt alone counts
            prompted_masks = prompted_masks.to(device)
            masks.masked_fill_(prompted_masks.any(0), 0.0)
            masks[on_device([ids.index(x) for x in prompted_ids], device)] = prompted_masks.float()
        tracks = self._tracks(on_device(ids, device), masks)
        self._remember(embedding, tracks, ids, prompted_ids)
        return tracks

    def _tracks(self, ids: Tensor, masks: Tensor) -> Tracks:
        """The tracks of (K,) ids with (K, H, W) probabilities."""
        binary_masks = above(masks, self.mask_threshold)
        labels = labels_from_masks(masks, ids, binary_masks=binary_masks)
        scores = mean_inside(masks, masks_from_labels(labels, ids))
        return Tracks(ids=ids, labels=labels, masks=masks, scores=scores, binary_masks=binary_masks)

    @property
    def _templates(self) -> list[dict[int, Template]]:
        """The templates by which objects are propagated."""
        both = {"first": self.first, "previous": self.previous}
        return [templates for name, templates in both.items() if self.config.template in (name, "both")]

    def _propagate(self, embedding: Tensor, ids: list[int], size: tuple[int, int]) -> Tensor:
        """(N, 1, 4g, 4g) mask logits of known objects in the frame of an embedding (1, C, g, g)."""
        templates = [[by_id[track] for by_id in self._templates] for track in ids]
        embeddings = torch.stack([torch.cat([self.embeddings[x.frame] for x in row]) for row in templates])
        shares = torch.stack([torch.stack([x.mask for x in row]) for row in templates])
        padding = self.network.padding([size], self.image_size, embedding.shape[-1], len(ids))
        padding = None if padding is None else padding.expand_as(shares)
        return self.network.track(embedding, embeddings, shares, padding)[0]

    def _cut(self, embedding: Tensor, size: tuple[int, int], prompt: Prompt | None) -> Prompt | None:
        """The prompt with masks of what its boxes and clicks mark, where the network can cut them out."""
        if prompt is None or self.cutter is None:
            return prompt
        known = [track for track in marked_ids(prompt) if track in self.first]
        logits = {track: self._propagate(embedding, [track], size) for track in known}
        return self.cutter.cut_encoded(embedding, size, prompt, logits)

    def _remember(self, embedding: Tensor, tracks: Tracks, ids: list[int], prompted_ids: list[int]) -> None:
        """Make the frame the template of those objects that are sure in it, and forget frames without use.

        ids: of the tracks
        """
        inside = masks_from_labels(tracks.labels, tracks.ids)
        is_sure = (inside.any(1).any(1) & (tracks.scores >= self.config.gate)).tolist()
        rows = [row for row, track in enumerate(ids) if is_sure[row] or track in prompted_ids]
        masks = inside.float() if self.config.feedback == "binary" else tracks.masks
        masks = masks[on_device(rows, masks.device, torch.int64)]
        shares = masks_on_grid(masks, self.image_size, embedding.shape[-1])
        for row, share in zip(rows, shares, strict=True):
            self.previous[ids[row]] = Template(self.count, share)
            if ids[row] in prompted_ids:
                self.first[ids[row]] = Template(self.count, share)
        self.embeddings[self.count] = embedding
        used = {x.frame for templates in self._templates for x in templates.values()}
        self.embeddings = {frame: x for frame, x in self.embeddings.items() if frame in used}
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        templates = {
            name: {
                track: {"frame": x.frame, "mask": x.mask.clone()} for track, x in getattr(self, name).items()
            }
            for name in ("first", "previous")
        }
        return {"count": self.count, "embeddings": dict(self.embeddings), **templates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.embeddings = state["count"], dict(state["embeddings"])
        self.first, self.previous = (
            {track: Template(**x) for track, x in state[name].items()} for name in ("first", "previous")
        )
