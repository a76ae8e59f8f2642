"""SAM's mask decoder, and what tracking adds to it: attention from the image to a template with its mask.

Kirillov et al., "Segment Anything", ICCV 2023, section 3 and appendix A. The state dict has
the names of the published weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.sam_track.image_encoder import LayerNorm2d
from systems.sam_track.two_way import TwoWayTransformer


class Head(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int, num_layers: int = 3):
        super().__init__()
        widths = [dim, *[hidden_dim] * (num_layers - 1), out_dim]
        self.layers = nn.ModuleList(map(nn.Linear, widths, widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Masks of an image embedding, from what is known of an object as tokens (sparse) or by cells (dense).

    dim: channels C of the embedding; num_multimask: masks beside the single one
    attn_norm: whether a layer norm follows the template attention
    """

    def __init__(
        self,
        dim: int = 256,
        num_heads: int = 8,
        mlp_dim: int = 2048,
        depth: int = 2,
        num_multimask: int = 3,
        iou_hidden: int = 256,
        iou_depth: int = 3,
        *,
        attn_norm: bool = False,
    ):
        super().__init__()
        num_masks = num_multimask + 1
        self.transformer = TwoWayTransformer(dim, num_heads, mlp_dim, depth)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(num_masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Head(dim, dim, dim // 8) for _ in range(num_masks))
        self.iou_prediction_head = Head(dim, iou_hidden, num_masks, iou_depth)
        self.template_attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.template_mask_conv = nn.Conv2d(2, dim, 1)
        self.template_norm = nn.LayerNorm(dim) if attn_norm else nn.Identity()
        self.track_token = nn.Embedding(1, dim)

    def attend(
        self,
        image: Tensor,
        templates: Tensor,
        masks: Tensor,
        positions: Tensor | None = None,
        padding: Tensor | None = None,
    ) -> Tensor:
        """What each cell of the image reads from the templates: the dense embedding (N, C, h, w).

        image: (1 or N, C, h, w); templates: (N, R, C, h, w), R frames for each object
        masks: (N, R, h, w) in [0, 1], the share of each cell that is the object's
        positions: (1, C, h, w), added to queries and keys; None: none
        padding: (N, R, h, w) bool, cells that are not read; None: all are
        """
        N, R = templates.shape[:2]
        h, w = templates.shape[-2:]
        masks = masks.flatten(0, 1).unsqueeze(1)
        added = self.template_mask_conv(torch.cat([masks, 1 - masks], 1)).unflatten(0, (N, R))
        q, k, v = image, templates, templates + added
        if positions is not None:
            q, k = q + positions, k + positions
        q = q.flatten(2).transpose(1, 2).expand(N, -1, -1)
        k, v = (x.transpose(1, 2).flatten(2).transpose(1, 2) for x in (k, v))  # (N, R*h*w, C)
        hidden = None if padding is None else padding.flatten(1)
        x = self.template_attn(q, k, v, key_padding_mask=hidden, need_weights=False)[0]
        return self.template_norm(x).transpose(1, 2).unflatten(-1, (h, w))

    def forward(
        self, image: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor, *, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Mask logits (N, M, 4h, 4w) and their estimated IoU (N, M); M is 1, or `num_multimask`.

        image: (1 or N, C, h, w); positions: (1, C, h, w); sparse: (N, t, C); dense: (N, C, h, w)
        """
        N = len(dense)
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(N, -1, -1).to(sparse), sparse], 1)
        tokens, x = self.transformer(image + dense, positions, tokens)
        x = self.output_upscaling(x.transpose(1, 2).unflatten(-1, tuple(dense.shape[-2:])))
        places = range(1, len(self.mask_tokens.weight)) if multimask else range(1)
        weights = torch.stack(
            [self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in places], 1
        )  # (N, M, C / 8)
        masks = (weights @ x.flatten(2)).unflatten(-1, tuple(x.shape[-2:]))
        return masks, self.iou_prediction_head(tokens[:, 0])[:, places.start : places.stop]

    def track(
        self,
        image: Tensor,
        positions: Tensor,
        templates: Tensor,
        masks: Tensor,
        *,
        attn_positions: bool = False,
        padding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The single mask (N, 1, 4h, 4w) and its estimated IoU (N, 1) of N objects, given their templates.

        Shapes are those of `attend`.
        """
        dense = self.attend(image, templates, masks, positions if attn_positions else None, padding)
        sparse = self.track_token.weight.expand(len(dense), 1, -1)
        return self(image, positions, sparse, dense)
