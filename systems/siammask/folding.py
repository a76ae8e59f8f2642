"""A faster form of a network for inference: batch norms in the convolutions, channels last in memory."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(module: nn.Module) -> None:
    """Put every batch norm in `eval` mode into the convolution that stands before it, in place."""
    previous = ""
    for name, part in list(module.named_children()):
        before = getattr(module, previous, None)
        if isinstance(part, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            setattr(module, previous, fuse_conv_bn_eval(before, part))
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norms(part)
        previous = name


def inference_copy(network: nn.Module, *, fold: bool, channels_last: bool) -> nn.Module:
    """A copy in `eval` mode, the same up to rounding; the network itself where nothing is asked."""
    if not fold and not channels_last:
        return network
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    if fold:
        fold_batch_norms(copied)
    return copied.to(memory_format=torch.channels_last) if channels_last else copied
