"""HOTA, CLEAR, Identity and TrackMAP by class: small files by hand, and TrackEval itself on random ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scoring.protocols.ytvis_tracking import CLASS_MEAN, POOLED, score_classes
from scoring.report import Scores
from scoring.vis_tracks import ANY_CATEGORY, read_tracks
from tests.support.label_folders import NOTHING, blobs, boxes, tracks_of, truth_json
from video.rle import rle_runs

pytest.importorskip("pycocotools")

CATS, DOGS = [boxes(o1=2)] * 3, [boxes(o1=20)] * 3
NAMES = {1: "cat", 2: "dog", 3: "ghost"}
GT, TRACKERS = "gt_youtube_vis_", "trackers_youtube_vis_"  # TrackEval adds its own ending to a folder


def score(
    truth: list[dict], results: list[dict], lengths: dict[int, int], names: dict[int, str] = NAMES
) -> dict[str, Scores]:
    tracks = read_tracks(truth_json(truth, lengths, names), results, True, "truth", "results")
    return score_classes(tracks, names, {i: f"v{i}" for i in lengths})


def test_each_class_is_scored_alone_and_all_together():
    truth = tracks_of(CATS, 1, 1) + tracks_of(DOGS, 1, 2)
    results = tracks_of(CATS, 1, 1) + tracks_of([*DOGS[:2], NOTHING], 1, 2)
    report = score(truth, results, {1: 3})
    assert list(report) == ["cat", "dog", "ghost", CLASS_MEAN, POOLED]
    assert report["cat"]["HOTA"]["HOTA"] == report["cat"]["Identity"]["IDF1"] == 1
    assert report["dog"]["CLEAR"]["MOTA"] == pytest.approx(2 / 3)
    assert report["ghost"]["HOTA"]["HOTA"] == 0 and report["ghost"]["TrackMAP"] == -1
    assert report[CLASS_MEAN]["CLEAR"]["MOTA"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert report[POOLED]["CLEAR"]["MOTA"] == pytest.approx(5 / 6)
    assert report[CLASS_MEAN]["CLEAR"]["CLR_TP"] == report[POOLED]["CLEAR"]["CLR_TP"] == 5
    assert report[CLASS_MEAN]["TrackMAP"] == report[POOLED]["TrackMAP"]
    assert len(report[CLASS_MEAN]["per_alpha"]["HOTA"]) == 19
    json.dumps(report, allow_nan=False)


def test_a_result_of_another_class_is_no_match():
    report = score(tracks_of(CATS, 1, 1), tracks_of(CATS, 1, 2), {1: 3})
    assert (report["cat"]["CLEAR"]["CLR_FN"], report["dog"]["CLEAR"]["CLR_FP"]) == (3, 3)
    assert report[POOLED]["HOTA"]["HOTA"] == 0


def test_where_categories_are_not_told_apart_there_is_one_class():
    truth = truth_json(tracks_of(CATS, 1, 1), {1: 3}, NAMES)
    tracks = read_tracks(truth, tracks_of(CATS, 1, 2), False, "truth", "results")
    report = score_classes(tracks, {ANY_CATEGORY: "all"}, {1: "v1"})
    assert list(report) == ["all", CLASS_MEAN, POOLED]
    assert all(one["HOTA"]["HOTA"] == 1 for one in report.values())
    assert all(one["TrackMAP"] == pytest.approx(1) for one in report.values())


def test_without_categories_there_is_nothing_to_score():
    assert score([], [], {1: 3}, names={}) == {}


def test_a_mask_without_pixels_is_a_detection_and_null_is_none():
    (empty,) = tracks_of(CATS, 1)
    none = {**empty, "segmentations": [empty["segmentations"][0], None, None]}
    blank = {"size": [20, 30], "counts": [600]}
    empty = {**empty, "segmentations": [empty["segmentations"][0], blank, blank]}
    invented = [score(tracks_of(CATS, 1), [one], {1: 3})["cat"]["CLEAR"]["CLR_FP"] for one in (none, empty)]
    assert invented == [0, 2]


def test_the_object_of_the_very_first_result_can_be_taken_again_by_trackmap():
    both = tracks_of(CATS, 1) + tracks_of(DOGS, 1)
    twice = tracks_of(CATS, 1, score=0.9) + tracks_of(CATS, 1, score=0.8)
    assert score(both, twice, {1: 3})["cat"]["TrackMAP"] == pytest.approx(1)
    earlier = tracks_of(CATS, 0, category=2)  # now the first result is that of another video
    assert score(both, twice + earlier, {1: 3, 0: 3})["cat"]["TrackMAP"] == pytest.approx(51 / 101)


@pytest.mark.parametrize("seed", range(5))
def test_trackeval_itself_agrees_on_random_files(tmp_path, seed):
    trackeval = pytest.importorskip("trackeval")
    rng = np.random.default_rng(seed)
    names = {4: "a", 9: "b", 11: "empty"}
    lengths = {30: 5, 2: 4, 17: 6}
    truth, results = [], []
    for video, length in lengths.items():
        for track in tracks_of(blobs(seed + video, length, objects=5), video):
            truth.append(
                {**track, "category_id": int(rng.choice([4, 9])), "iscrowd": int(rng.random() < 0.1)}
            )
        for place in range(2):
            for track in tracks_of(blobs(seed + video * (1 - place), length, objects=5), video):
                score = float(rng.choice([0.3, 0.5, 0.7]))
                results.append({**track, "category_id": int(rng.choice([4, 9])), "score": score})
    ours = score_of_files(tmp_path, truth_json(truth, lengths, names), results, names)
    official = evaluate_by_trackeval(trackeval, tmp_path)
    assert ours.keys() == official.keys()
    for name, one in ours.items():
        for family in ("HOTA", "CLEAR", "Identity"):
            expected = {key: np.mean(official[name][family][key]) for key in one[family]}
            assert one[family] == pytest.approx(expected, abs=1e-9), (name, family)
        assert one["TrackMAP"] == pytest.approx(np.mean(official[name]["TrackMAP"]["AP_all"]), abs=1e-9)


def score_of_files(root: Path, truth: dict, results: list[dict], names: dict[int, str]) -> dict[str, Scores]:
    """Our scores; writes the files where TrackEval looks for them."""
    tracks = read_tracks(truth, results, True, "truth", "results")
    ours = score_classes(tracks, names, {video["id"]: f"v{video['id']}" for video in truth["videos"]})
    for folder, content in ((GT, plain(truth)), (f"{TRACKERS}/mine/data", results)):
        (root / folder).mkdir(parents=True)
        (root / folder / "file.json").write_text(json.dumps(content))
    return ours


def plain(truth: dict) -> dict:
    """The annotations with uncompressed masks."""

    def runs(rle: dict | None) -> dict | None:
        return rle and {**rle, "counts": rle_runs(rle["counts"]).tolist()}

    annotations = [
        {**one, "segmentations": [runs(rle) for rle in one["segmentations"]]} for one in truth["annotations"]
    ]
    return {**truth, "annotations": annotations}


def evaluate_by_trackeval(trackeval: Any, root: Path) -> dict[str, dict]:
    """TrackEval's numbers of all videos: {class: {family: {name: ...}}}."""
    quiet = {"PRINT_CONFIG": False}
    folders = {"GT_FOLDER": str(root / "gt_"), "TRACKERS_FOLDER": str(root / "trackers_")}
    dataset = trackeval.datasets.YouTubeVIS({**quiet, **folders, "SPLIT_TO_EVAL": ""})
    silent = dict.fromkeys(
        (
            "PRINT_RESULTS",
            "PRINT_CONFIG",
            "TIME_PROGRESS",
            "OUTPUT_SUMMARY",
            "OUTPUT_DETAILED",
            "PLOT_CURVES",
        ),
        False,
    )
    metrics = trackeval.metrics
    families = [
        metrics.HOTA(),
        metrics.CLEAR(quiet),
        metrics.Identity(quiet),
        metrics.TrackMAP({**quiet, "USE_TIME_RANGES": False}),
    ]
    results, _ = trackeval.Evaluator({**silent, "USE_PARALLEL": False}).evaluate([dataset], families)
    return results["YouTubeVIS"]["mine"]["COMBINED_SEQ"]
