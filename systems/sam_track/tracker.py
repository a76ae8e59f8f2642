"""SAMTracker: carries masks through a video, each frame told by the one before it, and encoded once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.config import option
from common.errors import UserError
from common.progress import every
from common.types import Prompt, Tracks
from systems.sam_track.images import masks_on_grid, prepare_frame
from systems.sam_track.modules import SAMTrack
from video.masks import above, labels_from_masks, masks_of_prompt

OBJECTS_AT_ONCE = 8  # whose masks are decoded together, which bounds memory


@dataclass
class Template:
    """A frame by its number, and the share of each of its cells that an object covers, (g, g)."""

    frame: int
    mask: Tensor


class SAMTracker:
    """SAM on one video: what an object looks like is told by a template, a frame and its mask there.

    `first` is the frame of the object's last prompt, `previous` the latest whose mask is to be trusted: one
    that is empty, or whose mean probability is below `gate`, is passed over, so that an object which leaves
    is looked for by what it was. A prompt on any frame starts its new ids and corrects its known ones. All
    objects share the embedding of a frame; of former ones those are kept that are some object's template, at
    most two for each.
    """

    needs_prompt = True
    mask_threshold = 0.5

    @dataclass(kw_only=True)
    class Config:
        template: str = option(
            "previous", "which frame tells what an object looks like", ("previous", "first", "both")
        )
        gate: float = option(
            0.6, "least mean probability of a mask at which its frame becomes the template", least=0, most=1
        )
        feedback: str = option(
            "soft", "a template's mask: probabilities, or the label map's", ("soft", "binary")
        )
        track_size: int = option(
            0, "side of the square that frames are fitted into here, pixels; 0: as in training", least=0
        )

    def __init__(self, network: SAMTrack, config: Config):
        patch = network.config.patch_size
        self.image_size = config.track_size or network.config.image_size
        if self.image_size % patch:
            raise UserError(f"--track_size {config.track_size} must be a multiple of the patch, {patch}")
        self.network, self.config = network, config
        self.reset()

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
        given, shown = masks_of_prompt(prompt, size)
        if not self.first and not given:
            return Tracks.empty(*size, device=device)
        embedding = self.network.encode(prepare_frame(frame, self.image_size, device))
        ids = [*self.first, *(track for track in given if track not in self.first)]
        masks = torch.zeros(len(ids), *size, device=device)
        sought = [row for row, track in enumerate(ids) if track not in given]
        for few in every(sought, OBJECTS_AT_ONCE):
            masks[few] = self._find(embedding, [ids[row] for row in few], size)
        if given:  # inside of its masks a prompt alone counts
            shown = shown.to(device)
            masks.masked_fill_(shown.any(0), 0.0)
            masks[[ids.index(track) for track in given]] = shown.float()
        names = torch.tensor(ids, device=device)
        binary_masks = above(masks, self.mask_threshold)
        labels = labels_from_masks(masks, names, binary_masks=binary_masks)
        inside = labels == names[:, None, None]
        scores = (masks * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
        self._remember(embedding, ids, given, inside, masks, scores)
        return Tracks(ids=names, labels=labels, masks=masks, scores=scores, binary_masks=binary_masks)

    @property
    def _read(self) -> list[dict[int, Template]]:
        """The templates by which objects are found."""
        both = {"first": self.first, "previous": self.previous}
        return [templates for name, templates in both.items() if self.config.template in (name, "both")]

    def _find(self, embedding: Tensor, ids: list[int], size: tuple[int, int]) -> Tensor:
        """(N, H, W) probabilities of known objects in the frame of an embedding (1, C, g, g)."""
        told = [[templates[track] for templates in self._read] for track in ids]
        templates = torch.stack([torch.cat([self.embeddings[x.frame] for x in row]) for row in told])
        shares = torch.stack([torch.stack([x.mask for x in row]) for row in told])
        padding = self.network.padding([size], self.image_size, embedding.shape[-1], len(ids))
        padding = None if padding is None else padding.expand_as(shares)
        logits, _ = self.network.track(embedding, templates, shares, padding)
        return self.network.to_frame(logits, size, self.image_size)[:, 0]

    def _remember(
        self,
        embedding: Tensor,
        ids: list[int],
        given: list[int],
        inside: Tensor,
        masks: Tensor,
        scores: Tensor,
    ) -> None:
        """Make the frame the template of those objects that are sure in it, and forget frames without use."""
        sure = (inside.any(1).any(1) & (scores >= self.config.gate)).tolist()
        masks = inside.float() if self.config.feedback == "binary" else masks
        rows = [row for row, track in enumerate(ids) if sure[row] or track in given]
        shares = masks_on_grid(masks[rows], self.image_size, embedding.shape[-1])
        for row, share in zip(rows, shares, strict=True):
            self.previous[ids[row]] = Template(self.count, share)
            if ids[row] in given:
                self.first[ids[row]] = Template(self.count, share)
        self.embeddings[self.count] = embedding
        used = {x.frame for templates in self._read for x in templates.values()}
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
