"""XMem: key encoder with shrinkage and selection, value encoder, memory reader, decoder, sensory memory.

Cheng and Schwing, "XMem: Long-Term Video Object Segmentation with an Atkinson-Shiffrin Memory Model", ECCV
2022, arXiv 2207.07115. The state dict has the names of the published weights. What is the same in STCN is
STCN's.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import distributed
from common.errors import UserError
from configs.xmem import NetworkConfig
from systems.stcn import modules as stcn
from systems.stcn.affinity import anisotropic_memory_terms, anisotropic_query_terms, read_all
from systems.stcn.backbones import Stages, stages_of
from systems.stcn.blocks import FeatureFusionBlock, UpsampleBlock, over_objects, parts_of_objects, upsample
from systems.stcn.modules import KeyEncoder, MemoryNetwork, others_of
from systems.xmem.blocks import HiddenReinforcer, HiddenUpdater
from video.masks import soft_aggregate


class KeyFeatures(NamedTuple):
    """What is known of M frames without any mask; f4, f8 and f16 are at strides 4, 8 and 16.

    key, selection: (M, key_dim, h, w), selection in [0, 1]; shrinkage: (M, 1, h, w), at least 1
    f16, f8, f4: (M, 1024, h, w), (M, 512, 2h, 2w), (M, 256, 4h, 4w) of ResNet-50
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    f16: Tensor
    f8: Tensor
    f4: Tensor


class KeyProjection(stcn.KeyProjection):
    """f16 to keys, to shrinkage (how confident a memory element is) and to selection (what a query asks)."""

    def __init__(self, inputs: int, key_dim: int):
        super().__init__(inputs, key_dim)
        self.d_proj = nn.Conv2d(inputs, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(inputs, key_dim, 3, padding=1)

    def forward(self, f16: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.key_proj(f16), self.d_proj(f16).square() + 1, self.e_proj(f16).sigmoid()


class ValueEncoder(stcn.ValueEncoder):
    """STCN's, with a deep update of the hidden state; the frame's features come first where they join."""

    def __init__(
        self, parts: Stages, key_channels: int, value_dim: int, hidden_dim: int, *, single_object: bool
    ):
        super().__init__(parts, key_channels, value_dim, single_object=single_object, frame_first=True)
        if hidden_dim:
            self.hidden_reinforce = HiddenReinforcer(value_dim, hidden_dim)


class Decoder(nn.Module):
    """What each object reads from the memory, and its hidden state, to mask logits and the next state."""

    def __init__(self, channels: tuple[int, int, int], value_dim: int, hidden_dim: int, width: int):
        super().__init__()
        c4, c8, c16 = channels
        self.fuser = FeatureFusionBlock(c16 + value_dim + hidden_dim, width, frame_first=True)
        self.up_16_8 = UpsampleBlock(c8, width, width // 2)
        self.up_8_4 = UpsampleBlock(c4, width // 2, width // 2)
        self.pred = nn.Conv2d(width // 2, 1, 3, padding=1)
        if hidden_dim:
            self.hidden_update = HiddenUpdater((width, width // 2, width // 2 + 1), width // 2, hidden_dim)

    def forward(
        self, readout: Tensor, hidden: Tensor, features: KeyFeatures, *, update: bool
    ) -> tuple[Tensor, Tensor]:
        """(B, K, value_dim, h, w) and (B, K, hidden_dim, h, w) to the logits (B, K, H, W) of each object by
        itself, and the hidden state, renewed where `update` says so.
        """
        objects = torch.cat([readout, hidden.to(readout.dtype)], 2)
        g16 = self.fuser(objects, features.f16.unsqueeze(1))
        skip8, skip4 = self.up_16_8.skip_conv(features.f8), self.up_8_4.skip_conv(features.f4)
        outputs, states = [], []
        for few, state in parts_of_objects(g16, hidden):
            g8 = self.up_16_8(few, skip8)
            g4 = self.up_8_4(g8, skip4)
            logits = over_objects(lambda x: self.pred(F.relu(x)), g4)
            if update and hidden.shape[2]:
                state = self.hidden_update(few, g8, g4, logits, state)
            outputs.append(over_objects(lambda x: upsample(x, 4), logits))
            states.append(state)
        return torch.cat(outputs, 1).squeeze(2), torch.cat(states, 1)


class XMem(MemoryNetwork):
    """Masks of the first frame in, masks of all others out: read from a memory, with a state for each object.

    The sensory memory is a hidden state (B, K, hidden_dim, h, w) in [-1, 1], zeros at an object's start.
    """

    Config = NetworkConfig

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        for name in ("value_dim", "decoder_dim"):
            if getattr(config, name) % 16:
                raise UserError(f"--{name} {getattr(config, name)} must be a multiple of 16")
        keys, values = stages_of(config.backbone, biases=False)
        channels, hidden_dim = keys.channels, config.hidden_dim
        self.key_encoder = KeyEncoder(keys)
        self.value_encoder = ValueEncoder(
            values, channels[-1], config.value_dim, hidden_dim, single_object=config.single_object
        )
        self.key_proj = KeyProjection(channels[-1], config.key_dim)
        self.decoder = Decoder(channels, config.value_dim, hidden_dim, config.decoder_dim)

    def encode_key(self, frames: Tensor) -> KeyFeatures:
        """Frames (..., 3, H, W), ImageNet-normalised, of any number of leading dimensions, which the features
        keep: (M, 3, H, W), or clips (B, T, 3, H, W). ValueError unless H and W are multiples of 16.
        """
        self.check_size(frames)
        f4, f8, f16 = self.key_encoder(frames.flatten(0, -4))
        features = KeyFeatures(*self.key_proj(f16), f16, f8, f4)
        return KeyFeatures(*(x.unflatten(0, frames.shape[:-3]) for x in features))

    def initial_hidden(self, key: Tensor, objects: int) -> Tensor:
        """Zeros (B, K, hidden_dim, h, w) for keys (B, key_dim, h, w)."""
        return key.new_zeros(len(key), objects, self.config.hidden_dim, *key.shape[-2:], dtype=torch.float32)

    def encode_value(self, frame: Tensor, f16: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """frame (B, 3, H, W), its f16 (B, C, h, w), masks of all objects in [0, 1] and for each the sum of
        the others', both (B, K, H, W), to values (B, K, value_dim, h, w).
        """
        return self.value_encoder(frame, f16, masks, others)

    def deep_update(self, values: Tensor, hidden: Tensor) -> Tensor:
        """The next hidden state, from the values of a frame that is remembered."""
        return self.value_encoder.hidden_reinforce(values, hidden) if hidden.shape[2] else hidden

    def decode(
        self, readout: Tensor, hidden: Tensor, features: KeyFeatures, *, update: bool = True
    ) -> tuple[Tensor, Tensor]:
        """What K objects read, (B, K, value_dim, h, w), and their hidden state to their logits (B, K, H, W),
        before aggregation, and the next hidden state: the same where it is not to be updated.
        """
        return self.decoder(readout, hidden, features, update=update)

    def forward(self, frames: Tensor, prompt: Tensor) -> dict[str, Tensor]:
        """frames (B, T, 3, H, W) and the masks of the first (B, K, H, W), hard or soft.

        Returns `logits` (B, T - 1, K + 1, H, W) of all frames but the first, the background in front:
        aggregated, so that their softmax is the probability among all. Every frame reads from up to
        `num_ref_frames` before it, the first among them, whose values are of the predicted masks. In training
        the others, and which frames have a deep update, are drawn at random; else they are the latest, and
        none has. An object without a pixel in its mask is nowhere.
        """
        B, T = frames.shape[:2]
        K = prompt.shape[1]
        clip = self.encode_key(frames)
        memory = anisotropic_memory_terms(*(x.flatten(3) for x in clip[:2]))  # (B, T, S, D)
        is_present = prompt.flatten(2).any(-1)[..., None, None]
        deep = self._draw_deep_updates(T - 1)
        hidden = self.initial_hidden(clip.key[:, 0], K)
        masks, values, outputs = prompt.to(frames.dtype), [], []
        for t in range(1, T):
            value = self.encode_value(frames[:, t - 1], clip.f16[:, t - 1], masks, others_of(masks))
            hidden = self.deep_update(value, hidden) if deep[t - 1] else hidden
            values.append(value.flatten(3))  # (B, K, V, S)
            features = KeyFeatures(*(x[:, t] for x in clip))
            query = anisotropic_query_terms(features.key.flatten(2), features.selection.flatten(2))
            chosen = self._draw_references(B, t).to(frames.device, non_blocking=True)
            readout = read_all(query, *_at_frames(memory, torch.stack(values, 1), chosen))
            readout = readout.unflatten(1, (K, self.config.value_dim))
            readout = readout.unflatten(-1, features.key.shape[-2:])
            logits, hidden = self.decode(readout, hidden, features, update=t < T - 1)
            outputs.append(soft_aggregate(logits.float().sigmoid() * is_present))
            masks = outputs[-1].softmax(1)[:, 1:]
        return {"logits": torch.stack(outputs, 1)}

    def _draw_deep_updates(self, count: int) -> list[bool]:
        """Which of the frames that are remembered have a deep update: the first, others at random."""
        share = self.config.deep_update_prob if self.training else 0.0
        return [True, *(torch.rand(count - 1) < share).tolist()]

    def _draw_references(self, clips: int, t: int) -> Tensor:
        """(B, R) places of the frames that frame t reads: all before it, or the first and R - 1 others."""
        others = self.config.num_ref_frames - 1
        if t - 1 <= others:
            return torch.arange(t).expand(clips, t)
        if not self.training:
            return torch.tensor([0, *range(t - others, t)]).expand(clips, -1)

        def draw(count: int) -> Tensor:
            return torch.stack([torch.randperm(t - 1)[:others] + 1 for _ in range(count)])

        return F.pad(distributed.draw_rows(draw, clips), (1, 0))


def _at_frames(memory: Tensor, values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The chosen (B, R) frames of terms (B, T, S, D) and of values (B, T, K, V, S), in the shapes of
    `read_all`: (B, R*S, D) and (B, K*V, R*S).
    """
    batch = torch.arange(len(chosen), device=chosen.device)[:, None]
    values = values[batch, chosen].permute(0, 2, 3, 1, 4)  # (B, K, V, R, S)
    return memory[batch, chosen].flatten(1, 2), values.flatten(1, 2).flatten(2)
