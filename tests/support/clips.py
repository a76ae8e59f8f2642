"""Small clips and predictions made by hand or from a seed, for the tests of losses and networks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from common.types import Clip
from video.label_maps import IGNORE


def make_clip(labels: Tensor, ids: Tensor | None = None, classes: Tensor | None = None) -> Clip:
    """A clip of (B, T, H, W) label maps; slots are the labels, ids default to the slots."""
    B, T, H, W = labels.shape
    K = int(labels[labels != IGNORE].max()) if labels.numel() else 0
    ids = torch.arange(1, K + 1).expand(B, K) if ids is None else ids
    return Clip(
        frames=torch.zeros(B, T, 3, H, W),
        labels=labels.to(torch.uint8),
        ids=ids,
        classes=torch.zeros_like(ids) if classes is None else classes,
        names=[[(f"video{b}", f"{t:05d}") for t in range(T)] for b in range(B)],
    )


def random_clip(seed: int, *, slots: int = 3, size: int = 8, B: int = 2, T: int = 3) -> Clip:
    """Random label maps in which pixels are ignored and slots may be absent from frames."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, slots + 2, (B, T, size, size), generator=generator)
    absent = torch.rand(B, T, slots + 2, generator=generator) < 0.3
    labels = labels.where(~absent.gather(2, labels.flatten(2)).view_as(labels), 0)
    labels[labels == slots + 1] = IGNORE
    return make_clip(labels, torch.arange(1, slots + 1).expand(B, slots))


def random_outputs(seed: int, clip: Clip, *, tokens: int = 4, classes: int = 1, stride: int = 1) -> dict:
    """Random predictions of a network with two supervised layers, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    B, T, H, W = clip.labels.shape

    def randn(*shape: int) -> Tensor:
        return torch.randn(B, T, tokens, *shape, generator=generator).requires_grad_()

    def layer() -> dict[str, Tensor]:
        return {"class_logits": randn(classes + 1), "mask_logits": randn(H // stride, W // stride)}

    return {**layer(), "embeddings": randn(8), "aux": [layer()]}


def perfect_outputs(clip: Clip, *, tokens: int = 4, classes: int = 1) -> dict:
    """Token k answers for slot k + 1 everywhere; the others are sure that they are nobody."""
    B, T, H, W = clip.labels.shape
    K = clip.ids.shape[1]
    masks = torch.full((B, T, tokens, H, W), -30.0)
    masks[:, :, :K][clip.masks] = 30.0
    scores = torch.full((B, T, tokens, classes + 1), -30.0)
    scores[..., -1] = 30.0
    answer = F.one_hot(clip.classes, classes + 1)[:, None] * 60.0 - 30.0
    scores[:, :, :K] = torch.where(clip.present[..., None], answer, scores[:, :, :K])
    embeddings = torch.eye(B * tokens, 16).view(B, 1, tokens, 16).expand(-1, T, -1, -1)
    layer = {"class_logits": scores, "mask_logits": masks}
    return {**layer, "embeddings": embeddings, "aux": [layer]}


def perfect_logits(clip: Clip) -> Tensor:
    """(B, T - 1, K + 1, H, W) logits of all frames but the first, the background in front."""
    background = ~clip.masks.any(2, keepdim=True)
    return 40.0 * torch.cat([background, clip.masks], 2)[:, 1:]
