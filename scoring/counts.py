"""What tracking scores are made of: frames with their similarities, pairs, counts that add up over videos."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, Self

import numpy as np

MATCH_THRESHOLD = 0.5  # the similarity from which CLEAR and Identity accept a match
EPS = np.finfo(np.float64).eps


class Frame(NamedTuple):
    """One frame: K true ids and N result ids, unique in the frame, and their (K, N) similarity in [0, 1]."""

    truth: np.ndarray
    result: np.ndarray
    similarity: np.ndarray


def best_pairs(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the one-to-one pairs with the largest sum of a (K, N) score, by rows."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(-score)


def _exact_sum(values: Sequence[Any]) -> Any:
    """The sum of numbers, arrays, lists or counts, which their order changes in no bit; lists are joined."""
    if isinstance(values[0], Counts):
        return type(values[0]).total(values)
    if isinstance(values[0], np.ndarray):
        return np.array([math.fsum(column) for column in zip(*values, strict=True)])
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    return math.fsum(values) if isinstance(values[0], float) else sum(values)


class Counts:
    """Base of the dataclasses of counts: the scores of several sequences are those of the sums."""

    @classmethod
    def total(cls, counts: Iterable[Self]) -> Self:
        """The counts of all sequences together; of none, every count is zero."""
        counts = list(counts)
        names = [f.name for f in fields(cls)] if counts else []
        return cls(**{name: _exact_sum([getattr(one, name) for one in counts]) for name in names})
