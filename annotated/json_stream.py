"""Reads JSON files that are larger than memory, part by part, and parts of them where they lie."""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from common.errors import UserError
from common.files import DECODER, open_text

WHITESPACE = re.compile(r"[ \t\n\r]*")
CHUNK = 1 << 20  # characters
UNSURE = len("e+")  # characters after a number that may be a part of it
LONGEST_WORD = 16  # characters at the end of a text that may be cut off, as of `-Infinity`
LENIENT = json.JSONDecoder()  # several times as fast as `DECODER`; for what is read again before it is used


class JsonStream:
    """Walks through the JSON text of an open file; UserError where it is none, or of another shape.

    `elements` and `members` go through the list or object that comes next; each part that they announce is
    taken, by `value`, `elements` or `members`, before the next one is asked for.
    """

    def __init__(self, file: TextIO):
        self._file = file
        self._text, self._place = "", 0
        self._counted, self._bytes = 0, 0  # the offset of a place in the text

    def peek(self) -> str:
        """The first character of what comes next; empty at the end of the text."""
        while True:
            self._place = WHITESPACE.match(self._text, self._place).end()
            if self._place < len(self._text) or not self._read_on():
                return self._text[self._place : self._place + 1]

    @property
    def offset(self) -> int:
        """The bytes before what comes next, in a file that `open_json` opened with `in_bytes`."""
        self.peek()
        return self._count()

    def value(self, decoder: json.JSONDecoder = DECODER) -> Any:
        """What comes next, whole."""
        self.peek()
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._place)
            except RecursionError as error:
                raise self._bad("it is nested too deeply") from error
            except ValueError as error:
                if self._is_fault(error) or not self._read_on():
                    raise self._bad(str(error)) from error
            else:
                # A number may go on in the next chunk, where this one ends in "1", "1." or "1e+".
                if end + UNSURE < len(self._text) or not self._read_on():
                    self._place = end
                    return value

    def elements(self) -> Iterator[int]:
        """The index of each element of the list that comes next."""
        return self._parts("[", "]")

    def members(self) -> Iterator[str]:
        """The key of each member of the object that comes next."""
        for _ in self._parts("{", "}"):
            key = self.value()
            self._take(":")
            yield key

    def end(self) -> None:
        """Raise UserError where anything is left."""
        if self.peek():
            raise self._bad(f"more than one value: {self.peek()!r} is left")

    def _parts(self, opening: str, closing: str) -> Iterator[int]:
        self._take(opening)
        if self.peek() != closing:
            for index in count():
                yield index
                if self.peek() == closing:
                    break
                self._take(",")
        self._take(closing)

    def _take(self, character: str) -> None:
        if self.peek() != character:
            raise self._bad(f"{self.peek() or 'the end'!r} stands where {character!r} should")
        self._place += 1

    def _count(self) -> int:
        text = self._text[self._counted : self._place]
        self._bytes += len(text) if text.isascii() else len(text.encode())
        self._counted = self._place
        return self._bytes

    def _is_fault(self, error: ValueError) -> bool:
        """Whether an error is no matter of where the text ends, which no more text mends."""
        if not isinstance(error, json.JSONDecodeError) or error.msg.startswith("Unterminated string"):
            return False
        return error.pos + LONGEST_WORD < len(self._text)

    def _read_on(self) -> bool:
        """Read more of the file and forget what was taken; False at its end."""
        try:  # the longer the rest, the more is read, so that a large value is tried but a few times
            more = self._file.read(max(CHUNK, len(self._text) - self._place))
        except UnicodeDecodeError as error:
            raise self._bad(str(error)) from error
        if more:
            self._count()
            self._text, self._place, self._counted = self._text[self._place :] + more, 0, 0
        return bool(more)

    def _bad(self, what: str) -> UserError:
        return UserError(f"{self._file.name} is not a JSON file of the expected form ({what}): write it anew")


@contextmanager
def open_json(path: Path, *, in_bytes: bool = False) -> Iterator[JsonStream]:
    """Open a JSON file to walk through it; UserError where it is no file.

    With `in_bytes` the stream knows the offsets that `read_part` takes; UserError where it is not in UTF-8.
    """
    with open_text(path) as file:
        if in_bytes and file.encoding not in ("utf-8", "utf-8-sig"):
            raise UserError(f"{path} is in {file.encoding}, not in UTF-8: save it as UTF-8")
        file.reconfigure(newline="")  # a line's end may be of two bytes
        stream = JsonStream(file)
        stream._bytes = len(BOM_UTF8) if file.encoding == "utf-8-sig" else 0
        yield stream


def read_part(path: Path, start: int, length: int) -> Any:
    """The value in these bytes of a JSON file in UTF-8; UserError where none can be used."""
    with open(path, "rb") as file:
        file.seek(start)
        part = file.read(length)
    try:
        return DECODER.decode(part.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} has no value at byte {start} ({error!s:.80}): mend it") from error
