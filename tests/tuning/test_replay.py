"""Tracks made anew from saved detections are those of a full run with the same flags, to the byte."""

import json
import shutil
import zipfile

import pytest

import inference
from tests.support.commands import assert_refused, files_in, run_here
from tuning import replay

LOOSE = ["--score_threshold", 0.05, "--birth_score", 0.05, "--update_score", 0.05]  # for a moment's training


@pytest.fixture
def track(trained, small_data, tmp_path):
    """A function of further flags that tracks the validation videos into a folder of tmp_path."""
    video_root = small_data / "valid/JPEGImages"
    flags = ["--checkpoint", trained.run / "best.pth", "--video_root", video_root, "--device", "cpu", *LOOSE]
    return lambda name, *further: run_here(
        inference.main, *flags, "--overlays", "false", "--output", tmp_path / name, *further
    )


def assert_same_results(one, other) -> None:
    names = [name for name in files_in(one) if not name.startswith("detections/")]
    assert names == files_in(other) and any(name.startswith("Annotations/") for name in names)
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


BIRTHS = ["--match_threshold", 1.01, "--revive_threshold", 1.01, "--iou_weight", 0]  # each detection is new
FLAGS = [[], ["--beta", 0.9, "--similarity", "cosine", "--birth_score", 0.3], BIRTHS]


@pytest.mark.parametrize("flags", FLAGS)
def test_a_replay_equals_a_full_run_with_the_same_flags(track, tmp_path, flags):
    saved, full = track("saved", "--save_detections", "true").run, track("full", *flags).run
    again = run_here(replay.main, saved / "detections", "--output", tmp_path / "again", *flags)
    assert again.err == []
    assert_same_results(full, again.run)


def test_the_names_of_categories_go_along(track, tmp_path):
    saved = track("saved", "--save_detections", "true").run
    (saved / "categories.json").write_text('{"1": "ape"}')  # as of a network of classes
    for number, place in enumerate((saved, saved / "detections")):
        again = run_here(replay.main, place, "--output", tmp_path / str(number)).run
        assert json.loads((again / "categories.json").read_text()) == {"1": "ape"}


@pytest.mark.parametrize("flags", FLAGS[1:])
def test_other_flags_make_other_tracks(track, tmp_path, flags):
    saved = track("saved", "--save_detections", "true").run
    again = run_here(replay.main, saved, "--output", tmp_path / "again", *flags).run
    assert (saved / "tracks.json").read_bytes() != (again / "tracks.json").read_bytes()


def test_prompts_are_replayed_too(track, small_data, tmp_path):
    prompted = ["--prompt_root", small_data / "valid/Annotations"]
    saved = track("saved", "--save_detections", "true", *prompted).run
    again = run_here(replay.main, saved, "--output", tmp_path / "again").run
    assert_same_results(saved, again)


def test_one_file_is_replayed_alone(track, tmp_path):
    saved = track("saved", "--save_detections", "true").run
    names = files_in(saved / "detections")
    assert len(names) == 2 and all(name.endswith(".npz") for name in names)
    again = run_here(replay.main, saved / "detections" / names[0], "--output", tmp_path / "again").run
    folder = names[0].removesuffix(".npz")
    assert files_in(again / "Annotations") == [f"{folder}/{frame:05d}.png" for frame in range(5)]


def test_a_run_without_saving_removes_the_detections_of_the_former_one(track):
    saved = track("saved", "--save_detections", "true").run
    assert track("saved", "--overwrite", "true").status == 0
    assert files_in(saved / "detections") == []


def test_what_cannot_be_saved_or_replayed_is_refused(track, tmp_path, small_data):
    assert_refused(track("x", "--save_detections", "true", "--reverse", "true"), "--reverse")
    assert not any((tmp_path / "x").glob("**/*.png"))
    saved = track("saved", "--save_detections", "true").run
    assert_refused(run_here(replay.main, small_data, "--output", tmp_path / "y"), small_data)
    assert_refused(run_here(replay.main, saved, "--output", saved), "--output")
    name = files_in(saved / "detections")[0]
    for content in (b"no archive", b""):
        (tmp_path / name).write_bytes(content)
        assert_refused(run_here(replay.main, tmp_path / name, "--output", tmp_path / "y"), tmp_path / name)
    with zipfile.ZipFile(saved / "detections" / name) as old, zipfile.ZipFile(tmp_path / name, "w") as new:
        new.writestr("header.json", old.read("header.json"))  # without any array
    assert_refused(run_here(replay.main, tmp_path / name, "--output", tmp_path / "y"), tmp_path / name)
    assert files_in(tmp_path / "y") == []


def test_detections_of_other_flags_are_not_mixed(track, tmp_path):
    first = track("one", "--save_detections", "true").run
    second = track("two", "--save_detections", "true", "--beta", 0.7).run
    name = files_in(first / "detections")[0]
    shutil.copy(second / "detections" / name, first / "detections" / name)
    assert_refused(run_here(replay.main, first, "--output", tmp_path / "y"), name)
