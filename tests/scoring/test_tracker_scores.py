"""The numbers of metrics.json: small videos by hand, the slow definition, and what must not change them."""

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from common.errors import MissingPackage, UserError
from scoring import tracker_scores
from scoring.tracker_scores import VideoScore, VideoScorer, summarise
from tests.support.jf import boundary_measure, region_similarity
from video.rle import encode_rle

VIDEOS = arrays(np.uint8, (3, 6, 8), elements=st.integers(0, 3))
EMPTY = np.zeros((20, 30), dtype=np.uint8)
AP_NAMES = ("AP", "AP50", "AP75", "AR10")


def boxes(**left: int) -> np.ndarray:
    """(20, 30) label map of 6 x 6 squares; `o3=10` is object 3 with its left edge at column 10."""
    labels = EMPTY.copy()
    for name, column in left.items():
        labels[5:11, column : column + 6] = int(name[1:])
    return labels


def score(truth, results, prompted: bool = False, prompts: dict[int, set[int]] | None = None) -> VideoScore:
    scorer = VideoScorer(prompted)
    for frame, (truth_labels, result_labels) in enumerate(zip(truth, results, strict=True)):
        scorer.add(truth_labels, result_labels, (prompts or {}).get(frame, frozenset()))
    return scorer.result()


def results_of(videos: list[list[np.ndarray]]) -> list[dict]:
    """Label maps of videos 1, 2, ... as results in the YouTube-VIS form."""
    results = []
    for video_id, maps in enumerate(videos, start=1):
        for track in np.setdiff1d(maps, [0]):
            masks = [labels == track for labels in maps]
            rles = [encode_rle(mask) if mask.any() else None for mask in masks]
            results.append({"video_id": video_id, "category_id": 1, "score": 0.5, "segmentations": rles})
    return results


def slow_scores(truth: np.ndarray, results: np.ndarray) -> dict[int, tuple[int | None, float, float, float]]:
    """{object: (track, J, F, J_tube)} as the definitions say, pair by pair."""
    objects, tracks = (np.setdiff1d(maps, [0]).tolist() for maps in (truth, results))

    def means(i: int, j: int) -> tuple[float, float]:
        first = next(t for t in range(len(truth)) if (truth[t] == i).any())
        pairs = [(truth[t] == i, results[t] == j) for t in range(first, len(truth))]
        return np.mean([region_similarity(*p) for p in pairs]), np.mean([boundary_measure(*p) for p in pairs])

    table = np.array([[np.mean(means(i, j)) for j in tracks] for i in objects]).reshape(
        len(objects), len(tracks)
    )
    scores = {i: (None, 0.0, 0.0, 0.0) for i in objects}
    for k, n in zip(*linear_sum_assignment(-table), strict=True):
        g, p = truth == objects[k], results == tracks[n]
        scores[objects[k]] = (tracks[n], *means(objects[k], tracks[n]), (g & p).sum() / (g | p).sum())
    return scores


def test_a_perfect_result_scores_a_hundred_under_any_names():
    truth = [boxes(o1=2, o2=20), boxes(o1=4), boxes(o1=6, o2=18)]
    renamed = [np.array([0, 40, 7], dtype=np.int64)[labels] for labels in truth]
    summary = summarise([score(truth, renamed)], results_of([renamed]))
    assert all(summary[name] == 100 for name in ("J", "F", "J&F", "J_tube", "HOTA", "DetA", "AssA", "IDF1"))
    assert all(summary[name] == pytest.approx(100) for name in AP_NAMES)
    assert (summary["id_switches"], summary["videos"], summary["frames"]) == (0, 1, 3)


def test_an_object_counts_from_its_first_appearance():
    truth = [EMPTY, boxes(o1=2), boxes(o1=2)]
    results = [boxes(o5=20), boxes(o5=2), EMPTY]
    one = score(truth, results).objects[1]
    assert (one.track, one.J, one.F) == (5, 0.5, 0.5)
    assert one.J_tube == 36 / (3 * 36)  # the whole video counts here


def test_objects_without_a_track_score_zero():
    objects = score([boxes(o1=2, o2=20)] * 2, [boxes(o9=2)] * 2).objects
    assert (objects[1].track, objects[1].J) == (9, 1.0)
    assert (objects[2].track, objects[2].J, objects[2].F, objects[2].J_tube) == (None, 0.0, 0.0, 0.0)


def test_prompted_results_are_matched_by_id_and_the_prompted_frame_does_not_count():
    truth = [boxes(o1=2, o2=20), boxes(o1=2, o2=20), boxes(o1=2, o2=20)]
    swapped = [boxes(o1=2, o2=20), boxes(o1=20, o2=2), boxes(o1=2, o2=20)]
    objects = score(truth, swapped, prompted=True, prompts={0: {1, 2}}).objects
    assert [(one.track, one.J, one.J_tube) for one in objects.values()] == [(1, 0.5, 1 / 3), (2, 0.5, 1 / 3)]


def test_an_object_with_its_prompt_on_the_last_frame_has_no_score():
    scored = score([EMPTY, boxes(o1=2)], [EMPTY, boxes(o1=2)], prompted=True, prompts={1: {1}})
    assert math.isnan(scored.objects[1].J)
    assert summarise([scored])["J"] is None


def test_tracks_are_matched_with_objects_that_they_overlap():
    swapped = score([boxes(o1=2, o2=20)] * 2, [boxes(o2=2, o1=20)] * 2)
    assert swapped.object_of == {2: 1, 1: 2}
    apart = score([boxes(o1=2, o2=20)] * 2, [boxes(o8=2, o9=10)] * 2)
    assert apart.objects[2].track == 9 and apart.object_of == {8: 1}


def test_tracks_of_a_prompt_are_matched_with_the_objects_of_their_ids():
    truth, results = [boxes(o1=2, o2=20)] * 2, [boxes(o1=20, o3=2)] * 2
    assert score(truth, results, prompted=True, prompts={0: {1, 2}}).object_of == {1: 1}


def test_void_is_cleared_from_both_sides():
    truth = boxes(o1=2)
    truth[:, 8:] = 255
    spilled = boxes(o4=2)
    spilled[5:11, 8:14] = 4
    summary = summarise([score([truth], [spilled])], results_of([[spilled]]))
    assert (summary["J"], summary["F"], summary["J_tube"], summary["HOTA"]) == (100, 100, 100, 100)
    assert summary["AP"] == pytest.approx(100)


def test_id_switches_are_counted_per_hundred_visible_detections():
    truth = [boxes(o1=2, o2=20), boxes(o1=2), boxes(o1=2)]
    results = [boxes(o1=2, o2=20), boxes(o3=2), boxes(o3=2)]
    scored = score(truth, results)
    assert scored.visible == 4
    assert [(s.frame, s.truth_id, s.old_id, s.new_id) for s in scored.tracking.clear.switches] == [
        (1, 1, 1, 3)
    ]
    assert summarise([scored])["id_switches_per_100_frames"] == 25


def test_means_are_over_all_objects_of_all_videos():
    perfect = score([boxes(o1=2, o2=20)], [boxes(o1=2, o2=20)])
    missed = score([boxes(o1=2)], [EMPTY])
    assert summarise([perfect, missed])["J"] == pytest.approx(200 / 3)


def test_nothing_to_score_gives_null_and_never_nan():
    empty = score([EMPTY], [EMPTY])
    for summary in (summarise([], []), summarise([empty], [])):
        assert all(summary[name] is None for name in ("J", "F", "J&F", "J_tube", "HOTA", "IDF1", *AP_NAMES))
        json.dumps(summary, allow_nan=False)


def test_results_may_cover_more_frames_than_are_annotated():
    scorer = VideoScorer()
    for frame in (0, 2):
        scorer.add(boxes(o1=2), boxes(o1=2), frame=frame)
    results = results_of([[boxes(o1=2), boxes(o1=20), boxes(o1=2)]])
    assert summarise([scorer.result()], results)["AP"] == pytest.approx(100)


def test_categories_tell_results_apart_where_they_are_given():
    maps = [boxes(o1=2, o2=20)]
    scorer = VideoScorer(categories={1: 1, 2: 2})
    scorer.add(maps[0], maps[0])
    summary = summarise([scorer.result()], results_of([maps]))
    assert summary["AP"] == pytest.approx(50)  # both results say category 1, which leaves 2 without any


def test_without_pycocotools_ap_is_null_and_stderr_says_so(monkeypatch, capsys):
    def refuse(module, purpose):
        raise MissingPackage(f"{purpose} needs pycocotools: pip install pycocotools")

    monkeypatch.setattr(tracker_scores, "available", lambda module: False)
    monkeypatch.setattr(tracker_scores, "require", refuse)
    summary = summarise([score([boxes(o1=2)], [boxes(o1=2)])], [])
    assert summary["AP"] is None and summary["J"] == 100
    assert "pip install pycocotools" in capsys.readouterr().err


def test_results_of_another_form_are_named():
    with pytest.raises(UserError, match=r"R/results\.json"):
        summarise([score([boxes(o1=2)], [boxes(o1=2)])], {"tracks": []}, "R/results.json")


def test_a_score_travels_between_processes_and_stays_small():
    scored = score([boxes(o1=2)] * 50, [boxes(o1=2)] * 50)
    travelled = pickle.loads(pickle.dumps(scored))
    assert travelled.objects == scored.objects
    assert len(pickle.dumps(scored)) < 50 * EMPTY.size


@given(VIDEOS, VIDEOS)
@settings(max_examples=15, deadline=None)
def test_scores_equal_the_slow_definitions(truth, results):
    ours, slow = score(truth, results).objects, slow_scores(truth, results)
    assert ours.keys() == slow.keys()
    means = [sum(one.J + one.F for one in ours.values()), sum(J + F for _, J, F, _ in slow.values())]
    assert means[0] == pytest.approx(means[1], abs=1e-9)
    for i, one in ours.items():
        if one.track == slow[i][0]:  # equal totals may be matched differently
            assert (one.J, one.F, one.J_tube) == pytest.approx(slow[i][1:], abs=1e-9)


@given(VIDEOS, VIDEOS, st.permutations([1, 2, 3]))
@settings(max_examples=15, deadline=None)
def test_renaming_tracks_does_not_change_the_mean(truth, results, names):
    renamed = np.array([0, *names], dtype=np.uint8)[results]
    before, after = summarise([score(truth, results)]), summarise([score(truth, renamed)])
    for name in ("J&F", "IDF1"):
        assert before[name] == pytest.approx(after[name], abs=1e-9)
