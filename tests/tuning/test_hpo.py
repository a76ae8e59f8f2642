"""A search trains a run a trial, and writes all of them, a page, and the best as a preset."""

import csv
import json
from pathlib import Path

import pytest

import main
from common.config import preset_args
from tests.support.commands import TINY, assert_refused, run_here
from tests.support.run_folders import write_run
from tuning import hpo

SCORES = {"1e-4": 60.0, "1e-3": 80.0, "1e9": None}  # by learning rate; None: the run fails
FIXED = ["--synthetic", "easy", "--epochs", "2", "--project_name", "it's"]


@pytest.fixture
def trained(monkeypatch) -> list[list[str]]:
    """The command lines that were trained, by a loop that takes no time."""
    seen = []

    def train(flags: list[str], run_dir: Path) -> Path | None:
        seen.append(list(flags))
        score = SCORES[flags[flags.index("--lr_head") + 1]]
        if score is None:
            return None
        metrics = {"J&F": score, "id_switches": 2}
        return write_run(run_dir / str(len(seen)), {1: 3}, {1: score}, metrics=metrics)

    monkeypatch.setattr(hpo, "train", train)
    return seen


def test_every_trial_is_trained_and_the_best_becomes_a_preset(tmp_path, trained):
    flags = [
        "--output",
        tmp_path / "o",
        "--vary",
        "lr_head=1e-4,1e-3,1e9",
        "--",
        *FIXED,
    ]
    outcome = run_here(hpo.main, *flags)
    assert outcome.status == 0, outcome.err
    assert trained == [[*FIXED, "--lr_head", rate] for rate in SCORES]
    with open(tmp_path / "o/trials.csv", newline="") as file:
        rows = [(row["lr_head"], row["J&F"]) for row in csv.DictReader(file)]
    assert rows == [("1e-4", "60.0"), ("1e-3", "80.0"), ("1e9", "")]
    assert preset_args(tmp_path / "o/best.txt") == [*FIXED, "--lr_head", "1e-3"]
    assert outcome.out[-2:] == [f"next: python main.py @{tmp_path}/o/best.txt", str(tmp_path / "o")]
    assert "it failed" in outcome.out
    html = (tmp_path / "o/comparison.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>") and "2 runs" in html


def test_one_run_is_compared_with_none(tmp_path, trained):
    outcome = run_here(hpo.main, "--output", tmp_path / "o", "--vary", "lr_head=1e-4,1e9", "--", *FIXED)
    assert outcome.status == 0 and sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "best.txt",
        "runs",
        "trials.csv",
    ]


def test_a_search_where_every_run_fails_says_so(tmp_path, trained):
    outcome = run_here(hpo.main, "--output", tmp_path / "o", "--vary", "lr_head=1e9", "--", *FIXED)
    assert_refused(outcome, "none of 1 runs has a score J&F")


def test_a_number_of_trials_ends_the_search(tmp_path, trained):
    flags = ["--output", tmp_path / "o", "--vary", "lr_head=1e-4,1e-3", "--method", "random", "--trials", 5]
    assert run_here(hpo.main, *flags, "--", *FIXED).status == 0 and len(trained) == 5


def test_the_folder_of_a_run_is_found_among_the_lines_of_clearml(tmp_path, monkeypatch):
    run_dir = tmp_path / "runs"
    (tmp_path / "main.py").write_text(f"print({str(run_dir / '7')!r})\nprint('ClearML: session stored')\n")
    monkeypatch.setattr(hpo, "ROOT", tmp_path)
    assert hpo.train([], run_dir) == run_dir / "7"
    (tmp_path / "main.py").write_text(f"print({str(run_dir / '8')!r})\nraise SystemExit(1)\n")
    assert hpo.train([], run_dir) is None


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--vary", "lr_head=1e-4..1e-3", "--method", "random"], "give --trials"),
        (["--vary", "lr_head=1e-4..1e-3", "--method", "grid"], "lr_head has a range"),
        (["--vary", "lr_head"], "--vary lr_head"),
        (["--vary", "lr_head=1,2", "--output", "."], "is there already"),
        (["--vary", "lr_haed=1,2", "--", *FIXED], "--lr_haed"),
        (["--vary", "lr_head=1,x", "--", *FIXED], "--lr_head"),
        (["--vary", "lr_head=-1..1", "--method", "random", "--trials", "2", "--", *FIXED], "--lr_head -1"),
        (
            ["--vary", "lr_head=1,2", "--", *FIXED, "--dry_run"],
            "--dry_run makes runs that cannot",
        ),
        (["--vary", "lr_head=1,2", "--", "--dataset_root", "/none"], "/none is no folder"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_run(tmp_path, trained, flags, part):
    assert_refused(run_here(hpo.main, "--output", tmp_path / "o", *flags), part)
    assert trained == [] and not (tmp_path / "o").exists()


@pytest.mark.slow
def test_real_runs_are_searched(tmp_path, small_data):
    fixed = [*TINY, "--dataset_root", small_data, "--epochs", 1]
    outcome = run_here(hpo.main, "--output", tmp_path / "o", "--vary", "num_tokens=3,4", "--", *fixed)
    assert outcome.status == 0, outcome.err
    tokens = [json.loads((tmp_path / "o/runs" / run / "args.json").read_text())["num_tokens"] for run in "12"]
    assert tokens == [3, 4]
    args, _ = main.parse_args([f"@{tmp_path}/o/best.txt"])
    assert args.num_tokens in (3, 4) and args.epochs == 1
