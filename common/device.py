"""Where tensors are, by the flag `--device`; their precision, by `--amp`; and memory for large ones."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from common.errors import UserError

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
NATIVE_BF16 = (8, 0)  # the compute capability of Ampere, the first with bf16 units


def resolve_amp(amp: str, device: torch.device) -> str:
    """What `auto` means: bf16 on a GPU that has it natively, fp16 on an older one, off on a CPU."""
    if amp != "auto":
        return amp
    if device.type != "cuda":
        return "off"
    return "bf16" if torch.cuda.get_device_capability(device) >= NATIVE_BF16 else "fp16"


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """The context in which a network runs; `off` changes nothing."""
    dtype = AMP[resolve_amp(amp, device)]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def in_float32(device: torch.device) -> torch.autocast:
    """The context in which nothing is computed in less than float32, whatever autocast says around it.

    For counts of pixels, IoUs, similarities, softmax over a memory, and all that decides who is who.
    """
    return torch.autocast(device.type, enabled=False)


@contextmanager
def without_gradient(device: torch.device) -> Iterator[None]:
    """The context for a module that is called without gradient where training calls it with one, too.

    Autocast keeps its copy of a weight until its region ends, and torch 2.6 keeps even one that was made
    without gradient, so that the weight would get none from later calls. Here copies are not kept.
    """
    enabled = torch.is_autocast_enabled(device.type)
    with torch.no_grad(), torch.autocast(device.type, enabled=enabled, cache_enabled=False):
        yield


class _NotDrawn(TorchFunctionMode):
    """Inside, weights are not filled with random numbers."""

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.randn:
            function = torch.empty
        if function is Tensor.normal_ or getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


@contextmanager
def without_memory() -> Iterator[None]:
    """Inside, tensors have shapes alone, on the device "meta", for networks whose weights are loaded later.

    To draw random numbers there, torch would load its compiler: 150 MiB, and a second of a CPU.
    """
    with _NotDrawn(), torch.device("meta"):
        yield


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


def on_device(values: list | Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A few numbers that the program has, as a tensor on the device, for which it does not wait."""
    return torch.as_tensor(values, dtype=dtype).to(device, non_blocking=True)


def empty(*size: int, device: torch.device | str = "cpu") -> Tensor:
    """As `torch.empty`, float32.

    On the CPU NumPy takes the memory, because it asks Linux for huge pages and torch does not: the first
    touch of ordinary pages costs more than the computation that fills them.
    """
    if torch.device(device).type == "cpu":
        return torch.from_numpy(np.empty(size, dtype=np.float32))
    return torch.empty(size, device=device)


def zeros(*size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
    """As `torch.zeros`, with the memory of `empty`."""
    if torch.device(device).type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(size, dtype=torch.empty(0, dtype=dtype).numpy().dtype))


def peak_memory(device: torch.device) -> float:
    """MiB that the process has taken at most: of the GPU, or resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource  # which Windows lacks

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
