"""The table of protocols; MOTS and our own on small folders; the same numbers in any order, bit for bit."""

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from scoring.protocols.mots import mots
from scoring.protocols.table import PROTOCOLS
from scoring.protocols.tcovis import tcovis
from scoring.tracker_scores import VideoScorer, summarise
from tests.support.label_folders import blobs, boxes, tracks_of, write, youtube_roots

TRUTH = [boxes(o1=2, o2=20), boxes(o1=3, o2=20), boxes(o1=4)]
RESULTS = [boxes(o1=2, o2=20), boxes(o3=3, o2=18), boxes(o3=4)]


@pytest.fixture
def run(tmp_path) -> tuple[Path, Path]:
    """The output of inference on the videos a, b, c, and annotations of b and c; c on every other frame."""
    maps = {"a": [boxes(o1=1)] * 3, "b": RESULTS, "c": [TRUTH[0], RESULTS[2], TRUTH[2]]}
    for name, labels in maps.items():
        write(tmp_path / "O" / "Annotations" / name, labels)
    results = [track for place, labels in enumerate(maps.values(), 1) for track in tracks_of(labels, place)]
    (tmp_path / "O" / "results.json").write_text(json.dumps(results))
    write(tmp_path / "A" / "b", TRUTH)
    write(tmp_path / "A" / "c", [TRUTH[0], TRUTH[2]], ["00000", "00002"])
    return tmp_path / "O", tmp_path / "A"


def test_the_table_names_every_protocol():
    assert set(PROTOCOLS) == {"tcovis", "davis", "davis_unsupervised", "sav", "youtube_vos", "ytvis", "mots"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_docstring_explains_every_option(name):
    options = set(PROTOCOLS[name].score.__kwdefaults__) - {"num_workers"}
    text = PROTOCOLS[name].score.__doc__
    assert [option for option in options if not re.search(rf"^ *(\w+, )*{option}\b.*:", text, re.M)] == []


# ----------------------------------------------------------------------------------------------------
# our own


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


# ----------------------------------------------------------------------------------------------------
# MOTS


def test_mots_lists_switches_by_frame_and_scores_by_alpha(tmp_path):
    write(tmp_path / "R" / "a", RESULTS)
    write(tmp_path / "A" / "a", TRUTH)
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


# ----------------------------------------------------------------------------------------------------
# the same numbers, bit for bit


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tcovis": ("tcovis", {}),
    "davis": ("davis", {}),
    "davis_unsupervised": ("davis_unsupervised", {}),
    "trackeval": ("davis_unsupervised", {"definition": "trackeval"}),
    "sav": ("sav", {}),
    "youtube_vos": ("youtube_vos", {}),
    "mots": ("mots", {}),
    "mots_tools": ("mots", {"definition": "mots_tools"}),
}
NAMES = ["owl", "ape", "fox", "dog", "eel"]


def save_videos(root: Path, names: list[str]) -> tuple[Path, Path]:
    """Five videos by these names, and "cat"; the results are off by some pixels, and wrong in one frame."""
    folders = youtube_roots(root, TRUTH, TRUTH, {1: "ape", 2: "zebra"})
    objects = {str(i): {"category": "ape" if i % 2 else "zebra"} for i in (1, 2, 3)}
    meta = {"videos": {name: {"objects": objects} for name in [*names, "cat"]}}
    (folders[1] / "meta.json").write_text(json.dumps(meta))
    for seed, name in enumerate(names):
        truth = blobs(seed, frames=5)
        truth[0][:4, ::10] = [1, 2, 3]  # DAVIS needs the highest id in the first frame
        found = [np.roll(labels, 1 + t % 2, axis=1) for t, labels in enumerate(truth)]
        found[2] = blobs(seed + 9)[0]
        for folder, maps in zip(folders, (found, truth), strict=True):
            write(folder / "Annotations" / name, maps)
    return folders


class Shuffled:
    """The entries of a folder in another order than the disk's."""

    def __init__(self, entries: Iterator[os.DirEntry]):
        with entries:
            self.entries = list(entries)
        random.Random(len(self.entries)).shuffle(self.entries)

    def __iter__(self) -> Iterator[os.DirEntry]:
        return iter(self.entries)

    def __enter__(self) -> Iterator[os.DirEntry]:
        return iter(self.entries)

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("case", CASES)
def test_the_number_of_processes_and_the_order_of_a_folder_change_no_bit(tmp_path, case, monkeypatch):
    name, options = CASES[case]
    folders = save_videos(tmp_path, NAMES)
    reports = [json.dumps(PROTOCOLS[name].score(*folders, **options, num_workers=n)) for n in (0, 1, 2)]
    scandir, listdir = os.scandir, os.listdir
    monkeypatch.setattr(os, "scandir", lambda path=".": Shuffled(scandir(path)))
    monkeypatch.setattr(os, "listdir", lambda path=".": listdir(path)[::-1])
    reports.append(json.dumps(PROTOCOLS[name].score(*folders, **options)))
    assert len(set(reports)) == 1


@pytest.mark.parametrize("case", [case for case in CASES if case != "tcovis"])
def test_the_names_of_the_videos_change_no_bit_of_the_overall_scores(tmp_path, case):
    name, options = CASES[case]
    folders = [save_videos(tmp_path / str(turn), NAMES[turn:] + NAMES[:turn]) for turn in (0, 2)]
    first, second = (PROTOCOLS[name].score(*pair, **options) for pair in folders)
    assert first["overall"] == second["overall"]
    assert first["videos"]["owl"] == second["videos"]["fox"]


def test_a_shuffled_list_of_the_set_changes_no_bit(tmp_path):
    results, root = save_videos(tmp_path, NAMES)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    overall = []
    for names in (NAMES, NAMES[::-1]):
        (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(names))
        report = PROTOCOLS["davis"].score(results, root)
        assert list(report["videos"]) == names
        overall.append(report["overall"])
    assert overall[0] == overall[1]
