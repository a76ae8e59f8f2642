"""The text files of MOTS as results: written, and scored against text files or label maps."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from annotated.mots import IGNORED_CLASS, MotsFile, MotsMask, by_time, mots_files
from common.errors import UserError
from common.files import below
from scoring.label_folders import VideoPair, true_masks
from video.images import MOTS_IGNORE, list_folders, read_header, read_label_map

PEDESTRIAN = 2  # the class of MOTSChallenge; KITTI MOTS has cars, 1, too


class MapFolder:
    """The label maps of a sequence that are image files, as those of a `MotsFile`; times are their names."""

    def __init__(self, path: Path):
        self.path, self.frames = path, by_time(true_masks(path))
        self.size = read_header(next(iter(self.frames.values())))[1]

    def label_map(self, time: int, size: tuple[int, int]) -> np.ndarray:
        """The label map of a frame; UserError where it is missing or of another (H, W) `size`."""
        if time not in self.frames:
            raise UserError(f"{self.path} has no label map of time {time}: add it, or take away its masks")
        labels = read_label_map(self.frames[time])
        if labels.shape != size:
            raise UserError(f"{self.frames[time]} has the size {labels.shape}, others {size}: give all one")
        return labels


def class_of(label: int, tells_class: bool, where: str) -> int:
    """The class of an id: its thousands where it `tells_class`; UserError where those are no class."""
    if tells_class and label // 1000 >= IGNORED_CLASS:
        legal = f"1000 x class + instance, below {MOTS_IGNORE}"
        raise UserError(f"{where} has the id {label}, but MOTS ids of objects are {legal}: renumber it")
    return label // 1000 if tells_class else PEDESTRIAN


def mots_text(masks: Sequence[MotsMask], where: str) -> str:
    """The text of a MOTS file, its masks in the order given.

    Where all ids of the sequence reach 1000 they tell the class, as in annotations of MOTS; else all objects
    are pedestrians. Raises UserError, which begins with `where`, at an id that tells no class.
    """
    tells_class = all(mask.id >= 1000 for mask in masks)
    lines = (
        f"{mask.time} {mask.id} {class_of(mask.id, tells_class, where)} "
        f"{mask.size[0]} {mask.size[1]} {mask.rle['counts']}\n"
        for mask in masks
    )
    return "".join(lines)


def _map_folders(root: Path) -> dict[str, Path]:
    return {name: below(root, name) for name in list_folders(root)}


def mots_pairs(results: Path, annotations: Path) -> list[VideoPair]:
    """The sequences of `annotations`, of each a MOTS file or a folder of label maps, and so its results.

    Empty where neither folder holds MOTS files. Raises UserError where a sequence has no results.
    """
    truth, result = mots_files(annotations), mots_files(results)
    if not truth and not result:
        return []
    truth, result = truth or _map_folders(annotations), result or _map_folders(results)
    for name in truth:
        if name not in result:
            raise UserError(f"{results} has neither {name}.txt nor a folder {name}: add its results")
    return [VideoPair(name, path, result[name]) for name, path in truth.items()]


def read_mots_pairs(pair: VideoPair) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """For each time with a mask its name, and the (H, W) label maps of truth and result.

    Regions to ignore that a MOTS file of results has are nothing. Raises UserError where the two differ in
    size.
    """
    truth, result = (MotsFile(path) if path.is_file() else MapFolder(path) for path in pair[1:])
    if truth.size and result.size and truth.size != result.size:
        raise UserError(f"{pair.result} has masks of {result.size}, but {pair.truth} of {truth.size}")
    size = truth.size or result.size
    for time in sorted(truth.frames.keys() | result.frames.keys()):
        result_labels = result.label_map(time, size)
        if isinstance(result, MotsFile):
            result_labels[result_labels == MOTS_IGNORE] = 0
        yield str(time), truth.label_map(time, size), result_labels
