"""Embeddings of a frozen encoder on disk: made once, bounded, and never those of another file or network."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.files import atomic_write
from common.progress import say

TYPES = {"float16": torch.float16, "float32": torch.float32}
DIGEST = 32  # bytes in front of an entry, of its key and its content
# Of an entry and the folder of its kind; nothing else in the cache's folder is counted or removed.
ENTRY, KIND = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.tmp"), re.compile(r"[0-9a-f]{32}")
COUNT = "bytes"  # the file that says how many the entries take


def file_key(path: Path) -> str:
    """What an embedding of a file is known by: the digest of its content, wherever it lies."""
    return hashlib.blake2b(path.read_bytes(), digest_size=DIGEST).hexdigest()


def digest_of(module: nn.Module) -> str:
    """A digest of all weights of a module, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def arithmetic(device: torch.device) -> str:
    """The type in which a network on the device computes now."""
    amp = torch.is_autocast_enabled(device.type)
    return str(torch.get_autocast_dtype(device.type) if amp else torch.float32)


@contextmanager
def locked(path: Path) -> Iterator[TextIO]:
    """A file, made where there is none, that one process has at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        with suppress(ImportError, OSError):  # where nothing can be locked, the count may be too small
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def size_of(folder: Path) -> int:
    """Bytes of the entries of one kind."""
    size = 0
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            size += entry.stat().st_size if ENTRY.fullmatch(entry.name) else 0
    return size


class EmbeddingCache:
    """A folder of entries, each one embedding behind a digest of its key and content.

    Entries of one kind (weights, image size and types) have a folder of their own. An entry that is cut
    short, damaged, or of another key is made anew. Where all hold `max_gb`, kinds that are unused since this
    run began make room, those unused for longest first. Where that is not enough, or the disk is full,
    nothing more is kept, a line says so, and what is not kept is computed each time. Several processes may
    share the folder.
    """

    def __init__(self, folder: str, max_gb: float, kept_as: str):
        self.folder, self.max_bytes, self.type = Path(folder), int(max_gb * 1e9), TYPES[kept_as]
        self.has_room = True
        self.begun = time.time()
        self._kind = ""  # of what was asked for last
        self._weights: tuple[tuple, str] | None = None

    def check(self) -> None:
        """Raise UserError where the folder's path, or the beginning of it, is that of a file."""
        path = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        if not path.is_dir():
            raise UserError(f"--embedding_cache {self.folder}: {path} is a file: give a folder, or `none`")

    def through(self, encoder: nn.Module, names: list[str], encode: Callable[[list[int]], Tensor]) -> Tensor:
        """The embeddings (N, C, g, g) of the images with these names, in float32.

        encode: makes those at the given places of the list; what is not in the cache is asked for once
        All go through the type in which they are kept, so that the first time gives what later ones do.
        """
        device = next(encoder.parameters()).device
        self._use(f"{self._digest(encoder)}|{self.type}|{arithmetic(device)}|{encoder.image_size}")
        paths = [self._path(name) for name in names]
        embeddings = {path: self._read(path) for path in paths}
        missing = [path for path, embedding in embeddings.items() if embedding is None]
        if missing:
            computed = encode([paths.index(path) for path in missing]).to(self.type).cpu()
            for path, embedding in zip(missing, computed, strict=True):
                embeddings[path] = embedding
                self._write(path, embedding)
        batch = torch.empty(len(paths), *embeddings[paths[0]].shape, dtype=self.type)
        for place, path in enumerate(paths):
            batch[place] = embeddings[path]
        return batch.to(device).float()

    def _digest(self, encoder: nn.Module) -> str:
        """Of the encoder's weights, computed anew where they were written to."""
        state = tuple((p.data_ptr(), p._version) for p in encoder.parameters())
        if self._weights is None or self._weights[0] != state:
            self._weights = state, digest_of(encoder)
        return self._weights[1]

    def _use(self, kind: str) -> None:
        """From here on entries are of this kind, and its folder is marked as used."""
        if kind != self._kind:
            self._kind = kind
            with suppress(OSError):  # where it is not there, or may only be read
                os.utime(self._path("").parent)

    def _path(self, name: str) -> Path:
        kind, key = (hashlib.sha256(x.encode()).hexdigest() for x in (self._kind, f"{name}|{self._kind}"))
        return self.folder / kind[:32] / key

    @staticmethod
    def _sum(path: Path, content: bytes) -> bytes:
        return hashlib.blake2b(path.name.encode() + content, digest_size=DIGEST).digest()

    def _read(self, path: Path) -> Tensor | None:
        """The embedding of an entry; None where there is none, or it is not whole."""
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if content[:DIGEST] != self._sum(path, content[DIGEST:]):
            return None
        shape = [int.from_bytes(content[DIGEST + 4 * i : DIGEST + 4 * i + 4], "little") for i in range(3)]
        return torch.frombuffer(bytearray(content[DIGEST + 12 :]), dtype=self.type).view(shape)

    def _write(self, path: Path, embedding: Tensor) -> None:
        if not self.has_room:
            return
        content = b"".join(side.to_bytes(4, "little") for side in embedding.shape)
        content += embedding.contiguous().numpy().tobytes()
        content = self._sum(path, content) + content
        if len(content) > self.max_bytes:
            self._close(f"may hold --cache_gb {self.max_bytes / 1e9:g}, less than one embedding")
            return
        try:
            with locked(self.folder / COUNT) as file:
                count = file.read()  # empty where a process was killed as it wrote it
                held = int(count) if count.isdigit() else self._held()
                if held + len(content) > self.max_bytes:
                    held = self._make_room(len(content))
                if held + len(content) > self.max_bytes:
                    self._close(f"holds --cache_gb {self.max_bytes / 1e9:g}")
                else:
                    with atomic_write(path) as temporary:
                        temporary.write_bytes(content)
                    held += len(content)
                file.truncate(0)
                file.write(str(held))
        except FileNotFoundError:
            pass  # without locks another process may have written the same entry at this moment
        except OSError as error:
            self._close(f"cannot be written: {error.strerror}")

    def _kinds(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if KIND.fullmatch(path.name) and path.is_dir()]

    def _held(self) -> int:
        """Bytes of all entries."""
        return sum(map(size_of, self._kinds()))

    def _make_room(self, needed: int) -> int:
        """Remove kinds that are unused since this run began until there is room; returns the bytes left."""
        before = held = self._held()  # counted anew: somebody may have removed entries
        for kind in sorted(self._kinds(), key=os.path.getmtime):
            unused = kind != self._path("").parent and kind.stat().st_mtime < self.begun
            if held + needed > self.max_bytes and unused:
                held -= size_of(kind)
                for entry in kind.iterdir():
                    if ENTRY.fullmatch(entry.name):
                        entry.unlink(missing_ok=True)
                with suppress(OSError):  # it holds something else
                    kind.rmdir()
        if held < before:
            removed = f"{(before - held) / 1e9:.2g} GB of other weights, sizes or types were removed"
            say(f"--embedding_cache {self.folder} was full: {removed}")
        return held

    def _close(self, reason: str) -> None:
        self.has_room = False
        say(f"--embedding_cache {self.folder} {reason}: what is not kept by now is computed each time")
