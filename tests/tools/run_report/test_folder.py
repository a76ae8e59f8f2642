"""The folder of a run is read whatever has ended it."""

import math

import pytest

from common.errors import UserError
from tests.support.run_folders import DEFAULTS, FLAGS, slide, write_run
from tools.run_report.folder import read_run


def test_of_equal_evaluations_the_last_is_the_best_as_training_has_it(tmp_path):
    run = read_run(write_run(tmp_path / "1", {1: 3, 2: 2, 3: 1.5, 4: 1}, {1: 50, 2: 70.5, 3: 70.5, 4: 60}))
    assert run.best == (3, 70.5)
    assert run.num_epochs == 4
    assert run.curves["loss/total"] == ([1, 2, 3, 4], [3, 2, 1.5, 1])
    assert run.scores == {"J&F": 60}  # of the last evaluation: there was no final one


def test_the_final_evaluation_goes_before_the_last_one(tmp_path):
    assert read_run(write_run(tmp_path / "1", {1: 3}, {1: 50}, metrics={"J&F": 55.0})).scores == {"J&F": 55.0}


def test_changed_flags_are_those_that_are_not_their_defaults(tmp_path):
    run = read_run(write_run(tmp_path / "1", {}, {}, record={"defaults": DEFAULTS}))
    assert run.changed == ["epochs", "lr_head"]
    assert run.status == "unfinished" and run.best is None and run.num_epochs == 0 and run.scores == {}


def test_a_folder_of_an_older_version_has_no_defaults_and_no_state(tmp_path):
    run = read_run(write_run(tmp_path / "1", {1: 3}, {1: 50}, metrics={"J&F": 55.0}))
    assert (run.status, run.changed, run.environment, run.slides) == ("completed", [], {}, [])
    assert run.flags == FLAGS


@pytest.mark.parametrize("text", ["[1]", "{", '{"defaults": 3, "videos": [["video"], ["a", 1]]}'])
def test_what_is_odd_in_the_record_is_passed_over(tmp_path, text):
    folder = write_run(tmp_path / "1", {1: 3}, {1: 50})
    (folder / "run.json").write_text(text)
    run = read_run(folder)
    assert run.defaults == {} and not run.record.get("videos")


def test_what_is_not_finite_is_no_point(tmp_path):
    run = read_run(write_run(tmp_path / "1", {1: 3, 2: math.nan}, {1: math.inf}))
    assert run.groups == {"loss": {"loss/total": ([1], [3])}} and run.best is None


def test_only_pictures_become_slides(tmp_path):
    slides = [
        slide("a", "0"),
        slide("a", "1", truth='" onerror="alert(1)'),
        slide("a", "2", "http://x/y.jpg"),
    ]
    run = read_run(write_run(tmp_path / "1", {}, {}, slides=[*slides, 3]))
    assert [one["frame"] for one in run.slides] == ["0"]


def test_what_cannot_be_read_is_told_with_its_path(tmp_path):
    with pytest.raises(UserError, match=r"holds no args.json: give the folder of a run"):
        read_run(tmp_path)
    folder = write_run(tmp_path / "1", {1: 3}, {})
    (folder / "results.csv").write_text("epoch,loss/total\n1,many\n")
    with pytest.raises(UserError, match=r"results.csv cannot be read"):
        read_run(folder)
    (folder / "args.json").write_text("[]")
    (folder / "results.csv").unlink()
    with pytest.raises(UserError, match=r"args.json holds no JSON object"):
        read_run(folder)
