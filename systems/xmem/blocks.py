"""Sensory memory: the gate that renews an object's hidden state, and the two places where that is done."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systems.stcn.blocks import over_objects


class HiddenGate(nn.Module):
    """Renews a hidden state from features, like a GRU, but the candidate does not see the forget gate.

    (Cheng and Schwing 2022, section 3.4)
    """

    def __init__(self, inputs: int, hidden_dim: int):
        super().__init__()
        self.transform = nn.Conv2d(inputs + hidden_dim, 3 * hidden_dim, 3, padding=1)

    def update(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Features (B, K, C, h, w) and a hidden state (B, K, D, h, w) to the next one, in float32."""
        gates = over_objects(self.transform, torch.cat([features, hidden.to(features.dtype)], 2)).float()
        forget, renew, candidate = gates.chunk(3, 2)
        renew = renew.sigmoid()
        return forget.sigmoid() * hidden.float() * (1 - renew) + renew * candidate.tanh()


class HiddenReinforcer(HiddenGate):
    """The deep update: renews the hidden state from an object's values when a frame is remembered."""

    def forward(self, values: Tensor, hidden: Tensor) -> Tensor:
        """(B, K, value_dim, h, w) and (B, K, D, h, w) to (B, K, D, h, w)."""
        return self.update(values, hidden)


class HiddenUpdater(HiddenGate):
    """The update of every other frame: renews the hidden state from the decoder's features of three sizes.

    channels: those at strides 16 and 8, and those at stride 4 with the logits
    """

    def __init__(self, channels: tuple[int, int, int], width: int, hidden_dim: int):
        super().__init__(width, hidden_dim)
        self.g16_conv, self.g8_conv, self.g4_conv = (nn.Conv2d(number, width, 1) for number in channels)

    def forward(self, g16: Tensor, g8: Tensor, g4: Tensor, logits: Tensor, hidden: Tensor) -> Tensor:
        """(B, K, C, h, w), (B, K, C', 2h, 2w), (B, K, C'', 4h, 4w) with logits (B, K, 1, 4h, 4w), and
        (B, K, D, h, w) to (B, K, D, h, w).
        """
        small = torch.cat([over_objects(lambda x: F.avg_pool2d(x, 4), x) for x in (g4, logits)], 2)
        features = over_objects(self.g16_conv, g16)
        features = features + over_objects(lambda x: self.g8_conv(F.avg_pool2d(x, 2)), g8)
        features = features + over_objects(self.g4_conv, small)
        return self.update(features, hidden)
