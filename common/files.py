"""Files that are written whole or not at all, and JSON files."""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError


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
    shutil.rmtree(unfinished, ignore_errors=True)  # a killed run may have left one
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
