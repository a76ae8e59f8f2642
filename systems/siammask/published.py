"""The published checkpoints of SiamMask, recognised by their keys: the official ones, and pysot's."""

from dataclasses import asdict
from typing import Any

from common.checkpoint import Published, state_dict_of, with_batch_counters
from common.files import Download
from systems.siammask.modules import SiamMask
from systems.siammask.tracker import SiamMaskTracker

OXFORD = "http://www.robots.ox.ac.uk/~qwang"
DOWNLOADS = {
    f"siammask_{which.lower()}": Download(f"SiamMask_{which}.pth", f"{OXFORD}/SiamMask_{which}.pth", "MIT")
    for which in ("DAVIS", "VOT")
}
REFINEMENT = "refine_model."
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
    for theirs, ours in PYSOT.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def recognise(content: Any) -> Published | None:
    """What a file holds where it is a published SiamMask, with or without its refinement module."""
    raw = state_dict_of(content)
    weights = {official_name(key): value for key, value in raw.items()}
    if SIGN not in weights:
        return None
    of_pysot = any(key.startswith("rpn_head.") for key in raw)
    refine = any(key.startswith(REFINEMENT) for key in weights)
    config = {
        "network": asdict(SiamMask.Config(refine=refine)),
        "tracker": asdict(SiamMaskTracker.Config()),
    }
    maker = "pysot's" if of_pysot else "the published"
    part = "with refinement" if refine else "the base model without refinement"
    description = f"{maker} SiamMask, {part}, {len(weights)} entries"
    epoch = content.get("epoch") if "state_dict" in content else None
    if isinstance(epoch, int):
        description += f", a training checkpoint of epoch {epoch}"
    return Published(config, with_batch_counters(weights), description)
