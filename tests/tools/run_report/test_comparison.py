"""Several runs side by side: scores, what differs, curves in one picture, single videos."""

import re

from tests.support.commands import run_here
from tests.support.run_folders import DEFAULTS, write_run
from tools.run_report import __main__ as run_report


def record(score: float, torch: str = "2.6") -> dict:
    videos = [["video", "J&F"], ["clip", score]]
    return {"status": "completed", "defaults": DEFAULTS, "videos": videos, "environment": {"torch": torch}}


def two_runs(tmp_path):
    metrics = ({"J&F": 70.0, "id_switches": 3, "frames": 9}, {"J&F": 72.5, "id_switches": 5, "frames": 8})
    for number, scores in enumerate(metrics, start=1):
        write_run(
            tmp_path / str(number),
            {1: 3, 2: number},
            {2: 60 + number},
            metrics=scores,
            record=record(50 + number),
            flags={"lr_head": number / 1000, "clearml_task": str(number)},
        )
    return tmp_path / "1", tmp_path / "2"


def rows_of(html: str, section: str) -> list[list[str]]:
    """The cells of the tables in a section, as text."""
    inside = re.search(rf'<section id="{section}">(.*?)</section>', html, re.DOTALL)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", inside, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_runs_are_compared_beside_the_first(tmp_path):
    outcome = run_here(run_report.main, *two_runs(tmp_path))
    assert outcome.out == [str(tmp_path / "comparison.html")]
    html = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert ["J&amp;F", "70", "72.5"] in rows_of(html, "scores")
    assert rows_of(html, "arguments-that-differ")[1:] == [["lr_head", "0.001", "0.002"]]
    assert rows_of(html, "videos")[1:] == [["clip", "51", "52"]]
    assert "The environments are the same." in html
    assert html.count('data-curve="1"') == 2 * 2  # two charts, each with a line and a name for both runs


def test_the_better_of_two_scores_is_marked_and_a_count_is_not(tmp_path):
    run_here(run_report.main, *two_runs(tmp_path), "--output", tmp_path / "x.html")
    html = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert re.findall(r'<td class="best">(.*?)</td>', html) == ["72.5", "3"]  # J&F, id switches


def test_runs_of_one_name_are_told_apart_and_an_unfinished_one_is_compared(tmp_path):
    first = write_run(tmp_path / "a" / "1", {1: 3}, {1: 50}, metrics={"J&F": 50.0}, record=record(1.0))
    second = write_run(tmp_path / "b" / "1", {}, {}, record=record(2.0, torch="2.7"))
    outcome = run_here(run_report.main, first, second, "--output", tmp_path / "x.html")
    assert outcome.status == 0
    html = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert str(first) in html and str(second) in html
    assert rows_of(html, "scores")[1:] == [["J&amp;F", "50", "-"]]
    assert rows_of(html, "environments")[1:] == [["torch", "2.6", "2.7"]]
