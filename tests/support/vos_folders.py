"""Annotated videos, frames and prompts on disk, for the tests of systems that carry masks through a video."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.vos_videos import SIZE
from video.images import read_label_map, write_label_map


def write_video(root: Path, name: str, maps: np.ndarray, step: int = 1) -> None:
    """Frames whose colour is ten times the label, and (T, H, W) label maps, numbered in steps."""
    for t, labels in enumerate(maps):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / name).mkdir(parents=True, exist_ok=True)
        frame = np.repeat(labels[..., None] * 10, 3, -1).astype(np.uint8)
        Image.fromarray(frame).save(root / "JPEGImages" / name / f"{t * step:05d}.png")
        write_label_map(root / "Annotations" / name / f"{t * step:05d}.png", labels)


def maps_of(ids: list[int], frames: int = 6, size: int = 40) -> np.ndarray:
    """(T, H, W) bands of rows, the first the widest; 0 below them."""
    labels = np.zeros((frames, size, size), dtype=np.uint8)
    top = 0
    for place, track in enumerate(ids):
        labels[:, top : top + 16 - 5 * place] = track
        top += 16 - 5 * place
    return labels


def write_frames(folder: Path, count: int, suffix: str = ".jpg") -> None:
    """Frames of noise, named by their number."""
    folder.mkdir(parents=True)
    frames = np.random.default_rng(0).integers(0, 255, (count, *SIZE, 3), dtype=np.uint8)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{t:05d}{suffix}")


def write_prompt(path: Path, ids: dict[int, slice], size: tuple[int, int] = SIZE) -> None:
    """A label map in which each id fills its rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(size, dtype=np.int64)
    for track, rows in ids.items():
        labels[rows] = track
    write_label_map(path, labels)


def written_ids(output: Path, name: str = "walk") -> list[set[int]]:
    """The ids in each label map that was written for a video."""
    return [
        set(np.unique(read_label_map(path)).tolist())
        for path in sorted((output / "Annotations" / name).iterdir())
    ]
