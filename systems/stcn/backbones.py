"""The first three stages of networks, of which STCN's encoders are made: ResNets and MobileNetV2."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn

from common.backbone import MOBILENET_ENDS, BasicBlock, group_norm

NARROW_CHANNELS = (32, 48, 64)
MOBILENET_STAGES = tuple(pairwise((1, *MOBILENET_ENDS[1:4])))  # from which to which block of its `features`
MOBILENET_NAMES = {"features.0.0": "conv1", "features.0.1": "bn1"} | {
    f"features.{block}": f"layer{stage}.{block}"
    for stage, blocks in enumerate(MOBILENET_STAGES, 1)
    for block in range(*blocks)
}  # of the parts of torchvision's MobileNetV2, in an encoder whose stages are layer1 to layer3


class Stages(NamedTuple):
    """The parts of an encoder and the channels of its three stages, which are at strides 4, 8 and 16.

    conv1, bn1: the first convolution, which an encoder may give further inputs, and its norm
    tail: what stands between those and the first stage, without weights
    """

    conv1: nn.Conv2d
    bn1: nn.Module
    tail: nn.Module
    stages: tuple[nn.Module, nn.Module, nn.Module]
    channels: tuple[int, int, int]


def _stages_of(net: nn.Module, channels: tuple[int, int, int]) -> Stages:
    tail = nn.Sequential(net.relu, net.maxpool)
    return Stages(net.conv1, net.bn1, tail, (net.layer1, net.layer2, net.layer3), channels)


def resnet50_stages() -> Stages:
    from torchvision.models import resnet50

    return _stages_of(resnet50(weights=None), (256, 512, 1024))


def resnet18_stages(*, biases: bool = True) -> Stages:
    """ResNet-18, whose convolutions have biases in the published value encoder of STCN."""
    from torchvision.models import resnet18

    net = resnet18(weights=None)
    for module in net.modules():
        if biases and isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return _stages_of(net, (64, 128, 256))


def mobilenet_stages() -> Stages:
    """MobileNetV2 (Sandler et al., arXiv 1801.04381) up to stride 16; blocks keep torchvision's numbers."""
    from torchvision.models import mobilenet_v2

    blocks = mobilenet_v2(weights=None).features
    conv1, bn1, tail = blocks[0]
    return Stages(conv1, bn1, tail, tuple(blocks[a:b] for a, b in MOBILENET_STAGES), (24, 32, 96))


def narrow_stages() -> Stages:
    """One basic block a stage, with group norm: it is trained from scratch."""
    stages, inputs = [], NARROW_CHANNELS[0]
    for channels in NARROW_CHANNELS:
        stride = 1 if channels == NARROW_CHANNELS[0] else 2
        stages.append(nn.Sequential(BasicBlock(inputs, channels, stride)))
        inputs = channels
    first = NARROW_CHANNELS[0]
    conv1 = nn.Conv2d(3, first, 7, stride=2, padding=3, bias=False)
    tail = nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1))
    return Stages(conv1, group_norm(first), tail, tuple(stages), NARROW_CHANNELS)


def stages_of(backbone: str, *, biases: bool = True) -> tuple[Stages, Stages]:
    """Those of the key encoder and of the value encoder.

    biases: whether the convolutions of ResNet-18 have them
    """
    if backbone == "resnet50":
        return resnet50_stages(), resnet18_stages(biases=biases)
    make = {"mobilenet_v2": mobilenet_stages, "narrow": narrow_stages}[backbone]
    return make(), make()
