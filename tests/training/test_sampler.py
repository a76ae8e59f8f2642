"""The order of an epoch: every clip at most once, the same for all processes, batches of one orientation."""

import pytest

from training.sampler import EpochSampler


def indices(sampler: EpochSampler) -> list[list[int]]:
    return [[key.index for key in batch] for batch in sampler]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


def test_an_epoch_visits_every_clip_once_in_an_order_of_its_own():
    sampler = EpochSampler(12, 4, seed=0)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert {key.epoch for batch in sampler for key in batch} == {epoch}
        assert [{key.batch for key in batch} for batch in sampler] == [{0}, {1}, {2}]
        orders.append(flat(indices(sampler)))
        assert sorted(orders[-1]) == list(range(12)) and len(sampler) == 3
    assert orders[0] != orders[1] != orders[2]
    again, other = EpochSampler(12, 4, seed=0), EpochSampler(12, 4, seed=1)
    assert flat(indices(again)) == orders[0] != flat(indices(other))


UPRIGHT = [place % 5 == 0 for place in range(27)]  # six of 27


@pytest.mark.parametrize("upright", [(), UPRIGHT])
def test_an_interrupted_epoch_goes_on_where_it_stopped(upright):
    sampler = EpochSampler(27, 4, seed=3, upright=upright)
    sampler.set_epoch(5)
    whole = list(sampler)
    sampler.set_epoch(5, start=3)
    assert list(sampler) == whole[3:] and len(whole) == len(sampler) == 6


@pytest.mark.parametrize("upright", [(), UPRIGHT])
def test_processes_share_an_epoch_in_equal_numbers_of_batches(upright):
    shares = [EpochSampler(27, 2, seed=0, rank=rank, world_size=3, upright=upright) for rank in range(3)]
    batches = [list(sampler) for sampler in shares]
    assert [len(b) for b in batches] == [4, 4, 4]
    together = [[key for part in parts for key in part] for parts in zip(*batches, strict=True)]
    assert together == list(EpochSampler(27, 6, seed=0, upright=upright))  # of one process
    visited = [key.index for batch in together for key in batch]
    assert len(set(visited)) == len(visited) == 24  # three wait for another epoch's order


def test_batches_are_of_one_orientation_but_for_those_that_are_left_over():
    sampler, waiting = EpochSampler(27, 4, seed=0, upright=UPRIGHT), []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        kinds = [{UPRIGHT[key.index] for key in batch} for batch in batches]
        assert [key.is_mixed for batch in batches for key in batch] == [
            len(kind) > 1 for kind in kinds for _ in range(4)
        ]
        assert sum(kind == {False} for kind in kinds) >= 5 - 1 and len(kinds) == 6
        assert sum(len(kind) > 1 for kind in kinds) <= 1 and kinds.count({True}) >= 1
        visited = [key.index for batch in batches for key in batch]
        assert len(set(visited)) == len(visited) == 24
        waiting += sorted(set(range(27)) - set(visited))
    assert len(set(waiting)) > 15 and {UPRIGHT[index] for index in waiting} == {False, True}


def test_a_clip_without_a_partner_joins_a_mixed_batch():
    alone = [True, *[False] * 7]
    visited = [key for batch in EpochSampler(8, 4, seed=0, upright=alone) for key in batch]
    assert sorted(key.index for key in visited) == list(range(8))
    assert [key.is_mixed for key in visited].count(True) == 4


def test_fewer_clips_than_a_batch_come_more_than_once():
    (batch,) = indices(EpochSampler(3, 5, seed=0))
    assert len(batch) == 5 and set(batch) == {0, 1, 2}
    assert flat(indices(EpochSampler(1, 4, seed=0, rank=1, world_size=2))) == [0, 0, 0, 0]
