"""The sparse affinity of a memory as a dense matrix."""

from torch import Tensor

from systems.stcn.affinity import SparseAffinity


def dense(affinity: SparseAffinity, size: int) -> Tensor:
    """(L, S) weights, with zeros for the elements that a cell does not read."""
    zeros = affinity.weights.new_zeros(len(affinity.weights), size)
    return zeros.scatter(1, affinity.elements, affinity.weights)
