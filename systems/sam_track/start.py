"""What training starts from: a checkpoint of this system, or a published one of SAM, at any image size."""

from typing import Any

from torch import Tensor

from common.checkpoint import load_network
from common.distributed import say
from common.errors import UserError
from systems.sam_track.attention import resize_table
from systems.sam_track.image_encoder import resize_positions

# The options that decide the names and shapes of the weights, the image size aside.
SIZES = """patch_size embed_dim depth num_heads mlp_ratio window_size global_blocks out_dim decoder_heads
decoder_depth decoder_mlp_dim num_multimask iou_hidden iou_depth""".split()


def fit_positions(weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with positions of the sizes of `own`: absolute ones bicubically, relative ones linearly."""
    fitted = dict(weights)
    for name, weight in weights.items():
        if name == "image_encoder.pos_embed":
            fitted[name] = resize_positions(weight, tuple(own[name].shape[1:3]))
        elif name.endswith(("rel_pos_h", "rel_pos_w")):
            fitted[name] = resize_table(weight, len(own[name]))
    return fitted


def start_weights(path: str, own: dict[str, Tensor], config: Any) -> dict[str, Tensor]:
    """The weights of a checkpoint for a network with these options, whose state dict is `own`.

    Raises UserError for what `load_network` refuses, and where sizes differ, with the flags to give.
    """
    network, _ = load_network(path, "sam_track")
    differing = [name for name in SIZES if getattr(network.config, name) != getattr(config, name)]
    if network.config.attn_norm and not config.attn_norm:  # one that the file lacks begins anew
        differing.append("attn_norm")
    if differing:
        flags = " ".join(f"--{name} {getattr(network.config, name)}" for name in differing)
        raise UserError(f"--load_network {path} has other sizes: add {flags}")
    if network.config.image_size != config.image_size:
        told = f"positions of {network.config.image_size} pixels are interpolated for {config.image_size}"
        say(f"--load_network {path}: {told}")
    return own | fit_positions(network.state_dict(), own)
