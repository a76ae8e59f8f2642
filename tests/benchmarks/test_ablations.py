"""benchmarks.ablations: its flags exist, its runs are not done twice, its table is the mean over seeds."""

import json
from dataclasses import fields

import pytest

from benchmarks import ablations
from common.errors import UserError
from inference import VITATracker
from main import parse_args


@pytest.mark.parametrize("flags", ablations.TRAINING.values(), ids=ablations.TRAINING.keys())
def test_the_flags_of_every_trained_row_are_those_of_main_and_change_something(flags, monkeypatch):
    monkeypatch.chdir(ablations.ROOT)
    plain = vars(parse_args([f"@{ablations.PRESET}"])[0])
    changed = vars(parse_args([f"@{ablations.PRESET}", *flags.split()])[0])
    assert (plain == changed) == (flags == "")


def test_the_flags_of_every_row_of_the_tracker_are_its_own_and_not_its_defaults():
    defaults = {item.name: item.default for item in fields(VITATracker.Config)}
    for flags in ablations.TRACKER.values():
        words = flags.split()
        for flag, value in zip(words[::2], words[1::2], strict=True):
            assert value != str(defaults[flag.removeprefix("--")])


def test_a_run_that_has_its_scores_is_not_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(ablations.subprocess, "run", lambda *a, **k: pytest.fail("trained again"))
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "metrics.json").write_text(json.dumps({"AP": 12.5}))
    assert ablations.train(tmp_path, tmp_path, "", 0) == {"AP": 12.5}


def test_a_run_that_fails_is_told_with_its_command_and_its_log(tmp_path):
    with pytest.raises(UserError, match=r"--w_match -1 ended with status 2: see .*log\.txt") as caught:
        ablations.train(tmp_path / "run", tmp_path / "absent", "--w_match -1", 0)
    assert "--w_match -1.0 is too small" in (tmp_path / "run" / "log.txt").read_text()
    assert "\n" not in str(caught.value)


def test_the_table_has_means_half_ranges_and_only_columns_that_were_measured():
    metrics = {"a": [{"AP": 40.0, "cosine_margin": 1.0}, {"AP": 43.0, "cosine_margin": 1.25}]}
    assert ablations.table({"a": "--x 1"}, metrics) == [
        "| | flags | AP | margin |",
        "|---|---|---|---|",
        "| a | `--x 1` | 41.5 ± 1.5 | 1.12 ± 0.12 |",
    ]
