"""`--checkpoint_activations`: parts of a network whose activations are computed anew in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
"""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from common.errors import UserError


def checkpoint_activations(network: nn.Module) -> None:
    """Keep only the inputs of the network's `recomputed_parts`; of a list of modules, those of each.

    Gradients stay the same: no such part draws at random or counts its calls. Raises UserError where the
    network has no such parts.
    """
    if not network.recomputed_parts:
        raise UserError(
            f"--checkpoint_activations: {type(network).__name__} has no part that can be computed twice"
        )
    for name in network.recomputed_parts:
        part = network.get_submodule(name)
        for module in part if isinstance(part, nn.ModuleList) else [part]:
            module.forward = partial(
                checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
            )
