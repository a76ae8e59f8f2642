"""Sequences of MOTS on disk: frames in <sequence>/img1 or image_02/<sequence>, maps in instances."""

from pathlib import Path

import numpy as np
from PIL import Image

from video.images import write_label_map
from video.label_maps import ids_in
from video.rle import encode_rle


def sequence_labels(frames: int = 3) -> np.ndarray:
    """(T, 24, 32) label maps of MOTS: object 2001 moves, a corner is to be ignored."""
    labels = np.zeros((frames, 24, 32), dtype=np.uint16)
    for t in range(frames):
        labels[t, 5:15, t + 1 : t + 9] = 2001
    labels[:, 20:, 25:] = 10_000
    return labels


def write_sequence(root: Path, name: str, frames: int = 3, *, kitti: bool = False) -> None:
    """Frames of noise and label maps, counted from 1 as MOTS counts them, or from 0 as KITTI MOTS does."""
    folder = root / "image_02" / name if kitti else root / name / "img1"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (frames, 24, 32, 3), dtype=np.uint8)
    for t, labels in enumerate(sequence_labels(frames)):
        frame = f"{t + (not kitti):06d}"
        Image.fromarray(noise[t]).save(folder / f"{frame}{'.png' if kitti else '.jpg'}")
        write_label_map(root / "instances" / name / f"{frame}.png", labels)


def write_text(path: Path, maps: np.ndarray, first: int = 1) -> Path:
    """(T, H, W) label maps as a text file of MOTS, times from `first` on; 10000 is of the class to ignore."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _, H, W = maps.shape
    lines = [
        f"{time} {i} {10 if i == 10_000 else 2} {H} {W} {encode_rle(labels == i)['counts']}\n"
        for time, labels in enumerate(maps, first)
        for i in ids_in(labels)
    ]
    path.write_text("".join(lines))
    return path
