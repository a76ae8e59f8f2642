"""The loss of SiamMask: class and box of anchors, and masks of the windows that hold an object."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import distributed
from configs.siammask import CriterionConfig
from systems.siammask.anchors import MOST_POSITIVE, NUM_ANCHORS, STRIDE, anchor_targets
from systems.siammask.dataset import Pairs
from systems.siammask.modules import COARSE
from systems.siammask.refinement import REFINED
from utils import weighted_mean
from video.label_maps import IGNORE


def class_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """The mean over objects and the mean over ground, halved each; 0 of what is not there.

    logits (B, 2 * A, n, n), the ground's first; classes (B, A, n, n): 1, 0, or -1 which is not taught
    """
    losses = F.cross_entropy(
        logits.float().unflatten(1, (2, NUM_ANCHORS)), classes.clamp(min=0), reduction="none"
    )
    return sum(0.5 * weighted_mean(losses, chosen) for chosen in (classes == 1, classes == 0))


def box_loss(predicted: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """The absolute difference, weighted, summed and averaged over pairs: L1, not smooth, as the program has
    it.

    predicted (B, 4 * A, n, n), dx, dy, dw, dh each of all anchors; offsets (B, A, n, n, 4), weights (B, A, n,
    n)
    """
    predicted = predicted.float().unflatten(1, (4, NUM_ANCHORS)).permute(0, 2, 3, 4, 1)
    return ((predicted - offsets).abs().sum(-1) * weights).sum() / len(predicted)


def mask_windows(truth: Tensor, chosen: Tensor | tuple[Tensor, ...], margin: int) -> Tensor:
    """The (M, 127, 127) windows of truths (B, S, S) at the chosen places; 0 outside of the crop.

    chosen: (B, n, n) bool, or the three indices of each place, (M,) clip, row and column
    margin: pixels by which the first window begins outside
    """
    padded = F.pad(truth, [margin] * 4)
    windows = padded.unfold(1, REFINED, STRIDE).unfold(2, REFINED, STRIDE)  # (B, n, n, 127, 127), a view
    return windows[chosen]


def enlarge(logits: Tensor) -> Tensor:
    """(M, 63, 63) mask logits to (M, 127, 127), bilinearly from corner to corner."""
    return F.interpolate(logits[:, None], REFINED, mode="bilinear", align_corners=True)[:, 0]


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """The mean of log(1 + exp(-y * m)) over the pixels of (M, 127, 127); 0 where no process has a window.

    truth: y = 1 in the object, -1 elsewhere in the crop, 0 where nothing is taught, which adds a constant.
    It is the paper's equation 3, averaged over windows.
    """
    num_pixels = distributed.mean_count(torch.full((), logits.numel(), device=logits.device))
    return F.softplus(-truth * logits.float()).sum() / num_pixels


def mask_overlaps(logits: Tensor, truth: Tensor) -> Tensor:
    """(M,) IoU of what is predicted, logits of 0 and more, with the truth, both (M, 127, 127)."""
    masks, true_masks = logits >= 0, truth == 1
    union = (masks | true_masks).sum((1, 2))
    return (masks & true_masks).sum((1, 2)) / union.clamp(min=1)


class SiamMaskCriterion(nn.Module):
    """Class, box and mask of a base network; of one that refines, the mask alone.

    A window with weight -1 in the paper, one that no positive anchor stands on, trains no mask. `stats` holds
    the IoU of the masks that are taught: its mean, and the share above 0.5 and 0.7.
    """

    most_chosen = MOST_POSITIVE  # windows of a pair whose masks are taught

    Config = CriterionConfig

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.stats: dict[str, Tensor] = {}

    def forward(self, outputs: dict[str, Tensor], clip: Pairs) -> dict[str, Tensor]:
        """The scalars "cls", "loc" and "mask", or "mask" alone where `outputs` hold `refined`."""
        config, refining = self.config, "refined" in outputs
        side, search = outputs["refined" if refining else "cls"].shape[2], clip.labels.shape[-1]
        is_positive = clip.ids.any(1)
        targets = anchor_targets(clip.boxes, is_positive, search, side)
        # The windows with an object, (M,) clip, row and column, for which the device is asked once.
        chosen = (targets.classes == 1).any(1).nonzero(as_tuple=True)
        labels = clip.labels[:, 1]
        truth = (labels == 1).float() - ((labels != 1) & (labels != IGNORE)).float()
        if refining:
            logits = outputs["refined"][chosen]
        else:
            rows = outputs["mask"].permute(0, 2, 3, 1)[chosen]  # (M, C)
            coarse = F.linear(rows, outputs["mask_weight"], outputs["mask_bias"])
            logits = enlarge(coarse.float().view(-1, COARSE, COARSE))
        margin = (REFINED + STRIDE * (side - 1) - search) // 2
        truth = mask_windows(truth, chosen, margin)
        self._measure(logits.detach(), truth)
        # A sum over nothing is 0, and still depends on the network.
        losses = {"mask": config.w_mask * mask_loss(logits, truth)}
        if not refining:
            losses["cls"] = config.w_cls * class_loss(outputs["cls"], targets.classes)
            losses["loc"] = config.w_loc * box_loss(outputs["loc"], targets.offsets, targets.weights)
        return losses

    def _measure(self, logits: Tensor, truth: Tensor) -> None:
        split, overlaps = "train" if self.training else "val", mask_overlaps(logits, truth)
        values = {"": overlaps, "_above_50": overlaps > 0.5, "_above_70": overlaps > 0.7}
        self.stats = {f"mask_iou/{split}{name}_sum": value.float().sum() for name, value in values.items()}
        count = overlaps.new_full((), len(overlaps))
        self.stats |= {f"mask_iou/{split}{name}_count": count for name in values}
