"""The protocol of MOTS on small folders, by both definitions."""

import json

import pytest

from common.errors import UserError
from scoring.protocols.mots import mots
from tests.support.label_folders import MOVING, SWITCHED, boxes, write


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
