"""Files and folders: names from outside, what is written whole or not at all, JSON files."""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError

# Bytes of a name: the 255 of most file systems, less the dot and the ".partial" that may be put around it.
LONGEST_NAME = 246
# What this program writes into folders that it replaces: label maps and facts, finished or not.
OWN_FILE = re.compile(r"[^.].*\.(png|json)|\..+\.(png|json)\.tmp")


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


def is_own(path: Path) -> bool:
    """Whether this program may have written what is found in a folder that it replaces."""
    return not path.is_symlink() and (path.is_dir() or OWN_FILE.fullmatch(path.name) is not None)


def check_own(folder: Path) -> None:
    """Raise UserError where there is no folder but something else, or one with what is not this program's."""
    found = [folder, *folder.rglob("*")] if folder.is_dir() or folder.is_symlink() else []
    others = [folder] if folder.is_file() else [path for path in found if not is_own(path)]
    if others:
        raise UserError(f"{others[0]} is in the way, and no file of this program's: move it away")


def remove_own(folder: Path) -> None:
    """Remove a folder, if it is there, where it holds only what this program writes; UserError otherwise."""
    check_own(folder)
    if folder.is_dir():
        shutil.rmtree(folder)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its place at the end of the `with` block.

    Missing parent folders are made. An exception in the block removes the temporary file and leaves `path` as
    it was. The temporary name is fixed, so that what a killed process left is overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
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


def read_text(path: Path) -> str:
    """The content of a text file; UserError where it is none."""
    check_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text in UTF-8 ({error.reason}): save it as such") from error


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
