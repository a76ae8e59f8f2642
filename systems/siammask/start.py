"""What training of SiamMask starts from: ImageNet's weights, or a checkpoint with or without refinement."""

from common.checkpoint import Loadable, check_start, load_network
from common.errors import UserError
from systems.siammask.backbones import load_imagenet
from systems.siammask.modules import SiamMask
from systems.siammask.published import DOWNLOADS, REFINEMENT, recognise


def load_checkpoint(network: SiamMask, path: str) -> None:
    """Fill a network from a checkpoint of SiamMask.

    A refinement module that only one of the two has is left as it is, or left out. Raises UserError for what
    `load_network` refuses, and where shapes differ.
    """
    systems = {"siammask": Loadable(SiamMask, recognise, DOWNLOADS)}
    weights = load_network(path, systems, "siammask")[0].state_dict()
    state = network.state_dict()
    untouched = {key: value for key, value in state.items() if key.startswith(REFINEMENT)}
    weights = untouched | {key: value for key, value in weights.items() if key in state}
    check_start(path, weights, state)
    network.load_state_dict(weights)


def start(network: SiamMask, config: SiamMask.Config) -> None:
    """Bring the weights that a run of SiamMask begins with; UserError where they cannot be loaded.

    The second step begins from the first: without it what is frozen would be random.
    """
    if config.load_network != "none":
        load_checkpoint(network, config.load_network)
    elif config.refine:
        raise UserError("--refine trains the refinement alone: give step one's weights with --load_network")
    elif config.backbone_weights != "none":
        if config.backbone == "narrow":
            lack = f"--backbone narrow has no {config.backbone_weights} weights"
            raise UserError(f"{lack}: add --backbone_weights none")
        load_imagenet(network.features.features, config.backbone_weights)
