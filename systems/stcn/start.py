"""What training starts from: ImageNet's weights of the two encoders, or a checkpoint of STCN."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from common.backbone import body_of, pretrained_weights, title_of
from common.checkpoint import Loadable, check_start, load_network
from common.errors import UserError
from systems.stcn.backbones import MOBILENET_NAMES
from systems.stcn.modules import STCN, MemoryNetwork
from systems.stcn.published import CHANNELS, DOWNLOADS, MASK_FILTERS, recognise

ENCODERS = (("backbone_weights", "key_encoder"), ("value_weights", "value_encoder"))  # flag and module
PRETRAINED = {  # which of torchvision's weights `imagenet` means, of each encoder
    "resnet50": ("ResNet50_Weights.IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1"),
    "mobilenet_v2": ("MobileNet_V2_Weights.IMAGENET1K_V1", "MobileNet_V2_Weights.IMAGENET1K_V1"),
}


def orthogonal_channels(conv_weight: Tensor, number: int) -> Tensor:
    """(C, number, k, k) filters for further input channels of (C, _, k, k) ones."""
    return nn.init.orthogonal_(torch.empty(len(conv_weight), number, *conv_weight.shape[2:]))


def name_in(encoder: nn.Module, key: str) -> str:
    """The name in an encoder, whose first stage is `res2` or `layer1`, of a tensor of torchvision's."""
    for theirs, ours in MOBILENET_NAMES.items():
        if key.startswith(f"{theirs}."):
            key = f"{ours}{key.removeprefix(theirs)}"
            break
    is_renamed = hasattr(encoder, "res2") and key.startswith("layer1.")
    return f"res2{key.removeprefix('layer1')}" if is_renamed else key


def load_imagenet(encoder: nn.Module, source: str, which: str, flag: str) -> None:
    """Fill an encoder from a state dict of torchvision's network of that kind.

    source: `imagenet`, `coco` (ResNet-50), or a file; flag: by which it was given
    The encoder's biases of convolutions, its batch counters and the filters of its mask channels, which are
    made orthogonal, are not in such a file. Raises UserError where the weights cannot be loaded, or do not
    fit.
    """
    weights = body_of(pretrained_weights(source, which, flag))
    weights = {name_in(encoder, key): value for key, value in weights.items()}
    state = encoder.state_dict()
    further = ("fuser.", "hidden_reinforce.")  # what follows the backbone
    needed = [key for key in state if key.endswith(("weight", "running_var")) and not key.startswith(further)]
    missing = [key for key in needed if key not in weights]
    weights = {key: value for key, value in weights.items() if key in state}
    extra = state["conv1.weight"].shape[1] - 3
    if extra and "conv1.weight" in weights:
        first = weights["conv1.weight"]
        weights["conv1.weight"] = torch.cat([first, orthogonal_channels(first, extra)], 1)
    unfit = [key for key, value in weights.items() if value.shape != state[key].shape]
    if missing or unfit:
        lack = [*missing, *unfit][0]
        raise UserError(f"{flag} {source}: not a {title_of(which)} of torchvision: it lacks {lack}")
    encoder.load_state_dict(state | weights)


def load_checkpoint(network: MemoryNetwork, path: str, systems: Mapping[str, Loadable]) -> None:
    """Fill a network from a checkpoint of its system, the only one in `systems`.

    A mask channel that was never trained, absent or zero, becomes orthogonal filters. Raises UserError for
    what `load_network` refuses, and where the shapes differ.
    """
    weights, state = load_network(path, systems, *systems)[0].state_dict(), network.state_dict()
    filters = weights[MASK_FILTERS]
    if state[MASK_FILTERS].shape[1] == CHANNELS and not filters[:, CHANNELS - 1 :].any():
        trained = filters[:, : CHANNELS - 1]
        weights[MASK_FILTERS] = torch.cat([trained, orthogonal_channels(trained, 1)], 1)
    check_start(path, weights, state)
    network.load_state_dict(weights)


def start_from(network: MemoryNetwork, config: STCN.Config, systems: Mapping[str, Loadable]) -> None:
    """Begin from another network's weights, or from ImageNet's; UserError where they cannot be loaded."""
    if config.load_network != "none":
        load_checkpoint(network, config.load_network, systems)
        return
    for place, (option, encoder) in enumerate(ENCODERS):
        source = getattr(config, option)
        if source == "none":
            continue
        if config.backbone not in PRETRAINED:
            raise UserError(f"--backbone {config.backbone} has no {source} weights: add --{option} none")
        which = PRETRAINED[config.backbone][place]
        load_imagenet(getattr(network, encoder), source, which, f"--{option}")


def start(network: STCN, config: STCN.Config) -> None:
    """Bring the weights that a run of STCN begins with; UserError where they cannot be loaded."""
    start_from(network, config, {"stcn": Loadable(STCN, recognise, DOWNLOADS)})
