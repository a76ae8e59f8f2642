"""What training starts from: ImageNet's weights of the two ResNets, or a checkpoint of STCN."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights, WeightsEnum

from common.backbone import imagenet_weights, read_backbone_weights
from common.checkpoint import load_network
from common.errors import UserError

KEY_WEIGHTS, VALUE_WEIGHTS = ResNet50_Weights.IMAGENET1K_V1, ResNet18_Weights.IMAGENET1K_V1
MASK_FILTERS = "value_encoder.conv1.weight"
CHANNELS = 5  # RGB, the object's mask, the others' masks; networks of stage 0 lack the last


def orthogonal_channels(conv_weight: Tensor, number: int) -> Tensor:
    """(C, number, 7, 7) filters for further input channels of (C, _, 7, 7) ones."""
    return nn.init.orthogonal_(torch.empty(len(conv_weight), number, *conv_weight.shape[2:]))


def load_resnet(encoder: nn.Module, source: str, which: WeightsEnum, flag: str) -> None:
    """Fill an encoder from a state dict of torchvision's ResNet of that kind.

    source: `imagenet`, or a file; flag: by which it was given
    The encoder's first stage may be named `res2`; its biases of convolutions, its batch counters and the
    filters of its mask channels, which are made orthogonal, are not in such a file. Raises UserError where
    the weights cannot be had or do not fit.
    """
    weights = (
        imagenet_weights(which, flag) if source == "imagenet" else read_backbone_weights(Path(source), flag)
    )
    weights = {
        f"res2{key.removeprefix('layer1')}"
        if hasattr(encoder, "res2") and key.startswith("layer1.")
        else key: x
        for key, x in weights.items()
    }
    own = encoder.state_dict()
    further = ("fuser.", "hidden_reinforce.")  # what follows the ResNet
    needed = [key for key in own if key.endswith(("weight", "running_var")) and not key.startswith(further)]
    missing = [key for key in needed if key not in weights]
    found = {key: x for key, x in weights.items() if key in own}
    extra = own["conv1.weight"].shape[1] - 3
    if extra and "conv1.weight" in found:
        first = found["conv1.weight"]
        found["conv1.weight"] = torch.cat([first, orthogonal_channels(first, extra)], 1)
    unfit = [key for key, x in found.items() if x.shape != own[key].shape]
    if missing or unfit:
        kind = type(which).__name__.removesuffix("_Weights").replace("ResNet", "ResNet-")
        raise UserError(f"{flag} {source}: not a {kind} of torchvision: it lacks {[*missing, *unfit][0]}")
    encoder.load_state_dict(own | found)


def start_weights(path: str, own: dict[str, Tensor], system: str) -> dict[str, Tensor]:
    """The weights of a system's checkpoint, to go on training with a network whose state dict is `own`.

    A mask channel that was never trained, absent or zero, becomes orthogonal filters. Raises UserError for
    what `load_network` refuses, and where the shapes differ.
    """
    network, _ = load_network(path, system)
    weights = network.state_dict()
    filters = weights[MASK_FILTERS]
    if own[MASK_FILTERS].shape[1] == CHANNELS and not filters[:, CHANNELS - 1 :].any():
        trained = filters[:, : CHANNELS - 1]
        weights[MASK_FILTERS] = torch.cat([trained, orthogonal_channels(trained, 1)], 1)
    unfit = [key for key in own if key not in weights or weights[key].shape != own[key].shape]
    if unfit or len(weights) != len(own):
        raise UserError(
            f"--load_network {path}: its network has other options, as {[*unfit, 'its size'][0]} shows"
        )
    return weights
