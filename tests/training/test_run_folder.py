"""The folder of a run: its number, its lock, the checkpoint and the task to go on with."""

import json
import shutil
from pathlib import Path

import pytest

import main
from common.checkpoint import read_checkpoint, save_checkpoint
from common.files import LOCK, write_json
from tests.support.commands import assert_refused, files_in, held_elsewhere
from tools.run_report.record import RunRecord
from training.config import check_flags
from training.run_folder import find_checkpoint, new_run_folder, task_of


def test_run_folders_count_up_from_the_largest_number(tmp_path):
    runs = tmp_path / "a" / "runs"
    assert new_run_folder(runs) == runs / "1"
    (runs / "9").mkdir()
    (runs / "best").mkdir()
    (runs / "11").write_text("a file takes a number too")
    assert new_run_folder(runs) == runs / "12"
    assert (runs / "12").is_dir()


def test_a_folder_that_another_run_has_just_made_is_not_used(tmp_path, monkeypatch):
    make, rivals = Path.mkdir, [tmp_path / "1", tmp_path / "2"]

    def mkdir(path: Path, *args, **kwargs) -> None:
        if path in rivals:
            rivals.remove(path)
            make(path)
        make(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert new_run_folder(tmp_path) == tmp_path / "3"


def test_a_run_dir_that_is_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match="runs"):
        new_run_folder(tmp_path / "runs")


def test_auto_is_the_newest_run_with_a_checkpoint(tmp_path):
    for number in ("2", "10", "copy"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "last.pth").write_text("")
    (tmp_path / "11").mkdir()  # was killed before its first checkpoint
    assert find_checkpoint("auto", tmp_path) == tmp_path / "10" / "last.pth"


def test_without_a_checkpoint_auto_begins_anew_and_a_file_is_taken_at_its_word(tmp_path):
    assert find_checkpoint("auto", tmp_path / "absent") is None
    assert find_checkpoint(None, tmp_path) is None
    assert find_checkpoint("x/last.pth", tmp_path) == Path("x/last.pth")


def test_the_task_of_a_run_is_in_its_arguments_and_in_its_checkpoints(trained, tmp_path):
    last, alone = trained.run / "last.pth", tmp_path / "moved.pth"
    assert task_of(None) is None and task_of(last) is None
    content = read_checkpoint(last)
    save_checkpoint(alone, content | {"args": content["args"] | {"clearml_task": "abc"}})
    assert task_of(alone) == "abc"
    write_json(tmp_path / "args.json", {"clearml_task": "def"})
    assert task_of(alone) == "def"


def test_json_is_written_whole_with_its_nulls(tmp_path):
    write_json(tmp_path / "metrics.json", {"J&F": 80.5, "AP": None})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"J&F": 80.5, "AP": None}
    with pytest.raises(TypeError):
        write_json(tmp_path / "metrics.json", {"J&F": object()})
    assert json.loads((tmp_path / "metrics.json").read_text())["J&F"] == 80.5
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_two_processes_do_not_train_into_one_folder(train, trained, tmp_path):
    run = tmp_path / "runs" / "1"
    run.mkdir(parents=True)
    (run / "last.pth").write_bytes((trained.run / "last.pth").read_bytes())
    flags = ["--epochs", 3]
    for resume in ("auto", run / "last.pth"):
        with held_elsewhere(run / LOCK):
            assert_refused(train(*flags, "--resume", resume), run, "process 7 on a node")
        assert sorted(files_in(tmp_path / "runs")) == [f"1/{LOCK}", "1/last.pth"]


def test_a_run_keeps_its_folder_until_its_record_is_closed(train, monkeypatch):
    close, locked = RunRecord.close, []

    def closing(record: RunRecord, error: BaseException | None = None) -> None:
        locked.append((record._folder / LOCK).is_file())
        close(record, error)

    monkeypatch.setattr(RunRecord, "close", closing)
    monkeypatch.setattr(main, "finish", lambda trainer: None)
    assert train("--eval_every", 0).status == 0 and locked == [True]


@pytest.mark.parametrize("resume", ["auto", "last.pth"])
def test_a_finished_run_whose_data_are_gone_shows_its_results(train, trained, tmp_path, resume):
    run = Path(shutil.copytree(trained.run, tmp_path / "runs" / "1"))
    flags = ["--epochs", 2, "--dataset_root", tmp_path / "gone"]
    flags += ["--resume", resume if resume == "auto" else run / resume]
    check_flags([*map(str, flags), "--run_dir", str(tmp_path / "runs")])
    outcome = train(*flags)
    metrics = json.loads((run / "metrics.json").read_text())
    assert outcome.run == run and [line.split()[0] for line in outcome.out[1:-1]] == list(metrics)
    assert_refused(train(*flags, "--epochs", 4), tmp_path / "gone")
    (run / "metrics.json").unlink()
    assert_refused(train(*flags), tmp_path / "gone")
