"""A published file is fetched once, goes on after a cut, and takes its place whole and checked or not."""

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common import files
from common.errors import UserError
from common.files import Download, fetch, lock_of
from tests.support.commands import files_in, held_elsewhere
from tests.support.file_server import FileServer

CONTENT = np.random.default_rng(0).bytes(20_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(CONTENT) as server:
        yield server


def published(server: FileServer, **facts: object) -> Download:
    known = {"size": len(CONTENT), "md5": hashlib.md5(CONTENT).hexdigest()}
    return Download("w.pth", server.address, "MIT", **known | facts)


def refusal(file: Download, folder: Path) -> str:
    """The line in which a download is refused; it has the address and the place, and leaves no file there."""
    with pytest.raises(UserError) as error:
        fetch(file, folder)
    line = str(error.value)
    assert file.address in line and f"put the file at {folder / 'w.pth'}" in line and "\n" not in line
    assert not (folder / "w.pth").exists() and not lock_of(folder / "w.pth").exists()
    return line


def test_a_file_is_fetched_once_and_told_with_address_licence_and_size(server, tmp_path, capsys):
    path = fetch(published(server), tmp_path / "cache")
    assert path.read_bytes() == CONTENT and files_in(tmp_path) == ["cache/w.pth"]
    line = f"fetching {path} from {server.address} (licence: MIT, 0 MB)"
    assert capsys.readouterr().out.splitlines() == [line]
    assert fetch(published(server), tmp_path / "cache") == path
    assert server.asked == [""] and capsys.readouterr().out == ""


def test_a_file_of_unknown_size_and_digest_is_fetched(server, tmp_path):
    assert fetch(published(server, size=None, md5=None), tmp_path).read_bytes() == CONTENT


def test_a_server_that_does_not_tell_the_length_is_heard_to_the_end(server, tmp_path):
    server.tells_length = False
    assert fetch(published(server), tmp_path).read_bytes() == CONTENT


def test_a_slow_server_is_waited_for_as_long_as_bytes_come(server, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    server.pause = 0.03  # 0.6 seconds in all
    assert fetch(published(server), tmp_path).read_bytes() == CONTENT and len(server.asked) == 1


def test_a_cut_connection_goes_on_from_where_it_was(server, tmp_path):
    server.cuts = [7_000, 5_000]
    assert fetch(published(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=7000-", "bytes=12000-"]


def test_a_server_that_falls_silent_is_asked_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    monkeypatch.setattr(files, "CHUNK", 1000)
    server.content, server.pause = CONTENT[:3000], 60
    fetch(published(server, size=3000, md5=None), tmp_path)
    assert (tmp_path / "w.pth").read_bytes() == CONTENT[:3000]
    assert server.asked == ["", "bytes=1000-", "bytes=2000-"]


def test_the_next_try_goes_on_where_a_cut_one_ended(server, tmp_path):
    server.cuts = [7_000, 0]
    assert "cut after 7000 bytes" in refusal(published(server), tmp_path)
    assert (tmp_path / "w.pth.partial").read_bytes() == CONTENT[:7_000]
    assert fetch(published(server), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=7000-" and files_in(tmp_path) == ["w.pth"]


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.ranges = False
    server.cuts = [7_000]
    assert fetch(published(server), tmp_path).read_bytes() == CONTENT
    server.cuts = [7_000, 7_000]
    (tmp_path / "w.pth").unlink()
    assert "cut after 7000 bytes" in refusal(published(server), tmp_path)


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_remains_that_are_no_beginning_of_the_file_are_fetched_anew(server, tmp_path, extra):
    (tmp_path / "w.pth.partial").write_bytes(CONTENT + extra)
    assert fetch(published(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT + extra)}-", ""]


@pytest.mark.parametrize(
    "facts, reason",
    [({"size": 9}, "its size is 20000, not 9"), ({"md5": "0" * 32}, f"not {'0' * 32} as published")],
)
def test_another_file_than_the_published_one_is_refused_and_removed(server, tmp_path, facts, reason):
    assert reason in refusal(published(server, **facts), tmp_path)
    assert files_in(tmp_path) == []


def test_remains_of_another_file_are_removed_so_that_the_next_try_succeeds(server, tmp_path):
    (tmp_path / "w.pth.partial").write_bytes(b"another")
    refusal(published(server), tmp_path)
    assert fetch(published(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_server_that_has_no_file_is_told_by_its_status(tmp_path, status):
    with FileServer(CONTENT, status=status) as server:
        assert f"HTTP Error {status}" in refusal(published(server), tmp_path)
    assert files_in(tmp_path) == []


def test_a_web_page_is_not_taken_for_the_file(tmp_path):
    with FileServer(b"<html>", content_type="text/html; charset=utf-8") as server:
        assert "a web page" in refusal(published(server, size=None, md5=None), tmp_path)
    assert files_in(tmp_path) == []


def test_without_a_network_one_line_says_address_and_place(server, tmp_path):
    server.__exit__()
    assert "Connection refused" in refusal(published(server), tmp_path)
    assert files_in(tmp_path) == []


def test_a_full_disk_is_told_with_the_file(server, tmp_path):
    (tmp_path / "w.pth.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot write.*w\.pth\.partial") as error:
        fetch(published(server), tmp_path)
    assert error.value.errno == errno.ENOSPC and not (tmp_path / "w.pth").exists()


def test_two_processes_do_not_fetch_one_file_at_once(server, tmp_path):
    with held_elsewhere(lock_of(tmp_path / "w.pth")), pytest.raises(UserError, match="is held by"):
        fetch(published(server), tmp_path)
    assert server.asked == []
