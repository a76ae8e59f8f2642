"""YouTube-VIS AP: tracks drawn by hand, malformed files, and the official numbers."""

import copy

import numpy as np
import pytest
from metrics_golden import close, golden_arrays, needs_golden, numbers

from common.errors import UserError
from common.masks import encode_rle
from common.video_ap import (
    TruthTracks,
    average_precision,
    on_annotated_frames,
    rle_runs,
    truth_annotations,
)

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


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_the_runs_of_an_rle_are_read_back(density):
    mask = np.random.default_rng(1).random((37, 53)) < density
    runs = rle_runs(encode_rle(mask)["counts"])
    pixels = np.repeat(np.arange(len(runs)) % 2, runs).astype(bool)
    assert np.array_equal(pixels.reshape(mask.shape, order="F"), mask)


def test_uncompressed_results_are_the_same_as_compressed_ones():
    plain = track(MAPS, 1)
    for rle in plain["segmentations"]:
        rle["counts"] = rle_runs(rle["counts"]).tolist()
    assert ap(MAPS, [plain]) == ap(MAPS, [track(MAPS, 1)])


def without(key: str) -> dict:
    return {name: value for name, value in track(MAPS, 1).items() if name != key}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"results": []}, "must be a list"),
        ([1], "result 0 must have"),
        ([without("score")], "result 0 must have"),
        ([track(MAPS, 1) | {"score": float("nan")}], "score nan"),
        ([track(MAPS, 1, video_id=9)], "video 9, which the annotations do not have"),
        ([track(MAPS, 1) | {"category_id": 5}], "category 5, which the annotations do not have"),
        ([track(MAPS[:1], 1)], "must have 2 segmentations"),
        ([track([np.zeros((5, 5), int) + 1] * 2, 1)], "frame 0, has the size"),
        ([track(MAPS, 1) | {"segmentations": [[1, 2, 3], None]}], "frame 0, is not an RLE"),
        ([track(MAPS, 1) | {"segmentations": [{"size": [4, 6], "counts": "5"}, None]}], "do not fill"),
        ([track(MAPS, 1) | {"segmentations": [{"size": [4, 6], "counts": "o"}, None]}], "cut short"),
        ([track(MAPS, 1) | {"segmentations": [{"size": [4, 6], "counts": [30, -6]}, None]}], "do not fill"),
    ],
)
def test_what_is_no_result_is_named(results, message):
    truth = truth_annotations([truth_of(MAPS)])
    with pytest.raises(UserError, match=message) as error:
        average_precision(truth, results, results_name="mine.json")
    assert str(error.value).startswith("mine.json")


def test_what_is_no_annotation_file_is_named():
    for truth in ([], {"videos": []}, {"videos": [{"id": 1}], "categories": [], "annotations": []}):
        with pytest.raises(UserError, match=r"truth\.json"):
            average_precision(truth, [], truth_name="truth.json")


@needs_golden
@pytest.mark.parametrize(("use_categories", "name"), [(True, "useCats"), (False, "noCats")])
def test_every_number_of_ytvoseval_is_met(use_categories, name):
    truth, results = copy.deepcopy([numbers("ytvis_gt.json"), numbers("ytvis_pred.json")])
    official, expected = numbers("expected_ytvis.json")[name], golden_arrays("expected_arrays.npz")
    ours = average_precision(truth, results, use_categories)
    assert close(ours.precision, expected[f"ytvis_precision_{name}"])
    assert close(ours.recall, expected[f"ytvis_recall_{name}"])
    assert ours.scores() == pytest.approx(official["stats"], abs=1e-9)
    per_category = {str(category): scores for category, scores in ours.per_category().items()}
    assert per_category.keys() == official["per_category"].keys()
    for category, scores in per_category.items():
        assert scores == pytest.approx(official["per_category"][category], abs=1e-9)


@needs_golden
def test_the_order_of_the_results_does_not_matter_where_no_scores_tie():
    truth, results = numbers("ytvis_gt.json"), copy.deepcopy(numbers("ytvis_pred.json"))
    for number, result in enumerate(results):
        result["score"] += number * 1e-9
    assert average_precision(truth, results).scores() == average_precision(truth, results[::-1]).scores()
