"""Small SiamMask networks and trackers for the tests, and a stand-in that finds what is red."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.siammask.anchors import anchor_shapes
from systems.siammask.modules import Kernels, Response, SiamMask
from systems.siammask.refinement import window_at
from systems.siammask.start import start
from systems.siammask.tracker import SiamMaskTracker

FLAGS = """--system siammask --backbone narrow --backbone_weights none --min_area 16 --batch_size 2
--num_workers 0 --device cpu --lr_head 1e-3 --lr_backbone 1e-3""".split()
RED_SIDE = 64.0  # of every box that the stand-in finds, pixels of the search crop


def small_network(seed: int = 0, **options: Any) -> SiamMask:
    """A narrow network of random weights, or of those of `load_network`, in evaluation mode."""
    torch.manual_seed(seed)
    chosen = {"backbone": "narrow", "backbone_weights": "none"} | options
    network = SiamMask(SiamMask.Config(**chosen))
    if "load_network" in options:
        start(network, network.config)
    return network.eval()


def small_tracker(network: nn.Module | None = None, **options: Any) -> SiamMaskTracker:
    return SiamMaskTracker(network or small_network(), SiamMaskTracker.Config(**options))


class RedFinder(nn.Module):
    """In place of SiamMask: the more red around a response, the surer it is; the mask is what is red."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(refine=True)
        self.nothing = nn.Parameter(torch.zeros(1))

    def encode_template(self, crops: Tensor) -> tuple[Kernels, Tensor]:
        kernel = crops.new_zeros(len(crops), 1, 5, 5)
        return Kernels(kernel, kernel, kernel), F.adaptive_avg_pool2d(crops, 7)

    def search(self, kernels: Kernels, crops: Tensor) -> Response:
        red = ((crops[:, 2] > 150) & (crops[:, 1] < 100)).float()[:, None]
        density = F.avg_pool2d(red, 63, stride=8)  # (K, 1, 25, 25)
        cls = torch.stack([torch.zeros_like(density), 12 * density - 6], 1).expand(-1, 2, 5, 25, 25)
        scales = (RED_SIDE / anchor_shapes()).log().T  # (2, A)
        loc = torch.cat([torch.zeros(2, 5), scales])[None, :, :, None, None].expand(len(crops), 4, 5, 25, 25)
        return Response(cls.flatten(1, 2), loc.flatten(1, 2), red, (red, red, red))

    def masks_at(self, response: Response, places: Tensor, *, refined: bool) -> Tensor:
        return 20 * window_at(response.row, places, 127, 8, 32)[:, 0] - 10
