"""The two-way transformer of SAM's mask decoder: tokens attend to the image, and the image to the tokens.

Kirillov et al. 2023, appendix A. All tensors are (N, tokens, C); positions are added to queries and keys.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from systems.sam_track.image_encoder import MLP


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of the tokens."""

    def __init__(self, dim: int, num_heads: int, inner_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner_dim)
        self.k_proj = nn.Linear(dim, inner_dim)
        self.v_proj = nn.Linear(dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(x.transpose(1, 2).flatten(2))


class TwoWayBlock(nn.Module):
    """Self-attention of tokens, tokens to image, an MLP, image to tokens."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, *, first: bool):
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, num_heads, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, num_heads, dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, num_heads, dim // 2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_positions: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """tokens and their positions (N, t, C), image and its positions (N, h*w, C) and (1, h*w, C)."""
        if self.first:  # the tokens are their own positions
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + token_positions
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        k = image + positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_positions, k, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        q = tokens + token_positions
        image = self.norm4(image + self.cross_attn_image_to_token(k, q, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Blocks in turn, and a last attention of the tokens to the image."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, depth: int = 2):
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, num_heads, mlp_dim, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(dim, num_heads, dim // 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, positions: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """image (N, C, h, w), positions (1, C, h, w), tokens (N, t, C) to tokens and image (N, h*w, C)."""
        image, positions = (x.flatten(2).transpose(1, 2) for x in (image, positions))
        token_positions = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_positions, positions)
        x = self.final_attn_token_to_image(tokens + token_positions, image + positions, image)
        return self.norm_final_attn(tokens + x), image
