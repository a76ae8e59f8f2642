"""One page says how a run went: of any folder of a run, and with nothing from outside."""

import re
from html.parser import HTMLParser

import pytest

from tests.support.commands import assert_refused, run_here
from tests.support.run_folders import DEFAULTS, PICTURE, slide, write_run
from tools.run_report import __main__ as run_report
from tools.run_report.report import text_of, write_report

RECORD = {
    "status": "failed",
    "reason": "the <loss> is not finite",
    "begun": 1.7e9,
    "ended": 1.7e9 + 3600,
    "environment": {"torch": "2.6"},
    "defaults": DEFAULTS,
    "commands": {"last": "python inference.py"},
    "facts": {"parameters": 1_500_000},
    "videos": [["video", "J&F"], ["a<b>", 81.25], ["c", None]],
}
HOSTILE = '</script><img src=x onerror="alert(1)">'


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def page(folder) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def test_a_page_says_state_scores_videos_arguments_and_environment(tmp_path):
    slides = [slide("a", "00000"), slide("a", "00005")]
    folder = write_run(tmp_path / "7", {1: 3, 2: 2}, {1: 50.5, 2: 40}, record=RECORD, slides=slides)
    text = Tags(page(folder)).text
    for part in ("Run 7", "failed", "the <loss> is not finite", "2 of 4", "50.5", "1.50 M", "a<b>", "81.25"):
        assert part in text, part
    assert "python main.py --system stcn --epochs 4 --lr_head 0.001" in text and "2.6" in text
    assert text.index("lr_head0.0010.0001") < text.index("arguments at their defaults") < text.index("seed0")
    assert text.count(PICTURE) == 4  # each frame of the slider


def test_names_from_outside_are_only_text(tmp_path):
    record = RECORD | {
        "reason": HOSTILE,
        "status": HOSTILE,
        "videos": [["video", HOSTILE], [HOSTILE, HOSTILE]],
    }
    record |= {name: {HOSTILE: HOSTILE} for name in ("environment", "facts", "defaults")}
    record["commands"] = {"last": HOSTILE, "score": HOSTILE}
    folder = write_run(
        tmp_path / "<b>",
        {1: 3},
        {1: 50},
        record=record,
        flags={HOSTILE: HOSTILE, "system": HOSTILE},
        metrics={HOSTILE: HOSTILE},
        slides=[slide(HOSTILE, HOSTILE)],
    )
    found = Tags(page(folder)).found
    assert [attrs["alt"] for tag, attrs in found if tag == "img"] == [
        "truth, first frame",
        "tracks, first frame",
    ]
    assert not any(name.startswith("on") for _, attrs in found for name in attrs)
    assert sum(tag == "script" for tag, _ in found) == 2  # the page's own, and the frames of the slider


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    html = page(write_run(tmp_path / "1", {1: 3}, {1: 50}, record=RECORD, slides=[slide("a", "0")]))
    links = [
        value for _, attrs in Tags(html).found for name, value in attrs.items() if name in ("src", "href")
    ]
    assert links and all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    assert not re.search(r"@import|url\(", html)


def test_a_run_that_did_nothing_yet_has_a_page(tmp_path):
    folder = write_run(tmp_path / "1", {}, {})
    (folder / "results.csv").unlink()
    text = Tags(page(folder)).text
    for part in ("No epoch was finished", "There was no evaluation", "No frames were kept", "unfinished"):
        assert part in text, part


def test_numbers_are_short_and_undefined_ones_a_dash():
    assert [text_of(value) for value in (81.23456, 3, 0, None, True, [1, 2], "x", [])] == [
        "81.23",
        "3",
        "0",
        "-",
        "true",
        "1 2",
        "x",
        "-",
    ]


def test_the_command_makes_the_page_again_and_prints_where_it_is(tmp_path):
    folder = write_run(tmp_path / "1", {1: 3}, {1: 50})
    outcome = run_here(run_report.main, folder)
    assert (outcome.status, outcome.out) == (0, [str(folder / "report.html")])
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["{}/nothing"], ["nothing holds no args.json"]),
        (["{}/1", "--output", "{}/x.html"], ["--output is for several runs"]),
        (["{}/1", "{}/1", "--output", "{}/1"], ["is a folder"]),
        (["{}/1", "{}/1", "--output", "{}/1/args.json"], ["args.json is no page"]),
    ],
)
def test_mistakes_are_told_in_one_line_and_nothing_is_replaced(tmp_path, flags, parts):
    folder = write_run(tmp_path / "1", {1: 3}, {1: 50})
    before = (folder / "args.json").read_bytes()
    assert_refused(run_here(run_report.main, *(flag.format(tmp_path) for flag in flags)), *parts)
    assert (folder / "args.json").read_bytes() == before
