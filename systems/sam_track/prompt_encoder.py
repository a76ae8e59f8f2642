"""SAM's prompt encoder: points and boxes as tokens (sparse), a mask by cells (dense), and its positions.

Kirillov et al., "Segment Anything", ICCV 2023, section 3 and appendix A. The state dict has the names of the
published weights.
"""

import math

import torch
from torch import Tensor, nn

from common.device import in_float32
from systems.sam_track.image_encoder import LayerNorm2d

MASK_CHANNELS = 16  # of a mask on its way to the embedding's, in all published weights
NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT = range(4)  # what a point may be: rows of `point_embeddings`


class RandomPositions(nn.Module):
    """Positions as sines and cosines of random frequencies (Tancik et al. 2020)."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def at(self, points: Tensor) -> Tensor:
        """Of (..., 2) points x, y in [0, 1] of SAM's square: (..., dim)."""
        matrix = self.positional_encoding_gaussian_matrix
        with in_float32(matrix.device):  # in less, places of pixels run together
            angles = 2 * math.pi * ((2 * points - 1) @ matrix)
        return torch.cat([angles.sin(), angles.cos()], -1)

    def forward(self, height: int, width: int) -> Tensor:
        """Of the cells of a grid: (1, dim, height, width)."""
        device = self.positional_encoding_gaussian_matrix.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        return self.at(torch.stack([columns, rows], -1)).permute(2, 0, 1)[None]


class PositionsOnly(nn.Module):
    """A prompt encoder of which the positions alone are left: the decoder was trained with them."""

    def __init__(self, dim: int):
        super().__init__()
        self.pe_layer = RandomPositions(dim)


class PromptEncoder(PositionsOnly):
    """Points, boxes and masks as the mask decoder reads them; dim: channels C of the embedding."""

    def __init__(self, dim: int):
        super().__init__(dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, MASK_CHANNELS // 4, 2, stride=2),
            LayerNorm2d(MASK_CHANNELS // 4),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS // 4, MASK_CHANNELS, 2, stride=2),
            LayerNorm2d(MASK_CHANNELS),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def sparse(self, points: Tensor, labels: Tensor, boxes: Tensor | None, image_size: int) -> Tensor:
        """(N, t, C) tokens of points and boxes in pixels of SAM's square.

        points: (N, P, 2) x, y; labels: (N, P), `POSITIVE` or `NEGATIVE`; boxes: (N, 4) xyxy, or None
        A box is two tokens, its corners. Points without a box are followed by a token that is none, as the
        decoder was trained. A coordinate is that of a pixel, which counts by its centre.
        """
        is_padded = boxes is None and points.shape[1] > 0
        if boxes is not None:
            points = torch.cat([points, boxes.unflatten(1, (2, 2))], 1)
            corners = torch.tensor([TOP_LEFT, BOTTOM_RIGHT], device=labels.device)
            labels = torch.cat([labels, corners.expand(len(boxes), 2)], 1)
        kinds = torch.cat([embedding.weight for embedding in self.point_embeddings])  # (4, C)
        tokens = self.pe_layer.at((points + 0.5) / image_size) + kinds[labels]
        if is_padded:
            none = self.not_a_point_embed.weight.expand(len(tokens), 1, -1)
            tokens = torch.cat([tokens, none], 1)
        return tokens

    def dense(self, masks: Tensor | None, num_objects: int, grid: int) -> Tensor:
        """(N, C, grid, grid) of mask logits (N, 1, 4 grid, 4 grid), or of None of N objects."""
        if masks is not None:
            return self.mask_downscaling(masks)
        return self.no_mask_embed.weight[..., None, None].expand(num_objects, -1, grid, grid)
