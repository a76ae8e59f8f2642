"""A frame of a scored video: its label maps as a protocol reads them, and how all in it overlaps."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import UserError
from common.types import IGNORE
from scoring.jf import pairwise_jf, slots_of
from scoring.label_folders import VideoPair, mask_root, read_pair, true_masks, video_pairs
from scoring.protocols.davis import FOLDERS, UNSUPERVISED_FOLDERS
from scoring.protocols.mots import MOTS_IGNORE
from scoring.tracking_scores import outside_ignored
from video.images import list_files, list_folders, read_label_map
from video.masks import ids_in

VOID_IS_BACKGROUND = {"davis", "mots"}  # a result pays for its void pixels; elsewhere they are not counted


class Rules(NamedTuple):
    """How label maps are read.

    protocol: a key of PROTOCOLS
    by_id: whether the result of an object has the object's id
    single_object: whether every label above 0 is the one object
    """

    protocol: str
    by_id: bool
    single_object: bool = False


class Maps(NamedTuple):
    """The (H, W) label maps of a frame; the truth is 0 where `void` (bool) is true."""

    truth: np.ndarray
    result: np.ndarray
    void: np.ndarray


class Measured(NamedTuple):
    """What is left of a frame when its pixels are forgotten: k objects and n tracks, those with a pixel.

    objects, tracks: (k,), (n,) ids in ascending order
    J, F: (k, n) of every pair
    counted: (n,) bool, tracks that CLEAR counts: the mots protocol drops those in regions to ignore
    """

    objects: np.ndarray
    tracks: np.ndarray
    J: np.ndarray
    F: np.ndarray
    counted: np.ndarray

    def iou(self, object_id: int, track: int) -> float | None:
        """J of an object, which may be out of sight, with a track; None where the track is not there."""
        column = np.flatnonzero(self.tracks == track)
        return float(self.J[self.objects == object_id][:, column].sum()) if len(column) else None


def label_folders(protocol: str, results: Path, annotations: Path, names: list[str]) -> list[VideoPair]:
    """The folders of label maps of the named videos, where the protocol looks for them.

    Raises UserError where results or truth are files, or a folder for each object.
    """
    for path in (results, annotations):
        if protocol == "ytvis" or path.is_file():
            raise UserError(
                f"no pictures can be made from {path}: give folders of label maps <video>/<frame>.png, and "
                "a protocol that scores them"
            )
    kinds = UNSUPERVISED_FOLDERS if protocol == "davis_unsupervised" else ()
    pairs = video_pairs(mask_root(results), mask_root(annotations, (*kinds, *FOLDERS)), names)
    for folder in (folder for pair in pairs for folder in (pair.truth, pair.result)):
        if list_folders(folder) and not list_files(folder, {".png"}):
            raise UserError(
                f"{folder} has a folder for each object: join the masks of a frame into one label map "
                f"{folder}/<frame>.png, whose pixel values are the object ids"
            )
    return pairs


def rules_of(pair: VideoPair, rules: Rules) -> Rules:
    """The rules for one video: a DAVIS 2016 mask, whose only label is 255, has one object."""
    if rules.protocol != "davis" or rules.single_object:
        return rules
    labels = ids_in(read_label_map(true_masks(pair.truth)[0]))
    return rules._replace(single_object=labels == [IGNORE])


def read_maps(pair: VideoPair, mask: Path, rules: Rules) -> Maps:
    """The label maps of the frame whose true mask has the file name of `mask`."""
    truth, result = read_pair(pair.truth / mask.name, pair.result / mask.name)
    void = np.zeros(truth.shape, dtype=bool)
    if rules.single_object:
        return Maps((truth > 0).astype(np.uint8), (result > 0).astype(np.uint8), void)
    if rules.protocol == "mots" and truth.dtype.itemsize > 1:
        void = truth == MOTS_IGNORE
    elif rules.protocol != "sav":  # where 255 is an id as any other
        void = truth == IGNORE
    return Maps(np.where(void, 0, truth), result, void)


def _counted(maps: Maps, tracks: np.ndarray, J: np.ndarray, rules: Rules) -> np.ndarray:
    """(n,) bool: the tracks that CLEAR counts."""
    if rules.protocol != "mots":
        return np.ones(len(tracks), dtype=bool)
    slots, N = slots_of(maps.result, tracks), len(tracks)
    area, ignored = (np.bincount(s, minlength=N + 1)[1:] for s in (slots.ravel(), slots[maps.void]))
    return outside_ignored(J, ignored / area)


def measure(maps: Maps, rules: Rules) -> Measured:
    """Measure every object against every track of a frame."""
    void = None if rules.protocol in VOID_IS_BACKGROUND else maps.void
    result = maps.result if void is None else np.where(void, 0, maps.result)
    objects, tracks = (np.array(ids_in(labels), dtype=np.int64) for labels in (maps.truth, result))
    J, F = pairwise_jf(maps.truth, maps.result, objects, tracks, void)
    return Measured(objects, tracks, J, F, _counted(maps, tracks, J, rules))
