"""J and F of all pairs over a video: newcomers have been absent, and whoever asks for an unknown gets one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.jf import pairwise_jf
from scoring.jf_table import JFTable
from tests.support.label_folders import NOTHING, blobs, boxes


def test_a_newcomer_has_been_an_empty_mask_until_now():
    table = JFTable()
    table.add(boxes(o1=2), boxes(o5=2))
    table.add(boxes(o1=2, o2=20), boxes(o5=2, o6=20))
    J, F = table.scores([1, 2], [5, 6])
    assert J.tolist() == F.tolist() == [[[1, 0], [0, 1]], [[1, 0], [0, 1]]]


def test_who_never_comes_has_empty_masks():
    table = JFTable()
    table.add(boxes(o1=2), NOTHING)
    table.add(NOTHING, NOTHING)
    J, _ = table.scores([1, 8], [0, 9])
    assert J.tolist() == [[[0, 0], [1, 1]], [[1, 1], [1, 1]]]


def test_void_is_no_object_and_counts_for_nothing():
    table = JFTable()
    truth = boxes(o1=2, o255=8)
    table.add(truth, np.where(truth > 0, 3, 0).astype(np.uint8), truth == 255)
    assert table.objects == [1] and table.results == [3]
    assert table.scores([1], [3])[0].tolist() == [[[1]]]


@given(st.integers(0, 99), st.permutations([1, 2, 3]))
@settings(max_examples=20, deadline=None)
def test_it_equals_every_frame_measured_with_all_ids(seed, ids):
    truth, results = blobs(seed), blobs(seed + 1000)
    table = JFTable()
    for frame in zip(truth, results, strict=True):
        table.add(*frame)
    frames = [pairwise_jf(*frame, [1, 2, 3], ids) for frame in zip(truth, results, strict=True)]
    for ours, expected in zip(table.scores([1, 2, 3], ids), zip(*frames, strict=True), strict=True):
        assert np.array_equal(ours, np.array(expected))
