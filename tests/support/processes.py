"""Two processes of one training run, as torchrun starts them, on the CPU."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from common import distributed


def _work(rank: int, port: int, folder: str, work: Callable[[int], dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    distributed.init()
    results = work(rank)
    distributed.barrier()
    distributed.shutdown()
    results["world_size_after"] = distributed.world_size()
    torch.save(results, Path(folder) / f"{rank}.pth")


def in_two_processes(work: Callable[[int], dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What a function of the rank, which a module defines, returns in each process, by rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_work, (port, str(folder), work), nprocs=2)
    return [torch.load(folder / f"{rank}.pth") for rank in range(2)]
