"""A simulated CUDA device: its tensors say that they are on `cuda:0`, and are computed on the CPU.

It refuses tensors of different devices in one operation as CUDA does, and counts what makes the program wait
for the GPU. What is not simulated: speed, memory, CUDA's own kernels, streams, and autocast, which is
entered and changes nothing; `test_precision.py` tests that on the CPU.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

aten = torch.ops.aten
ROOT = Path(__file__).parents[2]
CUDA, CPU, META = torch.device("cuda", 0), torch.device("cpu"), torch.device("meta")
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
# What they return is a number, or has a size that depends on values: the program waits for the GPU.
SYNCHRONISING = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.bincount,
    aten.equal,
    aten.repeat_interleave,
}


def in_project(file: str) -> bool:
    """Whether a file is the project's own, and not of a library that is installed below it."""
    return file.startswith(f"{ROOT}/") and "site-packages" not in file


class Event(NamedTuple):
    """An operation, by its name, and the innermost line of the project that asked for it, "path:number"."""

    operation: str
    line: str

    @classmethod
    def of(cls, operation: Any) -> "Event":
        """The event of an operation that is asked for now."""
        frame = sys._getframe(1)
        while frame and (frame.f_code.co_filename == __file__ or not in_project(frame.f_code.co_filename)):
            frame = frame.f_back
        where = f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}" if frame else ""
        return cls(str(operation), where)


class GPUTensor(Tensor):
    """A tensor on the simulated GPU, whose values are in `host`, a CPU tensor.

    To torch itself it is on `meta`, which needs no driver and computes backward on the CPU. Nothing else here
    is on that device: what torch makes there is meant for the GPU.
    """

    device, is_cuda, is_cpu, is_meta = CUDA, True, False, False
    gpu: "SimulatedGPU"  # the one that is simulated

    @staticmethod
    def __new__(cls, host: Tensor) -> "GPUTensor":
        layout = {"strides": host.stride(), "storage_offset": host.storage_offset()}
        tensor = Tensor._make_wrapper_subclass(cls, host.shape, **layout, dtype=host.dtype, device=META)
        tensor.host = host
        return tensor

    def __repr__(self, **_: Any) -> str:
        return f"GPUTensor({self.host})"

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.host.__reduce_ex__(protocol)  # what a file holds is on the CPU until it is read

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=CUDA)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return cls.gpu.run(operation, args, kwargs or {})  # in a thread of torch, without the mode


def is_host(value: Any) -> bool:
    """Whether a value is a tensor in the memory of the CPU."""
    return isinstance(value, Tensor) and not isinstance(value, GPUTensor)


def check_devices(operation: Any, tensors: list[Tensor]) -> None:
    """RuntimeError where CUDA refuses the devices: of the CPU it takes single numbers, in arithmetic."""
    takes_numbers = torch.Tag.pointwise in operation.tags or operation is aten.masked_fill_.Tensor
    written = tensors[:1] if operation._schema.is_mutable else []
    refused = [x for x in tensors if is_host(x) and not (takes_numbers and x.ndim == 0)]
    if refused or any(map(is_host, written)):
        raise RuntimeError(f"{operation}: expected all tensors on one device, found cuda:0 and cpu")


class SimulatedGPU(TorchDispatchMode):
    """The mode in which `cuda` is simulated.

    synchronisations: for what the program waited until the GPU had done all that it was asked to do
    copies: tensors that went from one memory to the other
    """

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Count from 0."""
        self.synchronisations: list[Event] = []
        self.copies: list[Event] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(operation, args, kwargs or {})

    def run(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """What an operation of torch returns, on the device on which it belongs."""
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        on_gpu = any(isinstance(x, GPUTensor) for x in tensors)
        assert not any(is_host(x) and x.is_meta for x in tensors), f"{operation} of values that torch lost"
        device = torch.device(kwargs.get("device") or (CUDA if on_gpu else CPU))
        if operation is aten.is_pinned.default:
            return False
        if operation is aten._pin_memory.default:
            return args[0].clone()
        if operation is aten.scalar_tensor.default and device == META:  # a number, as an operand
            return operation(*args, **{**kwargs, "device": CPU})
        if operation in COPIES:
            self._count_copy(operation, args, kwargs)
        elif on_gpu and operation in INDEXING:
            self._count_indexing(operation, args)
        elif on_gpu:
            check_devices(operation, tensors)
            if operation.overloadpacket in SYNCHRONISING:
                self.synchronisations.append(Event.of(operation))
        if not on_gpu and device == CPU:
            return operation(*args, **kwargs)
        return self._compute(operation, args, kwargs, device)

    def _compute(self, operation: Any, args: Any, kwargs: dict[str, Any], device: torch.device) -> Any:
        """Compute on the CPU; the results are on `device`, views of what they are views of."""
        placed = {**kwargs, "device": CPU} if kwargs.get("device") else kwargs
        host_args, host_kwargs = tree_map_only(GPUTensor, lambda x: x.host, (args, placed))
        result = operation(*host_args, **host_kwargs)
        if operation is aten.copy_.default:
            return args[0]
        if device == CPU:
            return result
        return return_and_correct_aliasing(operation, args, kwargs, tree_map_only(Tensor, GPUTensor, result))

    def _count_copy(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """A copy to the CPU makes the program wait, as does any to the GPU that is not `non_blocking`."""
        if operation is aten.copy_.default:
            target, source = args[0].device, args[1].device
            non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        else:
            source, non_blocking = args[0].device, kwargs.get("non_blocking", False)
            target = torch.device(kwargs.get("device") or source)
        if (target == CPU) != (source == CPU):
            self.copies.append(Event.of(operation))
            if target == CPU or not non_blocking:
                self.synchronisations.append(Event.of(operation))

    def _count_indexing(self, operation: Any, args: Any) -> None:
        """Indices on the CPU are copied, and the True of masks are counted, except to fill with a number."""
        value = args[2] if len(args) > 2 else None
        if is_host(args[0]) or (is_host(value) and value.ndim):
            raise RuntimeError(f"{operation}: expected indexed tensor and values on one device")
        for index in args[1]:
            is_mask = index is not None and index.dtype in (torch.bool, torch.uint8)
            if is_host(index):
                self.copies.append(Event.of(operation))
            if is_host(index) or (is_mask and not is_host(value)):
                self.synchronisations.append(Event.of(operation))


def as_index(index: Any) -> Any:
    """An index whose lists are tensors on the CPU."""
    if isinstance(index, tuple):
        return tuple(map(as_index, index))
    return torch.tensor(index, dtype=None if index else torch.int64) if isinstance(index, list) else index


class Constructors(TorchFunctionMode):
    """The mode in which data becomes a tensor on the CPU first and is copied from there, as CUDA does it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (Tensor.__getitem__, Tensor.__setitem__):
            return function(args[0], as_index(args[1]), *args[2:])
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return function(*args, **{**kwargs, "device": None}).to(kwargs["device"])
        return function(*args, **kwargs)


def load(path: Any, map_location: Any = CPU, *, load: Any = torch.load, **options: Any) -> Any:
    """As `torch.load`, which cannot place anything on a simulated device."""
    content = load(path, map_location=CPU, **options)
    return tree_map_only(Tensor, lambda tensor: tensor.to(map_location), content)


def run_simulated(thread: threading.Thread, run: Any = threading.Thread.run) -> None:
    """As `Thread.run`, in the modes of the simulation: torch has its modes in one thread each."""
    with Constructors(), GPUTensor.gpu:
        run(thread)


@contextmanager
def simulated_gpu(capability: tuple[int, int] = (8, 0)) -> Iterator[SimulatedGPU]:
    """Inside, there is one CUDA device, of a compute capability."""
    answers = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_capability": capability,
        "get_device_name": "simulated",
        "is_bf16_supported": capability >= (8, 0),
        "synchronize": None,
        "_lazy_init": None,
    }
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch._C._ensureCUDADeviceGuardSet()  # so that torch accepts the name of the device
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, lambda *_, answer=answer, **__: answer))
        # A parameter on the CPU cannot become one of another class in its place.
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        stack.enter_context(patch.object(torch, "load", load))
        # Inference mode would hand over operations whole that are made of others.
        stack.enter_context(patch.object(torch._C, "_InferenceMode", lambda _: torch.no_grad()))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # the one that asks no device what it can do
        stack.enter_context(Constructors())
        GPUTensor.gpu = SimulatedGPU()
        stack.enter_context(patch.object(threading.Thread, "run", run_simulated))
        yield stack.enter_context(GPUTensor.gpu)
