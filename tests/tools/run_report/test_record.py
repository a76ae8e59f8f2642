"""A run notes its state and makes its page, at evaluations and at its end; trouble with that ends no run."""

import argparse
import json
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support.run_folders import write_run
from tools.run_report.record import RunRecord


def record_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def make_record() -> RunRecord:
    parser = argparse.ArgumentParser()
    for name, default in (("--device", "cpu"), ("--amp", "off"), ("--epochs", 20)):
        parser.add_argument(name, default=default)
    return RunRecord(parser.parse_args(["--epochs", "4"]), parser)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_run(tmp_path / "1", {1: 3}, {1: 50})


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (None, "completed", ""),
        (SystemExit(0), "completed", ""),
        (SystemExit(2), "failed", "SystemExit: 2"),
        (KeyboardInterrupt(), "interrupted", ""),
        (UserError("the loss is not finite"), "failed", "the loss is not finite"),
        (RuntimeError("out of memory"), "failed", "RuntimeError: out of memory"),
    ],
)
def test_the_record_says_how_the_run_has_ended(folder, error, status, reason):
    record = make_record()
    record.begin(folder, 0)
    assert record_of(folder)["status"] == "running"
    record.close(error)
    noted = record_of(folder)
    assert (noted["status"], noted["reason"]) == (status, reason)
    assert noted["begun"] <= noted["ended"] and noted["defaults"]["epochs"] == 20
    assert status in (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_is_made_after_an_evaluation_when_its_row_is_written(folder):
    record = make_record()
    record.begin(folder, 0)
    record.artifact("commands", {"last": "python inference.py"})
    record.scalars("loss", {"total": 3.0}, 1)
    record.table("videos", [["video", "J&F"], ["clip", 81.5]], 2)
    assert not (folder / "report.html").exists()
    record.scalars("val", {"J&F": 50.0}, 2)
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "running, or killed" in html and "81.5" in html and "python inference.py" in html


def test_a_run_that_goes_on_keeps_its_begin_and_its_videos_and_one_that_begins_does_not(folder):
    videos = [["video", "J&F"], ["clip", 81.5]]
    (folder / "run.json").write_text(json.dumps({"begun": 5.0, "videos": videos, "reason": "killed"}))
    make_record().begin(folder, 3)
    noted = record_of(folder)
    assert (noted["begun"], noted["videos"], noted["reason"]) == (5.0, videos, "")
    make_record().begin(folder, 0)
    assert record_of(folder)["begun"] > 5.0 and record_of(folder)["videos"] == []


def test_a_page_that_cannot_be_made_is_told_and_ends_nothing(folder, capsys):
    record = make_record()
    record.begin(folder, 0)
    (folder / "results.csv").write_text("epoch,loss/total\n1,many\n")
    record.table("videos", [["video", "J&F"], ["clip", 81.5]], 2)
    for _ in range(3):
        record.scalars("val", {"J&F": 50.0}, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the report of the run is not written:") and "results.csv cannot be read" in line
    record.close()
    assert record_of(folder)["status"] == "completed"


def test_a_run_that_ended_before_it_began_writes_nothing():
    make_record().close(UserError("no data"))
