"""STCN: key encoder, value encoder and decoder; the memory reader between them is affinity.py.

Cheng, Tai and Tang, "Rethinking Space-Time Networks with Improved Memory Coverage for Efficient Video Object
Segmentation", NeurIPS 2021, arXiv 2106.05210. The state dict has the names of the published weights.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from configs.stcn import NetworkConfig
from systems.stcn.affinity import memory_terms, query_terms, read_all
from systems.stcn.backbones import Stages, stages_of
from systems.stcn.blocks import (
    FeatureFusionBlock,
    JoinedConv2d,
    JoinedResBlock,
    UpsampleBlock,
    over_objects,
    parts_of_objects,
    upsample,
)
from video.masks import soft_aggregate


def others_of(masks: Tensor) -> Tensor:
    """(..., K, H, W) masks to the sum of the others' masks for each."""
    return masks.sum(-3, keepdim=True) - masks


class KeyFeatures(NamedTuple):
    """What is known of M frames without any mask; f4, f8 and f16 are at strides 4, 8 and 16.

    k16: (M, key_dim, h, w) keys; f16_thin: (M, value_dim, h, w)
    f16, f8, f4: (M, 1024, h, w), (M, 512, 2h, 2w), (M, 256, 4h, 4w) of ResNet-50
    """

    k16: Tensor
    f16_thin: Tensor
    f16: Tensor
    f8: Tensor
    f4: Tensor


class KeyEncoder(nn.Module):
    """A backbone without its last stage, ResNet-50 as published, on frames alone."""

    def __init__(self, parts: Stages):
        super().__init__()
        self.conv1, self.bn1, self.tail = parts.conv1, parts.bn1, parts.tail
        self.res2, self.layer2, self.layer3 = parts.stages

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(M, 3, H, W) to f4, f8 and f16."""
        f4 = self.res2(self.tail(self.bn1(self.conv1(frames))))
        f8 = self.layer2(f4)
        return f4, f8, self.layer3(f8)


class KeyProjection(nn.Module):
    """f16 to keys."""

    def __init__(self, inputs: int, key_dim: int):
        super().__init__()
        self.key_proj = nn.Conv2d(inputs, key_dim, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight)
        nn.init.zeros_(self.key_proj.bias)

    def forward(self, f16: Tensor) -> Tensor:
        return self.key_proj(f16)


class ValueEncoder(nn.Module):
    """A backbone without its last stage, ResNet-18 as published, on a frame, an object's mask and the sum of
    the others' masks.

    single_object: without the channel of the others
    frame_first: whether the frame's features come before the object's where they are joined
    """

    def __init__(
        self,
        parts: Stages,
        key_channels: int,
        value_dim: int,
        *,
        single_object: bool,
        frame_first: bool = False,
    ):
        super().__init__()
        self.single_object = single_object
        self.conv1 = self._with_masks(parts.conv1, 1 if single_object else 2)
        self.bn1, self.tail = parts.bn1, parts.tail
        self.layer1, self.layer2, self.layer3 = parts.stages
        joined = parts.channels[-1] + key_channels
        self.fuser = FeatureFusionBlock(joined, value_dim, frame_first=frame_first)

    @staticmethod
    def _with_masks(conv: nn.Conv2d, number: int) -> JoinedConv2d:
        options = {"stride": conv.stride, "padding": conv.padding, "bias": conv.bias is not None}
        return JoinedConv2d(3 + number, conv.out_channels, conv.kernel_size, frame_first=True, **options)

    def forward(self, frame: Tensor, f16: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """frame (B, 3, H, W), its f16 (B, C, h, w), masks and the sums of the others' (B, K, H, W) to values
        (B, K, value_dim, h, w).
        """
        inputs = [masks] if self.single_object else [masks, others]
        x = self.conv1(torch.stack(inputs, 2), frame.unsqueeze(1))
        B, K = x.shape[:2]
        x = self.tail(self.bn1(x.flatten(0, 1)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fuser(x.unflatten(0, (B, K)), f16.unsqueeze(1))


class Decoder(nn.Module):
    """What each object reads from the memory, to mask logits."""

    def __init__(self, channels: tuple[int, int, int], value_dim: int):
        super().__init__()
        c4, c8, _ = channels
        self.compress = JoinedResBlock(2 * value_dim, value_dim)
        self.up_16_8 = UpsampleBlock(c8, value_dim, value_dim // 2)
        self.up_8_4 = UpsampleBlock(c4, value_dim // 2, value_dim // 2)
        self.pred = nn.Conv2d(value_dim // 2, 1, 3, padding=1)

    def forward(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        """(B, K, value_dim, h, w) to the logits (B, K, H, W) of each object by itself."""
        x = self.compress(readout, features.f16_thin.unsqueeze(1))
        skip8, skip4 = self.up_16_8.skip_conv(features.f8), self.up_8_4.skip_conv(features.f4)
        logits = []
        for (few,) in parts_of_objects(x):
            few = self.up_8_4(self.up_16_8(few, skip8), skip4)
            logits.append(over_objects(lambda x: upsample(self.pred(F.relu(x)), 4), few))
        return torch.cat(logits, 1).squeeze(2)


class MemoryNetwork(nn.Module):
    """What all networks of this family share: batch norms whose statistics are frozen.

    Batch norm keeps the statistics that it was loaded with; its scales and shifts are trained.
    """

    stride = 16  # H and W of the frames are multiples of this
    takes_prompt = True
    backbone_parts = ()  # encoders and heads learn at one rate
    recomputed_parts = ("key_encoder", "value_encoder", "decoder")

    def set_epoch(self, epoch: int, epochs: int) -> bool:
        """Every epoch trains the same parameters."""
        return False

    def train(self, mode: bool = True) -> "MemoryNetwork":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def check_size(self, frames: Tensor) -> None:
        """Raise ValueError unless H and W of frames (..., H, W) are multiples of 16."""
        H, W = frames.shape[-2:]
        if H % self.stride or W % self.stride:
            raise ValueError(f"frames of {H}x{W}: pad height and width to multiples of {self.stride}")


class STCN(MemoryNetwork):
    """Masks of the first frame in, masks of all others out, each read from the memory of those before."""

    Config = NetworkConfig

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        if config.value_dim % 16:
            raise UserError(f"--value_dim {config.value_dim} must be a multiple of 16")
        keys, values = stages_of(config.backbone)
        channels = keys.channels
        self.key_encoder = KeyEncoder(keys)
        self.value_encoder = ValueEncoder(
            values, channels[-1], config.value_dim, single_object=config.single_object
        )
        self.key_proj = KeyProjection(channels[-1], config.key_dim)
        self.key_comp = nn.Conv2d(channels[-1], config.value_dim, 3, padding=1)
        self.decoder = Decoder(channels, config.value_dim)

    def encode_key(self, frames: Tensor) -> KeyFeatures:
        """Frames (M, 3, H, W), ImageNet-normalised; ValueError unless H and W are multiples of 16."""
        self.check_size(frames)
        f4, f8, f16 = self.key_encoder(frames)
        return KeyFeatures(self.key_proj(f16), self.key_comp(f16), f16, f8, f4)

    def encode_value(self, frame: Tensor, f16: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """frame (B, 3, H, W), its f16 (B, C, h, w), masks of all objects in [0, 1] and for each the sum of
        the others', both (B, K, H, W), to values (B, K, value_dim, h, w).
        """
        return self.value_encoder(frame, f16, masks, others)

    def decode(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        """What K objects read, (B, K, value_dim, h, w), to their logits (B, K, H, W), before aggregation."""
        return self.decoder(readout, features)

    def forward(self, frames: Tensor, prompt: Tensor) -> dict[str, Tensor]:
        """frames (B, T, 3, H, W) and the masks of the first (B, K, H, W), hard or soft.

        Returns `logits` (B, T - 1, K + 1, H, W) of all frames but the first, the background in front:
        aggregated, so that their softmax is the probability among all. Every frame reads from all before it,
        whose values are of the predicted masks. An object without a pixel in its mask is nowhere.
        """
        B, T = frames.shape[:2]
        K = prompt.shape[1]
        encoded = [x.unflatten(0, (B, T)) for x in self.encode_key(frames.flatten(0, 1))]
        keys = encoded[0].transpose(1, 2)  # (B, key_dim, T, h, w)
        S, (h, w) = keys[0, 0, 0].numel(), keys.shape[-2:]  # elements of a frame
        memory = memory_terms(keys.flatten(2))  # (B, T*S, key_dim + 1)
        is_present = prompt.flatten(2).any(-1)[..., None, None]
        masks, values, outputs = prompt.to(frames.dtype), [], []
        for t in range(1, T):
            former = KeyFeatures(*(x[:, t - 1] for x in encoded))
            value = self.encode_value(frames[:, t - 1], former.f16, masks, others_of(masks))
            values.append(value.flatten(3))
            features = KeyFeatures(*(x[:, t] for x in encoded))
            query = query_terms(features.k16.flatten(2))
            readout = read_all(query, memory[:, : t * S], torch.cat(values, 3).flatten(1, 2))
            readout = readout.unflatten(1, (K, self.config.value_dim)).unflatten(-1, (h, w))
            probs = self.decode(readout, features).float().sigmoid() * is_present
            outputs.append(soft_aggregate(probs))
            masks = outputs[-1].softmax(1)[:, 1:]
        return {"logits": torch.stack(outputs, 1)}
