"""Frames and masks as files, whole or cut short."""

import struct
import zlib
from pathlib import Path

import cv2
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


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_channels(path: Path, values: np.ndarray) -> Path:
    """(H, W, C) numbers of 8 or 16 bits as an image of C channels: grey, grey and alpha, RGB, RGBA.

    OpenCV writes it; grey and alpha, which it cannot, is a PNG by hand.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    H, W, C = values.shape
    if C != 2:
        assert cv2.imwrite(str(path), values[..., [2, 1, 0, 3][:C]] if C > 2 else values)
        return path
    assert path.suffix == ".png"
    header = struct.pack(">IIBBBBB", W, H, 8 * values.itemsize, 4, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(values.dtype.newbyteorder(">")).tobytes() for row in values)
    content = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def cut(path: Path, size: int = 60) -> Path:
    path.write_bytes(path.read_bytes()[:-size])
    return path


def turned(picture: np.ndarray, orientation: int) -> np.ndarray:
    """The (H, W, ...) pixels that a camera stores of an upright picture under an EXIF orientation, 1 to 8."""
    stored = picture.swapaxes(0, 1) if orientation > 4 else picture
    if orientation in (3, 4, 6, 7):  # its first row is at the bottom of the picture, or at the right
        stored = stored[::-1]
    return stored[:, ::-1] if orientation in (2, 3, 7, 8) else stored


def write_turned(path: Path, picture: np.ndarray, orientation: int) -> Path:
    """An upright (H, W, 3) picture as an image file that is stored under an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if path.suffix == ".webp" else {}
    stored = Image.fromarray(np.ascontiguousarray(turned(picture, orientation)))
    stored.save(path, exif=exif, **options)
    return path
