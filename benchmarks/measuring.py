"""How the speed benchmarks measure: parts of a program in turns, the machine, and aims that are judged."""

import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from common.config import Parser
from common.device import pick_device
from common.errors import UserError


class Phases:
    """Wall and CPU milliseconds of the parts of a program, in rounds, of which medians are taken.

    Parts may contain parts; the time of an inner one is not counted in the outer one. On a GPU every part
    waits for the work that it has queued. CPU time is that of all threads of the process: on a busy machine
    it says what one thread would have taken alone.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.rounds: list[dict[str, np.ndarray]] = []
        self._open: list[str] = []
        self._since = np.zeros(2)

    def begin(self) -> None:
        """Begin another round."""
        self.rounds.append(defaultdict(lambda: np.zeros(2)))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the block as a part of the round."""
        self._tick()
        self._open.append(name)
        try:
            yield
        finally:
            self._tick()
            self._open.pop()

    def rename(self, name: str) -> None:
        """From here on, the part that was opened last is another one."""
        self._tick()
        self._open[-1] = name

    def inside(self, owner: Any, attribute: str, name: str) -> AbstractContextManager:
        """Within the block, every call of a function or method is a part; it must not come from a thread."""
        function = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return patch.object(owner, attribute, timed)

    def medians(self) -> dict[str, np.ndarray]:
        """{part: (wall, CPU) milliseconds}, in the order in which the parts were met."""
        names = dict.fromkeys(name for parts in self.rounds for name in parts)
        return {
            name: np.median([parts[name] for parts in self.rounds if name in parts], axis=0) for name in names
        }

    def _tick(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = 1000 * np.array([time.perf_counter(), time.process_time()])
        if self._open:
            self.rounds[-1][self._open[-1]] += now - self._since
        self._since = now


class Aim(NamedTuple):
    """What a number should be: at least or at most a limit."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def judge(aims: list[Aim]) -> None:
    """Print what was aimed at; ends the program with status 1 where an aim is missed."""
    for name, value, limit, at_least in aims:
        print(f"{name:44}{value:8.2f}   aim: at {'least' if at_least else 'most'} {limit}")
    missed = [aim.name for aim in aims if not aim.met]
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


def print_parts(parts: dict[str, np.ndarray], whole: np.ndarray) -> None:
    """Print the milliseconds of parts, and their shares of a whole in the time that counts."""
    print(f"{'':36}{'wall ms':>12}{'CPU ms':>12}{'share':>8}")
    for name, (wall, cpu) in parts.items():
        print(f"{name:36}{wall:12.2f}{cpu:12.2f}{counted(parts[name]) / counted(whole):8.1%}")


def counted(milliseconds: np.ndarray) -> float:
    """Of (wall, CPU) the one that ratios are made of: CPU time where all is done by one thread of the CPU."""
    return float(milliseconds[int(torch.get_num_threads() == 1 and not torch.cuda.is_initialized())])


def processor() -> str:
    """The name of the CPU, as Linux tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def add_machine_flags(parser: Parser) -> None:
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")


def set_up(device: str, threads: int) -> torch.device:
    """Choose device and number of threads, and print the machine: its names, versions and load."""
    if threads < 1:
        raise UserError(f"--threads {threads} is too small: at least 1")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    chosen = pick_device(device)
    gpu = f", {torch.cuda.get_device_name(chosen)}" if chosen.type == "cuda" else ""
    print(f"{platform.node()}: {processor()}, {os.cpu_count()} cores{gpu}")
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"torch {torch.__version__}, {threads} threads, {chosen}, load average {load}")
    return chosen
