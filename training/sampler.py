"""Which clips make which batch of an epoch: the keys that a data set is asked by."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from common.seeding import mix


class Key(NamedTuple):
    """What a clip is asked for by.

    epoch, index: which clip of an epoch it is
    batch: the number of its batch in the epoch, the same on all processes
    is_mixed: whether that batch has clips of both orientations
    """

    epoch: int
    index: int
    batch: int = 0
    is_mixed: bool = False


class EpochSampler(Sampler[list[Key]]):
    """Batches of keys in an order that depends on (seed, epoch) alone, shared among processes.

    Every process gets the same number of batches; clips that do not fill a last round of batches wait for the
    next epoch's order. The clips of a round are all upright or none is, but for those that are left over.
    `start` skips the batches that an interrupted epoch has already had.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        upright: Sequence[bool] = (),
    ):
        """upright: of each clip; all are alike where it is empty"""
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.upright = upright or [False] * length
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return max(1, self.length // (self.batch_size * self.world_size))

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[list[Key]]:
        rounds = self._rounds()
        for batch in range(self.start, len(self)):
            is_mixed = len({self.upright[index] for index in rounds[batch]}) > 1
            first = self.rank * self.batch_size
            share = rounds[batch][first : first + self.batch_size]
            yield [Key(self.epoch, index, batch, is_mixed) for index in share]

    def _rounds(self) -> list[list[int]]:
        """The clips of each batch, of all processes together."""
        size = self.batch_size * self.world_size
        order = np.random.default_rng(mix(self.seed, self.epoch)).permutation(self.length).tolist()
        if len(order) < size:
            order = (order * -(-size // len(order)))[:size]  # some come more than once
        rounds, left_over = [], []
        for is_upright in (False, True):
            alike = [place for place, index in enumerate(order) if self.upright[index] == is_upright]
            whole = len(alike) // size * size
            rounds += [alike[i : i + size] for i in range(0, whole, size)]
            left_over += alike[whole:]
        left_over.sort()
        rounds += [left_over[i : i + size] for i in range(0, len(left_over) // size * size, size)]
        return [[order[place] for place in places] for places in sorted(rounds)]
