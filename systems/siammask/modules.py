"""SiamMask: a template and a search crop through one backbone; branches for class, box and mask; refinement.

Wang, Zhang, Bertinetto, Hu and Torr, "Fast Online Object Tracking and Segmentation: A Unifying Approach",
CVPR 2019, arXiv 1812.05050. The state dict has the names of the published weights.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.device import in_float32
from configs.siammask import NetworkConfig
from systems.siammask.anchors import NUM_ANCHORS
from systems.siammask.backbones import (
    CORRELATED,
    BatchNorm2d,
    crop_middle,
    depthwise_correlation,
    freeze,
    hold_statistics,
    init_convolutions,
    make_backbone,
)
from systems.siammask.crops import TEMPLATE
from systems.siammask.refinement import WINDOWS, Refinement, all_windows, window_at

COARSE = 63  # side of the masks of the mask branch
NARROWEST = 20  # features narrower than this lose their margin, which saw padding
MARGIN = 4


class Kernels(NamedTuple):
    """A template in each branch, which is all that the search needs of it: (K, C, 5, 5) each."""

    cls: Tensor
    loc: Tensor
    mask: Tensor


class Response(NamedTuple):
    """What K search crops answer.

    cls: (K, 2 * A, n, n), the ground's logits before the object's; loc: (K, 4 * A, n, n), dx, dy, dw, dh each
    of all anchors; row: (K, C, n, n) responses of candidate windows, from which masks come; levels: p0, p1,
    p2
    """

    cls: Tensor
    loc: Tensor
    row: Tensor
    levels: tuple[Tensor, Tensor, Tensor]


class AdjustLayer(nn.Module):
    """The last features to those that are correlated; narrow ones lose their margin."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        return x if x.shape[-1] >= NARROWEST else crop_middle(x, x.shape[-1] - 2 * MARGIN)


class Features(nn.Module):
    """Backbone and adjust layer."""

    def __init__(self, name: str):
        super().__init__()
        self.features = make_backbone(name)
        self.downsample = AdjustLayer(self.features.channels[-1], CORRELATED[name])

    def forward(self, crops: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Crops (M, 3, S, S) to the features that are correlated and p0, p1, p2."""
        p0, p1, p2, p3 = self.features(crops)
        return self.downsample(p3), (p0, p1, p2)


class Branch(nn.Module):
    """Depth-wise cross-correlation, and a head on the result (DepthCorr)."""

    def __init__(self, channels: int, outputs: int):
        super().__init__()
        self.conv_kernel, self.conv_search = (
            nn.Sequential(nn.Conv2d(channels, channels, 3, bias=False), BatchNorm2d(channels), nn.ReLU())
            for _ in range(2)
        )
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, outputs, 1),
        )

    def correlate(self, kernel: Tensor, search: Tensor) -> Tensor:
        """Kernels (K, C, 5, 5) and search features (K, C, S, S) to responses (K, C, n, n)."""
        return depthwise_correlation(self.conv_search(search), kernel)


class SiamMask(nn.Module):
    """A template (127x127) and a search crop to scores, boxes and masks of candidate windows.

    Crops are raw BGR pixels, 0 to 255. Without refinement this is the base model, whose masks of 63x63 come
    from the mask branch. With it the other parts are as they were, and only what refines is trained.
    """

    stride = 1  # crops have sizes of their own
    takes_prompt = False  # the template is the prompt
    backbone_parts = ("features.features",)
    recomputed_parts = ()  # batch norms would count every batch twice

    Config = NetworkConfig

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.features = Features(config.backbone)
        C = CORRELATED[config.backbone]
        self.rpn_model = nn.ModuleDict({"cls": Branch(C, 2 * NUM_ANCHORS), "loc": Branch(C, 4 * NUM_ANCHORS)})
        self.mask_model = nn.ModuleDict({"mask": Branch(C, COARSE**2)})
        init_convolutions(self)
        self.refine_model = Refinement(self.features.features.channels, C) if config.refine else None
        self.set_epoch(1, 1)

    def set_epoch(self, epoch: int, epochs: int) -> bool:
        """Freeze what is not trained in this epoch, counted from 0; tells whether that is a change.

        Before any call all is free that some epoch trains.

        Without refinement: of a backbone that has ImageNet's weights what is at stride 8 from `thaw_at`
        on, and never what comes before it. With it: only the mask branch up to its head, and the refinement.
        """
        before = [parameter.requires_grad for parameter in self.parameters()]
        freeze(self, self.config.refine)
        if self.config.refine:
            freeze(self.mask_model, False)
            freeze(self.mask_model["mask"].head, True)
            freeze(self.refine_model, False)
        elif self.config.backbone_weights != "none":
            thawed = epoch >= self.config.thaw_at * epochs
            for name, part in self.features.features.named_children():
                freeze(part, name in self.features.features.frozen or not thawed)
        self.train(self.training)
        return before != [parameter.requires_grad for parameter in self.parameters()]

    def train(self, mode: bool = True) -> "SiamMask":
        super().train(mode)
        hold_statistics(self)
        return self

    def encode_template(self, crops: Tensor) -> tuple[Kernels, Tensor]:
        """Template crops (K, 3, 127, 127) to the kernels of the branches and to features (K, C, 7, 7)."""
        features, _ = self.features(crops)
        branches = (self.rpn_model["cls"], self.rpn_model["loc"], self.mask_model["mask"])
        return Kernels(*(branch.conv_kernel(features) for branch in branches)), features

    def search(self, kernels: Kernels, crops: Tensor) -> Response:
        """The answer of search crops (K, 3, S, S) to K templates; 25x25 responses for S = 255."""
        features, levels = self.features(crops)
        with in_float32(crops.device):  # of windows that are nearly alike bf16 would choose another one
            features, kernels = features.float(), Kernels(*(kernel.float() for kernel in kernels))
            cls, loc = (
                branch.head(branch.correlate(kernel, features))
                for branch, kernel in zip(self.rpn_model.values(), kernels[:2], strict=True)
            )
            row = self.mask_model["mask"].correlate(kernels.mask, features)
        return Response(cls, loc, row, levels)

    def coarse_masks(self, row: Tensor) -> Tensor:
        """Responses (K, C, n, n) to mask logits (K, 63 * 63, n, n), each 63x63 by rows."""
        return self.mask_model["mask"].head(row)

    def masks_at(self, response: Response, places: Tensor, *, refined: bool) -> Tensor:
        """The mask logits of one response of each crop, and of no other: (K, 127, 127), or (K, 63, 63).

        places: (K, 2) int64, row and column of the response
        """
        each = torch.arange(len(places), device=places.device)
        chosen = response.row[each, :, places[:, 0], places[:, 1]]  # (K, C)
        if not refined:
            return self.coarse_masks(chosen[..., None, None]).view(-1, COARSE, COARSE)
        levels = zip(response.levels, WINDOWS, strict=True)
        return self.refine_model(chosen, [window_at(level, places, *window) for level, window in levels])

    def forward(self, frames: Tensor, prompt: Tensor | None = None) -> dict[str, Tensor]:
        """frames (B, 2, 3, S, S): a crop whose middle 127x127 is the template, and the search crop.

        prompt: of no use here, the template is the prompt
        Returns without refinement, of 25x25 responses for S = 255: `cls` (B, 2 * A, n, n), `loc` (B, 4 * A,
        n, n), and `mask` (B, C, n, n), before the last layer of the mask branch, `mask_weight` (63 * 63, C)
        and `mask_bias` (63 * 63,), because of the 625 masks few are needed. With it `refined` (B, n, n, 127,
        127), for all windows that lie inside of the search crop: 3x3 for S = 143.
        """
        kernels, _ = self.encode_template(crop_middle(frames[:, 0], TEMPLATE))
        if not self.config.refine:
            response = self.search(kernels, frames[:, 1])
            head = self.mask_model["mask"].head
            last = {"mask_weight": head[-1].weight.flatten(1), "mask_bias": head[-1].bias}
            return {"cls": response.cls, "loc": response.loc, "mask": head[:-1](response.row), **last}
        features, levels = self.features(frames[:, 1])
        row = self.mask_model["mask"].correlate(kernels.mask, features)
        windows = [all_windows(p, side, step) for p, (side, step, _) in zip(levels, WINDOWS, strict=True)]
        refined = self.refine_model(row.permute(0, 2, 3, 1).flatten(0, 2), windows)
        return {"refined": refined.unflatten(0, (row.shape[0], *row.shape[2:]))}
