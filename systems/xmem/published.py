"""The published checkpoints of XMem, recognised by their keys; their sizes are those of the weights."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from common.checkpoint import Published, state_dict_of, with_batch_counters
from common.files import Download
from systems.stcn.published import training_note, with_channel_of_others
from systems.xmem.modules import XMem
from systems.xmem.tracker import XMemTracker

# Of all published networks of this family only XMem has these.
XMEM = "https://github.com/hkchengrex/XMem/releases/download/v1.0/XMem.pth"
DOWNLOADS = {"xmem": Download("XMem.pth", XMEM, "MIT")}
OWN_PARTS = ("key_proj.d_proj.", "key_proj.e_proj.", "decoder.fuser.", "decoder.hidden_update.")


def sizes_of(weights: dict[str, Tensor]) -> dict[str, int]:
    """The options of the network that its weights tell; a weight that is absent tells nothing."""
    sized = {
        "key_dim": "key_proj.key_proj.weight",
        "value_dim": "value_encoder.fuser.block2.conv2.weight",
        "decoder_dim": "decoder.fuser.block2.conv2.weight",
    }
    filters = {option: weights[name] for option, name in sized.items() if name in weights}
    sizes = {option: len(weight) for option, weight in filters.items() if weight.ndim == 4}
    gates = weights.get("decoder.hidden_update.transform.weight", torch.zeros(0))
    return sizes | {"hidden_dim": gates.shape[0] // 3 if gates.ndim else 0}


def recognise(content: Any) -> Published | None:
    """What a file holds where it is a published XMem: a state dict, or a training checkpoint around one."""
    weights = state_dict_of(content)
    if not any(str(key).startswith(OWN_PARTS) for key in weights):
        return None
    weights, stage_note = with_channel_of_others(weights)
    sizes = sizes_of(weights)
    sensory = "" if sizes["hidden_dim"] else ", without sensory memory"
    config = {"network": asdict(XMem.Config(**sizes)), "tracker": asdict(XMemTracker.Config())}
    description = f"the published XMem, {len(weights)} entries{sensory}{training_note(content)}{stage_note}"
    return Published(config, with_batch_counters(weights), description)
