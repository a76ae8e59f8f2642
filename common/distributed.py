"""The processes of one run, as torchrun starts them; in a single process every helper does nothing.

DistributedDataParallel averages the gradients of R processes. So that R processes with a share of the batch
each learn what one process with the whole batch would, a loss follows one of two conventions:

- A mean over objects divides its own sum by `mean_count(count)`, the mean count per process, not by its
  own count: the average over processes is then (sum of all) / (count of all).
- A loss over gathered embeddings, `loss(gather_with_gradient(x))`, is computed alike by every process. The
  gather hands each process the sum of all R gradients of its own rows, R times the gradient of the one loss;
  the average over processes makes of that the gradient of a single process that holds all the rows.

What is drawn at random belongs to a clip and not to a process: all are seeded alike, and `draw_rows` gives
each its own rows of what a single process would draw.

Inference is no collective work: inside `apart` each process takes the next of the videos (`handed_out`), and
at the end they tell one another what became of them (`gather`), through the store of the run.
"""

import json
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore

from common.errors import ENDING_SIGNALS, UserError, handle_signals
from common.progress import be_silent, begin_lines

Item = TypeVar("Item")

# Rank 0 may evaluate for hours while the others wait; `training/heartbeat.py` notices a death.
TIMEOUT = timedelta(hours=12)

PAUSE = 0.2  # seconds between two looks at what others have to tell

_alone = False  # inside `alone`
_exchanges = count()  # which all processes count alike: they exchange the same things in the same order
# Of `any_process`. It stays alive because in torch 2.6 a thread of gloo that frees a tensor waits for the
# interpreter, and for ever where that is waiting for the thread at the end of the group.
_flag = torch.zeros((), dtype=torch.int64)


def _join_group() -> None:
    if not torch.cuda.is_available():
        torch.distributed.init_process_group("gloo", timeout=TIMEOUT)
        return
    local_rank, num_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local_rank >= num_gpus:
        raise UserError(
            f"local rank {local_rank} has no GPU: torchrun --nproc-per-node may be {num_gpus} here"
        )
    torch.cuda.set_device(local_rank)
    device = torch.device("cuda", local_rank)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=TIMEOUT, device_id=device)


def _grouped() -> bool:
    return not _alone and torch.distributed.is_available() and torch.distributed.is_initialized()


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process computes as if it were the only one, while the others do not."""
    global _alone
    former, _alone = _alone, True
    try:
        yield
    finally:
        _alone = former


def rank() -> int:
    """The number of this process, 0 in a single process."""
    return torch.distributed.get_rank() if _grouped() else 0


def world_size() -> int:
    """The number of processes."""
    return torch.distributed.get_world_size() if _grouped() else 1


def is_main() -> bool:
    """Whether this process writes files and reports: rank 0 alone does."""
    return rank() == 0


def init() -> None:
    """Join the process group that torchrun's environment describes; without torchrun, do nothing.

    Each process takes the GPU of its local rank, whose tensors travel by NCCL; those on the CPU by gloo.
    From then on rank 0 alone says lines.
    Raises UserError where this machine has fewer GPUs than processes.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        _join_group()
        be_silent(not is_main())


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process: all must ask, and wait for one another; no GPU takes part."""
    if not _grouped():
        return flag
    _flag.fill_(flag)
    torch.distributed.all_reduce(_flag, torch.distributed.ReduceOp.MAX)
    return bool(_flag)


def barrier() -> None:
    """Wait until every process has come here."""
    if _grouped():
        torch.distributed.barrier()


def broadcast(value: Any) -> Any:
    """What rank 0 holds, given to every process; plain types and paths."""
    if not _grouped():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


def open_store(name: str) -> PrefixStore:
    """A part of its own, under this name, of what the processes of this run keep in common."""
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    return PrefixStore(f"{name}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def handed_out(items: Sequence[Item]) -> Iterator[Item]:
    """The items that this process gets: the next one of all whenever it asks, so that a slow one gets fewer.

    Every process must have the same items and ask; a single process gets them all.
    """
    if not _grouped():
        yield from items
        return
    store = open_store(f"exchange {next(_exchanges)}")
    while (place := store.add("taken", 1) - 1) < len(items):
        yield items[place]


def gather(value: Any) -> list[Any]:
    """What every process holds, by rank, given to each of them; plain values.

    They wait for the slowest as long as it takes, and signals are answered meanwhile, as in no collective.
    """
    if not _grouped():
        return [value]
    store, keys = open_store(f"exchange {next(_exchanges)}"), [str(rank) for rank in range(world_size())]
    store.set(keys[rank()], json.dumps(value))
    while not store.check(keys):
        time.sleep(PAUSE)
    return [json.loads(store.get(key)) for key in keys]


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    # Of one Ctrl-C the terminal tells all processes, and torchrun tells them again.
    handle_signals([signal.SIGINT, *ENDING_SIGNALS], lambda *_: None)
    raise KeyboardInterrupt


@contextmanager
def apart() -> Iterator[None]:
    """Inside, each process works by itself, and all say lines, which begin with their ranks.

    The first signal that asks a process to end raises KeyboardInterrupt in it; it does not heed later ones.
    """
    if not _grouped():
        yield
        return
    be_silent(False)
    begin_lines(f"[{rank()}] ")
    former = handle_signals([signal.SIGINT, *ENDING_SIGNALS], _interrupt_once)
    try:
        yield
    finally:
        begin_lines("")
        be_silent(not is_main())
    for number, handler in former.items():
        signal.signal(number, handler)


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """The mean of a float tensor over all processes, without gradient; in a single process the tensor."""
    if not _grouped():
        return tensor
    total = tensor.detach().clone()
    torch.distributed.all_reduce(total)
    return total / world_size()


def mean_count(count: Tensor) -> Tensor:
    """The mean of a whole number over all processes, to divide by: more than 0 even where all count none."""
    return all_reduce_mean(count.float()).clamp(min=1 / world_size())


class _Mean(torch.autograd.Function):
    """The mean over all processes; backward, that of what every process asks of it."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return all_reduce_mean(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return all_reduce_mean(gradient)


def mean_with_gradient(x: Tensor) -> Tensor:
    """The mean of a tensor of one shape over all processes, through which gradients flow to each of them."""
    return _Mean.apply(x) if _grouped() else x


def draw_rows(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """`draw(n)`, n random rows, for all processes together, of which this one gets its own, (rows, ...).

    Every process must be seeded alike and have as many rows.
    """
    return draw(rows * world_size())[rank() * rows :][:rows]


class _Gather(torch.autograd.Function):
    """Tensors of one shape from all processes, stacked; backward sums what every process asks of each."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        torch.distributed.all_gather(parts, x)
        return torch.stack(parts)  # (processes, *x.shape)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total[rank()]


def gather_with_gradient(x: Tensor) -> Tensor:
    """Concatenate the (n_i, ...) rows of all processes in the order of the ranks: (sum of n_i, ...).

    The lengths may differ and may be 0. Every process must call it, with an `x` that belongs to the graph,
    and compute the same loss of the result; the gradients are then as the head of this file says.
    """
    if not _grouped():
        return x
    length = torch.tensor([len(x)], device=x.device)
    lengths = [torch.empty_like(length) for _ in range(world_size())]
    torch.distributed.all_gather(lengths, length)
    lengths = torch.cat(lengths).tolist()
    padding = max(1, *lengths) - len(x)  # collectives want one shape, and not an empty one
    padded = torch.cat([x, x.new_zeros(padding, *x.shape[1:])])
    parts = _Gather.apply(padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def launch(number: int) -> bool:
    """Run this command in a number of processes, as torchrun does; returns whether it had to be started.

    Raises SystemExit with the status of the first process that fails, or 130 where the run is interrupted.
    """
    if number == 1 or "WORLD_SIZE" in os.environ:
        return False
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes tell it
    places = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": uuid.uuid4().hex}
    counts = {"min_nodes": 1, "max_nodes": 1, "nproc_per_node": number, "max_restarts": 0}
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does
    try:
        elastic_launch(LaunchConfig(**places, **counts), sys.executable)("-u", *sys.argv)
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        sys.exit(status if status > 0 else 1)
    except SignalException:
        sys.exit(130)
    return True


def shutdown() -> None:
    """Leave the process group, at the end of a run."""
    if _grouped():
        torch.distributed.destroy_process_group()
        be_silent(False)
