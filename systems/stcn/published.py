"""The published checkpoints of STCN, recognised by their keys."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from common.checkpoint import Published, state_dict_of, with_batch_counters
from common.files import Download
from systems.stcn.modules import STCN
from systems.stcn.tracker import STCNTracker

# The model "s012" of STCN's README, whose address there is a page; `confirm` passes the page after it.
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
DOWNLOADS = {"stcn": Download("stcn.pth", f"{DRIVE}1mRrE0uCI2ktdWlUgapJI_KmgeIiF2eOm", "unknown")}
MASK_FILTERS = "value_encoder.conv1.weight"
CHANNELS = 5  # RGB, the object's mask, the others' masks; networks of stage 0 lack the last

OWN_PARTS = ("key_comp.", "decoder.compress.")  # of all published networks of this family only STCN has these


def training_note(content: Any) -> str:
    """What to say of a training checkpoint; nothing of a bare state dict."""
    return f", a training checkpoint of iteration {content['it']}" if "it" in content else ""


def with_channel_of_others(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The network of stage 0 gets a channel of zeros for the masks of other objects, which changes no result;
    and what to say of that.
    """
    filters = weights.get(MASK_FILTERS)
    if filters is None or filters.ndim != 4 or filters.shape[1] != CHANNELS - 1:
        return weights, ""
    filters = torch.cat([filters, torch.zeros_like(filters[:, :1])], 1)
    note = ", of stage 0: a mask channel of zeros is added for other objects"
    return weights | {MASK_FILTERS: filters}, note


def recognise(content: Any) -> Published | None:
    """What a file holds where it is the published STCN: a state dict, or a training checkpoint around one."""
    weights = state_dict_of(content)
    if not any(str(key).startswith(OWN_PARTS) for key in weights):
        return None
    weights, stage_note = with_channel_of_others(weights)
    config = {"network": asdict(STCN.Config()), "tracker": asdict(STCNTracker.Config())}
    description = f"the published STCN, {len(weights)} entries{training_note(content)}{stage_note}"
    return Published(config, with_batch_counters(weights), description)
