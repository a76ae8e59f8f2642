"""SAM's image encoder: a plain vision transformer with windowed and a few global blocks, and a neck.

Kirillov et al., "Segment Anything", ICCV 2023, arXiv 2304.02643; Li et al., "ViTDet", ECCV 2022. The state
dict has the names of the published weights.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.sam_track.attention import Attention, join_windows, partition


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of each cell of (B, C, h, w)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return x.permute(0, 3, 1, 2)


class MLP(nn.Module):
    """Two layers with an activation between them."""

    def __init__(self, dim: int, hidden_dim: int, activation: type[nn.Module]):
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, dim)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class Block(nn.Module):
    """A transformer block whose attention is within windows, or over the whole grid where `window` is 0.

    grid: side of the grid that the tables of a global block are made for
    Windows at the border are filled up with zeros after the norm, and these cells are attended to, as
    published.
    """

    def __init__(self, dim: int, num_heads: int, window: int, grid: int, mlp_dim: int):
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, window or grid)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, mlp_dim, nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) to (B, h, w, D)."""
        size, y = tuple(x.shape[1:3]), self.norm1(x)
        if self.window:
            y, padded = partition(y, self.window)
            y = join_windows(self.attn(y), padded, size)
        else:
            y = self.attn(y)
        x = x + y
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Patches of an image as tokens."""

    def __init__(self, patch_size: int, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, h, w, D)."""
        return self.proj(images).permute(0, 2, 3, 1)


def resize_positions(pos_embed: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, g, g, D) absolute positions to (1, *size, D), bicubically."""
    if pos_embed.shape[1:3] == size:
        return pos_embed
    x = F.interpolate(pos_embed.permute(0, 3, 1, 2), size, mode="bicubic", align_corners=False)
    return x.permute(0, 2, 3, 1)


class ImageEncoder(nn.Module):
    """Images to embeddings; positions are interpolated for a grid other than that of `image_size`.

    global_blocks: places of the blocks that attend to the whole grid; the others attend in windows of
    `window_size` cells, or to the whole grid too where that is 0
    """

    def __init__(
        self,
        image_size: int = 1024,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        window_size: int = 14,
        global_blocks: Collection[int] = (2, 5, 8, 11),
        out_dim: int = 256,
        mlp_dim: int | None = None,
    ):
        super().__init__()
        self.image_size, self.patch_size = image_size, patch_size
        grid = image_size // patch_size
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, embed_dim))
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.blocks = nn.ModuleList(
            Block(
                embed_dim, num_heads, 0 if i in global_blocks else window_size, grid, mlp_dim or 4 * embed_dim
            )
            for i in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dim, out_dim, 1, bias=False),
            LayerNorm2d(out_dim),
            nn.Conv2d(out_dim, out_dim, 3, padding=1, bias=False),
            LayerNorm2d(out_dim),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Normalised, padded images (B, 3, I, I), I a multiple of the patch, to (B, out_dim, g, g)."""
        x = self.patch_embed(images)
        x = x + resize_positions(self.pos_embed, tuple(x.shape[1:3]))
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))
