"""Names from outside, and files and folders that are written whole or not at all."""

import errno
import fcntl
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.files import (
    LONGEST_NAME,
    atomic_folder,
    atomic_write,
    below,
    is_visible,
    open_text,
    read_json,
    read_text,
    remove_own,
    sole_writer,
)
from tests.support.commands import files_in, held_elsewhere


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


def test_a_full_disk_is_told_with_the_file_whoever_writes_it(tmp_path: Path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), dtype=np.uint8))
    writers = {
        "a.json": lambda path: path.write_text("x" * 9000),
        "a.png": lambda path: picture.save(path, format="PNG"),
    }
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name, write in writers.items():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            with (
                pytest.raises(OSError, match=rf"{name}") as error,
                atomic_write(tmp_path / name) as temporary,
            ):
                write(temporary)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert error.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_not_the_disks_passes_as_it_is(tmp_path: Path):
    failure = OSError(errno.ECONNRESET, "reset by a peer")
    with pytest.raises(OSError) as error, atomic_write(tmp_path / "a"):
        raise failure
    assert error.value is failure


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


@pytest.mark.parametrize("name", ["a", "a b.c", "00005", "@user", "réné", "-", "x" * LONGEST_NAME])
def test_a_plain_name_is_a_path_in_its_folder(tmp_path, name):
    assert below(tmp_path, name, ".png") == tmp_path / f"{name}.png"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".a",
        "a/b",
        "/etc",
        "../a",
        "a/..",
        "a\\b",
        "..\\a",
        "C:",
        "c:a",
        "a\0",
        "\udce9",
        None,
        5,
    ],
    ids=repr,
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="cannot be a name"):
        below(tmp_path, name)


def test_a_name_is_as_long_as_a_file_system_takes_with_what_is_put_around_it(tmp_path):
    with (
        atomic_folder(below(tmp_path, "x" * LONGEST_NAME)) as folder,
        atomic_write(folder / "a.json") as file,
    ):
        file.write_text("{}")
    for name in ("x" * (LONGEST_NAME + 1), "é" * LONGEST_NAME):
        with pytest.raises(UserError, match="longer than 246 bytes"):
            below(tmp_path, name)


def test_a_folder_goes_only_where_all_in_it_is_this_programs(tmp_path):
    folder = tmp_path / "a"
    remove_own(folder)
    for name in ("b/00000.png", "b/.00001.png.tmp", "tracks.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    for name in ("notes.txt", "b/.hidden", "b/.hidden.png", "c/d/photo.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
        before = files_in(folder)
        with pytest.raises(UserError, match=name):
            remove_own(folder)
        assert files_in(folder) == before
        (folder / name).unlink()
    remove_own(folder)
    assert not folder.exists()


def test_no_link_is_followed_or_removed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "00000.png").write_text("")
    (tmp_path / "a").symlink_to(tmp_path / "precious")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "00000.png").symlink_to(tmp_path / "precious")
    for name in ("a", "b"):
        with pytest.raises(UserError, match="move it away"):
            remove_own(tmp_path / name)
    assert files_in(tmp_path / "precious") == ["00000.png"] and (tmp_path / "a").is_symlink()


def test_an_unfinished_folder_that_somebody_filled_stays(tmp_path):
    (tmp_path / ".made.partial").mkdir()
    (tmp_path / ".made.partial" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"thesis\.tex"), atomic_folder(tmp_path / "made"):
        pass
    assert files_in(tmp_path) == [".made.partial/thesis.tex"]


def test_one_process_writes_at_a_time_and_a_dead_one_holds_nothing(tmp_path):
    lock = tmp_path / "lock"
    with held_elsewhere(lock) as process:
        with pytest.raises(UserError, match="process 7 on a node: wait for its end"), sole_writer(lock):
            pass
        process.kill()
        process.wait()
        assert lock.exists()
        with sole_writer(lock):
            assert lock.read_text().startswith(f"process {os.getpid()} on ")
    assert files_in(tmp_path) == []


def test_a_worker_that_outlives_its_process_holds_no_lock(tmp_path):
    lock, (read, write) = tmp_path / "lock", os.pipe()
    child = os.fork()
    if not child:  # a process that starts a worker and dies
        with sole_writer(lock):
            if not os.fork():
                os.close(write)
                os.read(read, 1)  # the worker lives until the test ends
            os._exit(0)
    os.waitpid(child, 0)
    with sole_writer(lock):
        pass
    os.close(write)


def test_folders_that_a_lock_made_go_where_nothing_came_into_them(tmp_path):
    for content in ("", "a.txt"):
        with pytest.raises(KeyboardInterrupt), sole_writer(tmp_path / "a" / "b" / "lock"):
            if content:
                (tmp_path / "a" / content).write_text("")
            raise KeyboardInterrupt
        assert sorted(path.name for path in tmp_path.rglob("*")) == (["a", "a.txt"] if content else [])


def test_where_nothing_can_be_locked_a_line_says_so(tmp_path, monkeypatch, capsys):
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with sole_writer(tmp_path / "lock"):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "lock") in line and "No locks available" in line


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_of_any_editor_is_read(tmp_path, encoding):
    for text in ("", "[]", '["a", "\u00e9\u4e2d"]\n'):
        (tmp_path / "a.json").write_text(text, encoding=encoding)
        assert read_text(tmp_path / "a.json") == text
        with open_text(tmp_path / "a.json") as file:
            assert file.read(3) == text[:3]
    assert read_json(tmp_path / "a.json") == ["a", "\u00e9\u4e2d"]


@pytest.mark.parametrize("content", [b"caf\xe9\n", b"\xff\xfea", b"\xef\xbb\xbf\xff"])
def test_text_in_another_encoding_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.txt is neither in UTF-8 nor in UTF-16 .*: save it as UTF-8"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"a\.txt is neither"):
        read_json(tmp_path / "a.txt")


def test_what_systems_put_into_folders_is_no_data():
    assert all(map(is_visible, ["a", "00000.png", "@user", "#1", "thumbs", "eaDir", "desktop.png"]))
    names = ["._a.png", ".DS_Store", ".ipynb_checkpoints", "@eaDir", "__MACOSX", "Thumbs.db", "desktop.ini"]
    assert not any(map(is_visible, names))


def test_nothing_is_written_through_a_link(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    (tmp_path / "lock").symlink_to(precious)
    with (
        pytest.raises(UserError, match="lock was not written by this program"),
        sole_writer(tmp_path / "lock"),
    ):
        pass
    (tmp_path / ".facts.json.tmp").symlink_to(precious)
    with atomic_write(tmp_path / "facts.json") as temporary:
        temporary.write_text("{}")
    assert precious.read_text() == "mine" and not (tmp_path / "facts.json").is_symlink()
