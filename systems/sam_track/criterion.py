"""The loss of SAM for tracking: cross-entropy of masks, on the frame's pixels or on the decoder's cells."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.types import Clip
from configs.sam_track import CriterionConfig
from systems.sam_track.dataset import PairClip
from systems.sam_track.images import batch_on_grid
from utils import dice, weighted_mean
from video.label_maps import IGNORE


def dice_of_maps(probs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """(...) `dice` of (..., H, W) probabilities and targets, of which weighted pixels count."""
    return dice((probs * targets * weights).sum((-2, -1)), ((probs + targets) * weights).sum((-2, -1)))


class SAMTrackCriterion(nn.Module):
    """Binary cross-entropy of every object in every frame but the first, a mean over all pixels that count.

    Ignored pixels and empty slots do not count. `stats` holds the IoU of masks and truth.
    """

    Config = CriterionConfig

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.stats: dict[str, Tensor] = {}

    def forward(self, outputs: dict[str, Tensor], clip: Clip) -> dict[str, Tensor]:
        """Returns the scalars "ce" and, where it has a weight, "dice".

        outputs: `logits` (B, T - 1, K, 4g, 4g) and `probs` (B, T - 1, K, H, W) of all frames but the first
        """
        targets = clip.masks[:, 1:].float()
        is_object = (clip.ids > 0)[:, None, :, None, None]
        counted = (clip.labels[:, 1:] != IGNORE)[:, :, None] & is_object.expand_as(targets)
        with torch.autocast(targets.device.type, enabled=False):  # which refuses this loss
            probs = outputs["probs"].float()
            self.stats = self._statistics(probs.detach() > 0.5, targets > 0, counted)
            if self.config.loss == "probs":
                values = F.binary_cross_entropy(probs, targets, reduction="none")
                losses = {"ce": weighted_mean(values, counted)}
            else:
                losses = {"ce": self._on_cells(outputs["logits"].float(), targets, is_object, clip)}
            if self.config.w_dice:
                overlaps = dice_of_maps(probs, targets, counted)  # (B, T - 1, K)
                dice_loss = weighted_mean(overlaps, is_object[..., 0, 0].expand_as(overlaps))
                losses["dice"] = self.config.w_dice * dice_loss
        return losses

    def _on_cells(self, logits: Tensor, targets: Tensor, is_object: Tensor, clip: Clip) -> Tensor:
        """The cross-entropy of logits and the share of each cell of SAM's square; padding is background."""
        sizes = clip.sizes if isinstance(clip, PairClip) else [tuple(targets.shape[-2:])] * len(targets)
        ignored = (clip.labels[:, 1:] == IGNORE).float()
        shares = batch_on_grid(targets.flatten(1, 2), sizes, self.config.image_size, logits.shape[-1])
        unknown = batch_on_grid(ignored, sizes, self.config.image_size, logits.shape[-1])[:, :, None]
        shares = shares.view_as(logits) / (1 - unknown).clamp(min=1e-6)
        values = F.binary_cross_entropy_with_logits(logits, shares.clamp(max=1), reduction="none")
        return weighted_mean(values, ((1 - unknown) * is_object).expand_as(values))

    def _statistics(self, masks: Tensor, targets: Tensor, counted: Tensor) -> dict[str, Tensor]:
        """Of (B, T - 1, K, H, W) masks, the sum of the IoU of those that show something, and their number."""
        union = ((masks | targets) & counted).sum((-2, -1))
        common = (masks & targets & counted).sum((-2, -1))
        name = f"pairs/{'train' if self.training else 'val'}_iou"
        return {f"{name}_sum": (common / union.clamp(min=1)).sum(), f"{name}_count": (union > 0).sum()}
