"""The published checkpoints of SAM, recognised by their keys; sizes are those of the weights."""

import re
from dataclasses import asdict
from typing import Any

from torch import Tensor

from common.checkpoint import Published, state_dict_of
from common.config import checked
from common.files import Download
from systems.sam_track.modules import SAMTrack, check_sizes, make_decoder
from systems.sam_track.tracker import SAMTracker

META = "https://dl.fbaipublicfiles.com/segment_anything"
DOWNLOADS = {  # the names hold the beginning of the MD5; sizes and the rest of it are of copies, which agree
    f"sam_vit_{size}": Download(name, f"{META}/{name}", "Apache-2.0", num_bytes, md5)
    for size, name, num_bytes, md5 in (
        ("b", "sam_vit_b_01ec64.pth", 375042383, "01ec64d29a2fca3f0661936605ae66f8"),
        ("l", "sam_vit_l_0b3195.pth", 1249524607, "0b3195507c641ddb6910d2bb5adee89c"),
        ("h", "sam_vit_h_4b8939.pth", 2564550879, "4b8939a88964f0f4ff5f5b2642c598a6"),
    )
}
OWN_PARTS = ("image_encoder.patch_embed.", "image_encoder.blocks.")
PREFIX = "mask_decoder."
ADDED = ("template_attn.", "template_mask_conv.", "track_token.")  # by tracking, in the mask decoder
# What a prompt encoder has beside its positions.
OF_PROMPTS = tuple(f"prompt_encoder.{part}" for part in ("point_", "not_a_point", "no_mask", "mask_down"))
NAMES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
WINDOW = 14  # of all published ones, and by depth their global blocks
GLOBAL_BLOCKS = {12: "2,5,8,11", 24: "5,11,17,23", 32: "7,15,23,31"}


def _count(weights: dict[str, Tensor], pattern: str) -> int:
    """How many numbers in a row, from 0, names have at the place of the only group."""
    numbers = {int(match[1]) for name in weights if (match := re.match(pattern, name))}
    return next(i for i in range(len(numbers) + 1) if i not in numbers)


def has_prompt_encoder(weights: dict[str, Tensor]) -> bool:
    """Whether there is more of a prompt encoder than its positions."""
    return any(name.startswith(OF_PROMPTS) for name in weights)


def sizes_of(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The options of the network that its weights tell.

    Raises KeyError or ValueError where a weight that tells is absent or misshapen.
    """
    _, grid, _, embed_dim = weights["image_encoder.pos_embed"].shape
    patch_size = weights["image_encoder.patch_embed.proj.weight"].shape[-1]
    depth = _count(weights, r"image_encoder\.blocks\.(\d+)\.")
    rows = [len(weights[f"image_encoder.blocks.{i}.attn.rel_pos_h"]) for i in range(depth)]
    head_dim = weights["image_encoder.blocks.0.attn.rel_pos_h"].shape[1]
    windowed = {(count + 1) // 2 for count in rows if count != 2 * grid - 1}
    window_size = windowed.pop() if windowed else 0
    global_blocks = ",".join(str(i) for i, count in enumerate(rows) if count == 2 * grid - 1)
    if grid == WINDOW and not windowed and depth in GLOBAL_BLOCKS:  # 224 pixels: the tables are all alike
        window_size, global_blocks = WINDOW, GLOBAL_BLOCKS[depth]
    block = "mask_decoder.transformer.layers.0.mlp.lin1.weight"
    head = "mask_decoder.iou_prediction_head.layers"
    return {
        "image_size": grid * patch_size,
        "patch_size": patch_size,
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": embed_dim // head_dim,
        "mlp_ratio": len(weights["image_encoder.blocks.0.mlp.lin1.weight"]) / embed_dim,
        "window_size": window_size,
        "global_blocks": global_blocks,
        "out_dim": len(weights["image_encoder.neck.0.weight"]),
        "decoder_depth": _count(weights, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        "decoder_mlp_dim": len(weights[block]),
        "num_multimask": len(weights["mask_decoder.mask_tokens.weight"]) - 1,
        "iou_hidden": len(weights[f"{head}.0.weight"]),
        "iou_depth": _count(weights, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
        "prompt_encoder": has_prompt_encoder(weights),
        "attn_norm": "mask_decoder.template_norm.weight" in weights,
    }


def drawn_extension(config: SAMTrack.Config) -> dict[str, Tensor]:
    """Random weights of what tracking adds."""
    weights = make_decoder(config).state_dict()
    return {PREFIX + name: value for name, value in weights.items() if name.startswith(ADDED)}


def recognise(content: Any) -> Published | None:
    """What a file holds where it is a published SAM: a state dict, of any size.

    What tracking adds is drawn at random where the file has none of it, which the description says.
    """
    content = state_dict_of(content)
    if not any(str(key).startswith(OWN_PARTS) for key in content):
        return None
    try:
        config = checked(SAMTrack.Config(**sizes_of(content)))
        check_sizes(config)
        name = NAMES.get(config.embed_dim, f"{config.embed_dim} channels")
    except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError):
        # In these terms the caller says what is missing or misshapen.
        config = SAMTrack.Config(prompt_encoder=has_prompt_encoder(content))
        name = "in part, compared with vit_b"
    weights = content
    description = f"the published SAM {name}, {config.image_size} pixels, {len(content)} entries"
    if not any(key.startswith(tuple(PREFIX + part for part in ADDED)) for key in weights):
        weights = weights | drawn_extension(config)
        description += "; what tracking adds is not in it and is drawn at random: to track with it, "
        description += "train it with main.py"
    options = {"network": asdict(config), "tracker": asdict(SAMTracker.Config())}
    return Published(options, weights, description)
