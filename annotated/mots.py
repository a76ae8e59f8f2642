"""The text files of MOTS: a line `time id class height width rle` for each mask, a file for each sequence.

As the tools of MOTSChallenge and KITTI MOTS read them (Voigtlaender et al., 2019): ids are 1000 x class +
instance, and class 10 marks the regions to ignore.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.config import MAX_FRAMES
from common.errors import UserError
from common.files import below, read_text
from video.images import MAX_LABEL, MOTS_IGNORE, list_files, list_folders
from video.rle import RLE, check_mask_size, checked_rle, rle_runs

IGNORED_CLASS = 10
FORM = "time id class height width rle"


class MotsMask(NamedTuple):
    """A mask of a MOTS file; size is that of the frame, (H, W)."""

    time: int
    id: int
    size: tuple[int, int]
    rle: RLE


def _read_line(line: str, where: str) -> MotsMask:
    """The mask of a line; UserError where it has another form."""
    parts = line.split()
    try:
        time, number, kind, H, W = (int(part) for part in parts[:5])
        counts = parts[5]
    except (ValueError, IndexError) as error:
        raise UserError(f"{where} has not the form {FORM}: {line!r:.60}") from error
    number = MOTS_IGNORE if kind == IGNORED_CLASS else number
    if not 0 <= time <= MAX_FRAMES or not 0 < number <= MAX_LABEL or len(parts) != 6:
        raise UserError(f"{where} has not the form {FORM}, with an id of 1 to {MAX_LABEL}: {line!r:.60}")
    check_mask_size((H, W), where)
    rle = checked_rle({"size": [H, W], "counts": counts}, (H, W), where)
    return MotsMask(time, number, (H, W), rle)


class MotsFile:
    """The label maps of a MOTS file, made from its masks one by one; UserError where it is none.

    size: (H, W) of all frames; None where there is no mask
    """

    def __init__(self, path: Path):
        self.path, self.size = path, None
        self.frames: dict[int, list[MotsMask]] = {}
        seen: set[tuple[int, int]] = set()  # times and ids
        lines = (line.strip() for line in read_text(path).splitlines())
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            where = f"{path}, line {number},"
            mask = _read_line(line, where)
            self.size = self.size or mask.size
            if mask.size != self.size:
                raise UserError(f"{where} has the size {mask.size}, others {self.size}: give all one size")
            if mask.id != MOTS_IGNORE and (mask.time, mask.id) in seen:
                raise UserError(f"{where} has the id {mask.id} again at time {mask.time}: join its masks")
            seen.add((mask.time, mask.id))
            self.frames.setdefault(mask.time, []).append(mask)

    def check_times(self, images: dict[int, Path]) -> None:
        """Raise UserError where a mask is of a time that has none of the images, {time: path}."""
        absent = sorted(self.frames.keys() - images.keys())
        if absent:
            folder = next(iter(images.values())).parent
            raise UserError(
                f"{self.path} has masks of time {absent[0]}, but {folder} has no such frame: add it"
            )

    def label_map(self, time: int, size: tuple[int, int]) -> np.ndarray:
        """The uint16 label map of (H, W) `size` of a frame, empty where nothing is said of it.

        Raises UserError where masks of a frame overlap, regions to ignore aside, as the official tools do.
        """
        columns = np.zeros(size[0] * size[1], dtype=np.uint16)  # one after the other, as runs go
        for mask in self.frames.get(time, ()):
            runs = rle_runs(mask.rle["counts"])
            first, last = runs[0], runs[: len(runs) // 2 * 2].sum()  # without the background around it
            drawn = np.repeat(np.arange(len(runs)) % 2 == 1, runs)[first:last]
            former = columns[first:last]
            taken = former[drawn]
            if np.any((taken > 0) & ((taken != MOTS_IGNORE) | (mask.id != MOTS_IGNORE))):
                raise UserError(f"{self.path}: masks of time {time} overlap: give each pixel to one of them")
            former[drawn] = mask.id
        return np.ascontiguousarray(columns.reshape(size[::-1]).T)


def by_time(paths: Iterable[Path]) -> dict[int, Path]:
    """{time: path} of the frames of a sequence, whose names are the times; UserError where they are none."""
    frames: dict[int, Path] = {}
    for path in paths:
        if not path.stem.isdecimal() or int(path.stem) > MAX_FRAMES or int(path.stem) in frames:
            raise UserError(f"{path}: MOTS counts frames by their names: name each by a number of its own")
        frames[int(path.stem)] = path
    return frames


def mots_files(root: Path) -> dict[str, Path]:
    """{sequence: its MOTS file} below a folder; empty where it holds none, as a folder of label maps.

    They are <sequence>.txt, also in a folder instances_txt, or <sequence>/gt/gt.txt.
    """
    folder = root / "instances_txt" if (root / "instances_txt").is_dir() else root
    files = {path.stem: path for path in list_files(folder, {".txt"})}
    nested = {name: below(root, name) / "gt" / "gt.txt" for name in list_folders(root)}
    return files or {name: path for name, path in nested.items() if path.is_file()}
