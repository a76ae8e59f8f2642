"""The first three stages of ResNets, of which STCN's encoders are made: ResNet-50, ResNet-18, narrow ones."""

from typing import NamedTuple

import torch
from torch import nn
from torchvision.models import ResNet, resnet18, resnet50
from torchvision.models.resnet import BasicBlock

from common.backbone import group_norm

NARROW_CHANNELS = (32, 48, 64)


class Stages(NamedTuple):
    """The parts of a ResNet and the channels of its three stages, which are at strides 4, 8 and 16."""

    conv1: nn.Conv2d
    bn1: nn.Module
    stages: tuple[nn.Module, nn.Module, nn.Module]
    channels: tuple[int, int, int]


def _stages_of(net: ResNet, channels: tuple[int, int, int]) -> Stages:
    return Stages(net.conv1, net.bn1, (net.layer1, net.layer2, net.layer3), channels)


def resnet50_stages() -> Stages:
    return _stages_of(resnet50(weights=None), (256, 512, 1024))


def resnet18_stages(*, biases: bool = True) -> Stages:
    """ResNet-18, whose convolutions have biases in the published value encoder of STCN."""
    net = resnet18(weights=None)
    for module in net.modules():
        if biases and isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return _stages_of(net, (64, 128, 256))


def narrow_stages() -> Stages:
    """One basic block a stage, with group norm: it is trained from scratch."""
    stages, inputs = [], NARROW_CHANNELS[0]
    for channels in NARROW_CHANNELS:
        stride = 1 if channels == NARROW_CHANNELS[0] else 2
        shortcut = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride, bias=False), group_norm(channels))
        stages.append(nn.Sequential(BasicBlock(inputs, channels, stride, shortcut, norm_layer=group_norm)))
        inputs = channels
    first = NARROW_CHANNELS[0]
    conv1 = nn.Conv2d(3, first, 7, stride=2, padding=3, bias=False)
    return Stages(conv1, group_norm(first), tuple(stages), NARROW_CHANNELS)
