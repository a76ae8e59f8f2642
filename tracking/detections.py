"""What is detected in a frame, as GlobalTracker takes it; kept in files, from which tracks are made anew."""

import json
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.device import on_device
from common.errors import UserError
from common.files import atomic_write
from common.types import Tracker
from tracking.config import RunConfig
from tracking.output import DETECTIONS
from video.images import list_files
from video.masks import mask_confidence

HEADER = "header.json"
BROKEN = (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError)


class FrameDetections(NamedTuple):
    """Tokens of one frame, K of them; all but `logits` are on the CPU.

    embeddings (K, E) and scores (K,) float32; class_probs (K, C) float32
    prompted_ids: (K,) int64 the id that a prompt gives, 0 where it gives none
    logits: (K, h, w) float32 of the padded frame, on any device
    sizes: (H, W) of the network's padded input, of the frame in it, and of the frame itself
    """

    embeddings: Tensor
    scores: Tensor
    class_probs: Tensor
    prompted_ids: Tensor
    logits: Tensor
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

    @classmethod
    def of(cls, outputs: dict[str, Tensor], *sizes: tuple[int, int]) -> "FrameDetections":
        """All tokens of the network's outputs for one frame, without a prompt."""
        probs = outputs["class_logits"][0, 0].float().softmax(-1)  # (N, C + 1)
        logits = outputs["mask_logits"][0, 0].float()  # (N, h, w)
        scores = (1 - probs[:, -1]) * mask_confidence(_unpadded(logits, *sizes[:2]))
        # From here on only masks stay on the device: what is decided by one number each is decided here.
        numbers = torch.cat([scores[:, None], probs, outputs["embeddings"][0, 0].float()], 1).cpu()
        C = probs.shape[1]
        no_ids = torch.zeros(len(numbers), dtype=torch.int64)
        return cls(numbers[:, 1 + C :], numbers[:, 0], numbers[:, 1:C], no_ids, logits, sizes)

    @property
    def masks(self) -> Tensor:
        """(K, h, w) bool, without the padding."""
        return _unpadded(self.logits, *self.sizes[:2]) > 0

    def chosen(self, rows: Tensor) -> "FrameDetections":
        """Some of them, by (k,) indices on the CPU."""
        *numbers, logits, sizes = self
        return FrameDetections(
            *(values[rows] for values in numbers), logits[on_device(rows, logits.device)], sizes
        )


def _unpadded(logits: Tensor, padded: tuple[int, int], resized: tuple[int, int]) -> Tensor:
    stride = padded[1] // logits.shape[-1]
    return logits[:, : -(-resized[0] // stride), : -(-resized[1] // stride)]


class DetectionsWriter:
    """Writes the detections of one video, frame by frame: a context manager, whose file appears at its end.

    tracker: the options by which they were made, plain values by name
    """

    def __init__(self, path: Path, tracker: dict[str, Any]):
        self._path = path
        self._header: dict[str, Any] = {"format": 1, "tracker": tracker, "frames": [], "sizes": []}
        self._cleanup = ExitStack()
        self._name = ""

    def named(self, frames: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """The same frames; the name of the last one is that of the detections that come next."""
        for self._name, frame in frames:
            yield self._name, frame

    def add(self, detections: FrameDetections) -> None:
        place = len(self._header["frames"])
        for key, values in zip(detections._fields[:-1], detections, strict=False):
            with self._file.open(f"{place:06d}/{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values.cpu().numpy(), allow_pickle=False)
        self._header["frames"].append(self._name)
        self._header["sizes"].append([list(map(int, size)) for size in detections.sizes])

    def __enter__(self) -> "DetectionsWriter":
        temporary = self._cleanup.enter_context(atomic_write(self._path))
        self._file = self._cleanup.enter_context(zipfile.ZipFile(temporary, "w"))
        self._cleanup.push(self._write_header)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.__exit__(kind, error, trace)

    def _write_header(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._file.writestr(HEADER, json.dumps(self._header))


def check_saved(tracker: Tracker, config: RunConfig) -> None:
    """Raise UserError where a run has no detections to save, or not one for each frame."""
    if not hasattr(tracker, "save_detections"):
        raise UserError("--save_detections is for VITA-TCOVIS without --discover: it keeps what that detects")
    if config.reverse:
        raise UserError("--save_detections keeps each frame once, in order: leave --reverse out")


@contextmanager
def saving(
    tracker: Tracker, path: Path, frames: Iterable[tuple[str, Tensor]], config: RunConfig
) -> Iterator[Iterable[tuple[str, Tensor]]]:
    """Inside, the detections of the frames that are yielded go to a file, where that is asked for."""
    if not config.save_detections:
        yield frames
        return
    with DetectionsWriter(path, asdict(tracker.config)) as writer:
        tracker.save_detections = writer.add
        try:
            yield writer.named(frames)
        finally:
            tracker.save_detections = None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Inside, what is wrong with a file raises a UserError."""
    try:
        yield
    except UserError:
        raise
    except BROKEN as error:
        remedy = "write it anew by inference.py --save_detections true"
        raise UserError(f"{path} holds no detections ({error!s:.60}): {remedy}") from error


class SavedVideo:
    """The detections of a video in the place of its frames; UserError where the file is none of ours.

    tracker: the options by which they were made
    """

    fps, times, pixel_aspect = 1.0, None, None

    def __init__(self, path: Path):
        self.path, self.name = path, path.stem
        with _told(path), zipfile.ZipFile(path) as file:
            header = json.loads(file.read(HEADER))
            if header["format"] != 1 or len(header["frames"]) != len(header["sizes"]):
                raise ValueError("another format")
        self.frame_names, self.tracker, self._sizes = header["frames"], header["tracker"], header["sizes"]

    @property
    def num_frames(self) -> int:
        return len(self.frame_names)

    @property
    def files(self) -> list[Path]:
        """What it is read from."""
        return [self.path]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frames that the detections are of."""
        return tuple(self._sizes[0][-1]) if self._sizes else (0, 0)

    def has_frame(self, name: str) -> bool:
        return name in self.frame_names

    def frames(self) -> Iterator[tuple[str, FrameDetections]]:
        """(name, detections) of every frame."""
        with _told(self.path), zipfile.ZipFile(self.path) as file:
            for place, name in enumerate(self.frame_names):
                values = [self._read(file, f"{place:06d}/{key}.npy") for key in FrameDetections._fields[:-1]]
                yield name, FrameDetections(*values, tuple(map(tuple, self._sizes[place])))

    @staticmethod
    def _read(file: zipfile.ZipFile, name: str) -> Tensor:
        with file.open(name) as member:
            return torch.from_numpy(np.lib.format.read_array(member, allow_pickle=False))


def saved_videos(path: Path) -> list[SavedVideo]:
    """The videos of a folder of detections, or of one file; UserError where there are none."""
    folder = path / DETECTIONS if (path / DETECTIONS).is_dir() else path
    paths = [path] if path.is_file() else list_files(folder, {".npz"})
    if not paths:
        raise UserError(f"{path} holds no detections: make some by inference.py --save_detections true")
    return [SavedVideo(one) for one in paths]
