"""Online assignment: bi-softmax by hand, the best of all pairs that are allowed."""

import itertools

import pytest
import torch
from torch import Tensor

from tracking.assignment import assign, bi_softmax, give_id


def test_bi_softmax_by_hand():
    cosine = torch.tensor([[1.0, 0.0]])
    rows = torch.tensor([1, 1 / torch.e]) / (1 + 1 / torch.e)
    assert torch.allclose(bi_softmax(cosine, 1.0), ((1 + rows) / 2)[None])
    assert torch.allclose(bi_softmax(torch.eye(2), 0.01), torch.eye(2))
    assert bi_softmax(torch.zeros(0, 3), 0.1).shape == (0, 3)


@pytest.mark.parametrize(
    ("next_id", "given"), [(1, (1, 2)), (254, (254, 255)), (255, (256, 257)), (60_001, (60_001, 60_002))]
)
def test_ids_are_given_in_turn_without_that_of_void(next_id, given):
    assert give_id(next_id) == given


def test_ids_end_with_the_last_that_a_label_map_can_hold_and_it_is_told():
    with pytest.warns(UserWarning, match="id 65535 is the last .*: no more objects are found in this video"):
        assert give_id(65_535) == (65_535, 65_536)
    assert give_id(65_536) == (0, 65_536)


def total(similarity: Tensor, pairs) -> float:
    return sum(similarity[i, j].item() for i, j in pairs)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("K, R", [(3, 3), (2, 4), (4, 2)])
def test_assignment_is_the_best_of_all_that_are_allowed(K, R, seed):
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.rand(K, R, generator=generator)
    allowed = torch.rand(K, R, generator=generator) < 0.6
    pairs = assign(similarity, allowed)
    assert all(allowed[i, j] for i, j in pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    options = itertools.product([None, *range(R)], repeat=K)  # each detection takes one track, or none
    chosen = ([(i, j) for i, j in enumerate(o) if j is not None] for o in options)
    legal = [c for c in chosen if len({j for _, j in c}) == len(c) and all(allowed[i, j] for i, j in c)]
    assert total(similarity, pairs) == pytest.approx(max(total(similarity, c) for c in legal))


def test_where_everything_is_forbidden_or_there_is_nothing_no_pair_is_made():
    assert assign(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)) == []
    for K, R in ((0, 0), (0, 2), (2, 0)):
        assert assign(torch.ones(K, R), torch.ones(K, R, dtype=torch.bool)) == []
