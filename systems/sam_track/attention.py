"""Self-attention over a grid of tokens with decomposed relative positions, without a bias of tokens x tokens.

Li et al., "MViTv2", CVPR 2022, eq. 4, as SAM has it: the bias of query (i, j) and key (k, l) is
q_ij . R_h[i - k] + q_ij . R_w[j - l].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def relative_index(q_size: int, k_size: int, device: torch.device) -> Tensor:
    """(q_size, k_size) int64 rows of a table of relative positions; unequal sizes are stretched to meet."""
    q_step, k_step = max(k_size / q_size, 1.0), max(q_size / k_size, 1.0)
    q = torch.arange(q_size, device=device)[:, None] * q_step
    k = torch.arange(k_size, device=device)[None] * k_step
    return (q - k + (k_size - 1) * k_step).long()


def resize_table(table: Tensor, length: int) -> Tensor:
    """(L, e) relative positions to (length, e), linearly."""
    if len(table) == length:
        return table
    return F.interpolate(table.T[None], length, mode="linear", align_corners=False)[0].T


def relative_positions(table: Tensor, q_size: int, k_size: int) -> Tensor:
    """(q_size, k_size, e) the relative position of each query and key, from a table (L, e) of any length."""
    table = resize_table(table, 2 * max(q_size, k_size) - 1)
    return table[relative_index(q_size, k_size, table.device)]


def bias_terms(q: Tensor, table_h: Tensor, table_w: Tensor) -> tuple[Tensor, Tensor]:
    """The bias of q (M, h, w, e) by rows (M, h, w, h) and by columns (M, h, w, w); it is their sum."""
    h, w = q.shape[1:3]
    rows = torch.einsum("mhwe,hke->mhwk", q, relative_positions(table_h, h, h).to(q))
    columns = torch.einsum("mhwe,wke->mhwk", q, relative_positions(table_w, w, w).to(q))
    return rows, columns


def grid_attention(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """Attention of q, k, v (M, h, w, e) with the decomposed bias, exactly: (M, h, w, e).

    The bias is moved into the product: queries are lengthened by its terms, keys by one-hot codes of their
    row and column, so that a fused kernel needs no (h*w, h*w) tensor. Values are lengthened by zeros, because
    kernels for a CPU want one width.
    """
    M, h, w, e = q.shape
    rows, columns = bias_terms(q, table_h, table_w)
    spare = -(e + h + w) % 8  # the fused kernels of a GPU take multiples of 8
    codes = torch.cat(
        [
            torch.eye(h, dtype=k.dtype, device=k.device)[:, None].expand(h, w, h),
            torch.eye(w, dtype=k.dtype, device=k.device)[None].expand(h, w, w),
        ],
        -1,
    )
    scale = e**-0.5
    q = torch.cat([q, rows / scale, F.pad(columns / scale, (0, spare))], -1).flatten(1, 2)
    k = torch.cat([k, F.pad(codes, (0, spare)).expand(M, -1, -1, -1)], -1).flatten(1, 2)
    v = F.pad(v, (0, h + w + spare)).flatten(1, 2)
    x = F.scaled_dot_product_attention(q[None], k[None], v[None], scale=scale)[0]
    return x[..., :e].unflatten(1, (h, w))


class Attention(nn.Module):
    """Multi-head self-attention of each (h, w) grid by itself; `size` is that of its tables of positions."""

    def __init__(self, dim: int, num_heads: int, size: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, D) to (B, h, w, D)."""
        B = len(x)
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(3, 0, 4, 1, 2, 5).flatten(1, 2)  # each (B*heads, h, w, e)
        x = grid_attention(q, k, v, self.rel_pos_h, self.rel_pos_w)
        x = x.unflatten(0, (B, self.num_heads)).permute(0, 2, 3, 1, 4).flatten(3)
        return self.proj(x)


def partition(x: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    """(B, h, w, D) to windows (B*windows, window, window, D), and the size after padding with zeros.

    The padding is at the right and the bottom.
    """
    B, h, w, D = x.shape
    x = F.pad(x, (0, 0, 0, -w % window, 0, -h % window))
    size = tuple(x.shape[1:3])
    x = x.view(B, size[0] // window, window, size[1] // window, window, D)
    return x.transpose(2, 3).flatten(0, 2), size


def join_windows(x: Tensor, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The inverse of `partition`, without the padding: (B, *size, D)."""
    window, (h, w) = x.shape[1], padded
    x = x.view(-1, h // window, w // window, window, window, x.shape[-1])
    return x.transpose(2, 3).flatten(1, 2).flatten(2, 3)[:, : size[0], : size[1]]
