"""Similarity and readout of a memory: the same by every path, and safe where the official program is not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from systems.stcn import affinity as subject
from systems.stcn.affinity import (
    SparseAffinity,
    memory_terms,
    query_terms,
    read_all,
    read_sparse,
    similarity,
    top_k_affinity,
)
from tests.support.affinity import dense


def random_keys(seed: int, memory: int, query: int, channels: int = 6, scale: float = 1.0):
    """(C, S) and (C, L)."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(channels, n, generator=generator) for n in (memory, query))


def plain_top_k(memory: torch.Tensor, query: torch.Tensor, top_k: int) -> torch.Tensor:
    """The (S, L) affinity from squared distances in float64, as the paper has it."""
    distance = (memory.double()[:, :, None] - query.double()[:, None]).square().sum(0)
    logits = -distance / memory.shape[0] ** 0.5
    best = logits.topk(min(top_k, len(logits)), dim=0)
    kept = torch.full_like(logits, -torch.inf).scatter(0, best.indices, best.values)
    return kept.softmax(0)


def test_the_similarity_is_worked_by_hand():
    memory, query = torch.tensor([[1.0], [2.0], [0.0], [0.0]]), torch.tensor([[3.0], [1.0], [0.0], [0.0]])
    # (2 * (1*3 + 2*1) - (1 + 4)) / sqrt(4)
    assert similarity(query_terms(query), memory_terms(memory)).item() == pytest.approx(2.5)


@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 9), st.integers(1, 50), st.integers(1, 64))
@settings(max_examples=40, deadline=None)
def test_the_affinity_is_the_softmax_of_the_nearest(seed, size, cells, top_k, block):
    memory, query = random_keys(seed, size, cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "MOST_SIMILARITIES", block)
        patch.setattr(subject, "LEAST_CELLS", 1)
        affinity = top_k_affinity(query_terms(query), memory_terms(memory), top_k)
    assert affinity.weights.shape == affinity.elements.shape == (cells, min(top_k, size))
    expected = plain_top_k(memory, query, top_k)
    torch.testing.assert_close(dense(affinity, size).T.double(), expected, atol=1e-5, rtol=0)


def test_the_sparse_readout_is_the_dense_one():
    memory, query = random_keys(1, 300, 20)
    values = torch.randn(300, 24)
    affinity = top_k_affinity(query_terms(query), memory_terms(memory), 20)
    expected = dense(affinity, 300) @ values
    torch.testing.assert_close(read_sparse(values, affinity), expected, atol=1e-5, rtol=0)


def test_training_reads_what_inference_reads_where_nothing_is_left_out():
    memory, query = random_keys(2, 30, 7)
    values = torch.randn(30, 5)
    terms = query_terms(query), memory_terms(memory)
    sparse = read_sparse(values, top_k_affinity(*terms, 30))
    readout = read_all(terms[0][None], terms[1][None], values.T[None])
    torch.testing.assert_close(readout[0].T, sparse, atol=1e-5, rtol=0)


def test_similarities_that_overflow_an_exponential_stay_finite():
    memory, query = random_keys(3, 40, 9, scale=40.0)
    assert similarity(query_terms(query), memory_terms(memory)).max() > 89  # exp of which is inf in float32
    affinity = top_k_affinity(query_terms(query), memory_terms(memory), 20)
    torch.testing.assert_close(affinity.weights.sum(1), torch.ones(9))


def test_a_memory_smaller_than_top_k_is_read_as_a_whole():
    memory, query = random_keys(4, 3, 2)
    assert top_k_affinity(query_terms(query), memory_terms(memory), 20).weights.shape == (2, 3)


def test_the_affinity_is_of_full_precision_under_autocast():
    memory, query = random_keys(5, 50, 6)
    plain = top_k_affinity(query_terms(query), memory_terms(memory), 5)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = top_k_affinity(query_terms(query.bfloat16().float()), memory_terms(memory), 5)
        again = top_k_affinity(query_terms(query), memory_terms(memory), 5)
    assert mixed.weights.dtype == torch.float32
    assert again.weights.equal(plain.weights) and again.elements.equal(plain.elements)


def test_reading_has_a_gradient_for_keys_and_values():
    memory, query = (x.requires_grad_() for x in random_keys(6, 12, 4))
    values = torch.randn(1, 3, 12, requires_grad=True)
    read_all(query_terms(query)[None], memory_terms(memory)[None], values).square().sum().backward()
    assert all(x.grad.isfinite().all() and x.grad.any() for x in (memory, query, values))


def test_dense_puts_the_weights_in_their_places():
    affinity = SparseAffinity(torch.tensor([[0.75, 0.25]]), torch.tensor([[2, 0]]))
    assert dense(affinity, 4).tolist() == [[0.25, 0.0, 0.75, 0.0]]
