"""Image files: frames and label maps, read and written; files and folders in natural order."""

import os
import re
import struct
import zlib
from collections.abc import Container
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from common.errors import UserError
from common.files import atomic_write
from common.types import IGNORE
from video.pictures import PALETTE

FRAME_SUFFIXES = {".jpg", ".jpeg", ".png"}
LABEL_MODES = {"1", "L", "P", "I", "I;16", "I;16B"}  # the Pillow modes whose pixel values are integers
GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow stretches 2- and 4-bit grey to 0..255 by these factors
END_MARKERS = (b"\xff\xd9", b"IEND")  # of JPEG and PNG; a file that was cut short lacks them
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # what Pillow raises


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sorting key under which the numbers in a name compare by value: "frame2" before "frame10"."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def bad_file(path: Path, error: Exception) -> Exception:
    """What to raise for an error in reading an image; the file system's own complaints name the path."""
    if isinstance(error, OSError) and error.filename:
        return error
    reason = "no known image format" if isinstance(error, UnidentifiedImageError) else error
    return UserError(f"{path} is corrupt or cut short ({reason}): replace it, or leave it out")


def check_label_mode(path: Path, mode: str) -> None:
    if mode not in LABEL_MODES:
        remedy = "save it as a palette PNG (mode P) whose pixel values are the object ids"
        raise UserError(f"{path} is an {mode} image, not a label map: {remedy}")


def read_frame(path: Path) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB; UserError where it is corrupt or cut short."""
    try:
        with Image.open(path) as image:
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except BROKEN as error:
        raise bad_file(path, error) from error


def read_label_map(path: Path) -> np.ndarray:
    """Read an (H, W) map of object ids, 0 background: uint16 where the file has 16 bits, otherwise uint8.

    Pixel values are taken as they are, whatever the palette; a bilevel image holds the ids 0 and 1.
    Raises UserError where the file is a colour image, corrupt or cut short.
    """
    try:
        with Image.open(path) as image:
            mode, layout = image.mode, image.tile[0][3] if image.tile else None
            labels = np.array(image)
    except BROKEN as error:
        raise bad_file(path, error) from error
    check_label_mode(path, mode)
    if labels.itemsize > 1:
        return labels.astype(np.uint16)
    labels = labels.astype(np.uint8, copy=False)  # a bilevel image is bool
    return labels // GREY_STEPS[layout] if layout in GREY_STEPS else labels


def read_header(path: Path) -> tuple[str, tuple[int, int]]:
    """The Pillow mode and the size (H, W) of an image, not decoded; UserError where it is no image."""
    try:
        with Image.open(path) as image:
            return image.mode, image.size[::-1]
    except BROKEN as error:
        raise bad_file(path, error) from error


def check_end(path: Path) -> None:
    """Raise UserError where an image is cut short; only one without its end marker is decoded to decide."""
    with open(path, "rb") as file:
        file.seek(-min(32, os.fstat(file.fileno()).st_size), os.SEEK_END)
        ending = file.read()
    if not any(marker in ending for marker in END_MARKERS):
        read_frame(path)


def list_files(folder: Path, suffixes: Container[str]) -> list[Path]:
    """The files of a folder with these suffixes, in natural order; a folder that is absent has none."""
    paths = folder.iterdir() if folder.is_dir() else []
    chosen = [path for path in paths if path.suffix.lower() in suffixes and path.name[0] != "."]
    return sorted(chosen, key=lambda path: natural_key(path.stem))


def list_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")


MAX_LABEL = 65535  # of a 16-bit PNG


def write_label_map(path: Path, labels: np.ndarray | Tensor) -> None:
    """Write an (H, W) map of ids as a palette PNG in the DAVIS colours, or 16-bit grey where ids reach 255.

    255 never stands in a palette PNG, because readers of such files take it for "ignore".
    Raises UserError where an id does not fit 16 bits, OSError where the file cannot be written.
    """
    labels = np.asarray(labels)
    highest = int(labels.max(initial=0))
    if highest > MAX_LABEL:
        raise UserError(
            f"{path}: id {highest} does not fit a PNG, which ends at {MAX_LABEL}: split the video"
        )
    if highest < IGNORE:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(PALETTE.tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")
