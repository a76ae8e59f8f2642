"""The GPU memory of a training step, without a GPU: a step on fake tensors, which have sizes and no data.

What is counted are the tensors that live at the same time. The CUDA context, workspaces of convolutions and
gaps between blocks come on top: RESERVED.
"""

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from common.device import AMP
from common.types import Clip
from training.config import TrainConfig
from training.optim import OPTIMIZERS, MovingAverage

GIB = 2**30
RESERVED = 1.5 * GIB  # of a GPU, for what no tensor holds
BLOCK = 512  # bytes of which CUDA's allocator gives whole multiples
# Of the operations that autocast runs in float32 on CUDA, those that it leaves in half precision on a CPU:
# https://docs.pytorch.org/docs/stable/amp.html#cuda-ops-that-can-autocast-to-float32
FLOAT32_ON_CUDA = ("layer_norm", "group_norm", "softmax.int", "log_softmax.int")
READS: dict[str, Callable[[np.ndarray], Any]] = {  # by which Python sees values, of zeros in their place
    "numpy": lambda zeros: zeros,
    "tolist": np.ndarray.tolist,
    "item": np.ndarray.item,
    "__int__": int,
    "__float__": float,
    "__bool__": bool,
}


class MemoryUse(NamedTuple):
    """Bytes of tensors that live between training steps, and at most at once within one."""

    between: int
    peak: int


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, while they live.

    live, peak: bytes now, and the most so far
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}  # by the address of the storage

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor):
                self._count(x.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address = storage._cdata
        if address in self._sizes:
            return
        self._sizes[address] = -(-storage.nbytes() // BLOCK) * BLOCK
        self.live += self._sizes[address]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, address)

    def _forget(self, address: int) -> None:
        self.live -= self._sizes.pop(address)


class StandIns(TorchFunctionMode):
    """What stands for that which tensors without data cannot say.

    What the CPU reads back is zero: all costs are the same, so that every object is matched, with the first
    tokens. `nonzero` of a mask, as a tuple, names everything, or of each clip as many as the criterion's
    `most_chosen` says. What is made of NumPy arrays alone stays real.
    """

    def __init__(self, most_chosen: int | None) -> None:
        super().__init__()
        self.most_chosen = most_chosen

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if tensors and not any(isinstance(x, FakeTensor) for x in tensors):
            with unset_fake_temporarily():
                return function(*args, **kwargs)
        if name in READS:
            return READS[name](np.zeros(tuple(args[0].shape)))
        if name == "nonzero":
            return self._chosen(args[0])
        return function(*args, **kwargs)

    def _chosen(self, mask: Tensor) -> tuple[Tensor, ...]:
        """As many indices in each dimension as there may be, all 0."""
        number = mask.numel() if self.most_chosen is None else self.most_chosen * len(mask)
        return (torch.zeros(min(number, mask.numel()), dtype=torch.int64),) * mask.ndim


def _in_float32(operation: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    def cast(x: Any) -> Any:
        return x.float() if isinstance(x, Tensor) and x.is_floating_point() else x

    with torch.autocast("cpu", enabled=False):
        return operation(*tree_map(cast, args), **tree_map(cast, kwargs))


@contextmanager
def cuda_autocast_rules() -> Iterator[None]:
    """Inside, autocast of a CPU runs in float32 what that of CUDA does."""
    library = torch.library.Library("aten", "IMPL", "AutocastCPU")
    try:
        for name in FLOAT32_ON_CUDA:
            operation, _, overload = name.partition(".")
            packet = getattr(torch.ops.aten, operation)
            library.impl(name, partial(_in_float32, getattr(packet, overload or "default")))
        yield
    finally:
        library._destroy()


def first_clips(clip: Clip, number: int) -> Clip:
    """The first clips of a batch."""
    values = {item.name: getattr(clip, item.name) for item in fields(clip) if item.name != "skipped"}
    return replace(clip, **{name: value[:number] for name, value in values.items() if value is not None})


def without_data(clip: Clip) -> Clip:
    """A batch of the same sizes; inside a fake mode, of fake tensors."""
    values = {item.name: getattr(clip, item.name) for item in fields(clip)}
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    return replace(clip, **{name: torch.empty(x.shape, dtype=x.dtype) for name, x in tensors.items()})


def _forget_data(module: nn.Module) -> None:
    """Put fake tensors in the place of a module's own parameters and buffers, inside a fake mode."""
    for name, x in module.named_parameters(recurse=False):
        setattr(module, name, nn.Parameter(torch.empty_like(x.detach(), device="cpu"), x.requires_grad))
    for name, x in module.named_buffers(recurse=False):
        setattr(module, name, torch.empty_like(x, device="cpu"))


def trace_step(objective: nn.Module, clip: Clip, options: TrainConfig, amp: str) -> MemoryUse:
    """Trace two optimiser steps of a batch on fake tensors: forward, backward and update.

    objective: network and criterion on the CPU, from a batch to its losses; nothing of it changes
    amp: off, bf16 or fp16
    """
    objective = copy.deepcopy(objective)
    stand_ins = StandIns(getattr(objective.criterion, "most_chosen", None))
    with FakeTensorMode(allow_non_fake_inputs=True), LiveMemory() as memory, cuda_autocast_rules():
        for module in objective.modules():
            _forget_data(module)
        objective.train()
        trained = [p for p in objective.parameters() if p.requires_grad]
        optimizer = OPTIMIZERS[options.optimizer](trained, lr=0.0, fused=True)
        average = MovingAverage(objective.network, options.ema) if options.ema else None
        for _ in range(2):  # the optimiser makes its state in the first
            for _ in range(min(2, options.accumulate)):  # the second has gradients to add to
                with stand_ins, torch.autocast("cpu", AMP[amp], amp != "off"):
                    losses = objective(without_data(clip))
                sum(losses.values()).backward()
                del losses
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        between = memory.live
        del average
    return MemoryUse(between, memory.peak)
