"""Frames and masks as files, whole or cut short."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_frame(path: Path, height: int = 24, width: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def write_mask(path: Path, labels: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.tile(np.arange(32, dtype=np.uint8) // 8, (24, 1)) if labels is None else labels
    mask = Image.fromarray(labels)
    mask.putpalette([0, 0, 0] + 765 * [9])  # equal colours: only the indices tell ids apart
    mask.save(path)
    return path


def cut(path: Path, size: int = 60) -> Path:
    path.write_bytes(path.read_bytes()[:-size])
    return path
