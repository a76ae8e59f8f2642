import sys

import pytest

from common.progress import every, plain_lines, progress


class Screen:
    """A stderr that says whether it is a terminal."""

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
    assert progress(items, "frames") is items
    assert plain_lines() and stderr.text == ""


def test_on_a_terminal_there_is_a_bar_with_the_title(screen):
    pytest.importorskip("tqdm")
    stderr = screen(True)
    assert list(progress(iter([1, 2, 3]), "frames", total=3)) == [1, 2, 3]
    assert "frames" in stderr.text and not plain_lines()


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
