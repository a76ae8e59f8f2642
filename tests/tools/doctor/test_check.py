"""main.py --check_data: the table, the pictures, and the exit status, on every layout."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import main
from tests.support.commands import assert_refused, files_in, run_here
from tests.support.json_sets import write_coco, write_pairs, write_vis, write_vos
from tests.support.mots import write_sequence
from tests.support.vos_folders import maps_of, write_video
from tools.doctor import check

MAPS = {"a": maps_of([1, 2]), "b": maps_of([2])}
WRITTEN = ["1/findings.csv", "1/findings.png", "1/histograms.png"]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr(check.os, "cpu_count", lambda: 1)


def check_data(tmp_path, *roots):
    flags = ["--check_data", "--dataset_root", *roots, "--run_dir", tmp_path / "runs"]
    return run_here(main.main, *flags)


def rows_of(tmp_path) -> list[dict[str, str]]:
    with open(tmp_path / "runs/1/findings.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_good_data_end_with_status_0_and_pictures(tmp_path):
    write_vos(tmp_path / "data/train", MAPS)
    outcome = check_data(tmp_path, tmp_path / "data")
    assert (outcome.status, outcome.err) == (0, [])
    assert outcome.out == [
        "train: 2 videos, 12 frames, 12 masks, 3 objects; sizes 40x40 (2); frames RGB (2); masks L (2)",
        "nothing was found",
        "0 errors, 0 warnings, 0 notes: nothing that training would suffer from",
        str(tmp_path / "runs/1"),
    ]
    assert files_in(tmp_path / "runs") == WRITTEN and rows_of(tmp_path) == []


def test_what_training_would_suffer_from_is_told_first_and_ends_with_status_1(tmp_path):
    for split, names in (("train", "ab"), ("valid", "c")):
        for name in names:
            write_video(tmp_path / "data" / split, name, maps_of([1, 2] if name != "b" else []))
    mask = tmp_path / "data/train/Annotations/a/00002.png"
    Image.new("RGB", (40, 40)).save(mask)
    outcome = check_data(tmp_path, tmp_path / "data")
    assert outcome.status == 1
    kinds = [(row["severity"], row["finding"], row["video"]) for row in rows_of(tmp_path)]
    assert kinds == [
        ("error", "bad_file", "a"),
        ("error", "leaked_video", "c"),
        ("warning", "empty_video", "b"),
    ]
    told = "\n".join(outcome.out)
    assert str(mask) in told and "palette PNG" in told and "--skip_bad" in told
    assert outcome.out[-2] == "2 errors, 1 warning, 0 notes: training would suffer"
    with Image.open(tmp_path / "runs/1/findings.png") as sheet:
        assert sheet.width > 600 and sheet.height > 300


@pytest.mark.parametrize("layout", ["vis", "coco", "pairs", "mots", "davis"])
def test_every_layout_is_taken(tmp_path, layout):
    root = tmp_path / "data"
    if layout == "vis":
        write_vis(root / "train.json", root / "train/JPEGImages", MAPS)
    elif layout == "coco":
        still = {name: maps[:1] for name, maps in MAPS.items()}
        write_coco(root / "annotations/instances_train2017.json", root / "train2017", still)
    elif layout == "pairs":
        write_pairs(root, {name: maps[:1] for name, maps in MAPS.items()})
    elif layout == "mots":
        write_sequence(root, "s")
    else:
        write_vos(root / "train", MAPS)
        for kind in ("JPEGImages", "Annotations"):
            shutil.move(root / "train" / kind, root / "train/480p")
            (root / "train" / kind).mkdir()
            shutil.move(root / "train/480p", root / "train" / kind / "480p")
    outcome = check_data(tmp_path, root)
    assert outcome.status == 0, outcome
    assert outcome.out[0].startswith("train: ") and " 0 objects" not in outcome.out[0]
    assert files_in(tmp_path / "runs") == WRITTEN


def test_of_masks_that_share_a_file_the_image_is_named(tmp_path):
    tiny = np.zeros((1, 40, 40), np.uint8)
    tiny[0, 5:8, 5:8] = 1
    root = tmp_path / "data"
    write_coco(root / "annotations/instances_train2017.json", root / "train2017", {"a": tiny})
    assert check_data(tmp_path, root).status == 0
    assert [row["path"] for row in rows_of(tmp_path)] == [str(root / "train2017/a00000.png")]


def test_several_data_sets_are_checked_together(tmp_path):
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        write_video(root / "train", "a", MAPS["a"])
    outcome = check_data(tmp_path, *roots)
    assert outcome.status == 0
    assert [line.split(":")[0] for line in outcome.out[:2]] == [f"{root} train" for root in roots]
    assert [row["finding"] for row in rows_of(tmp_path)] == ["repeated_video"]


def test_videos_that_cannot_be_used_and_absent_ones_of_meta_json_are_told(tmp_path):
    train = tmp_path / "data/train"
    write_vos(train, {"a": MAPS["a"]})
    (train / "meta.json").write_text(json.dumps({"videos": {n: {"objects": {}} for n in "az"}}))
    assert check_data(tmp_path, tmp_path / "data").status == 0
    assert [(row["finding"], row["detail"]) for row in rows_of(tmp_path)] == [
        ("meta_lacks", "video a, id 1 2"),
        ("meta_extra", "there is no video z"),
    ]
    shutil.rmtree(train / "Annotations/a")
    (train / "Annotations/a").mkdir()
    outcome = check_data(tmp_path, tmp_path / "data")
    assert outcome.status == 1 and any("videos that cannot be used" in line for line in outcome.out)


def test_validation_with_first_masks_alone_is_a_note(tmp_path):
    write_vos(tmp_path / "data/train", MAPS)
    write_vos(tmp_path / "data/valid", {"c": np.roll(maps_of([3]), 9, 1)})
    for path in (tmp_path / "data/valid/Annotations/c").glob("0000[1-9].png"):
        path.unlink()
    assert check_data(tmp_path, tmp_path / "data").status == 0
    assert {row["severity"] for row in rows_of(tmp_path) if row["finding"] == "unscored_valid"} == {"note"}


def test_processes_find_what_one_process_finds(tmp_path, monkeypatch):
    write_vos(tmp_path / "data/train", MAPS | {"c": maps_of([])})
    alone = check_data(tmp_path, tmp_path / "data")
    monkeypatch.setattr(check.os, "cpu_count", lambda: 2)
    assert check_data(tmp_path, tmp_path / "data").out[:-1] == alone.out[:-1]


def test_what_cannot_be_opened_is_refused_and_nothing_is_written(tmp_path):
    assert_refused(check_data(tmp_path, tmp_path / "absent"), tmp_path / "absent")
    flags = ["--check_data", "--synthetic", "easy", "--run_dir", tmp_path / "runs"]
    assert_refused(run_here(main.main, *flags), "--synthetic easy")
    assert not (tmp_path / "runs").exists()
