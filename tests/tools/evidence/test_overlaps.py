"""How objects and tracks of one frame overlap."""

from pathlib import Path

import numpy as np

from tests.support.evidence import MOTS, boxes, pair_of
from tools.evidence.label_maps import read_maps
from tools.evidence.overlaps import FrameOverlaps, measure


def test_results_in_ignored_regions_do_not_take_part_in_the_mots_protocol(tmp_path):
    truth = boxes(o1=2, o255=30)
    pair = pair_of(tmp_path, [truth], [boxes(o1=2, o2=30, o3=45)])
    frame = measure(read_maps(pair, Path("00000.png"), MOTS), MOTS)
    assert frame.objects.tolist() == [1] and frame.tracks.tolist() == [1, 2, 3]
    assert frame.counted.tolist() == [True, False, True]


def test_absent_objects_and_tracks_are_alike_and_unlike_all_others():
    ids = np.array([2, 5]), np.array([3])
    frame = FrameOverlaps(*ids, np.array([[0.25], [0.5]]), np.array([[0.75], [1.0]]), np.ones(1, dtype=bool))
    J, F = frame.pairs(np.array([5, 1, 2]), np.array([4, 3]))
    assert J.tolist() == [[0, 0.5], [1, 0], [0, 0.25]]
    assert F.tolist() == [[0, 1.0], [1, 0], [0, 0.75]]
