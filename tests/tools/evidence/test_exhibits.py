"""Which frames an exhibit shows."""

import numpy as np

from tools.evidence.exhibits import pick_frames


def test_frames_are_picked_at_a_distance_from_one_another():
    badness = np.array([0, 9, 8, 7, 0, 0, 6, 5, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3], dtype=float)
    everywhere = np.ones(24, dtype=bool)
    assert pick_frames(badness, everywhere, 4) == [1, 3, 6, 11]
    assert pick_frames(badness, badness == 5, 4) == [7]
    assert pick_frames(badness[:2], everywhere[:2], 4) == [0, 1]
    assert pick_frames(badness, ~everywhere, 4) == []
