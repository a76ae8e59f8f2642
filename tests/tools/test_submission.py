"""Submissions to servers: what goes in, where, and what is refused."""

import json
import os
import shutil
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from scoring.protocols.mots import mots
from tests.support.commands import files_in
from tests.support.label_folders import MOVING, SWITCHED, write
from tools.submission import write_submission
from video.images import write_label_map
from video.pictures import PALETTE

SIZE = (4, 6)


def labels_of(*ids: int) -> np.ndarray:
    """A map of background with a pixel of each id."""
    labels = np.zeros(SIZE, dtype=np.int32)
    labels.flat[1 : 1 + len(ids)] = ids
    return labels


def write_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """A DAVIS root of three sequences with two frames and two objects; "bear" is in no list."""
    for name in ("bear", "cat", "dog"):
        for frame in ("00000", "00001"):
            write_image(tmp_path / f"DAVIS/JPEGImages/480p/{name}/{frame}.jpg")
        mask = tmp_path / f"DAVIS/Annotations/480p/{name}/00000.png"
        mask.parent.mkdir(parents=True)
        Image.fromarray(labels_of(1, 2, 255).astype(np.uint8)).save(mask)  # 255 is void
    for path, text in (
        ("2017/val.txt", "dog\ncat\n"),
        ("2017/test-dev.txt", "cat\n"),
        ("2019/test-dev.txt", "dog\n"),
    ):
        (tmp_path / "DAVIS/ImageSets" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "DAVIS/ImageSets" / path).write_text(text)
    return tmp_path / "DAVIS"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Label maps of the two sequences of the set "val", as inference.py writes them."""
    for name in ("cat", "dog"):
        for frame, ids in (("00000", (1,)), ("00001", (1, 2))):
            write_label_map(tmp_path / f"out/Annotations/{name}/{frame}.png", labels_of(*ids))
    return tmp_path / "out"


@pytest.fixture
def youtube(tmp_path: Path) -> tuple[Path, Path]:
    """A YouTube-VOS set and results: object 4 appears on frame 00010, object 9 on 00015."""
    objects = {"4": {"frames": ["00010", "00015"]}, "9": {"frames": ["00015", "00020"]}}
    for place in range(23):
        write_image(tmp_path / f"valid/JPEGImages/kite/{place:05d}.jpg")
        write_label_map(tmp_path / f"out/Annotations/kite/{place:05d}.png", labels_of(4, 9))
    (tmp_path / "valid/meta.json").write_text(json.dumps({"videos": {"kite": {"objects": objects}}}))
    return tmp_path / "out", tmp_path / "valid"


def content_of(path: Path) -> dict[str, bytes]:
    with ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_davis_takes_every_frame_of_the_set_with_the_sequences_at_the_top(tmp_path, davis, results):
    summary = write_submission(tmp_path / "s.zip", results, davis, "davis")
    content = content_of(tmp_path / "s.zip")
    assert list(content) == ["cat/00000.png", "cat/00001.png", "dog/00000.png", "dog/00001.png"]
    assert all(data == (results / "Annotations" / name).read_bytes() for name, data in content.items())
    assert summary == f"{tmp_path / 's.zip'}: 2 videos, 4 frames for davis"


def test_a_folder_holds_the_files_of_the_zip(tmp_path, davis, results):
    for target in ("s.zip", "a/s"):
        write_submission(tmp_path / target, results, davis, "davis")
    assert {
        name: (tmp_path / "a/s" / name).read_bytes() for name in files_in(tmp_path / "a/s")
    } == content_of(tmp_path / "s.zip")


def test_equal_results_make_equal_bytes_whatever_their_dates(tmp_path, davis, results):
    write_submission(tmp_path / "a.zip", results, davis, "davis")
    for path in results.rglob("*.png"):
        os.utime(path, (0, 1e9))
    write_submission(tmp_path / "b.zip", results, davis, "davis")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize(("protocol", "name"), [("davis", "cat"), ("davis_unsupervised", "dog")])
def test_the_test_sets_of_both_davis_tasks_are_of_other_years(tmp_path, davis, results, protocol, name):
    summary = write_submission(tmp_path / "s.zip", results, davis, protocol, image_set="test-dev")
    assert list(content_of(tmp_path / "s.zip")) == [f"{name}/00000.png", f"{name}/00001.png"]
    assert summary.endswith("(2 other label maps are left out)")


def test_youtube_vos_takes_the_listed_frames_from_the_first_object_on(tmp_path, youtube):
    summary = write_submission(tmp_path / "s.zip", *youtube, "youtube_vos")
    names = [f"Annotations/kite/{frame}.png" for frame in ("00010", "00015", "00020")]
    assert list(content_of(tmp_path / "s.zip")) == names
    assert "1 videos, 3 frames" in summary and "20 other label maps are left out" in summary


def test_grey_maps_of_8_and_16_bits_become_palette_pngs(tmp_path, davis, results):
    labels = labels_of(2, 1)
    for name, kind in (("cat/00000", np.uint8), ("cat/00001", np.uint16)):
        Image.fromarray(labels.astype(kind)).save(results / f"Annotations/{name}.png")
    write_submission(tmp_path / "s", results, davis, "davis")
    for name in ("cat/00000", "cat/00001"):
        with Image.open(tmp_path / f"s/{name}.png") as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.array(image), labels)
            np.testing.assert_array_equal(np.array(image.convert("RGB")), PALETTE[labels])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks: (masks / "dog/00001.png").unlink(), r"dog/00001\.png is missing"),
        (lambda masks: (masks / "dog").rename(masks / "fox"), r"dog/00000\.png is missing"),
        (lambda masks: write_label_map(masks / "dog/00001.png", np.zeros((4, 7))), r"7x4.*00001\.jpg is 6x4"),
        (lambda masks: write_label_map(masks / "dog/00001.png", labels_of(3)), r"id 3.*00000\.png has 1, 2"),
        (
            lambda masks: write_label_map(masks / "dog/00001.png", labels_of(300)),
            r"dog/00001\.png has the id 300",
        ),
        (lambda masks: write_image(masks / "dog/00001.png"), r"dog/00001\.png is an RGB image"),
        (lambda masks: (masks / "dog/00001.png").write_bytes(b"no"), r"dog/00001\.png is corrupt"),
    ],
)
@pytest.mark.parametrize("target", ["s.zip", "s"])
def test_a_bad_or_missing_file_is_named_and_nothing_is_left(
    tmp_path, davis, results, change, message, target
):
    change(results / "Annotations")
    before = files_in(tmp_path)
    with pytest.raises(UserError, match=message):
        write_submission(tmp_path / target, results, davis, "davis")
    assert files_in(tmp_path) == before and not (tmp_path / target).exists()


def test_ids_are_limited_to_those_of_meta_json_to_20_proposals_and_to_a_byte(
    tmp_path, davis, results, youtube
):
    out, valid = youtube
    write_label_map(out / "Annotations/kite/00015.png", labels_of(4, 5))
    with pytest.raises(UserError, match=r"kite/00015\.png has the id 5, but .*meta\.json has 4, 9"):
        write_submission(tmp_path / "s.zip", out, valid, "youtube_vos")
    path = results / "Annotations/cat/00001.png"
    write_label_map(path, labels_of(1, 20))
    write_submission(tmp_path / "s.zip", results, davis, "davis_unsupervised")
    write_label_map(path, labels_of(1, 21))
    with pytest.raises(UserError, match=r"cat/00001\.png has the id 21, but unsupervised DAVIS has 1 to 20"):
        write_submission(tmp_path / "s.zip", results, davis, "davis_unsupervised")


def test_a_davis_2016_mask_of_255_is_one_object_and_without_a_mask_any_id_is_legal(tmp_path, davis, results):
    Image.fromarray(labels_of(255).astype(np.uint8)).save(davis / "Annotations/480p/cat/00000.png")
    with pytest.raises(UserError, match=r"cat/00001\.png has the id 2, but .*00000\.png has 1: "):
        write_submission(tmp_path / "s.zip", results, davis, "davis")
    (davis / "Annotations/480p/cat/00000.png").unlink()
    assert "2 videos, 4 frames" in write_submission(tmp_path / "s.zip", results, davis, "davis")
    Image.fromarray(labels_of(255).astype(np.uint8)).save(results / "Annotations/cat/00001.png")
    with pytest.raises(UserError, match=r"has the id 255, but a palette PNG has 1 to 254"):
        write_submission(tmp_path / "s.zip", results, davis, "davis")


def test_a_davis_root_without_lists_counts_whole(tmp_path, davis, results):
    for path in (davis / "ImageSets").rglob("*.txt"):
        path.unlink()
    for folder in ("2017", "2019", ""):
        (davis / "ImageSets" / folder).rmdir()
    with pytest.raises(UserError, match=r"bear/00000\.png is missing"):
        write_submission(tmp_path / "s.zip", results, davis, "davis")


def test_a_data_set_that_does_not_say_what_is_needed_is_refused(tmp_path, davis, results, youtube):
    out, valid = youtube

    def refuse(message: str, *arguments: object, **options: str) -> None:
        with pytest.raises(UserError, match=message):
            write_submission(tmp_path / "s.zip", *arguments, **options)

    refuse(r"there is no .*ImageSets/2017/train\.txt", results, davis, "davis", image_set="train")
    refuse(r"there is no .*meta\.json", results, davis, "youtube_vos")
    refuse(r"there is no folder .*JPEGImages", results, results, "davis")
    refuse("no server takes results of the protocol sav", results, davis, "sav")
    (valid / "JPEGImages/kite/00015.jpg").unlink()
    refuse(r"kite lacks frame 00015", out, valid, "youtube_vos")
    (valid / "meta.json").write_text('{"videos": {"kite": {"objects": {"4": {}}}}}')
    refuse(r"meta\.json has not the form", out, valid, "youtube_vos")
    (valid / "meta.json").write_text('{"videos": {}}')
    refuse(r"names no frames", out, valid, "youtube_vos")
    assert not (tmp_path / "s.zip").exists()


def test_a_folder_that_holds_something_is_kept_and_an_empty_one_is_filled(tmp_path, davis, results):
    (tmp_path / "s").mkdir()
    write_submission(tmp_path / "s", results, davis, "davis")
    for target in (tmp_path / "s", tmp_path / "file"):
        (tmp_path / "file").write_text("mine")
        before = files_in(tmp_path)
        with pytest.raises(UserError, match="is there already"):
            write_submission(target, results, davis, "davis")
        assert files_in(tmp_path) == before


def test_an_interrupt_leaves_the_former_zip(tmp_path, davis, results, monkeypatch):
    write_submission(tmp_path / "s.zip", results, davis, "davis")
    former = (tmp_path / "s.zip").read_bytes()

    def interrupt(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.submission.palette_png", interrupt)
    before = files_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_submission(tmp_path / "s.zip", results, davis, "davis")
    assert (tmp_path / "s.zip").read_bytes() == former and files_in(tmp_path) == before


@pytest.mark.parametrize("target", ["s.zip", "s"])
def test_no_name_of_a_video_leaves_the_submission(tmp_path, youtube, davis, results, target):
    out, valid = youtube
    (valid / "meta.json").write_text((valid / "meta.json").read_text().replace("kite", "../JPEGImages/kite"))
    (davis / "ImageSets/2017/val.txt").write_text("..")
    for source, root, protocol in ((out, valid, "youtube_vos"), (results, davis, "davis")):
        with pytest.raises(UserError, match="cannot be a name"):
            write_submission(tmp_path / target, source, root, protocol)
    assert not (tmp_path / target).exists()


NAMES = ["000001", "000002", "000003"]  # MOTS counts from 1


@pytest.fixture
def mots_root(tmp_path: Path) -> Path:
    """A sequence of MOTS with frames and truth, and results in `out`, as inference.py writes them."""
    truth = [labels.astype(np.uint16) for labels in MOVING]
    write(tmp_path / "MOTS/instances/MOTS20-02", truth, NAMES)
    write(tmp_path / "out/Annotations/MOTS20-02", SWITCHED, NAMES)
    for name in NAMES:
        write_image(tmp_path / f"MOTS/MOTS20-02/img1/{name}.jpg", MOVING[0].shape)
    return tmp_path / "MOTS"


@pytest.mark.parametrize("definition", ["trackeval", "mots_tools"])
@pytest.mark.parametrize("frames", [True, False])
def test_mots_takes_text_files_that_score_as_the_label_maps(tmp_path, mots_root, definition, frames):
    annotations = mots_root if frames else mots_root / "instances"
    summary = write_submission(tmp_path / "s", tmp_path / "out", annotations, "mots")
    assert summary == f"{tmp_path / 's'}: 1 videos, 3 frames for mots"
    lines = [line.split() for line in (tmp_path / "s/MOTS20-02.txt").read_text().splitlines()]
    assert [line[:5] for line in lines][:3] == [
        ["1", "1", "2", "20", "30"],
        ["1", "2", "2", "20", "30"],
        ["2", "2", "2", "20", "30"],
    ]
    by_maps, by_files = (
        mots(tmp_path / results, mots_root, definition=definition) for results in ("out", "s")
    )
    assert by_files["overall"] == by_maps["overall"] and by_maps["overall"]["MOTSA"] < 1


def write_ids(tmp_path: Path, *ids: int) -> None:
    maps = [np.full(MOVING[0].shape, i, dtype=np.uint16) for i in ids]
    write(tmp_path / "out/Annotations/MOTS20-02", maps, NAMES)


def test_ids_of_mots_tell_the_class_where_all_of_a_sequence_do(tmp_path, mots_root):
    for ids, classes in (((1004, 2001, 2001), "122"), ((4, 1004, 12_000), "222")):
        write_ids(tmp_path, *ids)
        write_submission(tmp_path / f"{ids[0]}.zip", tmp_path / "out", mots_root, "mots")
        lines = content_of(tmp_path / f"{ids[0]}.zip")["MOTS20-02.txt"].decode().splitlines()
        assert "".join(line.split()[2] for line in lines) == classes
    write_ids(tmp_path, 1004, 10_000, 2001)
    with pytest.raises(UserError, match="has the id 10000, but MOTS ids of objects are 1000 x class"):
        write_submission(tmp_path / "s.zip", tmp_path / "out", mots_root, "mots")
    assert not (tmp_path / "s.zip").exists()


def test_frames_of_mots_whose_names_are_no_numbers_are_told(tmp_path, davis, results):
    for path in (davis / "JPEGImages/480p/cat/00000.jpg", results / "Annotations/cat/00000.png"):
        path.rename(path.with_stem("first"))
    shutil.rmtree(davis / "JPEGImages/480p/bear")  # it has no results
    with pytest.raises(UserError, match=r"cat/first\.png: MOTS counts frames by their names"):
        write_submission(tmp_path / "s.zip", results, davis, "mots")
