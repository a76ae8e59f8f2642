import sys

import pytest

from common.progress import begin_lines, every, plain_lines, progress, say
from tests.support.commands import run_apart


class Screen:
    """A stderr that says whether it is a terminal."""

    encoding = "utf-8"

    def __init__(self, terminal: bool):
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


@pytest.fixture
def screen(monkeypatch):
    def install(terminal: bool) -> Screen:
        monkeypatch.setattr(sys, "stderr", Screen(terminal))
        return sys.stderr

    return install


def test_without_a_terminal_the_items_pass_and_nothing_is_drawn(screen):
    stderr, items = screen(False), [1, 2, 3]
    assert list(progress(items, "frames")) == items
    assert plain_lines() and stderr.text == ""


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(screen, monkeypatch):
    stderr, clock = screen(False), iter([0.0, 10.0, 31.0, 40.0, 62.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert list(progress(range(4), "cat", 100, "frame")) == [0, 1, 2, 3]
    assert stderr.text.splitlines() == [
        "cat: frame 2 of 100, 0.0645 frames/s, 0:25:19 left",
        "cat: frame 4 of 100, 0.0645 frames/s, 0:24:48 left",
    ]


def test_on_a_terminal_there_is_a_bar_with_the_title(screen):
    pytest.importorskip("tqdm")
    stderr = screen(True)
    assert list(progress(iter([1, 2, 3]), "frames", total=3)) == [1, 2, 3]
    assert "frames" in stderr.text and not plain_lines()


def test_lines_of_several_processes_begin_with_whose_they_are_and_there_is_no_bar(screen):
    stderr = screen(True)
    begin_lines("[3] ")
    try:
        say("cat: it is damaged", error=True)
        assert list(progress([1, 2], "frames")) == [1, 2] and plain_lines()
    finally:
        begin_lines("")
    say("once more", error=True)
    assert stderr.text == "[3] cat: it is damaged\nonce more\n"


def test_without_tqdm_the_items_still_pass(screen, monkeypatch):
    stderr, items = screen(True), [1, 2]
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert progress(items, "frames") is items and stderr.text == ""


@pytest.mark.parametrize(
    "items, number, groups",
    [([1, 2, 3, 4], 2, [[1, 2], [3, 4]]), ([1, 2, 3], 2, [[1, 2], [3]]), ([1], 5, [[1]]), ([], 2, [])],
)
def test_items_come_in_groups_and_the_last_may_be_shorter(items, number, groups):
    assert list(every(items, number)) == groups


def test_a_group_is_given_as_soon_as_it_is_full():
    taken = []
    source = (taken.append(i) or i for i in range(10))
    assert next(every(source, 3)) == [0, 1, 2] and taken == [0, 1, 2]


SAYING = """
import sys
from common.errors import run_command
from common.progress import check_shown, say

def main():
    for _ in range(2):
        say("кот" * 99)
    say("done", error=True)
    if "check" in sys.argv:
        check_shown()

run_command(main)
"""
FULL = ["standard output takes no more lines: [Errno 28] No space left on device", "done"]
CLOSED = ["standard output takes no more lines: it is closed", "done"]


@pytest.mark.parametrize(
    "stdout, told, checked, status",
    [
        (">/dev/full", FULL, "", 0),
        (">/dev/full", FULL, "check", 2),
        ("| true", ["done"], "", 0),
        ("| true", ["done"], "check", 141),
        (">&-", CLOSED, "check", 2),
        (">/dev/null", ["done"], "check", 0),
        (">/dev/full 2>/dev/full", [], "check", 2),
        (">&- 2>&-", [], "", 0),
    ],
)
def test_a_line_that_stdout_does_not_take_ends_only_what_has_no_other_result(stdout, told, checked, status):
    shell = f'{{ "$@"; echo $? >&9; }} 9>&2 {stdout}'
    outcome = run_apart("-c", SAYING, checked, through=["bash", "-c", shell, "bash"])
    *lines, end = outcome.err
    assert lines == told and int(end) == status


def test_a_name_in_cyrillic_is_escaped_where_stdout_is_in_ascii(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    outcome = run_apart("-c", SAYING, "check")
    assert outcome.status == 0 and outcome.out == [r"\u043a\u043e\u0442" * 99] * 2
