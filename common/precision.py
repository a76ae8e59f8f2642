"""Mixed precision by the name of the flag `--amp`."""

import torch

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """The context in which a network runs; `off` changes nothing."""
    return torch.autocast(device.type, dtype=AMP[amp], enabled=AMP[amp] is not None)
