"""The published checkpoints of STCN, recognised by their keys."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from common.checkpoint import Published, with_batch_counters
from systems.stcn.modules import STCN
from systems.stcn.start import CHANNELS, MASK_FILTERS
from systems.stcn.tracker import STCNTracker

OWN_PARTS = ("key_comp.", "decoder.compress.")  # of all published networks of this family only STCN has these


def state_dict_of(content: Any) -> tuple[dict[str, Tensor], str]:
    """The weights in a file that is a state dict, or a training checkpoint around one, and what to tell of
    the latter; no weights where it is neither.
    """
    training = isinstance(content, dict) and "it" in content and isinstance(content.get("network"), dict)
    weights = content["network"] if training else content
    if not isinstance(weights, dict) or not all(isinstance(x, Tensor) for x in weights.values()):
        return {}, ""
    return weights, f", a training checkpoint of iteration {content['it']}" if training else ""


def with_channel_of_others(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The network of stage 0 gets a channel of zeros for the masks of other objects, which changes no result;
    and what to tell of that.
    """
    filters = weights.get(MASK_FILTERS)
    if filters is None or filters.ndim != 4 or filters.shape[1] != CHANNELS - 1:
        return weights, ""
    filters = torch.cat([filters, torch.zeros_like(filters[:, :1])], 1)
    told = ", of stage 0: a mask channel of zeros is added for other objects"
    return weights | {MASK_FILTERS: filters}, told


def recognise(content: Any) -> Published | None:
    """What a file holds where it is the published STCN: a state dict, or a training checkpoint around one."""
    weights, told = state_dict_of(content)
    if not any(str(key).startswith(OWN_PARTS) for key in weights):
        return None
    weights, stage = with_channel_of_others(weights)
    config = {"network": asdict(STCN.Config()), "tracker": asdict(STCNTracker.Config())}
    told = f"the published STCN, {len(weights)} entries{told}{stage}"
    return Published(config, with_batch_counters(weights), told)
