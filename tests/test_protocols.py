"""The table of protocols; YouTube-VIS, MOTS and our own on small folders, and the official numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from metrics_golden import FOLDER, TOLERANCE, VIDEOS, golden_arrays, needs_golden, numbers
from PIL import Image

from common.errors import UserError
from common.masks import encode_rle
from common.protocols import PROTOCOLS, mots, tcovis, ytvis
from common.video_scores import VideoScorer, summarise


def boxes(**left: int) -> np.ndarray:
    """(20, 30) label map of 6 x 6 squares; `o3=10` is object 3 with its left edge at column 10."""
    labels = np.zeros((20, 30), dtype=np.uint16)
    for name, column in left.items():
        labels[5:11, column : column + 6] = int(name[1:])
    return labels


TRUTH = [boxes(o1=2, o2=20), boxes(o1=3, o2=20), boxes(o1=4)]
RESULTS = [boxes(o1=2, o2=20), boxes(o3=3, o2=18), boxes(o3=4)]


def write(folder: Path, maps: list[np.ndarray], names: list[str] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for frame, labels in enumerate(maps):
        name = names[frame] if names else f"{frame:05d}"
        Image.fromarray(labels if labels.max() > 255 else labels.astype(np.uint8)).save(
            folder / f"{name}.png"
        )
    return folder


def results_json(path: Path, videos: list[list[np.ndarray]], category: int = 1) -> list[dict]:
    """Write label maps of videos 1, 2, ... as results in the YouTube-VIS form."""
    results = []
    for video_id, maps in enumerate(videos, start=1):
        for track in np.setdiff1d(maps, [0]):
            masks = [labels == track for labels in maps]
            rles = [encode_rle(mask) if mask.any() else None for mask in masks]
            entry = {"video_id": video_id, "category_id": category, "score": 0.5, "segmentations": rles}
            results.append(entry)
    path.write_text(json.dumps(results))
    return results


@pytest.fixture
def run(tmp_path) -> tuple[Path, Path]:
    """The output of inference on the videos a, b, c, and annotations of b and c; c on every other frame."""
    maps = {"a": [boxes(o1=1)] * 3, "b": RESULTS, "c": [TRUTH[0], RESULTS[2], TRUTH[2]]}
    for name, labels in maps.items():
        write(tmp_path / "O" / "Annotations" / name, labels)
    results_json(tmp_path / "O" / "results.json", list(maps.values()))
    write(tmp_path / "A" / "b", TRUTH)
    write(tmp_path / "A" / "c", [TRUTH[0], TRUTH[2]], ["00000", "00002"])
    return tmp_path / "O", tmp_path / "A"


def test_the_table_names_every_protocol():
    assert set(PROTOCOLS) == {"tcovis", "davis", "davis_unsupervised", "sav", "youtube_vos", "ytvis", "mots"}


def test_our_own_protocol_is_the_scorer_of_training(run):
    scores = []
    for video_id, frames in ((2, zip(TRUTH, RESULTS, strict=True)), (3, [(TRUTH[0],) * 2, (TRUTH[2],) * 2])):
        scorer = VideoScorer(video_id=video_id)
        for place, (truth, result) in enumerate(frames):
            scorer.add(truth, result, frame=place * (video_id - 1))
        scores.append(scorer.result())
    report = tcovis(*run)
    assert report["overall"] == summarise(scores, json.loads((run[0] / "results.json").read_text()))
    assert list(report["videos"]) == ["b", "c"]
    assert report["videos"]["c"]["J"] == 100 and report["videos"]["b"]["id_switches"] == 1
    assert report["overall"]["AP"] is not None
    json.dumps(report, allow_nan=False)


def test_the_number_of_processes_changes_nothing(run):
    assert tcovis(*run, num_workers=2) == tcovis(*run)


def test_a_prompted_system_is_not_scored_where_it_was_given_the_object(tmp_path):
    write(tmp_path / "O" / "a", [boxes(o1=20), boxes(o1=2)])
    write(tmp_path / "A" / "a", [boxes(o1=2)] * 2)
    assert tcovis(tmp_path / "O", tmp_path / "A", prompted=True)["overall"]["J"] == 100
    assert tcovis(tmp_path / "O", tmp_path / "A")["overall"]["J"] == 50


def test_categories_of_meta_json_are_told_apart_on_demand(run):
    annotations = run[1]
    objects = {"1": {"category": "ape"}, "2": {"category": "zebra"}}
    meta = {"videos": {name: {"objects": objects} for name in "bc"}}
    (annotations / "meta.json").write_text(json.dumps(meta))
    apart, together = (tcovis(*run, use_categories=use)["overall"]["AP"] for use in (True, False))
    assert apart < together


def test_without_results_json_ap_is_null_and_stderr_says_so(run, capsys):
    (run[0] / "results.json").unlink()
    overall = tcovis(*run)["overall"]
    assert overall["AP"] is None and overall["J"] > 0
    assert "AP is skipped" in capsys.readouterr().err


def test_a_missing_video_or_frame_is_named(run):
    results, annotations = run
    write(annotations / "d", TRUTH)
    with pytest.raises(UserError, match=r"there is no folder .*/O/Annotations/d"):
        tcovis(results, annotations)
    write(results / "Annotations" / "d", RESULTS[:2])
    with pytest.raises(UserError, match=r"O/Annotations/d/00002\.png is missing"):
        tcovis(results, annotations)


def test_a_file_that_is_not_results_is_named(run):
    path = run[0] / "results.json"
    for text in ("{", "{}", '[{"video_id": 2}]'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"O/results\.json"):
            tcovis(*run)


def test_mots_lists_switches_by_frame_and_scores_by_alpha(tmp_path):
    write(tmp_path / "R" / "a", RESULTS)
    write(tmp_path / "A" / "a", TRUTH)
    report = mots(tmp_path / "R", tmp_path / "A")
    assert report["videos"]["a"]["switches"] == [{"frame": "00001", "truth_id": 1, "old_id": 1, "new_id": 3}]
    assert (report["overall"]["IDSW"], report["overall"]["Frag"]) == (1, 0)
    assert report["overall"]["MOTSA"] == pytest.approx(4 / 5)
    assert len(report["overall"]["per_alpha"]["HOTA"]) == 19


@pytest.mark.parametrize("ignored", [10_000, 255])
def test_mots_ignores_results_in_ignored_regions(tmp_path, ignored):
    truth = boxes(o1=2, **{f"o{ignored}": 20})
    write(tmp_path / "R" / "a", [boxes(o1=2, o5=20)])
    write(tmp_path / "A" / "a", [truth])
    overall = mots(tmp_path / "R", tmp_path / "A")["overall"]
    assert overall["MOTSA"] == overall["HOTA"] == 1.0


def test_ytvis_takes_files_or_the_folders_that_hold_them(tmp_path):
    results = results_json(tmp_path / "results.json", [TRUTH])
    annotations = [
        {key: value for key, value in entry.items() if key != "score"}
        | {"id": i, "areas": [36] * 3, "iscrowd": 0}
        for i, entry in enumerate(results, start=1)
    ]
    video = {"id": 1, "width": 30, "height": 20, "length": 3}
    truth = {"videos": [video], "categories": [{"id": 1, "name": "thing"}], "annotations": annotations}
    (tmp_path / "instances.json").write_text(json.dumps(truth))
    report = ytvis(tmp_path, tmp_path / "instances.json")
    assert report == ytvis(tmp_path / "results.json", tmp_path)
    assert report["overall"]["AP"] == pytest.approx(1)
    assert report["videos"] == {"1": {"objects": 2, "results": 2}}
    with pytest.raises(UserError, match=r"instances\.json: results must be a list"):
        ytvis(tmp_path / "instances.json", tmp_path / "instances.json")


@needs_golden
def test_every_number_of_ytvoseval_is_met():
    report = ytvis(FOLDER / "ytvis_pred.json", FOLDER / "ytvis_gt.json")
    assert report["overall"] == pytest.approx(
        numbers("expected_ytvis.json")["useCats"]["stats"], abs=TOLERANCE
    )


@needs_golden
def test_the_numbers_of_trackeval_are_met_from_16_bit_folders(tmp_path):
    masks = golden_arrays("masks.npz")
    for video in VIDEOS:
        truth = masks[f"gt_v{video}"].astype(np.uint16)
        truth[masks.get(f"ignore_v{video}", np.zeros_like(truth)) > 0] = 10_000
        for frame in truth:
            frame.flags.writeable = False
        folder = tmp_path / "A" / f"v{video}"
        folder.mkdir(parents=True)
        for number, labels in enumerate(truth):
            Image.fromarray(labels).save(folder / f"{number:05d}.png")
        write(tmp_path / "R" / f"v{video}", list(masks[f"pred_trk_v{video}"]))
    report = mots(tmp_path / "R", tmp_path / "A")
    official = numbers("expected_tracking.json")["mots"]
    for name, ours in [*report["videos"].items(), ("COMBINED_SEQ", report["overall"])]:
        hota, clear = official[name]["HOTA"], official[name]["CLEAR"]
        for key, values in ours["per_alpha"].items():
            assert values == pytest.approx(hota[key], abs=TOLERANCE)
        expected = {"MOTSA": clear["MOTA"], "sMOTSA": clear["sMOTA"], "MOTSP": clear["MOTP"]}
        expected |= {key: clear[key] for key in ("IDSW", "Frag")}
        expected |= {"IDF1": official[name]["Identity"]["IDF1"]}
        assert {key: ours[key] for key in expected} == pytest.approx(expected, abs=TOLERANCE)
