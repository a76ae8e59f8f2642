"""Embeddings of a frozen encoder on disk: made once, bounded, and never those of another file or network."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from common.distributed import say
from common.errors import UserError
from common.files import atomic_write

TYPES = {"float16": torch.float16, "float32": torch.float32}
DIGEST = 32  # bytes in front of an entry, of its key and its content


def file_key(path: Path) -> str:
    """What an embedding of a file is known by: its path, size and time of writing."""
    found = os.stat(path)
    return f"{path.resolve()}|{found.st_size}|{found.st_mtime_ns}"


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


class EmbeddingCache:
    """A folder of entries, each one embedding behind a digest of its key and content.

    An entry that is cut short, damaged, or of another key is made anew. Where the folder holds `max_gb`, or
    the disk is full, nothing more is kept, a line says so, and what is not kept is computed each time.
    """

    def __init__(self, folder: str, max_gb: float, kept_as: str):
        self.folder, self.max_bytes, self.type = Path(folder), int(max_gb * 1e9), TYPES[kept_as]
        self.bytes: int | None = None  # in the folder; None: not counted yet
        self.open = True  # whether there is room
        self._weights: tuple[tuple, str] | None = None

    def check(self) -> None:
        """Raise UserError where the folder's path is that of a file."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--embedding_cache {self.folder} is a file: give a folder, or `none`")

    def through(self, encoder: nn.Module, names: list[str], encode: Callable[[list[int]], Tensor]) -> Tensor:
        """The embeddings (N, C, g, g) of the images with these names, in float32.

        encode: makes those at the given places of the list; what is not in the cache is asked for once
        All go through the type in which they are kept, so that the first time gives what later ones do.
        """
        device = next(encoder.parameters()).device
        kind = f"{self._digest(encoder)}|{self.type}|{arithmetic(device)}|{encoder.image_size}"
        paths = [self._path(name, kind) for name in names]
        found = {path: self._read(path) for path in paths}
        missing = [path for path, embedding in found.items() if embedding is None]
        if missing:
            made = encode([paths.index(path) for path in missing]).to(self.type)
            for path, embedding in zip(missing, made, strict=True):
                found[path] = embedding
                self._write(path, embedding)
        return torch.stack([found[path].to(device).float() for path in paths])

    def _digest(self, encoder: nn.Module) -> str:
        """Of the encoder's weights, computed anew where they were written to."""
        state = tuple((p.data_ptr(), p._version) for p in encoder.parameters())
        if self._weights is None or self._weights[0] != state:
            self._weights = state, digest_of(encoder)
        return self._weights[1]

    def _path(self, name: str, kind: str) -> Path:
        key = hashlib.sha256(f"{name}|{kind}".encode()).hexdigest()
        return self.folder / key[:2] / key

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
        if not self.open:
            return
        header = b"".join(side.to_bytes(4, "little") for side in embedding.shape)
        content = header + embedding.contiguous().cpu().numpy().tobytes()
        try:
            if self.bytes is None:
                self.bytes = sum(entry.stat().st_size for entry in self.folder.glob("*/*"))
            if self.bytes + DIGEST + len(content) > self.max_bytes:
                self._close(f"holds --cache_gb {self.max_bytes / 1e9:g}")
                return
            with atomic_write(path) as temporary:
                temporary.write_bytes(self._sum(path, content) + content)
            self.bytes += DIGEST + len(content)
        except FileNotFoundError:
            pass  # another process wrote the same entry, or removed one, at this moment
        except OSError as error:
            self._close(f"cannot be written: {error.strerror}")

    def _close(self, reason: str) -> None:
        self.open = False
        say(f"--embedding_cache {self.folder} {reason}: what is not kept by now is computed each time")
