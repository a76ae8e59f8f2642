"""Files and folders: names, texts and downloads from outside, one writer at a time, whole or nothing."""

import errno
import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from common.errors import UserError
from common.progress import progress, say

# Bytes of a name: the 255 of most file systems, less the dot and the ".partial" that may be put around it.
LONGEST_NAME = 246
# What this program writes into folders that it removes: label maps, facts, frames; finished or not.
OWN_FILE = re.compile(r"frames|[^.].*\.(png|json|npz)|\..+\.(png|json)\.tmp")
# What Windows, macOS, Python and network drives put into folders by themselves, in small letters.
SYSTEM_ENTRIES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
SYSTEM_ENTRIES |= {"__macosx", "icon\r", "__pycache__", "lost+found", "@eadir", "@tmp", "@recycle"}
SYSTEM_ENTRIES |= {"#recycle", "#snapshot", "@recently-snapshot"}
LOCK = ".vita_tcovis.lock"  # lies in a folder that one process at a time may write into


def below(folder: Path, name: str, suffix: str = "") -> Path:
    """The path in a folder of a name from outside (a file, JSON, a list, a prompt) and a suffix.

    Raises UserError unless it is a plain name, which leads to no other place on any system: not empty, not
    hidden (as `.` and `..` are, too), without slashes, drive letters and NUL, in UTF-8, and not too long.
    """
    trouble = ""
    if not isinstance(name, str) or not name or name.startswith("."):
        trouble = "it is empty or begins with a dot"
    elif re.search(r"[/\\\0]|^[A-Za-z]:", name):
        trouble = "it has a slash, a backslash, a drive letter or a NUL"
    elif name.encode(errors="ignore").decode() != name:
        trouble = "it is not UTF-8"
    elif len(name.encode()) > LONGEST_NAME:
        trouble = f"it is longer than {LONGEST_NAME} bytes"
    if trouble:
        raise UserError(f"{str(name)[:60]!r} cannot be a name in {folder}: {trouble}; rename it")
    return folder / f"{name}{suffix}"


def is_visible(name: str) -> bool:
    """Whether an entry of a folder is data: neither hidden nor one that a system makes by itself."""
    return not name.startswith(".") and name.lower() not in SYSTEM_ENTRIES


def is_own(path: Path, files: re.Pattern[str] = OWN_FILE) -> bool:
    """Whether this program may have written what is found in a folder that it replaces."""
    return not path.is_symlink() and (path.is_dir() or files.fullmatch(path.name) is not None)


def check_own(folder: Path, files: re.Pattern[str] = OWN_FILE) -> None:
    """Raise UserError where there is no folder but something else, or one with what is not this program's.

    files: the names of files that are
    """
    found = [folder, *folder.rglob("*")] if folder.is_dir() or folder.is_symlink() else []
    others = [folder] if folder.is_file() else [path for path in found if not is_own(path, files)]
    if others:
        raise UserError(f"{others[0]} was not written by this program and is in the way: move it away")


def remove_own(folder: Path) -> None:
    """Remove a folder, if it is there, where it holds only what this program writes; UserError otherwise."""
    check_own(folder)
    if folder.is_dir():
        shutil.rmtree(folder)


def _take(lock: Path) -> TextIO:
    """The lock file, open and locked for this process; UserError where another process has it."""
    while True:
        if lock.is_symlink() or (lock.exists() and not lock.is_file()):
            raise UserError(f"{lock} was not written by this program and is in the way: move it away")
        file = open(lock, "a+", encoding="utf-8", errors="replace")
        try:
            import fcntl  # not on Windows

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read(200) or "another process"
            raise UserError(f"{lock} is held by {holder}: wait for its end, or write elsewhere") from error
        except (ImportError, OSError) as error:
            say(f"{lock} cannot be locked ({error}): make sure that no other run writes there", error=True)
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        file.close()  # at this moment its last holder removed it


def lock_of(path: Path) -> Path:
    """The lock file beside what is written whole."""
    path = path.resolve()
    return path.parent / f".{path.name}.lock"


@contextmanager
def sole_writer(lock: Path) -> Iterator[None]:
    """Inside, no other process is in a block of the same lock file; UserError where one is, which is named.

    The lock is the kernel's: a process that dies leaves none, and those that it started have none. Missing
    folders of the file are made, and go again where nothing else was put into them. A file where the folder
    should be is a UserError.
    """
    folder = lock.parent
    if folder.is_file():
        raise UserError(f"{folder} is a file: give a folder")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with _take(lock) as file:
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
            yield
        finally:
            lock.unlink(missing_ok=True)
            with suppress(OSError):
                for path in missing:
                    path.rmdir()


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota, or the largest size of a file


@contextmanager
def naming(path: Path) -> Iterator[Path]:
    """Yield the path of a file, or of a folder of many, and name it where a full disk ends the block.

    Raises OSError, as whoever writes does, but often without a name.
    """
    try:
        yield path
    except OSError as error:
        if error.errno not in FULL or error.filename:
            raise
        raise OSError(error.errno, f"cannot write: {os.strerror(error.errno)}", str(path)) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its place at the end of the `with` block.

    Missing parent folders are made. An exception in the block removes the temporary file and leaves `path` as
    it was. The temporary name is fixed, so that what a killed process left is overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # were it a link, what it leads to would be written
    try:
        with naming(path):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which takes its place at the end of the `with` block.

    An exception in the block removes it. Raises UserError where `path` is a file, or a folder that holds
    something.
    """
    path = path.resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} is there already: choose another name, or remove it")
    unfinished = path.with_name(f".{path.name}.partial")
    remove_own(unfinished)  # a killed run may have left one
    unfinished.mkdir(parents=True)
    try:
        with naming(path):
            yield unfinished
        if path.is_dir():
            path.rmdir()
        os.replace(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_file(path: Path) -> None:
    """Raise UserError where a path is a pipe, a device or a socket, whose reading may never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is a pipe, a device or a socket: give a file")


def check_checkpoint(path: Path) -> None:
    """Raise UserError where a path is no file that could be a checkpoint."""
    check_file(path)
    if not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise UserError(f"checkpoint {path} {problem}; pass a .pth file that main.py wrote")


def open_text(path: Path) -> TextIO:
    """Open a text file of any editor: in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises UserError where the path is no file.
    """
    check_file(path)
    file = open(path, "rb")
    return io.TextIOWrapper(file, json.detect_encoding(file.peek(4)[:4]))


def read_text(path: Path) -> str:
    """The text of a file as `open_text` takes it; UserError where it is in another encoding."""
    with open_text(path) as file:
        try:
            return file.read()
        except UnicodeError as error:
            trouble = f"{path} is neither in UTF-8 nor in UTF-16 ({error})"
            raise UserError(f"{trouble}: save it as UTF-8") from error


def _finite_number(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"the number {text[:20]} is not finite")
    return float(text)


def _whole_number(text: str) -> int:
    if len(text) > 18:
        raise ValueError(f"the number {text[:20]}... is too long")
    return int(text)


# Of all JSON that is read: numbers are finite, and whole ones fit 64 bits.
DECODER = json.JSONDecoder(parse_float=_finite_number, parse_int=_whole_number, parse_constant=_finite_number)


def read_json(path: Path) -> Any:
    """The content of a JSON file; UserError where it is none, or holds a number that no reader can take."""
    text = read_text(path)
    try:
        return DECODER.decode(text)
    except RecursionError as error:
        raise UserError(f"{path} is not a JSON file (it is nested too deeply): write it anew") from error
    except ValueError as error:
        raise UserError(f"{path} is not a JSON file ({error}): write it anew") from error


def write_json(path: Path, values: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


def joined(opening: str, parts: Iterable[Iterable[str]], separator: str, closing: str) -> Iterator[str]:
    """The pieces of a JSON list or object, from the pieces of each of its parts."""
    yield opening
    for index, part in enumerate(parts):
        yield separator if index else ""
        yield from part
    yield closing


class Download(NamedTuple):
    """A file that others publish.

    name: under which it is kept; size: in bytes; size and MD5 are None where nobody has published them
    licence: that of its repository, "unknown" where none was found
    """

    name: str
    address: str
    licence: str
    size: int | None = None
    md5: str | None = None


CHUNK = 1 << 20  # bytes that are read at once: the mebibyte that the progress bar counts
PATIENCE = 30  # seconds without a byte after which a connection counts as cut
CUT = (HTTPException, ConnectionError, TimeoutError, ssl.SSLError)  # how a connection ends too early


def _ask(address: str, start: int) -> HTTPResponse:
    """The answer of a server that is asked for a file from byte `start` on, which not every server heeds."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    answer = urlopen(Request(address, headers=headers), timeout=PATIENCE)
    if answer.headers.get_content_type() == "text/html":
        answer.close()
        raise UserError("the server sends a web page in place of the file")
    return answer


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continue(address: str, partial: Path) -> bool:
    """Write what is missing of a download, or all of it; returns whether it is whole.

    Raises URLError or one of `CUT` where the server does not answer, UserError where it sends no file.
    """
    start = _size(partial)
    try:
        answer = _ask(address, start)
    except HTTPError as error:
        if error.code != 416 or not start:
            raise
        partial.unlink()  # it is as long as the file, or longer: no beginning of it
        return _continue(address, partial)
    with answer, open(partial, "ab" if answer.status == 206 else "wb") as file:
        rest = answer.length  # None where the server does not say
        expected = None if rest is None else file.tell() + rest
        total = None if rest is None else -(-rest // CHUNK)
        try:
            for chunk in progress(iter(lambda: answer.read(CHUNK), b""), f"{partial.stem}, MiB", total):
                file.write(chunk)
        except CUT:
            return False
        return expected in (None, file.tell())


def _download(address: str, partial: Path) -> None:
    """Bring a download to its end; one that is cut goes on as long as every connection brings a byte more."""
    former = _size(partial)
    while not _continue(address, partial):
        size = _size(partial)
        if size <= former:
            raise UserError(f"the connection was cut after {size} bytes; the next try goes on from there")
        former = size


def _check_download(file: Download, partial: Path) -> None:
    """Raise UserError, and remove what has arrived, where it has not the published size or MD5."""
    with open(partial, "rb") as content:
        found = {"size": _size(partial), "md5": hashlib.file_digest(content, "md5").hexdigest()}
    for name, value in found.items():
        expected = getattr(file, name)
        if expected not in (None, value):
            partial.unlink()
            raise UserError(f"its {name} is {value}, not {expected} as published")


def fetch(file: Download, folder: Path) -> Path:
    """The path of a published file in a folder, where it is downloaded unless it is there.

    Until it is whole and checked it lies beside its place under the ending `.partial`, which a next try
    continues where the server can. Raises UserError, with the address and the place, where it cannot be
    fetched, or another process fetches it; OSError where the disk is full.
    """
    path = folder / file.name
    if path.is_file():
        return path
    partial = path.with_name(f"{path.name}.partial")
    with sole_writer(lock_of(path)), naming(partial):
        size = f", {file.size / 1e6:.0f} MB" if file.size else ""
        say(f"fetching {path} from {file.address} (licence: {file.licence}{size})")
        try:
            _download(file.address, partial)
            _check_download(file, partial)
        except (URLError, UserError, *CUT) as error:
            remedy = f"try again later, or put the file at {path}"
            raise UserError(f"{file.address} cannot be fetched ({error}): {remedy}") from error
        with open(partial, "rb+") as content:
            os.fsync(content.fileno())
        os.replace(partial, path)
    return path
