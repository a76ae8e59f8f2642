"""Small XMem networks and trackers for the tests."""

from typing import Any

import torch

from systems.xmem.modules import XMem
from systems.xmem.tracker import XMemTracker
from tests.support.stcn_networks import NARROW

SIZES = {"key_dim": 8, "value_dim": 16, "decoder_dim": 16, "hidden_dim": 8}
FLAGS = """--system xmem --backbone narrow --backbone_weights none --value_weights none --key_dim 8
--value_dim 16 --decoder_dim 16 --hidden_dim 8 --crop_size 32 --clip_length 4 --short_side -1 --batch_size 2
--num_workers 0 --device cpu""".split()
LONG_TERM = {  # options by which a short video has prototypes, and its oldest are forgotten
    "min_mid_term_frames": 2,
    "max_mid_term_frames": 4,
    "num_prototypes": 5,
    "max_long_term_elements": 13,
    "mem_every": 2,
    "top_k": 9,
}


def small_network(seed: int = 0, **options: Any) -> XMem:
    """A narrow network of random weights, in evaluation mode, whose masks are neither empty nor full."""
    torch.manual_seed(seed)
    return XMem(XMem.Config(**NARROW | SIZES | options)).eval()


def small_tracker(network: XMem | None = None, **options: Any) -> XMemTracker:
    return XMemTracker(network or small_network(), XMemTracker.Config(**{"short_side": -1} | options))
