"""What training of SiamMask may start from: another checkpoint, with the refinement module or without."""

from torch import Tensor

from common.checkpoint import load_network
from common.errors import UserError

REFINEMENT = "refine_model."


def start_weights(path: str, own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a SiamMask checkpoint, to go on training with a network whose state dict is `own`.

    A refinement module that only one of the two has is left as it is, or left out. Raises UserError for what
    `load_network` refuses, and where shapes differ.
    """
    network, _ = load_network(path, "siammask")
    found = {key: value for key, value in network.state_dict().items() if key in own}
    unfit = [
        key
        for key, value in own.items()
        if (key not in found and not key.startswith(REFINEMENT))
        or (key in found and found[key].shape != value.shape)
    ]
    if unfit:
        raise UserError(f"--load_network {path}: its network has other options, as {unfit[0]} shows")
    return own | found
