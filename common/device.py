"""Where a network runs, by the flag `--device`, and in which precision, by `--amp`."""

import torch

from common.errors import UserError

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """The context in which a network runs; `off` changes nothing."""
    return torch.autocast(device.type, dtype=AMP[amp], enabled=AMP[amp] is not None)


def pick_device(name: str) -> torch.device:
    """`auto` is this process's GPU or, without one, the CPU; UserError where there is no such device."""
    if name == "auto":
        return (
            torch.device("cuda", torch.cuda.current_device())
            if torch.cuda.is_available()
            else torch.device("cpu")
        )
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda are supported")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} cannot be used here: {str(error).splitlines()[0]}") from error
    return device
