"""VITA_TCOVIS: ResNet-50, 1x1 projection, transformer decoder over object tokens, mask and association heads.

Sources: object tokens are VITA's (Heo et al., NeurIPS 2022, arXiv 2206.04403); the masked decoder is
Mask2Former's (Cheng et al., CVPR 2022, arXiv 2112.01527, section 3.2), without deformable attention; the
association head follows TCOVIS (Li et al., ICCV 2023).
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.backbone import STAGES, Backbone
from common.checkpoint import (
    Loadable,
    check_start,
    check_weights,
    load_network,
    read_file,
    state_dict_of,
)
from common.device import without_gradient
from common.errors import UserError
from common.progress import say
from configs.vita_tcovis import NetworkConfig

EMBEDDING_DIM = 128
STRIDES = (32, 16, 8, 4)
CLASS_HEAD = ("class_head.weight", "class_head.bias")  # the weights that depend on the number of classes
TOKENS = ("tokens", "token_positions")  # and those that depend on the number of tokens


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


class VITA_TCOVIS(nn.Module):
    """Frames in; for every object token a class, a mask and an association embedding out.

    Every frame is decoded by itself from the same learned tokens, so that a video of any length runs in the
    memory of one frame; what links the frames are the embeddings.
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

    def set_epoch(self, epoch: int, epochs: int) -> bool:
        """Every epoch trains the same parameters."""
        return False

    def forward(self, frames: Tensor, prompt: Tensor | None = None) -> dict[str, Any]:
        """frames (B, T, 3, H, W), ImageNet-normalised, H and W multiples of 32; `prompt` is not used.

        Returns `class_logits` (B, T, N, num_classes + 1; the last is "no object"), `mask_logits` (B, T, N, h,
        w) at the mask stride, `embeddings` (B, T, N, 128), `foreground_logits` (B, T, h, w) of the mask
        features, whatever the tokens; and in training `aux`: a list of class_logits and mask_logits of the
        tokens before each layer. Raises ValueError where the frames are not padded.
        """
        B, T, _, H, W = frames.shape
        if H % self.stride or W % self.stride:
            raise ValueError(f"frames of {H}x{W}: pad height and width to multiples of {self.stride}")
        levels, mask_features = self.pyramid(self.backbone(frames.flatten(0, 1)))  # (B*T, D, h, w)
        tokens, predictions = self._decode(levels, mask_features)
        *aux, last = [{name: x.unflatten(0, (B, T)) for name, x in p.items()} for p in predictions]
        return {
            **last,
            "embeddings": self.association(tokens).unflatten(0, (B, T)),
            "foreground_logits": self.foreground_head(mask_features).squeeze(1).unflatten(0, (B, T)),
            "aux": aux,
        }

    def _decode(self, levels: list[Tensor], mask_features: Tensor) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Final tokens (B*T, N, D); predictions before and after every layer, in evaluation the last."""
        tokens = self.tokens.expand(mask_features.shape[0], -1, -1)
        features = [
            x.flatten(2).transpose(1, 2) + e for x, e in zip(levels, self.level_embedding, strict=True)
        ]
        positions = [sine_positions(*x.shape[-2:], x.shape[1], like=x) for x in levels]
        mask_levels = []  # what tells a token where its mask is on
        if self.config.masked_attention:
            mask_levels = [reduced(mask_features.detach(), x.shape[-1]) for x in levels]
        states = [tokens]
        for index, layer in enumerate(self.layers):
            level = index % len(levels)
            allowed = self._allowed(tokens, mask_levels[level]) if mask_levels else None
            tokens = layer(tokens, self.token_positions, features[level], positions[level], allowed)
            states.append(tokens)
        predictions = self._predict(states if self.training else states[-1:], mask_features)
        return self.token_norm(tokens), predictions

    def _allowed(self, tokens: Tensor, mask_features: Tensor) -> Tensor:
        """(B*T, N, S) bool: where the mask that a token has so far is on; everywhere where it is empty."""
        with without_gradient(tokens.device):
            inside = self.mask_head(self.token_norm(tokens)) @ mask_features.flatten(2) >= 0
        return inside | ~inside.any(-1, keepdim=True)

    def _predict(self, states: list[Tensor], mask_features: Tensor) -> list[dict[str, Tensor]]:
        """Class logits (B*T, N, num_classes + 1) and mask logits (B*T, N, h, w) of each state (B*T, N, D).

        One product makes the masks of all layers: its backward is one, too.
        """
        tokens = self.token_norm(torch.stack(states, 1))  # (B*T, L, N, D)
        masks = self.mask_head(tokens).flatten(1, 2) @ mask_features.flatten(2)
        masks = masks.view(*tokens.shape[:3], *mask_features.shape[-2:])
        return [
            {"class_logits": classes, "mask_logits": logits}
            for classes, logits in zip(self.class_head(tokens).unbind(1), masks.unbind(1), strict=True)
        ]


def read_weights(path: str) -> dict[str, Tensor]:
    """The weights in a checkpoint of VITA-TCOVIS, the EMA's where there are any, or in a bare state dict.

    Raises UserError for what `load_network` refuses, and where numbers are not finite.
    """
    content = read_file(Path(path))
    bare = {} if isinstance(content, dict) and "format" in content else state_dict_of(content)
    if bare.keys() >= {*CLASS_HEAD, *TOKENS}:
        check_weights(Path(path), bare, bare)
        return bare
    return load_network(path, {"vita_tcovis": Loadable(VITA_TCOVIS, None)}, "vita_tcovis")[0].state_dict()


def load_checkpoint(network: VITA_TCOVIS, path: str) -> None:
    """Fill a network from weights of VITA-TCOVIS with any number of classes and of object tokens.

    path: what `read_weights` reads
    With another number of classes the class head begins anew. With another number of tokens the first ones
    are taken, and those that the file lacks begin anew. A line says either. Raises UserError for what
    `read_weights` refuses, and where anything else does not fit.
    """
    weights, state = read_weights(path), network.state_dict()
    check_start(path, weights | {key: state[key] for key in (*CLASS_HEAD, *TOKENS)}, state)
    num_classes, num_tokens = len(weights["class_head.bias"]) - 1, len(weights["tokens"])
    config = network.config
    if num_classes != config.num_classes:
        weights |= {key: state[key] for key in CLASS_HEAD}
        classes = f"for {config.num_classes} classes, not {num_classes}"
        say(f"--load_network {path}: the class head begins anew, {classes}")
    if num_tokens != config.num_tokens:
        taken = min(num_tokens, config.num_tokens)
        weights |= {key: torch.cat([weights[key][:taken], state[key][taken:]]) for key in TOKENS}
        anew = f"{config.num_tokens - taken} begin anew"
        say(f"--load_network {path}: the first {taken} of {num_tokens} object tokens are taken, {anew}")
    network.load_state_dict(weights)


def start(network: VITA_TCOVIS, config: VITA_TCOVIS.Config) -> None:
    """Bring the weights that a run begins with: a checkpoint's, or the backbone's.

    Raises UserError where they cannot be had.
    """
    if config.load_network != "none":
        load_checkpoint(network, config.load_network)
    elif config.backbone_weights != "none":
        laterals = network.backbone.load(config.backbone_weights)
        if laterals:
            taken = ", ".join(map(str, network.pyramid.load(laterals))) or "none, as their width is 256"
            say(f"--backbone_weights {config.backbone_weights}: the ResNet-50; laterals of strides: {taken}")
