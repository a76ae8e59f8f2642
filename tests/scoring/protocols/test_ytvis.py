"""The protocol of YouTube-VIS on small JSON files."""

import json
from pathlib import Path

import pytest

from common.errors import UserError
from scoring import vis_tracks
from scoring.protocols.ytvis import ytvis
from tests.support.label_folders import NOTHING, blobs, boxes, tracks_of, truth_json

pytest.importorskip("pycocotools")

MAPS = [boxes(o1=2, o2=20), boxes(o1=3, o2=20), boxes(o1=4)]


def save(folder: Path, truth: dict, results: list[dict]) -> tuple[Path, Path]:
    """results.json and instances.json in a folder."""
    folder.mkdir(exist_ok=True)
    paths = folder / "results.json", folder / "instances.json"
    for path, content in zip(paths, (results, truth), strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_files_or_the_folders_that_hold_them_are_taken(tmp_path):
    save(tmp_path, truth_json(tracks_of(MAPS, 1), {1: 3}), tracks_of(MAPS, 1))
    report = ytvis(tmp_path, tmp_path / "instances.json")
    assert report == ytvis(tmp_path / "results.json", tmp_path)
    names = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()
    assert list(report["overall"]) == names
    assert report["overall"]["AP"] == pytest.approx(1)
    assert report["overall"]["AR1"] == 0.5 and report["overall"]["APl"] == -1
    ap = pytest.approx(1)
    assert report["videos"] == {"v1": {"objects": 2, "results": 2, "AP": ap, "AP50": ap}}
    assert report["warnings"] == [] and "tracking" not in report


def test_a_video_is_named_by_its_folder_on_windows_too(tmp_path):
    truth = truth_json(tracks_of(MAPS, 1), {1: 3})
    truth["videos"][0]["file_names"] = [f"cat\\\\{t}.jpg" for t in range(3)]
    assert list(ytvis(*save(tmp_path, truth, tracks_of(MAPS, 1)))["videos"]) == ["cat"]


def test_every_video_has_its_own_ap_and_the_mean_over_all_is_another(tmp_path):
    truth = tracks_of(MAPS, 7) + tracks_of(MAPS, 3)
    results = tracks_of(MAPS, 7) + tracks_of([*MAPS[:2], NOTHING], 3)
    paths = save(tmp_path, truth_json(truth, {7: 3, 3: 3}), results)
    report = ytvis(*paths)
    assert list(report["videos"]) == ["v3", "v7"]
    assert report["videos"]["v7"]["AP"] == pytest.approx(1)
    assert report["videos"]["v3"]["AP"] < report["overall"]["AP"] < 1


def test_tracking_scores_are_added_on_demand_by_the_names_of_the_classes(tmp_path):
    truth = truth_json(tracks_of(MAPS, 1, 5), {1: 3}, {5: "cat", 6: "dog"})
    paths = save(tmp_path, truth, tracks_of(MAPS, 1, 5))
    tracking = ytvis(*paths, tracking=True)["tracking"]
    assert list(tracking) == ["cat", "dog", "cls_comb_cls_av", "cls_comb_det_av"]
    assert tracking["cat"]["HOTA"]["HOTA"] == tracking["cls_comb_det_av"]["Identity"]["IDF1"] == 1
    together = ytvis(*paths, tracking=True, use_categories=False)["tracking"]
    assert list(together) == ["all", "cls_comb_cls_av", "cls_comb_det_av"]


def test_two_classes_of_one_name_are_refused_where_they_are_told_apart(tmp_path):
    paths = save(tmp_path, truth_json([], {1: 3}, {5: "cat", 6: "cat"}), [])
    assert ytvis(*paths)["overall"]["AP"] == -1
    with pytest.raises(UserError, match=r"instances\.json: several categories have the name cat"):
        ytvis(*paths, tracking=True)


def test_a_video_with_objects_and_without_results_is_told(tmp_path):
    truth = truth_json(tracks_of(MAPS, 1) + tracks_of(MAPS, 2), {1: 3, 2: 3, 4: 3})
    results, _ = paths = save(tmp_path, truth, tracks_of(MAPS, 1))
    assert ytvis(*paths)["warnings"] == [
        f"{results} has no result of video 2 (v2): its objects count as missed"
    ]


def test_no_results_at_all_and_videos_of_one_frame_are_legal(tmp_path):
    paths = save(tmp_path, truth_json(tracks_of(MAPS[:1], 1), {1: 1}), [])
    report = ytvis(*paths, tracking=True)
    assert report["overall"]["AP"] == 0 and report["tracking"]["thing"]["CLEAR"]["CLR_FN"] == 2
    save(tmp_path, truth_json(tracks_of(MAPS[:1], 1), {1: 1}), tracks_of(MAPS[:1], 1))
    assert ytvis(*paths)["overall"]["AP"] == pytest.approx(1)


def test_the_order_of_videos_changes_no_bit(tmp_path):
    videos = {i: blobs(i, objects=4) for i in range(1, 8)}

    def score(order: list[int]) -> str:
        truth = [track for i in order for track in tracks_of(videos[i], i, i % 2 + 1)]
        results = [track for i in order for track in tracks_of(blobs(i, 4, 3), i, i % 3 % 2 + 1)]
        annotations = truth_json(truth, dict.fromkeys(order, 4), {1: "a", 2: "b"})
        return json.dumps(ytvis(*save(tmp_path, annotations, results), tracking=True))

    assert score([1, 2, 3, 4, 5, 6, 7]) == score([6, 3, 7, 5, 1, 2, 4])


def test_many_masks_are_read_by_several_processes_to_the_same_numbers(tmp_path, monkeypatch):
    truth = tracks_of(MAPS, 7) + tracks_of(MAPS, 3)
    paths = save(tmp_path, truth_json(truth, {7: 3, 3: 3}), tracks_of([*MAPS[:2], NOTHING], 3))
    alone = ytvis(*paths)
    monkeypatch.setattr(vis_tracks, "MANY", 2)
    assert ytvis(*paths, num_workers=2) == alone
    broken = json.loads(paths[0].read_text())
    broken[0]["segmentations"][0]["size"] = [1, 1]
    paths[0].write_text(json.dumps(broken))
    with pytest.raises(UserError, match=r"results\.json: result 0, frame 0, has the size"):
        ytvis(*paths, num_workers=2)
