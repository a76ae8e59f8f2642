"""YouTube-VIS AP: tracks drawn by hand, videos alone and together, any order."""

import copy

import numpy as np
import pytest

from common.errors import UserError
from scoring.vis_ap import VideoAP, average_precision
from scoring.vis_truth import TruthTracks, on_annotated_frames, truth_annotations
from tests.support.label_folders import NOTHING, blobs, tracks_of, truth_json
from tests.support.metrics_golden import needs_golden, numbers
from video.rle import encode_rle

pytest.importorskip("pycocotools")


def label_map(*columns: int) -> np.ndarray:
    """(4, 6) label map with two rows of the given ids, one a column, above two rows of background."""
    return np.array([columns, columns, [0] * 6, [0] * 6], dtype=np.uint8)


def track(maps: list[np.ndarray], object_id: int, score: float = 0.5, video_id: int = 1) -> dict:
    """One result: the masks of an id in label maps."""
    masks = [labels == object_id for labels in maps]
    rles = [encode_rle(mask) if mask.any() else None for mask in masks]
    return {"video_id": video_id, "category_id": 1, "score": score, "segmentations": rles}


def truth_of(maps: list[np.ndarray], video_id: int = 1) -> TruthTracks:
    truth = TruthTracks(video_id)
    for frame, labels in enumerate(maps):
        truth.add(labels, frame)
    return truth


MAPS = [label_map(1, 1, 0, 2, 2, 0), label_map(0, 1, 1, 0, 0, 0)]


def ap(maps: list[np.ndarray], results: list[dict]) -> dict[str, float]:
    return average_precision(truth_annotations([truth_of(maps)]), results).scores()


def test_perfect_tracks_score_one():
    scores = ap(MAPS, [track(MAPS, 1), track(MAPS, 2)])
    assert (scores["AP"], scores["AP50"], scores["AR10"]) == pytest.approx((1, 1, 1))
    assert scores["AR1"] == 0.5  # one result may find one of two objects


def test_a_track_is_matched_by_its_overlap_over_the_whole_video():
    shifted = [MAPS[0], label_map(0, 0, 0, 0, 0, 0)]  # half of object 1: IoU 0.5
    scores = ap(MAPS, [track(shifted, 1), track(MAPS, 2)])
    assert scores["AP50"] == pytest.approx(1)
    assert scores["AP75"] < 0.6


def test_no_results_score_zero_and_no_truth_is_undefined():
    assert ap(MAPS, [])["AP"] == 0.0
    empty = [label_map(*[0] * 6)] * 2
    assert ap(empty, [track(MAPS, 1)])["AP"] == -1.0
    assert average_precision(truth_annotations([]), []).scores()["AP"] == -1.0


def test_results_on_void_pixels_count_for_nothing():
    truth = [label_map(1, 1, 255, 255, 255, 255)]
    spilled = [label_map(1, 1, 1, 1, 1, 0)]
    assert ap(truth, [track(spilled, 1)])["AP"] == pytest.approx(1)


def test_truth_knows_areas_boxes_and_the_object_that_is_away():
    annotations = truth_of(MAPS).annotations()
    assert [entry["areas"] for entry in annotations] == [[4, 4], [4, None]]
    assert annotations[0]["bboxes"] == [[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0]]
    assert annotations[1]["segmentations"][1] is None


def test_results_are_looked_up_on_the_annotated_frames():
    truth = TruthTracks(3)
    truth.add(MAPS[0], 0)
    truth.add(MAPS[1], 2)
    long = track([MAPS[0], MAPS[1], MAPS[1], MAPS[0]], 1, video_id=3)
    elsewhere = track(MAPS, 1, video_id=4)
    (chosen,) = on_annotated_frames([long, elsewhere], [truth], "results.json")
    assert chosen["segmentations"] == [long["segmentations"][0], long["segmentations"][2]]
    with pytest.raises(UserError, match=r"results\.json: result 0 has 2 segmentations"):
        on_annotated_frames([track(MAPS, 1, video_id=3)], [truth], "results.json")


def test_each_video_has_the_ap_that_it_has_alone():
    truth, results = [], []
    for video in (4, 7, 9):
        maps = blobs(video, objects=4)
        truth += tracks_of(maps, video, category=video % 2 + 1)
        results += tracks_of(
            blobs(video, objects=3) if video == 4 else maps[:2] + [NOTHING] * 2, video, 2, 0.4
        )
        results += tracks_of(maps, video, 1, 0.7)[:3]
    names = {1: "a", 2: "b"}
    together = average_precision(truth_json(truth, {9: 4, 7: 4, 4: 4, 2: 4}, names), results)
    assert list(together.videos) == [2, 4, 7, 9]
    assert together.videos[2] == {"AP": -1, "AP50": -1}
    for video in (4, 7, 9):
        halves = ([one for one in tracks if one["video_id"] == video] for tracks in (truth, results))
        truth_alone, results_alone = halves
        alone = average_precision(truth_json(truth_alone, {video: 4}, names), results_alone).scores()
        assert together.videos[video] == {"AP": alone["AP"], "AP50": alone["AP50"]}
        assert 0 < alone["AP"] < 1


def test_the_order_of_videos_and_of_their_results_changes_no_bit():
    videos = {i: blobs(i, objects=3) for i in range(1, 8)}

    def score(order: list[int]) -> VideoAP:
        truth = [track for i in order for track in tracks_of(videos[i], i)]
        results = [track for i in order for track in tracks_of([*videos[i][:3], NOTHING], i)]
        return average_precision(truth_json(truth, dict.fromkeys(order, 4)), results)

    there, back = score([1, 2, 3, 4, 5, 6, 7]), score([5, 7, 1, 2, 6, 4, 3])
    assert np.array_equal(there.precision, back.precision) and np.array_equal(there.recall, back.recall)
    assert there.videos == back.videos and there.scores() == back.scores()


@needs_golden
def test_the_order_of_the_results_does_not_matter_where_no_scores_tie():
    truth, results = numbers("ytvis_gt.json"), copy.deepcopy(numbers("ytvis_pred.json"))
    for number, result in enumerate(results):
        result["score"] += number * 1e-9
    assert average_precision(truth, results).scores() == average_precision(truth, results[::-1]).scores()
