"""SAMCutter: the objects that boxes and clicks mark in a frame, as SAM was published to cut them out.

Kirillov et al., "Segment Anything", ICCV 2023, sections 2 and 3.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from common.types import Prompt
from systems.sam_track.images import Size, fit_long_side, prepare_frame, restore
from systems.sam_track.modules import SAMTrack
from tracking.sparse_prompts.cutting import marked_ids, with_masks


class SAMCutter:
    """Cuts out what boxes and clicks mark, by a network with SAM's prompt encoder.

    image_size: side of the square that frames are fitted into
    """

    takes_clicks = True

    def __init__(self, network: SAMTrack, image_size: int):
        self.network, self.image_size = network, image_size

    def encode(self, frame: Tensor) -> Tensor:
        """(3, H, W) uint8 RGB to its embedding (1, C, g, g)."""
        device = next(self.network.parameters()).device
        return self.network.encode(prepare_frame(frame, self.image_size, device))

    @torch.inference_mode()
    def cut(self, frame: Tensor, prompt: Prompt) -> Prompt:
        """As of `Cutter`: the prompt of a frame (3, H, W) with a label map in place of boxes and clicks."""
        return self.cut_encoded(self.encode(frame), tuple(frame.shape[-2:]), prompt)

    @torch.inference_mode()
    def cut_encoded(
        self,
        embedding: Tensor,
        size: Size,
        prompt: Prompt,
        former: Mapping[int, Tensor] = MappingProxyType({}),
    ) -> Prompt:
        """As `cut`, of a frame of that size by its embedding (1, C, g, g).

        former: of some ids the mask logits (1, 1, 4g, 4g) that their boxes and clicks correct
        """
        ids = marked_ids(prompt)
        if not ids:
            return prompt
        masks = torch.cat([self.logits(embedding, size, prompt, x, former.get(x)) for x in ids])
        return with_masks(prompt, ids, restore(masks.float(), size, self.image_size).sigmoid()[:, 0])

    def logits(
        self, embedding: Tensor, size: Size, prompt: Prompt, track: int, mask: Tensor | None = None
    ) -> Tensor:
        """(1, 1, 4g, 4g) mask logits of one object that a prompt marks; mask: former ones, or None."""
        resized, device = fit_long_side(*size, self.image_size), embedding.device
        scale = torch.tensor([resized[1] / size[1], resized[0] / size[0]], device=device)
        clicks = torch.tensor(prompt.clicks.get(track, []), device=device).view(1, -1, 3)
        boxes = None
        if track in prompt.boxes:
            x, y, width, height = prompt.boxes[track]
            corners = torch.tensor([[x, y], [x + width, y + height]], device=device)
            boxes = (corners * scale).view(1, 4)
        points, labels = clicks[..., :2] * scale, clicks[..., 2].long()
        return self.network.segment(embedding, points, labels, boxes, mask, self.image_size)


def cutter_of(network: SAMTrack, image_size: int | None = None) -> SAMCutter | None:
    """What cuts objects out by a network; None where it has no prompt encoder.

    image_size: as of `SAMCutter`; None: as in training
    """
    if not network.config.prompt_encoder:
        return None
    return SAMCutter(network, image_size or network.config.image_size)
