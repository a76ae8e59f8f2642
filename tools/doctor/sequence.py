"""Gaps and strays in a sequence of frames, by the numbers in their names and by the steps between masks."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

MIN_LENGTH = 4  # frames or masks without which there is no rhythm


def _usual_step(numbers: Sequence[int]) -> int:
    """The most frequent difference of neighbours, the smaller of equals; 1 at least."""
    steps = Counter(after - before for before, after in pairwise(numbers))
    return max(1, max(steps, key=lambda step: (steps[step], -step)))


def gaps(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """(index after which something is missing, how much) in ascending numbers, by their usual step."""
    if len(numbers) < MIN_LENGTH:
        return []
    step = _usual_step(numbers)
    missing = ((after - before) // step - 1 for before, after in pairwise(numbers))
    return [(place, count) for place, count in enumerate(missing) if count > 0]


def strays(names: Sequence[str]) -> list[str]:
    """The names of frames that do not end in a number while most do, or come at half a step or less."""
    ends = [re.search(r"(\d+)$", name) for name in names]
    numbered = [(int(end[1]), name) for end, name in zip(ends, names, strict=True) if end]
    if len(numbered) < max(MIN_LENGTH, len(names) / 2):
        return []
    odd = [name for end, name in zip(ends, names, strict=True) if not end]
    step = _usual_step([number for number, _ in numbered])
    return odd + [name for (one, _), (other, name) in pairwise(numbered) if (other - one) * 2 <= step]


def frame_gaps(names: Sequence[str]) -> list[tuple[int, int]]:
    """As `gaps`, by the numbers at the end of names; none where a name has no number."""
    ends = [re.search(r"(\d+)$", name) for name in names]
    return gaps([int(end[1]) for end in ends]) if all(ends) else []
