"""The loss of XMem: STCN's cross-entropy of the hardest pixels, and dice."""

import math

import torch.nn.functional as F
from torch import Tensor

from common.types import Clip
from configs.xmem import CriterionConfig
from systems.stcn.criterion import STCNCriterion
from utils import dice_loss
from video.label_maps import IGNORE

NOBODY = math.log(1e-7 / (1 - 1e-7))  # the logit of `soft_aggregate` where an object is not


class XMemCriterion(STCNCriterion):
    """STCN's loss and dice of every predicted frame, both summed over frames and averaged over clips.

    Dice is the mean over `num_objects` slots, of which those that are empty cost next to nothing: the same
    whether a batch has them or not.
    """

    Config = CriterionConfig

    def forward(self, outputs: dict[str, Tensor], clip: Clip) -> dict[str, Tensor]:
        """Returns the scalars "ce" and "dice".

        outputs: `logits` (B, T - 1, K + 1, H, W) of all frames but the first
        """
        counted = (clip.labels[:, 1:] != IGNORE).unsqueeze(2)
        missing = (0, 0, 0, 0, 0, max(0, self.config.num_objects - clip.ids.shape[1]))
        logits, masks = F.pad(outputs["logits"].float(), missing, value=NOBODY), F.pad(clip.masks, missing)
        probs = logits.softmax(2)[:, :, 1:]
        points = (x.flatten(-2) for x in (probs, masks[:, 1:].float(), counted))
        dice = dice_loss(*points).sum((1, 2)) / self.config.num_objects
        return super().forward(outputs, clip) | {"dice": dice.mean()}
