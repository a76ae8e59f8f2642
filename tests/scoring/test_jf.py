"""J, F and their statistics: hand-made masks, properties, and the official numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from scoring.jf import (
    boundary_of,
    boundary_radius,
    dilate,
    pairwise_jf,
    pairwise_overlap,
    slots_of,
    statistics,
)
from tests.support.jf import boundary_measure, region_similarity
from tests.support.metrics_golden import VIDEOS, close, golden_arrays, needs_golden, numbers

LABELS = arrays(np.uint8, (9, 12), elements=st.integers(0, 3))
MASKS = arrays(bool, (9, 12))
IDS = [1, 2, 3]


def square(top: int, left: int, side: int, shape: tuple[int, int] = (20, 30)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def plain_region_similarity(
    truth: np.ndarray, prediction: np.ndarray, void: np.ndarray | None = None
) -> float:
    """J by its definition: intersection over union of the pixels that count."""
    counted = np.ones(truth.shape, dtype=bool) if void is None else ~void
    union = np.count_nonzero((truth | prediction) & counted)
    return np.count_nonzero(truth & prediction & counted) / union if union else 1.0


def plain_boundary_measure(truth: np.ndarray, prediction: np.ndarray, radius: int) -> float:
    """F on the full frame: from the shares of boundary pixels whose nearest counterpart is within reach."""

    def share(boundary: np.ndarray, other: np.ndarray) -> float:
        distance = ndimage.distance_transform_edt(~other) if other.any() else np.full(other.shape, math.inf)
        return float((distance[boundary] <= radius).mean()) if boundary.any() else 1.0

    b_truth, b_prediction = boundary_of(truth), boundary_of(prediction)
    precision, recall = share(b_prediction, b_truth), share(b_truth, b_prediction)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_j_is_intersection_over_union():
    assert region_similarity(square(0, 0, 4), square(0, 2, 4)) == 8 / 24


def test_f_of_a_shift_within_the_tolerance_is_one():
    assert boundary_radius(20, 30) == 1
    assert boundary_measure(square(5, 5, 6), square(5, 6, 6)) == 1.0
    assert boundary_measure(square(5, 5, 6), square(5, 8, 6)) < 1.0
    assert boundary_measure(square(5, 5, 6), square(5, 8, 6), bound_th=3) == 1.0


def test_void_pixels_count_for_nothing():
    truth, prediction = square(5, 5, 6), square(5, 5, 10)
    void = prediction & ~truth
    assert region_similarity(truth, prediction, void) == 1.0
    assert boundary_measure(truth, prediction, void) == 1.0


def test_empty_against_empty_is_one_and_empty_against_something_is_zero():
    nothing, something = square(0, 0, 0), square(5, 5, 6)
    assert (region_similarity(nothing, nothing), boundary_measure(nothing, nothing)) == (1.0, 1.0)
    for pair in ((nothing, something), (something, nothing)):
        assert (region_similarity(*pair), boundary_measure(*pair)) == (0.0, 0.0)


def test_a_mask_has_no_boundary_along_the_edge_of_the_picture():
    assert not boundary_of(np.ones((5, 7), dtype=bool)).any()
    left_half = np.zeros((5, 7), dtype=bool)
    left_half[:, :3] = True
    assert boundary_of(left_half).sum() == 5 and boundary_of(left_half)[:, 2].all()


@pytest.mark.parametrize(("height", "width", "radius"), [(480, 854, 8), (120, 200, 2), (240, 428, 4)])
def test_the_tolerance_follows_the_diagonal(height, width, radius):
    assert boundary_radius(height, width) == radius


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 8, 20])
def test_dilation_reaches_what_lies_within_the_radius(radius):
    mask = np.random.default_rng(radius).random((11, 17)) < 0.05
    assert np.array_equal(dilate(mask, radius), ndimage.distance_transform_edt(~mask) <= radius)


@given(MASKS, MASKS, st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_f_equals_its_plain_definition_on_the_full_frame(truth, prediction, radius):
    assert boundary_measure(truth, prediction, bound_th=radius) == pytest.approx(
        plain_boundary_measure(truth, prediction, radius), abs=1e-12
    )


@given(MASKS, MASKS)
@settings(max_examples=40, deadline=None)
def test_j_and_f_are_symmetric_and_perfect_on_themselves(truth, prediction):
    assert region_similarity(truth, prediction) == region_similarity(prediction, truth)
    assert boundary_measure(truth, prediction) == boundary_measure(prediction, truth)
    assert region_similarity(truth, truth) == boundary_measure(truth, truth) == 1.0


@given(LABELS, LABELS)
@settings(max_examples=40, deadline=None)
def test_all_pairs_at_once_equal_one_pair_at_a_time(truth, prediction):
    J, F = pairwise_jf(truth, prediction, IDS, IDS)
    pairs = [[(truth == i, prediction == j) for j in IDS] for i in IDS]
    assert np.array_equal(J, [[plain_region_similarity(*pair) for pair in row] for row in pairs])
    assert np.array_equal(F, [[boundary_measure(*pair) for pair in row] for row in pairs])


@given(LABELS, LABELS, MASKS, st.integers(0, 15), st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_the_ground_around_all_masks_changes_nothing(truth, prediction, void, top, left):
    picture = np.zeros((3, 24, 32), dtype=np.uint8)
    picture[:, top : top + 9, left : left + 12] = truth, prediction, void
    truth, prediction, void = *picture[:2], picture[2] > 0
    J, F = pairwise_jf(truth, prediction, IDS, IDS, void)
    pairs = [[(truth == i, prediction == j, void) for j in IDS] for i in IDS]
    assert np.array_equal(J, [[plain_region_similarity(*pair) for pair in row] for row in pairs])
    cleared = [[(one & ~void, other & ~void, 1) for one, other, _ in row] for row in pairs]
    assert np.array_equal(F, [[plain_boundary_measure(*pair) for pair in row] for row in cleared])


def test_more_pairs_than_eight_bits_can_number_are_told_apart():
    labels = np.arange(600, dtype=np.uint16).reshape(20, 30)
    slots = slots_of(labels, range(600))
    overlap = pairwise_overlap(slots, slots, 600, 600)
    assert np.array_equal(overlap.intersection, np.eye(600))


@given(LABELS, LABELS, st.permutations(IDS))
@settings(max_examples=40, deadline=None)
def test_renaming_the_results_only_moves_the_columns(truth, prediction, names):
    renamed = np.array([0, *names], dtype=np.uint8)[prediction]
    for before, after in zip(
        pairwise_jf(truth, prediction, IDS, IDS), pairwise_jf(truth, renamed, IDS, names), strict=True
    ):
        assert np.array_equal(before, after)


def test_no_objects_and_no_results_are_legal():
    labels = np.zeros((4, 5), dtype=np.uint8)
    for K, N in ((0, 0), (0, 2), (2, 0)):
        J, F = pairwise_jf(labels, labels, range(1, K + 1), range(1, N + 1))
        assert J.shape == F.shape == (K, N)


def test_labels_of_eight_bits_may_reach_255():
    labels = np.full((4, 5), 255, dtype=np.uint8)
    J, _ = pairwise_jf(labels, labels, [255], [255, 300])
    assert J.tolist() == [[1.0, 0.0]]


def test_statistics_of_a_few_values_by_hand():
    mean, recall, decay = statistics([1.0, 0.8, 0.6, 0.5, 0.1])
    assert mean == pytest.approx(0.6)
    assert recall == 0.6  # 0.5 is not above 0.5
    assert decay == pytest.approx(0.9 - 0.3)


def test_decay_is_right_in_long_videos_unless_the_official_one_is_wanted():
    falling = np.linspace(1, 0, 300)
    assert statistics(falling, official_decay=False)[2] == pytest.approx(0.75, abs=0.01)
    assert math.isnan(statistics(falling)[2])


def test_statistics_of_nothing_are_undefined():
    assert all(math.isnan(number) for number in statistics([]))


@needs_golden
def test_j_and_f_of_awkward_pairs_are_the_official_ones():
    masks, expected = golden_arrays("masks.npz"), golden_arrays("expected_arrays.npz")
    width = masks["pairs_shape"][-1]
    pairs = np.unpackbits(masks["pairs"], axis=-1)[..., :width].astype(bool)
    assert close([region_similarity(g, p) for g, p, _ in pairs], expected["pairs_J"])
    assert close([region_similarity(*triple) for triple in pairs], expected["pairs_J_void"])
    assert close([boundary_measure(g, p) for g, p, _ in pairs], expected["pairs_F"])
    assert close([boundary_measure(*triple) for triple in pairs], expected["pairs_F_void"])
    assert close([boundary_measure(g, p, bound_th=3) for g, p, _ in pairs], expected["pairs_F_bound3px"])
    assert close([boundary_measure(g, p, bound_th=0.03) for g, p, _ in pairs], expected["pairs_F_bound003"])


@needs_golden
@pytest.mark.parametrize("video", VIDEOS)
def test_j_and_f_of_whole_videos_are_the_official_ones(video):
    masks, expected = golden_arrays("masks.npz"), golden_arrays("expected_arrays.npz")
    ids = range(1, len(expected[f"raw_J_v{video}"]) + 1)
    frames = zip(masks[f"gt_v{video}"], masks[f"pred_vos_v{video}"], strict=True)
    J, F = zip(*(pairwise_jf(truth, result, ids, ids) for truth, result in frames), strict=True)
    assert close(np.array(J).diagonal(0, 1, 2).T, expected[f"raw_J_v{video}"])
    assert close(np.array(F).diagonal(0, 1, 2).T, expected[f"raw_F_v{video}"])


@needs_golden
def test_statistics_of_odd_lengths_are_the_official_ones():
    for case in numbers("expected_davis.json")["db_statistics"]:
        values = np.array([float(value) for value in case["x"]])
        assert close(statistics(values), [float(value) for value in case["M_O_D"]]), case["n"]
