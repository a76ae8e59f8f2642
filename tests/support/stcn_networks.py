"""Small STCN networks and trackers for the tests."""

from typing import Any

import torch

from systems.stcn.modules import STCN
from systems.stcn.start import start
from systems.stcn.tracker import STCNTracker

NARROW = {"backbone": "narrow", "backbone_weights": "none", "value_weights": "none"}
FLAGS = """--system stcn --backbone narrow --backbone_weights none --value_weights none --key_dim 8
--value_dim 16 --crop_size 32 --short_side -1 --batch_size 2 --num_workers 0 --device cpu""".split()


def small_network(seed: int = 0, **options: Any) -> STCN:
    """A narrow network of random weights, in evaluation mode, whose masks are neither empty nor full."""
    torch.manual_seed(seed)
    network = STCN(STCN.Config(**NARROW | {"key_dim": 8, "value_dim": 16} | options))
    start(network, network.config)
    return network.eval()


def small_tracker(network: STCN | None = None, **options: Any) -> STCNTracker:
    return STCNTracker(network or small_network(), STCNTracker.Config(**{"short_side": -1} | options))
