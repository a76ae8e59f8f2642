"""Two processes of one training run, as torchrun starts them, on the CPU."""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common import distributed
from tests.support.forks import Forked


def place_of(rank: int, number: int, port: int) -> dict[str, str]:
    """The environment of one process of several, which have no GPU."""
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
    return place | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _work(rank: int, folder: Path, work: Callable[[int], dict[str, Any]]) -> None:
    distributed.init()
    results = work(rank)
    distributed.barrier()
    distributed.shutdown()
    results["world_size_after"] = distributed.world_size()
    torch.save(results, folder / f"{rank}.pth")


def in_two_processes(work: Callable[[int], dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What a function of the rank, which a module defines, returns in each process, by rank."""
    port = free_port()
    with ExitStack() as stack:
        places = [place_of(rank, 2, port) for rank in range(2)]
        processes = [
            stack.enter_context(Forked(partial(_work, rank, folder, work), place))
            for rank, place in enumerate(places)
        ]
        ends = [process.outcome() for process in processes]
    assert [end.status for end in ends] == [0, 0], ends
    return [torch.load(folder / f"{rank}.pth") for rank in range(2)]
