"""Small networks of VITA-TCOVIS with seeded weights, and frames for them."""

import torch
from torch import Tensor

from modules import VITA_TCOVIS

SMALL = {"backbone": "narrow", "backbone_weights": "none", "hidden_dim": 32, "num_tokens": 5}
SMALL |= {"decoder_layers": 2, "num_heads": 4, "feedforward_dim": 48}


def make_network(**options) -> VITA_TCOVIS:
    torch.manual_seed(0)
    return VITA_TCOVIS(VITA_TCOVIS.Config(**{**SMALL, **options}))


def make_frames(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))
