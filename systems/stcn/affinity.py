"""Similarity, affinity and readout of a space-time memory, the same in training and in inference.

A memory holds S elements (the cells of its frames), a query L cells. Every similarity here is one matrix
product of what an element brings and what a cell asks, so that a memory computes its side once, when an
element is added. Softmax runs over the memory, in float32.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from common.device import in_float32

MOST_SIMILARITIES = 2**23  # that are in memory at a time while the largest are sought: 32 MiB
LEAST_CELLS = 32  # that are compared at a time, though they may be more: a product of few rows is slow


def memory_terms(key: Tensor) -> Tensor:
    """(..., C, S) keys of memory elements to (..., S, C + 1), their side of `similarity`.

    The similarity is the negative squared distance over sqrt(C) (STCN, Cheng et al. 2021, section 3.2),
    without the query's own length, which no softmax over the memory sees: (2 m q - m^2) / sqrt(C).
    """
    key = key.float()
    terms = torch.cat([2 * key, -key.square().sum(-2, keepdim=True)], -2)
    return (terms / math.sqrt(key.shape[-2])).transpose(-1, -2)


def query_terms(key: Tensor) -> Tensor:
    """(..., C, L) keys of query cells to (..., L, C + 1), their side of `similarity`."""
    key = key.float()
    return torch.cat([key, torch.ones_like(key[..., :1, :])], -2).transpose(-1, -2)


def anisotropic_memory_terms(key: Tensor, shrinkage: Tensor) -> Tensor:
    """(..., C, S) keys and (..., 1, S) shrinkage of memory elements to (..., S, 2 C + 1), their side of the
    anisotropic `similarity` (XMem, Cheng and Schwing, ECCV 2022, equation 2), s_i / sqrt(C) times
    sum_c e_cj (-m_ci^2 + 2 m_ci q_cj - q_cj^2): the confident attract from further, and each query says
    which channels matter to it.
    """
    key, shrinkage = key.float(), shrinkage.float()
    terms = torch.cat([shrinkage * key.square(), shrinkage * key, shrinkage], -2)
    return terms.transpose(-1, -2)


def anisotropic_query_terms(key: Tensor, selection: Tensor) -> Tensor:
    """(..., C, L) keys and selection of query cells to (..., L, 2 C + 1), their side of the same."""
    key, selection = key.float(), selection.float()
    last = (selection * key.square()).sum(-2, keepdim=True)
    terms = torch.cat([-selection, 2 * selection * key, -last], -2)
    return (terms / math.sqrt(key.shape[-2])).transpose(-1, -2)


def keys_of_terms(terms: Tensor) -> tuple[Tensor, Tensor]:
    """The keys (..., C, S) and the shrinkage (..., 1, S) of which anisotropic memory terms were made."""
    terms = terms.transpose(-1, -2)
    shrinkage = terms[..., -1:, :]
    return terms[..., terms.shape[-2] // 2 : -1, :] / shrinkage, shrinkage


def similarity(query: Tensor, memory: Tensor) -> Tensor:
    """(..., L, S) in float32, of terms (..., L, D) and (..., S, D)."""
    with in_float32(query.device):
        return query @ memory.transpose(-1, -2)


def read_all(query: Tensor, memory: Tensor, values: Tensor) -> Tensor:
    """The readout of training: a softmax over the whole memory.

    query (B, L, D), memory (B, S, D) terms and values (B, V, S) to (B, V, L), in the dtype of the values.
    """
    affinity = similarity(query, memory).softmax(-1)  # (B, L, S)
    return values @ affinity.to(values.dtype).transpose(1, 2)


class SparseAffinity(NamedTuple):
    """The weights of the few memory elements that each query cell reads: (L, k), and which: (L, k) int64."""

    weights: Tensor
    elements: Tensor

    def usage(self, size: int) -> Tensor:
        """(S,) the sum of what all cells read from each element."""
        zeros = self.weights.new_zeros(size)
        return zeros.index_add(0, self.elements.flatten(), self.weights.flatten())


def top_k_affinity(query: Tensor, memory: Tensor, top_k: int) -> SparseAffinity:
    """A softmax over each cell's `top_k` most similar memory elements, or over all where there are fewer.

    query (L, D) and memory (S, D) are terms. Some cells at a time are compared with the whole memory, so that
    the L x S similarities are never in memory together.
    """
    together = max(LEAST_CELLS, MOST_SIMILARITIES // len(memory))
    parts = [similarity(cells, memory).topk(min(top_k, len(memory))) for cells in query.split(together)]
    largest, elements = (torch.cat(part) for part in zip(*parts, strict=True))
    return SparseAffinity(largest.softmax(1), elements)


def read_sparse(values: Tensor, affinity: SparseAffinity) -> Tensor:
    """The readout of inference: values (S, V) to (L, V), of which only the weighted rows are touched."""
    weights = affinity.weights.to(values.dtype)
    return F.embedding_bag(affinity.elements, values, per_sample_weights=weights, mode="sum")
