"""HOTA, CLEAR and Identity: small sequences by hand, the slow definition, and TrackEval on random ones."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.clear import IdSwitch
from scoring.hota import ALPHAS
from scoring.tracking_scores import TrackingAccumulator, TrackingScore, outside_ignored
from tests.support.metrics_golden import close

Sequence = list[tuple[list[int], list[int], np.ndarray]]


def score(frames: Sequence) -> TrackingScore:
    accumulator = TrackingAccumulator()
    for frame in frames:
        accumulator.add(*frame)
    return accumulator.score()


def follow(*result_ids: int | None) -> Sequence:
    """One true object, id 7, found in each frame under the given id with IoU 0.8, or missed."""
    return [([7], [], np.zeros((1, 0))) if i is None else ([7], [i], np.array([[0.8]])) for i in result_ids]


@st.composite
def sequences(draw) -> Sequence:
    """Up to 4 frames of at most 3 true objects and 3 results, with similarities on a coarse grid."""
    frames = []
    for _ in range(draw(st.integers(1, 4))):
        truth = sorted(draw(st.sets(st.integers(1, 3))))
        result = sorted(draw(st.sets(st.integers(1, 3))))
        values = draw(st.lists(st.integers(0, 20), min_size=9, max_size=9))
        similarity = np.array(values).reshape(3, 3)[: len(truth), : len(result)] / 20
        frames.append((truth, result, similarity))
    return frames


def random_frames(rng: np.random.Generator) -> Sequence:
    """12 frames of at most 5 true objects and 5 results whose ids wander; some frames have neither."""
    frames = []
    for t in range(12):
        truth, result = (sorted(rng.choice(7, rng.integers(0, 6), replace=False).tolist()) for _ in "GR")
        if t % 5 == 4:
            truth = [] if t == 4 else truth
            result = []
        similarity = rng.random((len(truth), len(result))) * rng.integers(0, 2, (len(truth), len(result)))
        frames.append((truth, result, similarity))
    return frames


def slow_hota(frames: Sequence, alpha: float) -> float:
    """HOTA at one alpha as the paper defines it, every matching of a frame tried for the best total."""
    truth_frames = {i: sum(i in truth for truth, _, _ in frames) for i in range(1, 4)}
    result_frames = {j: sum(j in result for _, result, _ in frames) for j in range(1, 4)}

    def similarity_over_union(i: int, j: int) -> float:
        total = 0.0
        for truth, result, s in frames:
            if i in truth and j in result:
                row, column = truth.index(i), result.index(j)
                either = s[row].sum() + s[:, column].sum() - s[row, column]
                total += s[row, column] / either if either > 0 else 0.0
        return total

    def alignment(i: int, j: int) -> float:
        shared = similarity_over_union(i, j)
        return shared / (truth_frames[i] + result_frames[j] - shared)

    matches: list[tuple[int, int]] = []
    missed = invented = 0
    for truth, result, s in frames:
        best, best_total = [], -1.0
        slots = range(max(len(truth), len(result)))
        for order in permutations(slots):
            pairs = [(r, c) for r, c in enumerate(order) if r < len(truth) and c < len(result)]
            total = sum(alignment(truth[r], result[c]) * s[r, c] for r, c in pairs)
            if total > best_total + 1e-12:
                best, best_total = pairs, total
        accepted = [(truth[r], result[c]) for r, c in best if s[r, c] >= alpha - 1e-15]
        matches += accepted
        missed += len(truth) - len(accepted)
        invented += len(result) - len(accepted)

    def association(i: int, j: int) -> float:
        both = matches.count((i, j))
        return both / (truth_frames[i] + result_frames[j] - both)

    detections = len(matches) + missed + invented
    return math.sqrt(sum(association(i, j) for i, j in matches) / detections) if detections else 0.0


def test_a_perfect_track_scores_one():
    perfect = score([([7, 9], [1, 2], np.eye(2))] * 3)
    assert all((perfect.hota.scores()[name] == 1).all() for name in ("HOTA", "DetA", "AssA", "LocA"))
    assert perfect.identity.scores()["IDF1"] == 1.0
    assert perfect.clear.scores()["MOTA"] == perfect.clear.scores()["sMOTA"] == 1.0


def test_a_switch_is_found_where_it_happens_also_after_a_gap():
    switches = score(follow(1, 1, 2, None, None, 3)).clear.switches
    assert switches == [IdSwitch(2, 7, 1, 2), IdSwitch(5, 7, 2, 3)]


def test_coming_back_under_the_old_id_is_no_switch_but_a_fragment():
    frames = follow(1, 1, 2, 1)
    frames[2] = ([7], [2], np.array([[0.1]]))  # a miss beside a false alarm
    clear = score(frames).clear
    assert (clear.switches, clear.fragments) == ([], 1)


def test_scores_of_half_a_track_by_hand():
    half = score(follow(1, 1, 2, 2))
    hota = half.hota.scores()
    assert hota["DetA"][0] == 1.0 and hota["DetA"][-1] == 0.0  # IoU 0.8 is below the last alphas
    assert hota["AssA"][0] == 0.5
    assert half.identity.scores()["IDF1"] == 0.5
    assert half.clear.scores()["MOTA"] == 0.75
    assert half.clear.scores()["sMOTA"] == pytest.approx((4 * 0.8 - 1) / 4)


def test_clear_keeps_a_match_alive_against_a_better_newcomer():
    frames = [([7], [1], np.array([[0.6]])), ([7], [1, 2], np.array([[0.5, 0.5]]))]
    assert score(frames).clear.switches == []


def test_nothing_at_all_and_one_side_alone_are_legal():
    nothing = score([([], [], np.zeros((0, 0)))])
    assert nothing.hota.scores()["LocA"].tolist() == [1.0] * len(ALPHAS)
    only_truth, only_results = score(follow(None, None)), score([([], [1], np.zeros((0, 1)))])
    assert (only_truth.clear.fn, only_truth.clear.mostly_lost, only_truth.identity.fn) == (2, 1, 2)
    assert (only_results.clear.fp, only_results.identity.fp, only_results.hota.fp[0]) == (1, 1, 1)
    assert TrackingScore.total([]).hota.scores()["HOTA"].tolist() == [0.0] * len(ALPHAS)


def test_sequences_are_combined_by_adding_their_counts():
    a, b = score(follow(1, 1, 2)), score(follow(4, None))
    both = TrackingScore.total([a, b])
    assert both.clear.tp == a.clear.tp + b.clear.tp
    weights = np.array([a.hota.tp, b.hota.tp])
    associations = np.array([a.hota.scores()["AssA"], b.hota.scores()["AssA"]])
    expected = (weights * associations).sum(0) / np.maximum(1, weights.sum(0))
    assert np.allclose(both.hota.scores()["AssA"], expected)


def test_detections_ids_and_frames_are_counted():
    frames = [
        ([7, 9], [1], np.array([[0.9], [0.0]])),
        ([7], [], np.zeros((1, 0))),
        ([], [4], np.zeros((0, 1))),
    ]
    counts = {"Dets": 2, "GT_Dets": 3, "IDs": 2, "GT_IDs": 2, "Frames": 3}
    assert score(frames).size.scores() == counts
    assert TrackingScore.total([score(frames)] * 2).size.scores() == {
        name: 2 * n for name, n in counts.items()
    }


def test_only_unmatched_results_inside_an_ignored_region_are_dropped():
    similarity = np.array([[0.9, 0.0, 0.0]])
    assert outside_ignored(similarity, np.array([0.8, 0.8, 0.5])).tolist() == [True, False, True]


@given(sequences(), st.sampled_from([0, 4, 9]))
@settings(max_examples=40, deadline=None)
def test_hota_equals_the_slow_definition(frames, a):
    # with equal totals either matching is right: shake them apart, the same for both
    shake = np.random.default_rng(0).random((3, 3)) * 1e-3
    frames = [(truth, result, s + shake[: s.shape[0], : s.shape[1]]) for truth, result, s in frames]
    assert score(frames).hota.scores()["HOTA"][a] == pytest.approx(slow_hota(frames, ALPHAS[a]), abs=1e-9)


@given(st.integers(0, 999), st.permutations(range(7)), st.permutations(range(7)))
@settings(max_examples=40, deadline=None)
def test_names_of_objects_and_results_change_no_score(seed, truth_names, result_names):
    frames = random_frames(np.random.default_rng(seed))
    renamed = []
    for truth, result, similarity in frames:
        rows, columns = (
            np.argsort([names[i] for i in ids]).astype(int)
            for ids, names in ((truth, truth_names), (result, result_names))
        )
        ids = [truth_names[truth[r]] for r in rows], [result_names[result[c]] for c in columns]
        renamed.append((*ids, similarity[rows][:, columns]))
    before, after = score(frames), score(renamed)
    assert before.identity == after.identity and before.size == after.size
    assert before.clear.scores() == pytest.approx(after.clear.scores(), abs=1e-12)
    for name, values in before.hota.scores().items():
        assert values == pytest.approx(after.hota.scores()[name], abs=1e-12), name


@pytest.mark.parametrize("seed", range(8))
def test_trackeval_itself_agrees_on_random_sequences(seed):
    metrics = pytest.importorskip("trackeval.metrics")
    frames = random_frames(np.random.default_rng(seed))
    data = {
        "num_timesteps": len(frames),
        "similarity_scores": [similarity for _, _, similarity in frames],
    }
    for side, place in (("gt", 0), ("tracker", 1)):
        names = sorted({i for frame in frames for i in frame[place]})
        data[f"{side}_ids"] = [
            np.array([names.index(i) for i in frame[place]], dtype=int) for frame in frames
        ]
        data[f"num_{side}_ids"] = len(names)
        data[f"num_{side}_dets"] = sum(len(frame[place]) for frame in frames)
    quiet = {"PRINT_CONFIG": False}
    ours = score(frames)
    families = {
        metrics.HOTA(): ours.hota.scores(),
        metrics.CLEAR(quiet): ours.clear.scores(),
        metrics.Identity(quiet): ours.identity.scores(),
        metrics.Count(): ours.size.scores(),
    }
    for metric, scores in families.items():
        official = metric.eval_sequence(data)
        shared = scores.keys() & official.keys()
        assert len(shared) >= 4
        for name in shared:
            assert close(scores[name], official[name]), f"{metric.get_name()} {name}"
