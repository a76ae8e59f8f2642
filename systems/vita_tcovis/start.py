"""What training starts from: published weights of the backbone, or a checkpoint of VITA-TCOVIS."""

from pathlib import Path

import torch
from torch import Tensor

from common.checkpoint import Loadable, check_start, check_weights, load_network, read_file, state_dict_of
from common.errors import UserError
from common.progress import say
from modules import VITA_TCOVIS

CLASS_HEAD = ("class_head.weight", "class_head.bias")  # weights that depend on the number of classes
TOKENS = ("tokens", "token_positions")  # and those that depend on the number of tokens
PROPAGATION = ("propagation.weight", "propagation.bias")  # and those that --propagate adds


def read_weights(path: str) -> dict[str, Tensor]:
    """The weights in a checkpoint of VITA-TCOVIS, the EMA's where there are any, or in a bare state dict.

    Raises UserError for what `load_network` refuses, and where numbers are not finite.
    """
    content = read_file(Path(path))
    bare = {} if isinstance(content, dict) and "format" in content else state_dict_of(content)
    if bare.keys() >= {*CLASS_HEAD, *TOKENS}:
        check_weights(Path(path), bare, bare)
        return bare
    return load_network(path, {"vita_tcovis": Loadable(VITA_TCOVIS, None)}, "vita_tcovis")[0].state_dict()


def load_checkpoint(network: VITA_TCOVIS, path: str) -> None:
    """Fill a network from weights of VITA-TCOVIS with any number of classes and of object tokens.

    path: what `read_weights` reads
    With another number of classes the class head begins anew. With another number of tokens the first ones
    are taken, and those that the file lacks begin anew. A network of frames by themselves begins to propagate
    tokens, from zero. A line says each. Raises UserError for what `read_weights` refuses, and where anything
    else does not fit.
    """
    weights, state = read_weights(path), network.state_dict()
    if network.config.propagate and not weights.keys() & {*PROPAGATION}:
        weights |= {key: state[key] for key in PROPAGATION}
        say(f"--load_network {path}: it begins to propagate tokens from frame to frame")
    if weights.keys() & {*PROPAGATION} and not network.config.propagate:
        raise UserError(f"--load_network {path}: its network propagates tokens: add --propagate true")
    check_start(path, weights | {key: state[key] for key in (*CLASS_HEAD, *TOKENS)}, state)
    num_classes, num_tokens = len(weights["class_head.bias"]) - 1, len(weights["tokens"])
    config = network.config
    if num_classes != config.num_classes:
        weights |= {key: state[key] for key in CLASS_HEAD}
        classes = f"for {config.num_classes} classes, not {num_classes}"
        say(f"--load_network {path}: the class head begins anew, {classes}")
    if num_tokens != config.num_tokens:
        taken = min(num_tokens, config.num_tokens)
        weights |= {key: torch.cat([weights[key][:taken], state[key][taken:]]) for key in TOKENS}
        anew = f"{config.num_tokens - taken} begin anew"
        say(f"--load_network {path}: the first {taken} of {num_tokens} object tokens are taken, {anew}")
    network.load_state_dict(weights)


def start(network: VITA_TCOVIS, config: VITA_TCOVIS.Config) -> None:
    """Bring the weights that a run begins with: a checkpoint's, or the backbone's.

    Raises UserError where they cannot be loaded.
    """
    if config.load_network != "none":
        load_checkpoint(network, config.load_network)
    elif config.backbone_weights != "none":
        laterals = network.backbone.load(config.backbone_weights)
        if laterals:
            taken = ", ".join(map(str, network.pyramid.load(laterals))) or "none, as their width is 256"
            say(f"--backbone_weights {config.backbone_weights}: the ResNet-50; laterals of strides: {taken}")
