"""Sequences of MOTS on disk: frames in <sequence>/img1, label maps in instances/<sequence>."""

from pathlib import Path

import numpy as np
from PIL import Image

from video.images import write_label_map


def sequence_labels(frames: int = 3) -> np.ndarray:
    """(T, 24, 32) label maps of MOTS: object 2001 moves, a corner is to be ignored."""
    labels = np.zeros((frames, 24, 32), dtype=np.uint16)
    for t in range(frames):
        labels[t, 5:15, t + 1 : t + 9] = 2001
    labels[:, 20:, 25:] = 10_000
    return labels


def write_sequence(root: Path, name: str, frames: int = 3) -> None:
    """Frames of noise and label maps, counted from 1."""
    (root / name / "img1").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (frames, 24, 32, 3), dtype=np.uint8)
    for t, labels in enumerate(sequence_labels(frames)):
        Image.fromarray(noise[t]).save(root / name / "img1" / f"{t + 1:06d}.jpg")
        write_label_map(root / "instances" / name / f"{t + 1:06d}.png", labels)
