"""Random draws that depend on named numbers alone: (seed, epoch, sample) or (seed, step)."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mix(*numbers: int) -> int:
    """A 63-bit seed from non-negative integers; near numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Inside, torch's CPU draws depend on these numbers alone; the generator outside is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mix(*numbers))
        yield
