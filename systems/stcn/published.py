"""The published checkpoints of STCN, recognised by their keys."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from common.checkpoint import Published
from systems.stcn.modules import STCN
from systems.stcn.start import CHANNELS, MASK_FILTERS
from systems.stcn.tracker import STCNTracker

OWN_PARTS = ("key_comp.", "decoder.compress.")  # of all published networks of this family only STCN has these


def with_batch_counters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with batch norm's counters, which some files leave out."""
    norms = [key.removesuffix("running_var") for key in weights if key.endswith("running_var")]
    return {f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms} | weights


def recognise(content: Any) -> Published | None:
    """What a file holds where it is the published STCN: a state dict, or a training checkpoint around one.

    The network of stage 0 gets a channel of zeros for the masks of other objects, which changes no result.
    """
    training = isinstance(content, dict) and "it" in content and isinstance(content.get("network"), dict)
    weights = content["network"] if training else content
    if not isinstance(weights, dict) or not all(isinstance(x, Tensor) for x in weights.values()):
        return None
    if not any(str(key).startswith(OWN_PARTS) for key in weights):
        return None
    told = f"the published STCN, {len(weights)} entries"
    if training:
        told += f", a training checkpoint of iteration {content['it']}"
    filters = weights.get(MASK_FILTERS)
    if filters is not None and filters.ndim == 4 and filters.shape[1] == CHANNELS - 1:
        weights = weights | {MASK_FILTERS: torch.cat([filters, torch.zeros_like(filters[:, :1])], 1)}
        told += ", of stage 0: a mask channel of zeros is added for other objects"
    config = {"network": asdict(STCN.Config()), "tracker": asdict(STCNTracker.Config())}
    return Published(config, with_batch_counters(weights), told)
