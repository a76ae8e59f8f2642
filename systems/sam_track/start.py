"""What training starts from: a checkpoint of this system, or a published one of SAM, at any image size."""

from torch import Tensor

from common.checkpoint import Loadable, load_network
from common.errors import UserError
from common.progress import say
from systems.sam_track.attention import resize_table
from systems.sam_track.image_encoder import resize_positions
from systems.sam_track.modules import SAMTrack
from systems.sam_track.published import DOWNLOADS, recognise

# The options that decide the names and shapes of the weights, the image size aside.
SIZES = """patch_size embed_dim depth num_heads mlp_ratio window_size global_blocks out_dim decoder_heads
decoder_depth decoder_mlp_dim num_multimask iou_hidden iou_depth""".split()


def fit_positions(weights: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with positions as large as a state dict has them: absolute ones bicubically, relative ones
    linearly.
    """
    fitted = dict(weights)
    for name, weight in weights.items():
        if name == "image_encoder.pos_embed":
            fitted[name] = resize_positions(weight, tuple(state[name].shape[1:3]))
        elif name.endswith(("rel_pos_h", "rel_pos_w")):
            fitted[name] = resize_table(weight, len(state[name]))
    return fitted


def load_checkpoint(network: SAMTrack, path: str) -> None:
    """Fill a network from a checkpoint of this system, of any image size.

    Raises UserError for what `load_network` refuses, and where sizes differ, with the flags to give.
    """
    systems = {"sam_track": Loadable(SAMTrack, recognise, DOWNLOADS)}
    source = load_network(path, systems, "sam_track")[0]
    config, given = network.config, source.config
    differing = [name for name in SIZES if getattr(given, name) != getattr(config, name)]
    if given.attn_norm and not config.attn_norm:  # one that the file lacks begins anew
        differing.append("attn_norm")
    if config.prompt_encoder and not given.prompt_encoder:
        differing.append("prompt_encoder")
    if differing:
        flags = " ".join(f"--{name} {getattr(given, name)}" for name in differing)
        raise UserError(f"--load_network {path} has other sizes: add {flags}")
    if given.image_size != config.image_size:
        change = f"positions of {given.image_size} pixels are interpolated for {config.image_size}"
        say(f"--load_network {path}: {change}")
    if given.prompt_encoder and not config.prompt_encoder:
        say(f"--load_network {path}: its prompt encoder is left out; --prompt_encoder keeps it")
    state = network.state_dict()
    weights = {name: x for name, x in source.state_dict().items() if name in state}
    network.load_state_dict(state | fit_positions(weights, state))


def start(network: SAMTrack, config: SAMTrack.Config) -> None:
    """Bring the weights that a run of SAM for tracking begins with, and look at the folder of its cache.

    Raises UserError where one cannot be loaded.
    """
    if network.cache:
        network.cache.check()
    if config.load_network != "none":
        load_checkpoint(network, config.load_network)
    elif not config.train_encoder:
        raise UserError(
            "--system sam_track keeps its image encoder as it is: give one by --load_network "
            "sam_vit_b, or train it by --train_encoder"
        )
