"""The published checkpoints of SiamMask, recognised by their keys: the official ones, and pysot's."""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from common.checkpoint import Published, with_batch_counters
from systems.siammask.modules import SiamMask
from systems.siammask.start import REFINEMENT
from systems.siammask.tracker import SiamMaskTracker

SIGN = "rpn_model.cls.conv_kernel.0.weight"
PYSOT = {  # beginnings of names there, and here
    "backbone.": "features.features.",
    "neck.downsample.": "features.downsample.",
    "rpn_head.": "rpn_model.",
    "mask_head.": "mask_model.mask.",
    "refine_head.": "refine_model.",
}


def official_name(key: str) -> str:
    """The name of a weight in the official program."""
    key = key.removeprefix("module.")
    for theirs, ours in PYSOT.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def state_dict_of(content: Any) -> tuple[dict[str, Tensor], str]:
    """The weights in a file that is a state dict, or a training checkpoint around one, and what to tell of
    the latter; no weights where it is neither.
    """
    training = isinstance(content, dict) and isinstance(content.get("state_dict"), dict)
    weights = content["state_dict"] if training else content
    if not isinstance(weights, dict) or not all(isinstance(x, Tensor) for x in weights.values()):
        return {}, ""
    epoch = content.get("epoch") if training else None
    return weights, f", a training checkpoint of epoch {epoch}" if isinstance(epoch, int) else ""


def recognise(content: Any) -> Published | None:
    """What a file holds where it is a published SiamMask, with or without its refinement module."""
    found, told = state_dict_of(content)
    weights = {official_name(str(key)): value for key, value in found.items()}
    if SIGN not in weights:
        return None
    make = (
        "pysot's"
        if any(str(key).removeprefix("module.").startswith("rpn_head.") for key in found)
        else "the published"
    )
    refine = any(key.startswith(REFINEMENT) for key in weights)
    part = "with refinement" if refine else "the base model without refinement"
    config = {
        "network": asdict(SiamMask.Config(refine=refine)),
        "tracker": asdict(SiamMaskTracker.Config()),
    }
    told = f"{make} SiamMask, {part}, {len(weights)} entries{told}"
    return Published(config, with_batch_counters(weights), told)
