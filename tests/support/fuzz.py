"""Mutations of valid files, and a call that may take 10 seconds and 2 GiB and fail in one line only."""

import json
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st

from common.errors import UserError

SECONDS, BYTES = 10, 2 << 30
ODD_NUMBERS = [-1, 0, 1, 255, 256, 65_536, 10**9, 3e9, 2**31, 2**63, 10**30, -0.5, 1e308]
ODD_NUMBERS += [float("nan"), float("inf")]
ODD_TEXTS = ["", "0", "255", "..", "/a", "a/b", "\0", "é", "\ud800", "9" * 30, "x" * 300]
PLAIN = st.none() | st.booleans() | st.sampled_from(ODD_NUMBERS) | st.sampled_from(ODD_TEXTS)
# What takes the place of a part of a JSON file.
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ODD_TEXTS), inner)
)


def mutate_bytes(content: bytes, random: Random) -> bytes:
    """The content with bits flipped, cut short, or with a part copied, taken out or put in."""
    content = bytearray(content)
    start, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
    kind = random.choice(["flip", "flip", "cut", "copy", "remove", "insert", "number"])
    if kind == "flip" and content:
        for _ in range(random.choice([1, 2, 8, 50])):
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    elif kind == "cut":
        del content[end:]
    elif kind == "copy":
        place = random.randrange(len(content) + 1)
        content[place:place] = content[start:end]
    elif kind == "remove":
        del content[start:end]
    elif kind == "insert":
        content[start:start] = random.randbytes(random.choice([1, 4, 100]))
    elif kind == "number":
        content[start : start + 4] = random.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)])
    return bytes(content)


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each (container, key or index) below a value of JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from places_in(inner)


def mutate_tree(value: Any, odd: Any, random: Random) -> Any:
    """The value, changed in place: one of its parts replaced by an odd one, removed, renamed or nested."""
    places = list(places_in(value))
    if not places:
        return odd
    container, key = random.choice(places)
    kind = random.choice(["replace", "replace", "remove", "rename", "nest"])
    if kind == "replace":
        container[key] = odd
    elif kind == "nest":
        container[key] = [container[key]]
    else:
        part = container.pop(key)
        if kind == "rename" and isinstance(container, dict):
            container[random.choice(ODD_TEXTS)] = part
    return value


def mutate_json(content: bytes, odd: Any, random: Random) -> bytes:
    """A JSON file with a part of its tree changed, its bytes changed, or nested too deeply."""
    kind = random.choice(["tree", "tree", "tree", "bytes", "deep"])
    if kind == "tree":
        return json.dumps(mutate_tree(json.loads(content), odd, random)).encode()
    return mutate_bytes(content, random) if kind == "bytes" else random.choice([b"[", b'{"a":']) * 100_000


@contextmanager
def bounded() -> Iterator[None]:
    """Inside, a call ends after 10 seconds with a TimeoutError, and memory beyond 2 GiB is refused."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    former, start = signal.signal(signal.SIGALRM, stop), time.monotonic()
    signal.alarm(SECONDS)
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.monotonic() - start < SECONDS  # one call into C does not hear the alarm


def survives(read: Callable[[Path], object], path: Path) -> bool:
    """Whether a file is read; where it is refused, assert that it is in one line of moderate length."""
    with bounded():
        try:
            read(path)
        except (UserError, OSError) as error:
            assert not isinstance(error, TimeoutError), error
            assert 0 < len(" ".join(str(error).split())) < 2000
            return False
    return True
