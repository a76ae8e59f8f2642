"""Folders of label maps, <video>/<frame>.png: true masks and results side by side, one video at a time."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from common.errors import UserError
from common.files import below
from common.parallel import process_map
from video.images import MOTS_MASKS, files_below, list_files, list_folders, mots_sequences, read_label_map

Score = TypeVar("Score")

MASK_FOLDERS = ("Annotations/480p", "Annotations")  # below the root of a data set


class VideoPair(NamedTuple):
    """One video: its name, the folder of its true label maps, and the folder of its results."""

    name: str
    truth: Path
    result: Path


def mask_root(root: Path, folders: Iterable[str] = MASK_FOLDERS) -> Path:
    """The folder of <video>/<frame>.png: the first of `folders` below a data set's root, or the root itself.

    Raises UserError where there is no such root, it is a file, or one of MOTS that is not asked for.
    """
    if not root.is_dir():
        trouble = f"{root} is a file" if root.is_file() else f"there is no folder {root}"
        raise UserError(f"{trouble}: give a folder of <video>/<frame>.png, or one with Annotations")
    if MOTS_MASKS not in folders and mots_sequences(root):
        remedy = "score them by --protocol mots, or give a folder of label maps"
        raise UserError(f"{root} holds sequences of MOTS, with regions to ignore: {remedy}")
    return next((root / folder for folder in folders if (root / folder).is_dir()), root)


def video_pairs(results: Path, annotations: Path, names: list[str] | None = None) -> list[VideoPair]:
    """The videos to score: those named, or all in `annotations`; both roots as `mask_root` returns them.

    Raises UserError where there is no video, or one has no true masks or no results.
    """
    names = list_folders(annotations) if names is None else names
    if not names:
        raise UserError(f"{annotations} holds no videos: put the label maps of each into a folder of its own")
    pairs = [VideoPair(name, below(annotations, name), below(results, name)) for name in names]
    for name, truth, result in pairs:
        if not truth.is_dir():
            raise UserError(f"there is no folder {truth} with the true masks of {name}")
        if not result.is_dir():
            raise UserError(f"there is no folder {result}: add the results of {name}")
    return pairs


def videos_without_truth(results: Path, annotations: Path) -> list[str]:
    """A warning for each video of label maps in `results` that `annotations` lack: no protocol scores it.

    Both are roots as `mask_root` returns them.
    """
    names = [name for name in list_folders(results) if not (annotations / name).is_dir()]
    there = [name for name in names if next(files_below(results / name, {".png"}), None)]
    return [f"{results / name} is not scored: there are no true masks of {name}" for name in there]


def true_masks(folder: Path) -> list[Path]:
    """The label maps of one video in the order of its frames; UserError where there are none."""
    paths = list_files(folder, {".png"})
    if not paths:
        raise UserError(f"{folder} holds no .png label maps: add the true masks")
    return paths


def read_pair(truth_path: Path, result_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The (H, W) label maps of truth and result; UserError where the result is missing or of another size."""
    if not result_path.is_file():
        raise UserError(f"{result_path} is missing: every frame of {truth_path.parent} needs a result")
    truth, result = read_label_map(truth_path), read_label_map(result_path)
    if truth.shape != result.shape:
        (H, W), (true_H, true_W) = result.shape, truth.shape
        raise UserError(
            f"{result_path} is {W}x{H}, but {truth_path} is {true_W}x{true_H}: write it at that size"
        )
    return truth, result


def read_pairs(paths: Iterable[Path], result_folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read one true label map after the other, each with the result of the same file name."""
    for path in paths:
        yield read_pair(path, result_folder / path.name)


def score_folders(
    score: Callable[..., Score],
    results: Path,
    annotations: Path,
    *columns: Iterable,
    names: list[str] | None = None,
    num_workers: int = 0,
) -> tuple[dict[str, Score], list[str]]:
    """{video: its score} of the videos named, or of all, and a warning for each that has no true masks.

    score: a top-level function, or a partial of one, of a VideoPair and of one element of each of `columns`
    results, annotations: roots as `mask_root` returns them
    """
    pairs = video_pairs(results, annotations, names)
    scores = process_map(score, pairs, *columns, num_workers=num_workers)
    videos = {pair.name: one for pair, one in zip(pairs, scores, strict=True)}
    return videos, videos_without_truth(results, annotations)
