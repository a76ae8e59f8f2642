"""VITA_TCOVIS: ResNet-50, 1x1 projection, transformer decoder over object tokens, mask and association heads.

Sources: object tokens are VITA's (Heo et al., NeurIPS 2022, arXiv 2206.04403), its clip-level decoder is not
here; the masked decoder is Mask2Former's (Cheng et al., CVPR 2022, arXiv 2112.01527, section 3.2), without
deformable attention; tokens that begin a frame with what they held in the last one are the track queries
of TrackFormer (Meinhardt et al. 2022, arXiv 2101.02702) and MOTR (Zeng et al. 2022, arXiv 2105.03247).
Of TCOVIS (Li et al., ICCV 2023) is the one assignment for a clip (utils.py). The association head is this
project's own.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import distributed
from common.backbone import STAGES, Backbone
from common.device import without_gradient
from common.errors import UserError
from configs.vita_tcovis import NetworkConfig

EMBEDDING_DIM = 128
DROPPED = 0.3  # share of the objects that are not handed on to the next frame in training
STRIDES = (32, 16, 8, 4)


def sine_positions(height: int, width: int, dim: int, like: Tensor) -> Tensor:
    """(height*width, dim) sine and cosine of the normalised row and column (DETR, Carion et al. 2020)."""
    frequencies = dim // 4
    scale = torch.arange(frequencies, device=like.device, dtype=torch.float32)
    inverse_period = 2 * math.pi / 10000 ** (scale / frequencies)
    parts = []
    for cells, shape in ((height, (height, 1, 1)), (width, (1, width, 1))):
        place = (torch.arange(cells, device=like.device, dtype=torch.float32) + 0.5) / cells
        angle = (place[:, None] * inverse_period).view(*shape[:2], frequencies)
        parts += [angle.sin().expand(height, width, -1), angle.cos().expand(height, width, -1)]
    return torch.cat(parts, -1).flatten(0, 1).to(like.dtype)


def reduced(x: Tensor, width: int) -> Tensor:
    """(..., H, W) to (..., h, width), a whole fraction of both sides: bilinearly, without anti-aliasing.

    Four pixels meet at the centre of a cell. Masks are linear in the mask features, so that reducing these
    once equals resizing the masks of every layer.
    """
    step = x.shape[-1] // width
    if step == 1:
        return x
    first, second = step // 2 - 1, step // 2
    rows = x[..., first::step, :] + x[..., second::step, :]
    return (rows[..., first::step] + rows[..., second::step]) / 4


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) on `scaled_dot_product_attention`."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        for projection in (self.q, self.k, self.v, self.out):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """query (B, N, D), key and value (B, S, D), allowed (B, N, S) bool to (B, N, D)."""
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N or S, D / heads)
            for project, x in ((self.q, query), (self.k, key), (self.v, value))
        )
        mask = None if allowed is None else allowed.unsqueeze(1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(out.transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Cross-attention to the features, self-attention of the tokens, feed-forward; post-norm, no dropout."""

    def __init__(self, dim: int, heads: int, feedforward: int):
        super().__init__()
        self.cross_attention = Attention(dim, heads)
        self.self_attention = Attention(dim, heads)
        self.feedforward = nn.Sequential(nn.Linear(dim, feedforward), nn.ReLU(), nn.Linear(feedforward, dim))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))

    def forward(
        self,
        tokens: Tensor,
        token_positions: Tensor,
        features: Tensor,
        positions: Tensor,
        allowed: Tensor | None,
    ) -> Tensor:
        """tokens (B, N, D), features (B, S, D), allowed (B, N, S) bool or None to (B, N, D)."""
        query = tokens + token_positions
        tokens = self.norm1(tokens + self.cross_attention(query, features + positions, features, allowed))
        query = tokens + token_positions
        tokens = self.norm2(tokens + self.self_attention(query, query, tokens))
        return self.norm3(tokens + self.feedforward(tokens))


class FeaturePyramid(nn.Module):
    """The 1x1 projection of layer4, joined by 1x1 laterals of layers 1-3 down to the stride of the masks.

    Returns the levels that tokens attend to, coarse to fine: the finest three that are not finer than
    `attention_stride`; and the mask features. At mask stride 32 there are no laterals: everything comes from
    the projected layer4. The 3x3 convolution is depthwise: what mixes channels is the last layer of the mask
    head, because masks are dot products, and in full it would cost half as much as a ResNet-50.
    """

    def __init__(self, channels: list[int], dim: int, mask_stride: int, attention_stride: int = 8):
        super().__init__()
        self.proj = nn.Conv2d(channels[-1], dim, 1)
        self.strides = STRIDES[1 : STRIDES.index(mask_stride) + 1]
        self.laterals = nn.ModuleList(
            nn.Conv2d(channels[STRIDES[::-1].index(s)], dim, 1) for s in self.strides
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, dim) for _ in range(len(self.strides) + 1))
        self.smooth = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        coarse = 1 + sum(stride >= attention_stride for stride in self.strides)
        self.attended = slice(max(0, coarse - 3), coarse)

    def forward(self, stages: dict[int, Tensor]) -> tuple[list[Tensor], Tensor]:
        """{stride: (B, C, h, w)} to (up to three levels (B, D, h, w), mask features (B, D, h, w))."""
        x = self.norms[0](self.proj(stages[32]))
        levels = [x]
        for stride, lateral, norm in zip(self.strides, self.laterals, self.norms[1:], strict=True):
            above = F.interpolate(x, size=stages[stride].shape[-2:], mode="bilinear", align_corners=False)
            x = norm(lateral(stages[stride]) + above)
            levels.append(x)
        return levels[self.attended], self.smooth(x.relu())

    def load(self, published: dict[int, dict[str, Tensor]]) -> list[int]:
        """Take the 1x1 convolutions of another pyramid, {stride: weight and bias}, where the shapes agree.

        Returns the strides of those that were taken.
        """
        taken = []
        for stride, ours in zip((32, *self.strides), (self.proj, *self.laterals), strict=True):
            if stride in published and published[stride]["weight"].shape == ours.weight.shape:
                ours.load_state_dict(published[stride])
                taken.append(stride)
        return taken


class TemporalAssociationModule(nn.Module):
    """Tokens to the 128-d space in which the same object is alike in every frame: Linear, ReLU, LayerNorm."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear = nn.Linear(dim, EMBEDDING_DIM)
        self.norm = nn.LayerNorm(EMBEDDING_DIM)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) to (..., 128); not of unit length: comparisons normalise."""
        return self.norm(F.relu(self.linear(tokens)))


class Level(NamedTuple):
    """What tokens attend to at one stride of T frames.

    features: (B, T, S, D) of its cells; positions: (S, D) of the cells
    mask_features: (B, T, D, S), of which masks are products; None where attention is not masked
    """

    features: Tensor
    positions: Tensor
    mask_features: Tensor | None

    def frames(self) -> list["Level"]:
        """The same of each frame alone, without T; together they have one backward, not one each."""
        features = self.features.unbind(1)
        masks = [None] * len(features) if self.mask_features is None else self.mask_features.unbind(1)
        return [Level(x, self.positions, mask) for x, mask in zip(features, masks, strict=True)]


class VITA_TCOVIS(nn.Module):
    """Frames in; for every object token a class, a mask and an association embedding out.

    The decoder of a frame begins with the learned tokens, to which what they held in the last frame is added
    (`propagate`). A token that held no object begins anew, free for what appears. So a video of any length
    runs in the memory of one frame, and nothing is known of the frames to come.
    """

    stride = 32  # H and W of the frames are multiples of this
    takes_prompt = False
    backbone_parts = ("backbone",)
    recomputed_parts = (*(f"backbone.{stage}" for stage in STAGES), "layers")

    Config = NetworkConfig

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        D = config.hidden_dim
        if D % 8 or D % config.num_heads:
            heads = f"--num_heads {config.num_heads}"
            raise UserError(f"--hidden_dim {D} must be a multiple of 8 and of {heads}")
        self.backbone = Backbone(config.backbone, config.backbone_weights)
        self.pyramid = FeaturePyramid(self.backbone.channels, D, config.mask_stride, config.attention_stride)
        self.tokens = nn.Parameter(torch.randn(config.num_tokens, D))
        self.token_positions = nn.Parameter(torch.randn(config.num_tokens, D))
        num_levels = self.pyramid.attended.stop - self.pyramid.attended.start
        self.level_embedding = nn.Parameter(torch.randn(num_levels, D))
        self.layers = nn.ModuleList(
            DecoderLayer(D, config.num_heads, config.feedforward_dim) for _ in range(config.decoder_layers)
        )
        self.token_norm = nn.LayerNorm(D)
        self.class_head = nn.Linear(D, config.num_classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(D, D), nn.ReLU(inplace=True), nn.Linear(D, D), nn.ReLU(inplace=True), nn.Linear(D, D)
        )
        self.foreground_head = nn.Conv2d(D, 1, 1)
        self.association = TemporalAssociationModule(D)
        if config.propagate:
            self.propagation = nn.Linear(D, D)
            nn.init.zeros_(self.propagation.weight)  # at first every frame is decoded by itself
            nn.init.zeros_(self.propagation.bias)

    def set_epoch(self, epoch: int, epochs: int) -> bool:
        """Every epoch trains the same parameters."""
        return False

    def forward(
        self, frames: Tensor, prompt: Tensor | None = None, queries: Tensor | None = None
    ) -> dict[str, Any]:
        """frames (B, T, 3, H, W), ImageNet-normalised, H and W multiples of 32; `prompt` is not used.

        queries: (B, N, D) of the frame before the first, or None at the start of a video
        Returns `class_logits` (B, T, N, num_classes + 1; the last is "no object"), `mask_logits` (B, T, N, h,
        w) at the mask stride, `embeddings` (B, T, N, 128), `mask_features` (B, T, D, h, w), of which
        `foreground_logits` (B, T, h, w) are, whatever the tokens; `queries` (B, N, D) for the frame after the
        last, None without `propagate`; and in training `aux`: a list of class_logits and mask_logits of the
        tokens before each layer. Raises ValueError where the frames are not padded.
        """
        B, T, _, H, W = frames.shape
        if H % self.stride or W % self.stride:
            raise ValueError(f"frames of {H}x{W}: pad height and width to multiples of {self.stride}")
        levels, mask_features = self.pyramid(self.backbone(frames.flatten(0, 1)))  # (B*T, D, h, w)
        levels = self._levels(levels, mask_features, T)
        if queries is None and self.config.propagate:
            queries = 0 * self.propagation(self.tokens)  # in the graph of a clip of one frame, too
        states = []  # of each frame: tokens before and after every layer
        for frame in zip(*(level.frames() for level in levels), strict=True):
            states.append(self._decode(list(frame), queries))
            queries = self._queries(states[-1][:, -1]) if self.config.propagate else None
        tokens = torch.stack(states, 1).flatten(0, 1)  # (B*T, L, N, D)
        *aux, last = [
            {name: x.unflatten(0, (B, T)) for name, x in predictions.items()}
            for predictions in self._predict(tokens if self.training else tokens[:, -1:], mask_features)
        ]
        return {
            **last,
            "embeddings": self.association(self.token_norm(tokens[:, -1])).unflatten(0, (B, T)),
            "mask_features": mask_features.unflatten(0, (B, T)),
            "foreground_logits": self.foreground_head(mask_features).squeeze(1).unflatten(0, (B, T)),
            "queries": queries,
            "aux": aux,
        }

    def _levels(self, levels: list[Tensor], mask_features: Tensor, T: int) -> list[Level]:
        """What tokens attend to, of levels (B*T, D, h, w), the coarsest first."""
        built = []
        for x, embedding in zip(levels, self.level_embedding, strict=True):
            features = (x.flatten(2).transpose(1, 2) + embedding).unflatten(0, (-1, T))
            masks = None  # what tells a token where its mask is on
            if self.config.masked_attention:
                masks = reduced(mask_features.detach(), x.shape[-1]).flatten(2).unflatten(0, (-1, T))
            built.append(Level(features, sine_positions(*x.shape[-2:], x.shape[1], like=x), masks))
        return built

    def _decode(self, levels: list[Level], queries: Tensor | None) -> Tensor:
        """(B, L + 1, N, D) the tokens of one frame before and after each of L layers."""
        tokens = self.tokens.expand(len(levels[0].features), -1, -1)
        states = [tokens if queries is None else tokens + queries]
        for index, layer in enumerate(self.layers):
            features, positions, masks = levels[index % len(levels)]
            allowed = None if masks is None else self._allowed(states[-1], masks)
            states.append(layer(states[-1], self.token_positions, features, positions, allowed))
        return torch.stack(states, 1)

    def _queries(self, tokens: Tensor) -> Tensor:
        """(B, N, D) what final tokens hand on to the next frame, as far as each holds an object.

        In training some objects are dropped, so that a frame can still be decoded by itself (TrackFormer's
        false negatives).
        """
        tokens = self.token_norm(tokens)
        with without_gradient(tokens.device):
            share = 1 - self.class_head(tokens).softmax(-1)[..., -1:]
            if self.training:
                share = share * distributed.draw_rows(self._kept, len(tokens))
        return share * self.propagation(tokens)

    def _kept(self, rows: int) -> Tensor:
        """(rows, N, 1) random: 0 for what is dropped, 1 for the rest."""
        place = self.tokens
        return (torch.rand(rows, len(place), 1, device=place.device) >= DROPPED).to(place.dtype)

    def _allowed(self, tokens: Tensor, mask_features: Tensor) -> Tensor:
        """(B, N, S) bool: where the mask that a token has so far is on; everywhere where it is empty."""
        with without_gradient(tokens.device):
            inside = self.mask_head(self.token_norm(tokens)) @ mask_features >= 0
        return inside | ~inside.any(-1, keepdim=True)

    def _predict(self, tokens: Tensor, mask_features: Tensor) -> list[dict[str, Tensor]]:
        """Class logits (B*T, N, num_classes + 1) and mask logits (B*T, N, h, w) of L layers.

        tokens: (B*T, L, N, D); mask_features: (B*T, D, h, w)
        One product makes the masks of all layers: its backward is one, too.
        """
        tokens = self.token_norm(tokens)
        masks = self.mask_head(tokens).flatten(1, 2) @ mask_features.flatten(2)
        masks = masks.view(*tokens.shape[:3], *mask_features.shape[-2:])
        return [
            {"class_logits": classes, "mask_logits": logits}
            for classes, logits in zip(self.class_head(tokens).unbind(1), masks.unbind(1), strict=True)
        ]
