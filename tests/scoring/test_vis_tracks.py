"""The YouTube-VIS form: what is read, and what is said of files that are none."""

import numpy as np
import pytest

from common.errors import UserError
from scoring.vis_ap import average_precision
from scoring.vis_tracks import ANY_CATEGORY, read_tracks, track_ious
from tests.support.label_folders import tracks_of, truth_json
from video.rle import encode_rle, rle_runs

pytest.importorskip("pycocotools")

MAPS = [np.zeros((20, 30), dtype=np.uint8) for _ in range(2)]
MAPS[0][2:8, 3:9] = 1
MAPS[1][2:8, 4:10] = 1
MAPS[0][12:18, 20:26] = 2


def track(video_id: int = 1) -> dict:
    """A result: the masks of object 1."""
    return tracks_of(MAPS, video_id)[0]


TRUTH = truth_json(tracks_of(MAPS, 1), {1: 2})


def read(truth: dict, results: list[dict], use_categories: bool = True):
    return read_tracks(truth, results, use_categories, "truth.json", "mine.json")


def test_tracks_are_read_by_video_and_category_in_the_order_of_the_file():
    truth = truth_json(tracks_of(MAPS, 5, 3) + tracks_of(MAPS, 2, 1), {5: 2, 2: 2}, {3: "c", 1: "a"})
    tracks = read(truth, [track(5) | {"category_id": 3}])
    assert list(tracks.lengths) == [2, 5] and tracks.categories == [1, 3]
    assert {key: [one["id"] for one in group] for key, group in tracks.truth.items()} == {
        (5, 3): [1, 2],
        (2, 1): [3, 4],
    }
    first, second = tracks.truth[5, 3]
    assert (first["pixels"], first["area"], first["score"]) == (72, 36, None)
    assert (second["pixels"], second["area"], second["segmentations"][1]) == (36, 36, None)
    assert tracks.results[5, 3][0]["score"] == 0.5 and tracks.results[2, 1] == []
    together = read(truth, [track(5) | {"category_id": 77}], use_categories=False)
    assert together.categories == [ANY_CATEGORY] and len(together.results[5, ANY_CATEGORY]) == 1


def test_track_ious_are_those_of_all_frames_together():
    truths = read(TRUTH, []).truth[1, 1]
    shifted = track() | {"segmentations": [track()["segmentations"][0], None]}
    results = read(TRUTH, [shifted, track()]).results[1, 1]
    assert track_ious(results, truths).tolist() == [[0.5, 0.0], [1.0, 0.0]]
    assert track_ious([], truths).shape == (0, 2)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_the_runs_of_an_rle_are_read_back(density):
    mask = np.random.default_rng(1).random((37, 53)) < density
    runs = rle_runs(encode_rle(mask)["counts"])
    pixels = np.repeat(np.arange(len(runs)) % 2, runs).astype(bool)
    assert np.array_equal(pixels.reshape(mask.shape, order="F"), mask)


def test_uncompressed_results_are_the_same_as_compressed_ones():
    plain = track()
    plain["segmentations"] = [
        {**rle, "counts": rle_runs(rle["counts"]).tolist()} for rle in plain["segmentations"]
    ]
    assert average_precision(TRUTH, [plain]).scores() == average_precision(TRUTH, [track()]).scores()


def without(key: str) -> dict:
    return {name: value for name, value in track().items() if name != key}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"results": []}, "must be a list"),
        ([1], "result 0 must have"),
        ([without("score")], "result 0 must have"),
        ([track() | {"score": float("nan")}], "score nan"),
        ([track(9)], "video 9, which the annotations do not have"),
        ([track() | {"category_id": 5}], "category 5, which the annotations do not have"),
        ([track() | {"segmentations": [None]}], "must have 2 segmentations"),
        (
            [track() | {"segmentations": [encode_rle(np.ones((5, 5), dtype=bool)), None]}],
            "frame 0, has the size",
        ),
        ([track() | {"segmentations": [[1, 2, 3], None]}], "frame 0, is not an RLE"),
        ([track() | {"segmentations": [{"size": [20, 30], "counts": "5"}, None]}], "do not fill"),
        ([track() | {"segmentations": [{"size": [20, 30], "counts": "o"}, None]}], "cut short"),
        ([track() | {"segmentations": [{"size": [20, 30], "counts": [606, -6]}, None]}], "do not fill"),
    ],
)
def test_what_is_no_result_is_named(results, message):
    with pytest.raises(UserError, match=message) as error:
        read(TRUTH, results)
    assert str(error.value).startswith("mine.json")


def test_what_is_no_annotation_file_is_named():
    for truth in ([], {"videos": []}, {"videos": [{"id": 1}], "categories": [], "annotations": []}):
        with pytest.raises(UserError, match=r"truth\.json"):
            read(truth, [])
