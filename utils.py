"""Losses as pure functions, the Hungarian matcher and the joint criterion of VITA-TCOVIS; all in float32."""

import math
import zlib
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import distributed
from common.device import on_device
from common.types import Clip
from configs.vita_tcovis import CriterionConfig
from video.label_maps import IGNORE
from video.points import pixel_centres, sample_labels, sample_logits, uncertain_points

INSTANCE_TEMPERATURE = 0.1  # of cosines

# ---------------------------------------------------------------------------------------------------- losses


def mask_bce(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """(M,) binary cross-entropy of (M, P) logits and soft targets, a weighted mean over the points."""
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (loss * weights).sum(1) / weights.sum(1).clamp(min=1)


def dice(intersections: Tensor, areas: Tensor) -> Tensor:
    """1 - (2 |p g| + 1) / (|p| + |g| + 1) of intersections |p g| and areas |p| + |g| (V-Net, 2016)."""
    return 1 - (2 * intersections + 1) / (areas + 1)


def dice_loss(probs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """(...) `dice` of (..., P) probabilities and soft targets, of which weighted points count."""
    probs, areas = probs * weights, (targets * weights).sum(-1)
    return dice((probs * targets).sum(-1), probs.sum(-1) + areas)


def foreground_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """(M,) cross-entropy plus dice of (M, h, w) logits: does a cell lie on any object of (M, H, W) labels?

    The target is the share of each cell that lies on objects. It teaches the mask features where objects are
    before any token has found them, as the semantic loss of YOLACT (Bolya et al. 2019) does.
    """
    counted = (labels != IGNORE).float()
    weights = F.adaptive_avg_pool2d(counted, logits.shape[-2:]).flatten(1)
    objects = F.adaptive_avg_pool2d((labels > 0) * counted, logits.shape[-2:]).flatten(1)
    targets, logits = objects / weights.clamp(min=1e-6), logits.flatten(1)
    return mask_bce(logits, targets, weights) + dice_loss(logits.sigmoid(), targets, weights)


def instance_loss(features: Tensor, labels: Tensor, slots: int) -> Tensor:
    """Instance discrimination: cells know the mean feature of their object among those of its frame.

    features (M, D, h, w), labels (M, H, W) of objects 1 to `slots`. Cross-entropy of the cosines /
    INSTANCE_TEMPERATURE of each cell with the means of all objects and of the background; a mean over the
    cells of each, so that small objects count as much as large ones, then over all of them (MaX-DeepLab, Wang
    et al., CVPR 2021, arXiv 2012.00759, section 3.4, which has no background and averages over cells).
    """
    step = labels.shape[-1] // features.shape[-1]
    cells = labels[:, step // 2 :: step, step // 2 :: step].flatten(1)  # (M, S)
    members = torch.stack([cells == slot for slot in range(slots + 1)], 1).to(features.dtype)  # (M, K + 1, S)
    unit = F.normalize(features.flatten(2), dim=1)  # (M, D, S)
    means = F.normalize(members @ unit.transpose(1, 2), dim=-1)  # (M, K + 1, D)
    sizes = members.sum(-1)
    cosines = means @ unit / INSTANCE_TEMPERATURE
    likelihoods = cosines.masked_fill((sizes == 0)[..., None], -1e4).log_softmax(1)
    losses = -(likelihoods * members).sum(-1) / sizes.clamp(min=1)  # (M, K + 1)
    return weighted_mean(losses, sizes > 0)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over the values of all processes; 0 where nothing weighs. Weights may be bool."""
    total = distributed.all_reduce_mean(weights.sum().to(values.dtype))
    return (values * weights).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)


def gather_objects(embeddings: Tensor, matched: Tensor) -> Tensor:
    """(B, T, N, E) token embeddings and (B, T, K) token of each object (-1 none) to (B, T, K, E)."""
    index = matched.clamp(min=0)[..., None].expand(-1, -1, -1, embeddings.shape[-1])
    return embeddings.gather(2, index)


def matching_loss(objects: Tensor, visible: Tensor, temperature: float) -> Tensor:
    """Supervised matching: an object's token in frame t finds its own among the objects of frame s.

    objects (B, T, K, E) of unit length, visible (B, T, K) bool. Cross-entropy of the row of similarities /
    temperature against the right object, for all pairs of frames in which it is visible; a pair weighs
    1 / |t - s|, so adjacent frames weigh most. Tokens that answer for no object are in no row: they often lie
    on the same object, and pushed away from it they would begin a new track when one of them takes over.
    """
    T = visible.shape[1]
    rows = torch.einsum("btke,bsje->btskj", objects, objects) / temperature
    rows = rows.masked_fill(~visible[:, None, :, None], -1e4)  # far below any similarity
    loss = rows.logsumexp(-1) - rows.diagonal(dim1=-2, dim2=-1)  # (B, T, S, K)
    frames = torch.arange(T, device=visible.device)
    distance = (frames[:, None] - frames).abs()
    weights = torch.where(distance > 0, 1 / distance.clamp(min=1), 0.0)[None, :, :, None]
    return weighted_mean(loss, weights * (visible[:, :, None] & visible[:, None]))


def contrastive_loss(objects: Tensor, identities: Tensor, temperature: Tensor) -> Tensor:
    """InfoNCE (van den Oord et al. 2018) of objects (M, E) of unit length and identities (M,), 0 nobody.

    Positives are the other rows of the same identity, each against all rows of other identities; an anchor's
    loss is the mean over its positives. Rows without a positive are no anchors.
    """
    similarity = objects @ objects.T / temperature
    valid = identities > 0
    same = (identities[:, None] == identities) & valid[:, None]
    positive = same & ~torch.eye(len(identities), dtype=torch.bool, device=same.device)
    other = ~same & valid[:, None] & valid
    negatives = similarity.masked_fill(~other, -1e4).logsumexp(1, keepdim=True)  # finite where there are none
    loss = F.softplus(negatives - similarity).where(positive, 0.0)
    anchors = positive.any(1)
    return weighted_mean(loss.sum(1) / positive.sum(1).clamp(min=1), anchors.float())


def cosine_statistics(objects: Tensor, identities: Tensor) -> dict[str, Tensor]:
    """Sums and counts of the cosines of one clip's objects: same object in other frames, different objects.

    objects (B, T*K, E) of unit length, identities (B, T*K), 0 for nobody. Only objects of one clip are
    compared: they are what a tracker must tell apart.
    """
    cosine = objects @ objects.transpose(1, 2)
    valid = (identities > 0)[:, :, None] & (identities > 0)[:, None]
    same = identities[:, :, None] == identities[:, None]
    self_pair = torch.eye(identities.shape[1], dtype=torch.bool, device=same.device)
    positive, negative = valid & same & ~self_pair, valid & ~same
    return {
        "cosine_positive_sum": (cosine * positive).sum(),
        "cosine_positive_count": positive.sum(),
        "cosine_negative_sum": (cosine * negative).sum(),
        "cosine_negative_count": negative.sum(),
    }


def object_identities(clip: Clip, visible: Tensor) -> Tensor:
    """(B, T, K) int64 > 0, equal for the same object of the same video; 0 where not visible."""
    videos = [zlib.crc32(names[0][0].encode()) for names in clip.names]
    video = on_device(videos, visible.device, torch.int64)
    identity = (video[:, None] << 20) + clip.ids  # (B, K)
    return (identity[:, None] * visible).where(clip.ids[:, None] > 0, 0)


# ----------------------------------------------------------------------------------------------------
# matching


class Match(NamedTuple):
    """Which token answers for which object: an entry for every visible object, frame and prediction layer.

    layer, clip, frame, slot, token: (R,) int64 indices, ordered by layer
    per_layer: number of entries of each layer
    matched: (L, B, T, K) int64 token of each object, -1 where it is not visible or no token is left
    on_ignored: (L, B, T, N) bool: the token's mask lies on ignored pixels
    present: (B, T, K) bool: the objects that are visible, counted once for all losses
    """

    layer: Tensor
    clip: Tensor
    frame: Tensor
    slot: Tensor
    token: Tensor
    per_layer: list[int]
    matched: Tensor
    on_ignored: Tensor
    present: Tensor


class HungarianMatcher:
    """Matches one token with each object by the least sum of class, mask and dice costs (DETR, 2020).

    `assign` is `clip`: one matching for the clip, costs summed over the frames in which the object is
    visible (TCOVIS's global assignment); or `frame`: one for every frame. `num_nonfinite` counts the costs of
    the last call that were not finite and were clamped.
    """

    def __init__(self, cost_class: float, cost_mask: float, cost_dice: float, *, assign: str = "clip"):
        self.cost_class, self.cost_mask, self.cost_dice = cost_class, cost_mask, cost_dice
        self.assign = assign
        self.num_nonfinite: Tensor | int = 0

    @torch.no_grad()
    def __call__(self, layers: list[dict[str, Tensor]], clip: Clip, num_points: int) -> Match:
        """layers hold class_logits (B, T, N, C + 1) and mask_logits (B, T, N, h, w).

        All costs of the step reach the CPU in one transfer.
        """
        (B, T, H, W), device = clip.labels.shape, clip.labels.device
        self.num_nonfinite = 0
        if H * W <= num_points:
            points = pixel_centres(H, W, device).expand(B * T, -1, -1)
        else:
            points = distributed.draw_rows(lambda M: torch.rand(M, num_points, 2, device=device), B * T)
        sampled = sample_labels(clip.labels.flatten(0, 1), torch.arange(B * T, device=device), points)
        targets = sampled.all_masks(clip.ids.shape[1])  # (B*T, K, P)
        costs, on_ignored = zip(
            *(self._costs(layer, clip, targets, sampled.counted, points) for layer in layers), strict=True
        )
        present = clip.present
        cost = torch.stack(costs).masked_fill(~present[None, :, :, None], torch.nan)  # (L, B, T, N, K)
        matched = torch.from_numpy(self._solve(cost.cpu().numpy()))
        index = (matched >= 0).nonzero(as_tuple=True)
        rows = torch.stack([*index, matched[index]]).to(device, non_blocking=True)
        per_layer = (matched >= 0).flatten(1).sum(1).tolist()
        return Match(
            *rows, per_layer, matched.to(device, non_blocking=True), torch.stack(on_ignored), present
        )

    def _costs(
        self, layer: dict[str, Tensor], clip: Clip, targets: Tensor, counted: Tensor, points: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Costs (B, T, N, K) of one layer, and (B, T, N) whether a token's mask lies on ignored pixels."""
        B, T = clip.labels.shape[:2]
        logits = sample_logits(layer["mask_logits"].flatten(0, 1).float(), points)  # (B*T, N, P)
        weights = counted[:, None]  # (B*T, 1, P)
        num_counted = weights.sum(-1, keepdim=True).clamp(min=1)
        weighted_targets = (targets * weights).transpose(1, 2)  # (B*T, P, K)
        bce = ((F.softplus(logits) * weights).sum(-1, keepdim=True) - logits @ weighted_targets) / num_counted
        probs = logits.sigmoid()
        sizes = (probs * weights).sum(-1, keepdim=True) + weighted_targets.sum(1, keepdim=True)
        dice_cost = dice(probs @ weighted_targets, sizes)
        classes = layer["class_logits"].float().softmax(-1)
        classes = classes.gather(-1, clip.classes[:, None, None].expand(-1, *classes.shape[1:3], -1))
        cost = (self.cost_mask * bce + self.cost_dice * dice_cost).unflatten(0, (B, T))
        cost = cost - self.cost_class * classes
        self.num_nonfinite = self.num_nonfinite + (~cost.isfinite()).sum()
        inside = (logits > 0).float()
        ignored = (inside * (1 - weights)).sum(-1) > 0.5 * inside.sum(-1).clamp(min=1)
        return cost.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6), ignored.unflatten(0, (B, T))

    def _solve(self, cost: np.ndarray) -> np.ndarray:
        """(L, B, T, N, K) costs, NaN where an object is not visible, to (L, B, T, K) tokens or -1."""
        from scipy.optimize import linear_sum_assignment

        visible = ~np.isnan(cost[:, :, :, 0])  # (L, B, T, K)
        if self.assign == "clip":
            problems = np.nan_to_num(cost).sum(2, keepdims=True)
            solvable = visible.any(2, keepdims=True)
        else:
            problems, solvable = np.nan_to_num(cost), visible
        tokens = np.full(solvable.shape, -1, dtype=np.int64)
        for place in np.ndindex(*solvable.shape[:3]):
            slots = solvable[place].nonzero()[0]
            rows, columns = linear_sum_assignment(problems[place][:, slots])
            tokens[place][slots[columns]] = rows
        return np.where(visible, tokens, -1)


# ----------------------------------------------------------------------------------------------------
# criterion


class TCOVISCriterion(nn.Module):
    """The joint loss: class, mask and dice of every decoder layer; matching and contrastive loss of the last;
    foreground loss of the mask features.

    `stats` holds detached figures of the last call that are not losses: the sums and counts of
    `cosine_statistics` and the number of costs that were not finite.
    """

    Config = CriterionConfig

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.matcher = HungarianMatcher(
            config.cost_class, config.cost_mask, config.cost_dice, assign=config.assign
        )
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        self.stats: dict[str, Any] = {}

    @property
    def temperature(self) -> Tensor:
        """Between 0.01 and 1: the parameter itself is kept there, so that it can always come back."""
        with torch.no_grad():
            self.log_temperature.clamp_(math.log(0.01), 0.0)
        return self.log_temperature.exp()

    def forward(self, outputs: dict[str, Any], clip: Clip) -> dict[str, Tensor]:
        """Returns the weighted scalars "class", "mask", "dice", "match" and "contrastive"; where the outputs
        hold mask features, "foreground"; and "instance" where `w_instance` is not 0, too.
        """
        with torch.autocast(clip.frames.device.type, enabled=False):
            layers = [*outputs["aux"], outputs] if self.config.deep_supervision else [outputs]
            match = self.matcher(layers, clip, self.config.num_points)
            return {
                "class": self.config.w_class * self._class_loss(layers, clip, match),
                **self._mask_losses(layers, clip, match),
                **self._feature_losses(outputs, clip),
                **self._association_losses(outputs["embeddings"].float(), clip, match.matched[-1]),
            }

    def _class_loss(self, layers: list[dict[str, Tensor]], clip: Clip, match: Match) -> Tensor:
        """Cross-entropy; unmatched tokens are "no object", unless their mask lies on ignored pixels."""
        logits = torch.stack([layer["class_logits"].float() for layer in layers])  # (L, B, T, N, C + 1)
        background = logits.shape[-1] - 1
        target = torch.full(logits.shape[:-1], background, device=logits.device)
        target[match.layer, match.clip, match.frame, match.token] = clip.classes[match.clip, match.slot]
        weights = torch.where(target == background, self.config.no_object * ~match.on_ignored, 1.0)
        loss = F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view_as(weights)
        return torch.stack([weighted_mean(x, w) for x, w in zip(loss, weights, strict=True)]).sum()

    def _mask_losses(self, layers: list[dict[str, Tensor]], clip: Clip, match: Match) -> dict[str, Tensor]:
        """Cross-entropy and dice of the matched masks, over the number of real masks of all processes."""
        num_masks = distributed.mean_count(match.present.sum())
        indices = zip(
            *(x.split(match.per_layer) for x in (match.clip, match.frame, match.slot, match.token)),
            strict=True,
        )
        sums = [self._mask_sums(layer, clip, index) for layer, index in zip(layers, indices, strict=True)]
        bce_sum, dice_sum = torch.stack(sums).sum(0)
        return {
            "mask": self.config.w_mask * (bce_sum / num_masks),
            "dice": self.config.w_dice * (dice_sum / num_masks),
        }

    def _mask_sums(self, layer: dict[str, Tensor], clip: Clip, index: tuple[Tensor, ...]) -> Tensor:
        """(2,) sums of cross-entropy and dice of one layer; its points are in memory alone.

        index: (R,) clip, frame, slot and token of each matched object
        """
        clips, frames, slots, tokens = index
        H, W = clip.labels.shape[-2:]
        logits = layer["mask_logits"][clips, frames, tokens].float()  # (R, h, w)
        if H * W <= self.config.num_points:
            points = pixel_centres(H, W, logits.device).expand(len(logits), -1, -1)
        else:
            points = uncertain_points(logits.detach(), self.config.num_points)
        logits = sample_logits(logits.unsqueeze(1), points).squeeze(1)  # (R, P)
        sampled = sample_labels(clip.labels.flatten(0, 1), clips * clip.labels.shape[1] + frames, points)
        targets, weights = sampled.masks(slots + 1), sampled.counted
        losses = mask_bce(logits, targets, weights), dice_loss(logits.sigmoid(), targets, weights)
        return torch.stack([loss.sum() for loss in losses])

    def _feature_losses(self, outputs: dict[str, Any], clip: Clip) -> dict[str, Tensor]:
        """What the mask features learn without tokens, over all frames; nothing for outputs without them."""
        if "mask_features" not in outputs:
            return {}
        labels, features = clip.labels.flatten(0, 1), outputs["mask_features"].flatten(0, 1).float()
        logits = outputs["foreground_logits"].flatten(0, 1).float()
        losses = {"foreground": self.config.w_foreground * foreground_loss(logits, labels).mean()}
        if self.config.w_instance:
            instance = instance_loss(features, labels, clip.ids.shape[1])
            losses["instance"] = self.config.w_instance * instance
        return losses

    def _association_losses(self, embeddings: Tensor, clip: Clip, matched: Tensor) -> dict[str, Tensor]:
        """Matching and contrastive loss of the matched tokens of the last layer."""
        objects = gather_objects(F.normalize(embeddings, dim=-1), matched)  # (B, T, K, E)
        visible = matched >= 0
        identities = object_identities(clip, visible)  # (B, T, K)
        self.stats = {
            **cosine_statistics(objects.detach().flatten(1, 2), identities.flatten(1)),
            "nonfinite_costs": torch.as_tensor(self.matcher.num_nonfinite),
        }
        all_objects = distributed.gather_with_gradient(objects.flatten(0, 2))
        all_identities = distributed.gather_with_gradient(identities.flatten())
        matching = matching_loss(objects, visible, self.config.match_temperature)
        contrastive = contrastive_loss(all_objects, all_identities, self.temperature)
        return {"match": self.config.w_match * matching, "contrastive": self.config.w_ctr * contrastive}
