"""DAVIS, unsupervised DAVIS, SA-V and YouTube-VOS: the rules by hand, and the official numbers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from metrics_golden import REAL, TOLERANCE, VIDEOS, golden_arrays, needs_golden, numbers
from PIL import Image

from common.errors import UserError
from common.vos_protocols import DAVIS_NAMES, davis, davis_unsupervised, sav, youtube_vos

JF = ("J&F", "J", "F")


def boxes(**left: int) -> np.ndarray:
    """(20, 30) label map of 6 x 6 squares; `o3=10` is object 3 with its left edge at column 10."""
    labels = np.zeros((20, 30), dtype=np.uint8)
    for name, column in left.items():
        labels[5:11, column : column + 6] = int(name[1:])
    return labels


NOTHING = boxes()


def write(folder: Path, maps) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for frame, labels in enumerate(maps):
        Image.fromarray(labels).save(folder / f"{frame:05d}.png")
    return folder.parent


def roots(tmp_path: Path, truth: list[np.ndarray], results: list[np.ndarray]) -> tuple[Path, Path]:
    return write(tmp_path / "results" / "cat", results), write(tmp_path / "truth" / "cat", truth)


def test_davis_leaves_out_the_first_and_the_last_frame_and_objects_that_come_later(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o2=20), boxes(o1=2, o2=20), boxes(o1=2)]
    results = [NOTHING, boxes(o1=2), NOTHING, NOTHING]
    report = davis(*roots(tmp_path, truth, results))
    assert report["videos"]["cat"]["objects"].keys() == {"1"}
    assert report["overall"]["J-Mean"] == report["overall"]["J&F-Mean"] == 0.5
    assert tuple(report["overall"]) == ("J&F-Mean", *DAVIS_NAMES)


def test_davis_takes_void_for_background_and_the_unsupervised_task_leaves_it_out(tmp_path):
    truth = [boxes(o1=2, o255=8)] * 3
    results = [np.where(truth[0] > 0, 1, 0).astype(np.uint8)] * 3
    folders = roots(tmp_path, truth, results)
    assert davis(*folders)["overall"]["J-Mean"] == 0.5
    assert davis_unsupervised(*folders)["overall"]["J-Mean"] == 1.0


def test_davis_2016_masks_have_one_object_whatever_its_label(tmp_path):
    folders = roots(tmp_path, [boxes(o255=2)] * 3, [boxes(o7=2)] * 3)
    assert davis(*folders)["overall"]["J-Mean"] == 1.0
    folders = roots(
        tmp_path, [boxes(o1=2, o2=8)] * 3, [np.where(boxes(o1=2, o2=8), 255, 0).astype(np.uint8)] * 3
    )
    assert davis(*folders, year=2016)["overall"]["J-Mean"] == 1.0


def test_davis_scores_the_listed_set(tmp_path):
    root = tmp_path / "DAVIS"
    for name in ("cat", "dog"):
        write(root / "Annotations" / "480p" / name, [boxes(o1=2)] * 3)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("dog\n")
    results = write(tmp_path / "results" / "dog", [boxes(o1=2)] * 3)
    assert list(davis(results, root)["videos"]) == ["dog"]
    with pytest.raises(UserError, match="results/cat"):
        davis(results, root, image_set="train")


def test_davis_refuses_ids_above_the_objects_as_the_official_program_does(tmp_path):
    with pytest.raises(UserError, match=r"results/cat/00001\.png has the id 2, but .* end at 1"):
        davis(*roots(tmp_path, [boxes(o1=2)] * 3, [boxes(o2=2)] * 3))
    with pytest.raises(UserError, match=r"has the id 21, but proposals end at 20"):
        davis_unsupervised(*roots(tmp_path, [boxes(o1=2)] * 3, [boxes(o21=2)] * 3))


def test_davis_needs_a_frame_between_the_first_and_the_last(tmp_path):
    with pytest.raises(UserError, match="has 2 masks"):
        davis(*roots(tmp_path, [boxes(o1=2)] * 2, [boxes(o1=2)] * 2))


def test_the_unsupervised_task_matches_results_over_the_whole_video(tmp_path):
    truth, results = [boxes(o1=2, o2=20)] * 2, [boxes(o9=20, o4=2)] * 2
    objects = davis_unsupervised(*roots(tmp_path, truth, results))["videos"]["cat"]["objects"]
    assert [(one["J-Mean"], one["proposal"]) for one in objects.values()] == [(1.0, 4), (1.0, 9)]


def test_the_unsupervised_task_needs_no_results_at_all(tmp_path):
    report = davis_unsupervised(*roots(tmp_path, [boxes(o1=2, o2=20)], [NOTHING]))
    assert report["overall"]["J-Mean"] == 0.0


def test_a_video_without_objects_has_no_scores(tmp_path):
    report = davis(*roots(tmp_path, [NOTHING] * 3, [NOTHING] * 3))
    assert report["overall"]["J-Mean"] is None
    json.dumps(report, allow_nan=False)


def test_sav_punishes_an_object_that_is_seen_too_early(tmp_path):
    truth, results = [NOTHING, boxes(o3=2)], [boxes(o3=2, o4=20), boxes(o3=2, o4=20)]
    report = sav(*roots(tmp_path, truth, results), skip_first_and_last=False)
    assert report["videos"]["cat"]["objects"] == {"3": {"J&F": 50, "J": 50, "F": 50}}
    assert report["overall"] == {"J&F": 50, "J": 50, "F": 50}


def test_sav_leaves_out_the_first_and_the_last_frame(tmp_path):
    results = [boxes(o1=20), boxes(o1=2), boxes(o1=20)]
    assert sav(*roots(tmp_path, [boxes(o1=2)] * 3, results))["overall"]["J"] == 100


def test_sav_takes_overlapping_masks_of_single_objects(tmp_path):
    for side in ("truth", "results"):
        for name, column in (("000", 2), ("007", 4)):
            write(tmp_path / side / "cat" / name, [boxes(o255=column)] * 3)
    report = sav(tmp_path / "results", tmp_path / "truth")
    assert {name: one["J"] for name, one in report["videos"]["cat"]["objects"].items()} == {
        "000": 100,
        "007": 100,
    }


def youtube_roots(tmp_path: Path, truth, results, categories: dict[str, str]) -> tuple[Path, Path]:
    write(tmp_path / "valid" / "Annotations" / "cat", truth)
    write(tmp_path / "results" / "Annotations" / "cat", results)
    objects = {name: {"category": category} for name, category in categories.items()}
    (tmp_path / "valid" / "meta.json").write_text(json.dumps({"videos": {"cat": {"objects": objects}}}))
    (tmp_path / "train").mkdir()
    known = {"videos": {"other": {"objects": {"1": {"category": "ape"}}}}}
    (tmp_path / "train" / "meta.json").write_text(json.dumps(known))
    return tmp_path / "results", tmp_path / "valid"


def test_youtube_vos_means_seen_and_unseen_categories_apart(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o2=20), boxes(o1=2, o2=20)]
    results = [boxes(o1=20), boxes(o1=2, o2=10), boxes(o1=2)]
    folders = youtube_roots(tmp_path, truth, results, {"1": "ape", "2": "zebra"})
    report = youtube_vos(*folders)
    assert report["overall"] == {"G": 0.5, "J_seen": 1, "J_unseen": 0, "F_seen": 1, "F_unseen": 0}
    assert "not scored" in report["rule"]
    counted = youtube_vos(*folders, first_frame="count")["overall"]
    assert counted["J_seen"] == pytest.approx(2 / 3)


def test_youtube_vos_takes_the_mean_of_what_there_is(tmp_path):
    folders = youtube_roots(tmp_path, [boxes(o1=2)] * 2, [boxes(o1=2)] * 2, {"1": "ape"})
    assert youtube_vos(*folders)["overall"] == {
        "G": 1,
        "J_seen": 1,
        "J_unseen": None,
        "F_seen": 1,
        "F_unseen": None,
    }


def test_youtube_vos_says_what_meta_json_lacks(tmp_path):
    folders = youtube_roots(tmp_path, [boxes(o1=2)] * 2, [boxes(o1=2)] * 2, {})
    with pytest.raises(UserError, match="lacks object 1 of video cat"):
        youtube_vos(*folders)
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(UserError, match=r"train/meta\.json, which says which categories are seen"):
        youtube_vos(*folders)
    with pytest.raises(UserError, match="unknown rule both"):
        youtube_vos(*folders, first_frame="both")


@pytest.fixture(scope="module")
def golden_folders(tmp_path_factory) -> Path:
    """Every stack of masks as a folder of PNGs; `truth_void` has 255 where there are void pixels."""
    folder = tmp_path_factory.mktemp("golden")
    masks = golden_arrays("masks.npz")
    for video in VIDEOS:
        for kind in ("gt", "pred_vos", "pred_uns"):
            write(folder / kind / f"v{video}", masks[f"{kind}_v{video}"])
        write(folder / "truth_void" / f"v{video}", masks.get(f"gt_void_v{video}", masks[f"gt_v{video}"]))
        for kind in ("gt", "pred_vos"):
            for object_id in np.setdiff1d(masks[f"gt_v{video}"], [0]):
                one = (masks[f"{kind}_v{video}"] == object_id).astype(np.uint8)
                write(folder / f"{kind}_by_object" / f"v{video}" / f"{object_id:03d}", one)
    return folder


@needs_golden
def test_every_number_of_semi_supervised_davis_is_met(golden_folders):
    official = numbers("expected_davis.json")["davis"]["semi-supervised"]
    report = davis(golden_folders / "pred_vos", golden_folders / "truth_void")
    assert report["overall"] == pytest.approx(official["global"], abs=TOLERANCE)
    ours = {f"{v}_{i}": one for v, video in report["videos"].items() for i, one in video["objects"].items()}
    assert ours.keys() == official["per_object"].keys()
    for name, one in ours.items():
        assert one == pytest.approx(official["per_object"][name], abs=TOLERANCE)


@needs_golden
def test_every_number_of_unsupervised_davis_is_met(golden_folders):
    official = numbers("expected_davis.json")["davis"]["unsupervised"]
    report = davis_unsupervised(golden_folders / "pred_uns", golden_folders / "truth_void")
    assert report["overall"] == pytest.approx(official["global"], abs=TOLERANCE)
    for name, video in report["videos"].items():
        in_official_order = sorted(video["objects"].values(), key=lambda one: one["proposal"])
        for number, one in enumerate(in_official_order, start=1):
            ours = {key: one[key] for key in DAVIS_NAMES}
            assert ours == pytest.approx(official["per_object"][f"{name}_{number}"], abs=TOLERANCE)


@needs_golden
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(("layout", "suffix"), [("davis_layout", ""), ("sav_layout", "_by_object")])
def test_every_number_of_sav_is_met(golden_folders, layout, suffix, skip):
    official = numbers("expected_sav.json")[f"{layout}_skip{int(skip)}"]
    folders = golden_folders / f"pred_vos{suffix}", golden_folders / f"gt{suffix}"
    report = sav(*folders, skip_first_and_last=skip)
    assert report["overall"] == pytest.approx({name: official[name] for name in JF}, abs=TOLERANCE)
    for video, expected in official["per_object"].items():
        objects = report["videos"][video]["objects"]
        for name in "JF":
            ours = {object_id: one[name] for object_id, one in objects.items()}
            assert ours == pytest.approx(expected[name], abs=TOLERANCE)


@needs_golden
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real clips are not at {REAL}")
def test_published_results_on_real_clips_score_as_officially():
    official = numbers("expected_real_osvos.json")
    root = REAL / "DAVIS16_480p"
    report = davis(root / "OSVOS_results", root)
    assert report["overall"] == pytest.approx(official["global"], abs=TOLERANCE)
    for name, expected in official["sequences"].items():
        ours = report["videos"][name]
        assert {key: ours[key] for key in DAVIS_NAMES} == pytest.approx(
            {key: expected[key] for key in DAVIS_NAMES}, abs=TOLERANCE
        )
