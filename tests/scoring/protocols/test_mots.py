"""The protocol of MOTS on small folders, by both definitions."""

import json
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from scoring.protocols.mots import mots
from tests.support.image_files import write_frame
from tests.support.label_folders import MOVING, SWITCHED, blobs, boxes, write
from tools.submission import write_submission
from video.label_maps import ids_in
from video.rle import encode_rle


def test_mots_lists_switches_by_frame_and_scores_by_alpha(tmp_path):
    write(tmp_path / "R" / "a", SWITCHED)
    write(tmp_path / "A" / "a", MOVING)
    report = mots(tmp_path / "R", tmp_path / "A")
    assert report["videos"]["a"]["switches"] == [{"frame": "00001", "truth_id": 1, "old_id": 1, "new_id": 3}]
    names = "HOTA DetA AssA LocA IDF1 IDSW MOTSA sMOTSA MOTSP Frag".split()
    assert list(report["overall"]) == [*names, "per_alpha", "Count"]
    assert (report["overall"]["IDSW"], report["overall"]["Frag"]) == (1, 0)
    assert report["overall"]["MOTSA"] == pytest.approx(4 / 5)
    assert {name: len(values) for name, values in report["overall"]["per_alpha"].items()} == {
        name: 19 for name in ("HOTA", "DetA", "AssA", "LocA")
    }
    assert report["overall"]["Count"] == {"Dets": 5, "GT_Dets": 5, "IDs": 3, "GT_IDs": 2, "Frames": 3}
    assert report["definition"] == "trackeval" and report["warnings"] == []


@pytest.mark.parametrize("definition", ["trackeval", "mots_tools"])
@pytest.mark.parametrize("ignored", [10_000, 255])
def test_mots_ignores_results_in_ignored_regions(tmp_path, ignored, definition):
    truth = boxes(o1=2, **{f"o{ignored}": 20})
    write(tmp_path / "R" / "a", [boxes(o1=2, o5=20)])
    write(tmp_path / "A" / "a", [truth])
    report = mots(tmp_path / "R", tmp_path / "A", definition=definition)
    assert report["overall"]["MOTSA"] == report["overall"]["sMOTSA"] == 1.0
    assert report["overall"].get("n_itr", 1) == 1


def test_mots_tools_does_not_match_at_one_half_and_has_its_own_names(tmp_path):
    half = boxes(o1=2)
    half[5:8] = 0
    write(tmp_path / "R" / "a", [half, boxes(o1=2)])
    write(tmp_path / "A" / "a", [boxes(o1=2)] * 2)
    folders = tmp_path / "R", tmp_path / "A"
    assert mots(*folders)["overall"]["MOTSA"] == 1
    report = mots(*folders, definition="mots_tools")
    names = "sMOTSA MOTSA MOTSP MOTSAL MODSA recall precision F1 MT PT ML tp fp fn id_switches fragments"
    assert list(report["overall"]) == [*names.split(), "n_gt", "n_itr"]
    assert (report["overall"]["MOTSA"], report["videos"]["a"]["tp"]) == (0, 1)
    with pytest.raises(UserError, match="unknown definition kitti: choose among trackeval, mots_tools"):
        mots(*folders, definition="kitti")


@pytest.mark.parametrize("definition", ["trackeval", "mots_tools"])
def test_mots_without_any_object_is_legal(tmp_path, definition):
    for folder in "RA":
        write(tmp_path / folder / "a", [boxes()])
    report = mots(tmp_path / "R", tmp_path / "A", definition=definition)
    assert report["overall"]["MOTSA"] == (None if definition == "mots_tools" else 0)
    json.dumps(report, allow_nan=False)


def write_mots(path: Path, maps: list[np.ndarray], ignored: int = 10_000) -> None:
    """Label maps as a MOTS file, in which times begin with 1; a region to ignore is of class 10."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for time, labels in enumerate(maps, start=1):
        for i in ids_in(labels):
            kind, counts = 10 if i == ignored else 2, encode_rle(labels == i)["counts"]
            lines.append(f"{time} {i} {kind} {labels.shape[0]} {labels.shape[1]} {counts}\n")
    path.write_text("".join(lines))


@pytest.mark.parametrize("truth", ["instances_txt/a.txt", "a/gt/gt.txt", "a.txt"])
@pytest.mark.parametrize("definition", ["trackeval", "mots_tools"])
def test_mots_files_score_as_the_label_maps_that_they_hold(tmp_path, definition, truth):
    maps = [*MOVING, boxes(o1=5, o10000=20)]
    results = [*SWITCHED, boxes(o4=5, o7=20)]
    write(tmp_path / "R" / "a", results)
    write(tmp_path / "A" / "a", [labels.astype(np.uint16) for labels in maps])
    write_mots(tmp_path / "files" / "a.txt", results)
    write_mots(tmp_path / "truth" / truth, maps)
    by_files = mots(tmp_path / "files", tmp_path / "truth", definition=definition)
    by_maps = mots(tmp_path / "R", tmp_path / "A", definition=definition)
    assert by_files["overall"] == by_maps["overall"]
    if definition == "trackeval":
        assert by_files["videos"]["a"]["switches"][0]["frame"] == "2"  # the time of the file


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1 1 2 20 30", "line 1, has not the form"),
        ("1 1 2 20 30 0 x", "line 1, has not the form"),
        ("x 1 2 20 30 0", "line 1, has not the form"),
        ("1 70000 2 20 30 0", "id of 1 to 65535"),
        ("1 1 2 1000000000 30 0", "a picture has 1 to"),
        ("1 1 2 20 30 nonsense", "line 1, has"),
        ("1 1 2 4 4 `0", "has masks of"),
        ("1 1 2 20 30 PRLE\n1 2 2 20 30 PRLE", "masks of time 1 overlap"),
        ("1 1 2 20 30 PRLE\n1 10000 10 20 30 PRLE", "masks of time 1 overlap"),
        ("1 1 2 20 30 PRLE\n1 1 2 20 30 PRLE", "line 2, has the id 1 again at time 1"),
        ("1 1 2 20 30 PRLE\n2 1 2 4 4 `0", "give all one size"),
    ],
)
def test_a_line_of_a_mots_file_that_is_none_is_named(tmp_path, line, told):
    write_mots(tmp_path / "truth" / "a.txt", MOVING)
    (tmp_path / "files").mkdir()
    counts = encode_rle(np.ones((20, 30), bool))["counts"]
    (tmp_path / "files" / "a.txt").write_text(line.replace("PRLE", counts))
    with pytest.raises(UserError, match=told) as error:
        mots(tmp_path / "files", tmp_path / "truth")
    assert "a.txt" in str(error.value)


def test_results_without_a_counterpart_are_told(tmp_path):
    write_mots(tmp_path / "truth" / "a.txt", MOVING)
    write(tmp_path / "R" / "b", SWITCHED)
    write_mots(tmp_path / "files" / "b.txt", SWITCHED)
    for results in ("R", "files"):
        with pytest.raises(UserError, match=r"has neither a\.txt nor a folder a"):
            mots(tmp_path / results, tmp_path / "truth")


NUMBERS = ["000001", "000002", "000003"]  # MOTS counts from 1


@pytest.mark.parametrize("definition", ["trackeval", "mots_tools"])
def test_label_maps_and_mots_files_are_scored_against_each_other(tmp_path, definition):
    write(tmp_path / "R" / "a", SWITCHED, NUMBERS)
    write(tmp_path / "A" / "instances" / "a", [labels.astype(np.uint16) for labels in MOVING], NUMBERS)
    write_mots(tmp_path / "files" / "a.txt", SWITCHED)
    write_mots(tmp_path / "truth" / "a" / "gt" / "gt.txt", MOVING)
    reports = [
        mots(tmp_path / results, tmp_path / truth, definition=definition)["overall"]
        for results in ("R", "files")
        for truth in ("A", "truth")
    ]
    assert reports[0]["MOTSA"] < 1 and all(report == reports[0] for report in reports)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a", "2", "3"], r"a\.png: MOTS counts frames by their names"),
        (["1", "01", "3"], "name each by a number of its own"),
        (["1", "2", "4"], "no label map of time 3"),
    ],
)
def test_label_maps_whose_names_are_not_the_times_are_told(tmp_path, names, told):
    write(tmp_path / "R" / "a", SWITCHED, names)
    write_mots(tmp_path / "truth" / "a.txt", MOVING)
    with pytest.raises(UserError, match=told):
        mots(tmp_path / "R", tmp_path / "truth")


# ----------------------------------------------------------------------------------------------------
# TrackEval's own reader of the text files


def official_scores(root: Path, trackers: Path, num_frames: int) -> dict[str, float]:
    """What TrackEval says of trackers/t/data/a.txt against root/a/gt/gt.txt."""
    datasets, metrics = pytest.importorskip("trackeval.datasets"), pytest.importorskip("trackeval.metrics")
    config = {"GT_FOLDER": str(root), "TRACKERS_FOLDER": str(trackers), "TRACKERS_TO_EVAL": ["t"]}
    config |= {"SKIP_SPLIT_FOL": True, "SEQ_INFO": {"a": num_frames}, "PRINT_CONFIG": False}
    dataset = datasets.MOTSChallenge(config)
    data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("t", "a"), "pedestrian")
    options = {"PRINT_CONFIG": False}
    hota, identity, clear = (
        metric.eval_sequence(data)
        for metric in (metrics.HOTA(options), metrics.Identity(options), metrics.CLEAR(options))
    )
    names = {"IDSW": "IDSW", "MOTSA": "MOTA", "sMOTSA": "sMOTA", "MOTSP": "MOTP", "Frag": "Frag"}
    return {
        **{name: hota[name].mean() for name in ("HOTA", "DetA", "AssA", "LocA")},
        **{name: clear[official] for name, official in names.items()},
        "IDF1": identity["IDF1"],
    }


def people(seed: int) -> list[np.ndarray]:
    """Six uint16 maps of the objects 2001 to 2003."""
    maps = (labels.astype(np.uint16) for labels in blobs(seed, frames=6))
    return [np.where(labels > 0, labels + 2000, 0).astype(np.uint16) for labels in maps]


def random_sequence(root: Path, seed: int) -> list[np.ndarray]:
    """Write frames and text of a sequence `a`, whose right side is to be ignored; returns results for it."""
    truth, results = people(seed), people(seed)
    for labels in truth:
        labels[:, 20:][labels[:, 20:] == 0] = 10_000
    write_mots(root / "a/gt/gt.txt", truth)
    for time in range(1, 7):
        write_frame(root / f"a/img1/{time:06d}.jpg", *truth[0].shape)
    results[3][results[3] == 2002] = 2007  # a switch
    results[4] = people(seed + 50)[4]  # false positives, some of them in the region
    return results


@pytest.mark.parametrize("seed", range(6))
def test_the_text_that_a_submission_writes_scores_as_in_trackeval(tmp_path, seed):
    root, names = tmp_path / "MOTS", [f"{time:06d}" for time in range(1, 7)]
    write(tmp_path / "out/a", random_sequence(root, seed), names)
    (tmp_path / "trackers/t").mkdir(parents=True)
    write_submission(tmp_path / "trackers/t/data", tmp_path / "out", root, "mots")
    official = official_scores(root, tmp_path / "trackers", num_frames=6)
    assert 0 < official["HOTA"] < 1
    for results in ("out", "trackers/t/data"):
        ours = mots(tmp_path / results, root)["overall"]
        assert {name: ours[name] for name in official} == pytest.approx(official, abs=1e-9)


@pytest.mark.parametrize("side", ["MOTS/a/gt/gt.txt", "trackers/t/data/a.txt"])
def test_text_of_other_programs_is_read_as_trackeval_reads_it(tmp_path, side):
    """More spaces, lines in any order, regions to ignore that overlap each other, and some in results."""
    results = random_sequence(tmp_path / "MOTS", 1)
    write_mots(tmp_path / "trackers/t/data/a.txt", results)
    region = (people(1)[1] == 0) & (results[1] == 0)
    region[:, :15] = False
    lines = (tmp_path / side).read_text().splitlines()
    lines.append(f"2 10000 10 20 30 {encode_rle(region)['counts']}")
    (tmp_path / side).write_text("".join(f"{line.replace(' ', '  ')} \n" for line in reversed(lines)))
    official = official_scores(tmp_path / "MOTS", tmp_path / "trackers", num_frames=6)
    ours = mots(tmp_path / "trackers/t/data", tmp_path / "MOTS")["overall"]
    assert {name: ours[name] for name in official} == pytest.approx(official, abs=1e-9)
