from pathlib import Path

import pytest

from common.errors import UserError
from common.files import atomic_folder, atomic_write
from tests.support.commands import files_in


def test_a_file_takes_its_name_at_the_end_and_its_folder_is_made(tmp_path: Path):
    path = tmp_path / "a" / "b.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_keeps_the_former_file_and_removes_the_temporary_one(tmp_path: Path):
    path = tmp_path / "b.txt"
    path.write_text("former")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path):
    path = tmp_path / "b.txt"
    with atomic_write(path) as temporary:
        leftover = temporary
        leftover.write_text("half")
    leftover.write_text("half")
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "made") as folder:
        (folder / "a").write_text("a")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "made").mkdir()
    with atomic_folder(tmp_path / "made") as folder:
        (folder / "a").write_text("a")
    assert files_in(tmp_path) == ["made/a"]
    with pytest.raises(UserError, match="made is there already"), atomic_folder(tmp_path / "made"):
        pass
    assert files_in(tmp_path) == ["made/a"]
