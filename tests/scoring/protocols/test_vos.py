"""SA-V and YouTube-VOS: the rules by hand, and what their programs leave out in silence."""

import json
import shutil

import numpy as np
import pytest

from common.errors import UserError
from scoring.protocols.vos import YOUTUBE_VOS_RULES, sav, youtube_vos
from tests.support.label_folders import NOTHING, boxes, roots, write, youtube_roots


def test_sav_punishes_an_object_that_is_seen_too_early_and_ignores_unknown_ids(tmp_path):
    truth, results = [NOTHING, boxes(o3=2)], [boxes(o3=2, o4=20), boxes(o3=2, o4=20)]
    report = sav(*roots(tmp_path, truth, results), skip_first_and_last=False)
    assert report["videos"]["cat"]["objects"] == {"3": {"J&F": 50, "J": 50, "F": 50}}
    assert report["overall"] == {"J&F": 50, "J": 50, "F": 50}
    line = "SA-V ignores id 4, which the true masks that are scored lack"
    assert report["warnings"] == [f"{tmp_path}/results/cat: {line}"]


def test_sav_leaves_out_the_first_and_the_last_frame(tmp_path):
    results = [boxes(o1=20), boxes(o1=2), boxes(o1=20)]
    report = sav(*roots(tmp_path, [boxes(o1=2)] * 3, results))
    assert list(report["overall"]) == ["J&F", "J", "F"]
    assert report["overall"]["J"] == 100 and report["warnings"] == []


@pytest.mark.parametrize("frames", [1, 2])
def test_sav_has_nothing_to_score_between_two_frames_and_says_so(tmp_path, frames):
    folders = roots(tmp_path, [boxes(o1=2)] * frames, [boxes(o1=2)] * frames)
    report = sav(*folders)
    assert report["overall"] == {"J&F": None, "J": None, "F": None}
    assert f"truth/cat has {frames} masks" in report["warnings"][0]
    assert sav(*folders, skip_first_and_last=False)["overall"]["J"] == 100


def test_sav_takes_overlapping_masks_of_single_objects(tmp_path):
    for side in ("truth", "results"):
        for name, column in (("000", 2), ("007", 4)):
            write(tmp_path / side / "cat" / name, [boxes(o255=column)] * 3)
    write(tmp_path / "results" / "cat" / "009", [boxes(o1=2)] * 3)
    report = sav(tmp_path / "results", tmp_path / "truth")
    objects = report["videos"]["cat"]["objects"]
    assert {name: one["J"] for name, one in objects.items()} == {"000": 100, "007": 100}
    assert report["warnings"] == [f"{tmp_path}/results/cat: SA-V ignores id 009, which the truth lacks"]


def test_sav_says_which_objects_are_on_the_first_and_last_mask_alone(tmp_path):
    maps = [boxes(o1=2, o2=8), boxes(o1=2), boxes(o1=2)]
    write(tmp_path / "truth" / "Annotations_6fps" / "cat", maps)
    write(tmp_path / "results" / "cat", maps)
    report = sav(tmp_path / "results", tmp_path / "truth")
    assert list(report["videos"]["cat"]["objects"]) == ["1"]
    assert len(report["warnings"]) == 1 and "id 2 is left out" in report["warnings"][0]
    assert sav(tmp_path / "results", tmp_path / "truth", skip_first_and_last=False)["warnings"] == []


def test_sav_refuses_two_ids_in_the_folder_of_one_object(tmp_path):
    for root in ("truth", "results"):
        write(tmp_path / root / "cat" / "001", [boxes(o1=2)] * 3)
    write(tmp_path / "results" / "cat" / "001", [boxes(o1=2, o2=8)] * 3)
    with pytest.raises(UserError, match=r"results/cat/001/00001\.png has ids 1, 2"):
        sav(tmp_path / "results", tmp_path / "truth")


def test_sav_does_not_report_an_object_whose_masks_are_empty(tmp_path):
    for side, maps in (("truth", [NOTHING] * 3), ("results", [boxes(o1=2)] * 3)):
        write(tmp_path / side / "cat" / "000", maps)
        write(tmp_path / side / "cat" / "001", [boxes(o1=2)] * 3)
    report = sav(tmp_path / "results", tmp_path / "truth")
    assert report["videos"]["cat"]["objects"].keys() == {"001"}
    assert report["warnings"] == [
        f"{tmp_path}/results/cat/000: SA-V ignores the object, which the true masks that are scored lack"
    ]


def test_sav_scores_contiguous_and_other_ids_alike_and_an_absent_object_as_right(tmp_path):
    truth = [boxes(o9=2, o200=20), boxes(o9=2), boxes(o9=2)]
    report = sav(*roots(tmp_path, truth, truth), skip_first_and_last=False)
    assert {i: one["J"] for i, one in report["videos"]["cat"]["objects"].items()} == {"9": 100, "200": 100}


def test_youtube_vos_means_seen_and_unseen_categories_apart(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o2=20), boxes(o1=2, o2=20)]
    results = [boxes(o1=20), boxes(o1=2, o2=10), boxes(o1=2)]
    folders = youtube_roots(tmp_path, truth, results, {1: "ape", 2: "zebra"})
    report = youtube_vos(*folders)
    assert report["overall"] == {"G": 0.5, "J_seen": 1, "J_unseen": 0, "F_seen": 1, "F_unseen": 0}
    assert report["rule"] == YOUTUBE_VOS_RULES["skip"] and "not scored" in report["rule"]
    counted = youtube_vos(*folders, first_frame="count")
    assert counted["overall"]["J_seen"] == pytest.approx(2 / 3)
    assert counted["rule"] == YOUTUBE_VOS_RULES["count"]


def test_youtube_vos_takes_the_mean_of_what_there_is(tmp_path):
    report = youtube_vos(*youtube_roots(tmp_path, [boxes(o1=2)] * 2, [boxes(o1=2)] * 2, {1: "ape"}))
    undefined = {"J_unseen": None, "F_unseen": None}
    assert report["overall"] == {"G": 1, "J_seen": 1, "F_seen": 1, **undefined}
    assert report["warnings"] == []


def test_youtube_vos_leaves_out_void_and_tells_of_ids_that_it_ignores(tmp_path):
    truth = [boxes(o1=2, o255=8)] * 2
    results = [np.where(truth[0] > 0, 1, 0).astype(np.uint8) + boxes(o7=20)] * 2
    report = youtube_vos(*youtube_roots(tmp_path, truth, results, {1: "ape"}))
    assert report["overall"]["J_seen"] == 1
    line = "YouTube-VOS ignores id 7, which the truth lacks"
    assert report["warnings"] == [f"{tmp_path}/results/Annotations/cat: {line}"]


def test_youtube_vos_tells_of_an_object_that_comes_on_the_last_mask(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o2=20)]
    folders = youtube_roots(tmp_path, truth, truth, {1: "ape", 2: "ape"})
    report = youtube_vos(*folders)
    assert report["videos"]["cat"]["objects"].keys() == {"1"}
    assert report["warnings"] == [
        f"{tmp_path}/valid/Annotations/cat: no score for id 2, new on the last mask"
    ]
    assert youtube_vos(*folders, first_frame="count")["warnings"] == []


def test_a_video_of_one_frame_counts_in_youtube_vos_only_where_first_frames_do(tmp_path):
    folders = youtube_roots(tmp_path, [boxes(o1=2)], [boxes(o1=2)], {1: "ape"})
    skipped = youtube_vos(*folders)
    assert skipped["overall"]["G"] is None and "no score for id 1" in skipped["warnings"][0]
    assert youtube_vos(*folders, first_frame="count")["overall"]["G"] == 1
    json.dumps(skipped, allow_nan=False)


def test_youtube_vos_says_what_meta_json_lacks(tmp_path):
    folders = youtube_roots(tmp_path, [boxes(o1=2)] * 2, [boxes(o1=2)] * 2, {})
    with pytest.raises(UserError, match="lacks object 1 of video cat"):
        youtube_vos(*folders)
    shutil.move(tmp_path / "train" / "meta.json", tmp_path / "seen.json")
    with pytest.raises(UserError, match=r"train/meta\.json, which says which categories are seen"):
        youtube_vos(*folders)
    with pytest.raises(UserError, match="unknown rule both"):
        youtube_vos(*folders, first_frame="both")
    with pytest.raises(UserError, match="lacks object 1"):  # a path on the command line is text
        youtube_vos(*folders, train_meta=str(tmp_path / "seen.json"))
