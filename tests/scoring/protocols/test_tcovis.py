"""Our own protocol on small folders: the scorer of training, and AP from results.json."""

import json
from pathlib import Path

import pytest

from common.errors import UserError
from scoring.protocols.tcovis import tcovis
from scoring.tracker_scores import VideoScorer, summarise
from tests.support.label_folders import MOVING, SWITCHED, boxes, tracks_of, write


@pytest.fixture
def run(tmp_path) -> tuple[Path, Path]:
    """The output of inference on the videos a, b, c, and annotations of b and c; c on every other frame."""
    maps = {"a": [boxes(o1=1)] * 3, "b": SWITCHED, "c": [MOVING[0], SWITCHED[2], MOVING[2]]}
    for name, labels in maps.items():
        write(tmp_path / "O" / "Annotations" / name, labels)
    results = [track for place, labels in enumerate(maps.values(), 1) for track in tracks_of(labels, place)]
    (tmp_path / "O" / "results.json").write_text(json.dumps(results))
    write(tmp_path / "A" / "b", MOVING)
    write(tmp_path / "A" / "c", [MOVING[0], MOVING[2]], ["00000", "00002"])
    return tmp_path / "O", tmp_path / "A"


def test_our_own_protocol_is_the_scorer_of_training(run):
    scores = []
    for video_id, frames in (
        (2, zip(MOVING, SWITCHED, strict=True)),
        (3, [(MOVING[0],) * 2, (MOVING[2],) * 2]),
    ):
        scorer = VideoScorer(video_id=video_id)
        for place, (truth, result) in enumerate(frames):
            scorer.add(truth, result, frame=place * (video_id - 1))
        scores.append(scorer.result())
    report = tcovis(*run)
    assert report["overall"] == summarise(scores, json.loads((run[0] / "results.json").read_text()))
    assert list(report["videos"]) == ["b", "c"]
    assert report["videos"]["c"]["J"] == 100 and report["videos"]["b"]["id_switches"] == 1
    assert report["overall"]["AP"] is not None
    assert report["warnings"] == [f"{run[0]}/Annotations/a is not scored: there are no true masks of a"]
    json.dumps(report, allow_nan=False)


def test_a_prompted_system_is_not_scored_where_it_was_given_the_object(tmp_path):
    write(tmp_path / "O" / "a", [boxes(o1=20), boxes(o1=2)])
    write(tmp_path / "A" / "a", [boxes(o1=2)] * 2)
    assert tcovis(tmp_path / "O", tmp_path / "A", prompted=True)["overall"]["J"] == 100
    assert tcovis(tmp_path / "O", tmp_path / "A")["overall"]["J"] == 50


def test_a_video_of_one_frame_is_scored_unless_it_was_given(tmp_path):
    for folder in "OA":
        write(tmp_path / folder / "a", [boxes(o1=2)])
    assert tcovis(tmp_path / "O", tmp_path / "A")["overall"]["J&F"] == 100
    prompted = tcovis(tmp_path / "O", tmp_path / "A", prompted=True)["overall"]
    assert prompted["J&F"] is None and prompted["HOTA"] == pytest.approx(100)


def test_categories_of_meta_json_are_told_apart_on_demand(run):
    annotations = run[1]
    objects = {"1": {"category": "ape"}, "2": {"category": "zebra"}}
    meta = {"videos": {name: {"objects": objects} for name in "bc"}}
    (annotations / "meta.json").write_text(json.dumps(meta))
    apart, together = (tcovis(*run, use_categories=use)["overall"]["AP"] for use in (True, False))
    assert apart < together


def test_categories_that_nobody_gave_are_named(run):
    results, annotations = run
    meta = {"videos": {name: {"objects": {"1": {"category": "ape"}}} for name in "bc"}}
    with pytest.raises(UserError, match=r"A/meta\.json lacks the category of ids 1, 2 of video b"):
        tcovis(*run, use_categories=True)
    (annotations / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"A/meta\.json lacks the category of id 2 of video b"):
        tcovis(*run, use_categories=True)
    for text in ('["ape"]', '{"one": "ape"}', "{"):
        (results / "categories.json").write_text(text)
        with pytest.raises(UserError, match=r"O/categories\.json"):
            tcovis(*run, use_categories=True)


def test_without_results_json_ap_is_null_and_a_warning_says_so(run):
    (run[0] / "results.json").unlink()
    report = tcovis(*run)
    assert report["overall"]["AP"] is None and report["overall"]["J"] > 0
    assert report["warnings"][-1] == f"AP is skipped: there is no {run[0]}/results.json"


def test_a_missing_video_or_frame_is_named(run):
    results, annotations = run
    write(annotations / "d", MOVING)
    with pytest.raises(UserError, match=r"there is no folder .*/O/Annotations/d"):
        tcovis(results, annotations)
    write(results / "Annotations" / "d", SWITCHED[:2])
    with pytest.raises(UserError, match=r"O/Annotations/d/00002\.png is missing"):
        tcovis(results, annotations)


def test_a_file_that_is_not_results_is_named(run):
    path = run[0] / "results.json"
    for text in ("{", "{}", '[{"video_id": 2}]'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"O/results\.json"):
            tcovis(*run)
