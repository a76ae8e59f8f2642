"""The search over saved detections: its numbers are those of a full evaluation, and the best one wins."""

import csv

import pytest

import inference
from annotated.videos import VOSFolder
from inference import load_tracker
from tests.support.commands import assert_refused, files_in, run_here
from tools.validation import evaluate_tracker
from tuning import replay, search
from tuning.search import Trial, pairs_of, table

LOOSE = {"score_threshold": 0.05, "birth_score": 0.05, "update_score": 0.05}  # for a moment's training


@pytest.fixture(scope="module")
def saved(trained, small_data, tmp_path_factory):
    """The folder of a run over the validation videos that kept its detections; nobody may change it."""
    flags = ["--checkpoint", trained.run / "best.pth", "--video_root", small_data / "valid/JPEGImages"]
    flags += ["--output", tmp_path_factory.mktemp("saved") / "out", "--device", "cpu", "--overlays", "false"]
    flags += [text for name, value in LOOSE.items() for text in (f"--{name}", value)]
    return run_here(inference.main, *flags, "--save_detections", "true").run


@pytest.fixture
def tune(saved, small_data, tmp_path):
    flags = [saved, "--annotations", small_data / "valid", "--output", tmp_path / "tuned", "--num_workers", 0]
    return lambda *further: run_here(search.main, *flags, *further)


def test_the_numbers_are_those_of_a_full_evaluation(trained, saved, small_data):
    pairs = pairs_of(search.saved_videos(saved), small_data / "valid")
    trials = search.search(pairs, {"birth_score": [0.3], "match_threshold": [1.4]})
    assert [trial.flags for trial in trials] == [
        {"birth_score": 0.05, "match_threshold": 0.5},  # of the saved run
        {"birth_score": 0.3, "match_threshold": 1.4},
    ]
    for trial in trials:
        tracker = load_tracker(trained.run / "best.pth", device="cpu", **(LOOSE | trial.flags))
        assert trial.numbers == evaluate_tracker(tracker, VOSFolder(small_data / "valid"))
    assert trials[0].numbers["HOTA"] != trials[1].numbers["HOTA"]


def test_the_best_combination_becomes_a_preset_that_inference_takes(
    tune, saved, trained, small_data, tmp_path
):
    outcome = tune("--beta", 0.2, 0.5, "--birth_score", 0.05, 0.3, "--by", "AssA")
    folder = outcome.run
    assert files_in(folder) == ["trials.csv", "trials.png", "tuned.txt"] and outcome.err == []
    with open(folder / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["beta"], row["birth_score"]) for row in rows] == [
        ("0.2", "0.05"),
        ("0.2", "0.3"),
        ("0.5", "0.05"),
        ("0.5", "0.3"),
    ]
    most = max(float(row["AssA"]) for row in rows)
    preset = set((folder / "tuned.txt").read_text().splitlines())
    assert "--score_threshold 0.05" in preset  # of the saved run
    (best,) = [
        row for row in rows if {f"--beta {row['beta']}", f"--birth_score {row['birth_score']}"} <= preset
    ]
    assert float(best["AssA"]) == most and best["beta"] in outcome.out[1]
    flags = ["--checkpoint", trained.run / "best.pth", "--video_root", small_data / "valid/JPEGImages"]
    out = run_here(inference.main, *flags, "--output", tmp_path / "out", f"@{folder / 'tuned.txt'}").run
    flags = ["--beta", best["beta"], "--birth_score", best["birth_score"]]
    again = run_here(replay.main, saved, "--output", tmp_path / "again", *flags).run
    assert (out / "tracks.json").read_bytes() == (again / "tracks.json").read_bytes()


def trial(HOTA: float | None, id_switches: int, beta: float = 0.1) -> Trial:
    numbers = dict.fromkeys(search.SHOWN, 50.0) | {"HOTA": HOTA, "id_switches": id_switches}
    return Trial({"beta": beta}, numbers)


def test_of_equal_scores_the_one_with_fewer_switches_is_better_and_an_undefined_one_is_last():
    trials = [trial(None, 0, 0.1), trial(40.0, 3, 0.2), trial(60.0, 5, 0.3), trial(60.0, 4, 0.4)]
    lines = table(trials, "HOTA", trials[0])
    assert [line.split()[1] for line in lines[1:]] == ["0.4", "0.3", "0.2", "0.1"]
    assert "(saved run)" in lines[4]


def test_the_saved_run_is_listed_though_it_is_the_worst():
    trials = [trial(1.0, 0, 0.9), *(trial(50.0 + place, 0) for place in range(20))]
    lines = table(trials, "HOTA", trials[0])
    assert len(lines) == 12 and "--beta 0.9  (saved run)" in lines[-1]


def test_what_cannot_be_searched_is_refused_and_nothing_is_written(tune, saved, small_data, tmp_path):
    assert_refused(tune("--beta", 1.5), "--beta 1.5", "at most 1")
    flags = [saved, "--output", tmp_path / "tuned", "--annotations"]
    assert_refused(run_here(search.main, *flags, small_data / "train"), "valid_00000")
    assert not (tmp_path / "tuned").exists()
    (tmp_path / "tuned").mkdir()
    assert_refused(tune(), "give a new folder")
