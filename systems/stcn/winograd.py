"""3x3 convolutions of stride 1 on a CPU by Winograd's minimal filtering, with fewer multiplications.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv 1509.09308: F(m x m,
3x3) computes tiles of m x m outputs from t x t inputs, t = m + 2, by t * t multiplications in place of
9 * m * m.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.device import empty, zeros

LEAST_CHANNELS = 128  # of inputs and of outputs: with fewer, transforms cost what multiplications save
MOST_KERNELS = 512 * 512  # for m = 4, which makes 36 numbers of each kernel's 9; m = 2 makes 16
STRIP_NUMBERS = 6_000_000  # that are at work at once: they fit into a share of the last cache
# The transform of weights by m, G of the paper.
WEIGHTS = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}


def transform_weight(weight: Tensor, m: int) -> Tensor:
    """(O, C, 3, 3) to (t * t, C, O), by columns of the tile."""
    matrix = torch.tensor(WEIGHTS[m])
    columns = torch.einsum("jb,ocab->jaco", matrix, weight)
    return torch.einsum("ia,jaco->jico", matrix, columns).flatten(0, 1).contiguous()


def _transform_inputs(d: list[Tensor], out: Tensor) -> None:
    """The t lines of a tile, any shape each, to t others: the matrix B^T of the paper, sums shared."""
    if len(d) == 4:
        torch.sub(d[0], d[2], out=out[0])
        torch.add(d[1], d[2], out=out[1])
        torch.sub(d[2], d[1], out=out[2])
        torch.sub(d[1], d[3], out=out[3])
        return
    even, odd = torch.sub(d[4], d[2], alpha=4), torch.sub(d[3], d[1], alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(d[4], d[2], out=even)
    torch.sub(d[3], d[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.sub(d[0], d[2], out=out[0])
    torch.add(even, out[0], alpha=4, out=out[0])
    torch.sub(d[5], d[3], out=out[5])
    torch.sub(out[5], odd, alpha=4, out=out[5])


def _transform_outputs(p: list[Tensor], out: list[Tensor]) -> None:
    """The t lines of products to m lines of the outputs: the matrix A^T of the paper, sums shared."""
    even, odd = p[1] + p[2], p[1] - p[2]
    if len(p) == 4:
        torch.add(p[0], even, out=out[0])
        torch.sub(odd, p[3], out=out[1])
        return
    even2, odd2 = p[3] + p[4], p[3] - p[4]
    torch.add(even, even2, out=out[0])
    out[0] += p[0]
    torch.add(odd, odd2, alpha=2, out=out[1])
    torch.add(even, even2, alpha=4, out=out[2])
    torch.add(odd, odd2, alpha=8, out=out[3])
    out[3] += p[5]


class _Strip:
    """Rows of tiles that are computed at once, channels last: buffers for the steps of all strips."""

    def __init__(self, m: int, rows: int, columns: int, inputs: int, outputs: int):
        t = m + 2
        self.m, self.rows, self.columns = m, rows, columns
        self.pixels = zeros(rows * m + 2, columns * m + 2, inputs)
        self.half = empty(t, rows, columns * m + 2, inputs)
        self.tiles = empty(t, t, rows, columns, inputs)
        self.products = empty(t, t, rows, columns, outputs)
        self.half_outputs = empty(m, t, rows, columns, outputs)

    def __call__(self, weight: Tensor, out: Tensor) -> None:
        """The pixels and transformed weights (t * t, C, O) to `out`, (rows * m, columns * m, O)."""
        m, t = self.m, self.m + 2
        rows, columns = (self.rows - 1) * m + 1, (self.columns - 1) * m + 1
        _transform_inputs([self.pixels[i : i + rows : m] for i in range(t)], self.half)
        _transform_inputs([self.half[:, :, j : j + columns : m] for j in range(t)], self.tiles)
        torch.bmm(
            self.tiles.flatten(2, 3).flatten(0, 1), weight, out=self.products.flatten(2, 3).flatten(0, 1)
        )
        _transform_outputs(list(self.products), list(self.half_outputs))
        lines = out.unflatten(0, (self.rows, m)).unflatten(2, (self.columns, m))  # (rows, m, columns, m, O)
        lines = [lines[:, i].permute(2, 0, 1, 3) for i in range(m)]
        _transform_outputs(list(self.half_outputs.unbind(1)), lines)


def convolve(x: Tensor, weight: Tensor, m: int, padding: int = 1) -> Tensor:
    """(M, C, H, W) by transformed weights (t * t, C, O) to (M, O, H', W'), channels last in memory."""
    (M, C, H, W), outputs = x.shape, weight.shape[2]
    height, width = H + 2 * padding - 2, W + 2 * padding - 2
    rows, columns = -(-height // m), -(-width // m)
    numbers = columns * ((m + 2) ** 2 + m * (m + 2)) * (C + outputs)  # of one row of tiles
    at_once = min(rows, max(1, STRIP_NUMBERS // numbers))
    at_once = -(-rows // -(-rows // at_once))  # alike
    strip = _Strip(m, at_once, columns, C, outputs)
    result = empty(M, rows * m, columns * m, outputs)
    x = x.permute(0, 2, 3, 1)
    for n in range(M):
        for first in range(0, rows, at_once):
            first = min(first, rows - at_once)  # the last strip may do some of the former again
            top = first * m - padding
            inside = slice(max(top, 0), min(top + at_once * m + 2, H))
            strip.pixels[: inside.start - top].zero_()
            strip.pixels[inside.stop - top :].zero_()
            strip.pixels[inside.start - top : inside.stop - top, padding : padding + W] = x[n, inside]
            strip(weight, result[n, first * m : (first + at_once) * m])
    return result[:, :height, :width].permute(0, 3, 1, 2)


class WinogradConv2d(nn.Conv2d):
    """A convolution that `for_inference` may bring into Winograd's form, in which it can no longer train."""

    m = 0  # of F(m x m, 3x3); 0: the weights are those of a plain convolution

    def use_winograd(self) -> None:
        """Put transformed weights in the place of the weights, once, where that makes it faster."""
        is_plain = self.kernel_size == (3, 3) and self.stride == self.dilation == (1, 1) and self.groups == 1
        if not self.m and is_plain and min(self.in_channels, self.out_channels) >= LEAST_CHANNELS:
            self.m = 4 if self.in_channels * self.out_channels <= MOST_KERNELS else 2
            self.weight = nn.Parameter(transform_weight(self.weight, self.m), requires_grad=False)

    def on_channels(self, x: Tensor, first: int, bias: Tensor | None) -> Tensor:
        """The share of the result that comes from input channels `first` and following: (M, C, H, W)."""
        weight = self.weight[:, first : first + x.shape[1]]
        if not self.m:
            return F.conv2d(x, weight, bias, self.stride, self.padding)
        result = convolve(x.float(), weight, self.m, self.padding[0])
        return result if bias is None else result.add_(bias[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.on_channels(x, 0, self.bias)
