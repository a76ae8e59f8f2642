"""The loss of STCN: cross-entropy of the hardest pixels, after a warm-up on all."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.types import Clip
from configs.stcn import CriterionConfig
from video.label_maps import IGNORE


def hardest_share(iteration: int, start: int, end: int, least: float) -> float:
    """The share of pixels that counts: all before `start`, then fewer, and `least` from `end` on."""
    if iteration < start:
        return 1.0
    left = max(0, end - iteration) / max(1, end - start)
    return least + (1 - least) * left


def bootstrapped_cross_entropy(logits: Tensor, labels: Tensor, counts: list[int], share: float) -> Tensor:
    """(B,) mean cross-entropy over the hardest share of each clip's pixels; ignored ones do not count.

    logits (B, K + 1, H, W), labels (B, H, W); 0 where nothing counts.
    counts: of each clip the pixels that are not ignored, which the device is not asked for here
    """
    losses = F.cross_entropy(logits.float(), labels.long(), ignore_index=IGNORE, reduction="none")
    means = []
    for loss, count in zip(losses.flatten(1), counts, strict=True):  # of ignored pixels 0, the least
        number = int(count * share)
        if share < 1:
            loss = loss.topk(number, sorted=False).values
        means.append(loss.sum() / max(1, number))
    return torch.stack(means)


class STCNCriterion(nn.Module):
    """Bootstrapped cross-entropy of every predicted frame, summed over frames and averaged over clips.

    `stats` holds the share of pixels that counted in the last training step. Evaluation counts all pixels.
    """

    Config = CriterionConfig

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.register_buffer("iteration", torch.tensor(0))  # training batches so far
        self.stats: dict[str, Tensor] = {}

    def forward(self, outputs: dict[str, Tensor], clip: Clip) -> dict[str, Tensor]:
        """Returns the scalar "ce"; outputs: `logits` (B, T - 1, K + 1, H, W) of all frames but the first."""
        config, share = self.config, 1.0
        counts, iteration = self._fetch(clip.labels[:, 1:])
        self.stats = {}
        if self.training:
            share = hardest_share(iteration, config.start_warm, config.end_warm, config.top_p)
            self.iteration += 1
            self.stats = {"optimiser/hardest_share": torch.tensor(share)}
        empty = F.pad(clip.ids == 0, (1, 0))[:, None, :, None, None]  # slots that only fill the batch
        logits = outputs["logits"].float().masked_fill(empty, -1e4)
        losses = [
            bootstrapped_cross_entropy(logits[:, t], clip.labels[:, t + 1], counts[t], share).mean()
            for t in range(logits.shape[1])
        ]
        return {"ce": torch.stack(losses).sum()}

    def _fetch(self, labels: Tensor) -> tuple[list[list[int]], int]:
        """In one transfer, how many pixels of (B, T, H, W) labels count, T lists of B, and the iteration."""
        counts = (labels != IGNORE).flatten(2).sum(2).T  # (T, B)
        *rows, (iteration, *_) = torch.cat([counts, self.iteration.expand(1, len(labels))]).tolist()
        return rows, iteration
