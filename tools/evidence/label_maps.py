"""Scored results: where their label maps are, and how a protocol reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError
from scoring.label_folders import VideoPair, mask_root, read_pair, video_pairs
from scoring.protocols.table import Protocol
from scoring.report import Report
from video.images import list_files, list_folders, shows_one_object


class Rules(NamedTuple):
    """How label maps are read.

    by_id: whether an object is scored against the result of its id
    single_object: whether every label above 0 is the one object
    """

    protocol: Protocol
    by_id: bool
    single_object: bool = False


def rules_of(protocol: Protocol, options: Mapping[str, Any]) -> Rules:
    """The rules of a protocol under the options of a command."""
    by_id = options.get("prompted", protocol.by_id)
    return Rules(protocol, by_id, single_object=options.get("year") == 2016)


class ScoredResults(NamedTuple):
    """Results with the report on them.

    results, annotations: what was scored, as a user names it
    rules: those of the protocol whose report it is
    """

    report: Report
    results: Path
    annotations: Path
    rules: Rules


class LabelMaps(NamedTuple):
    """The (H, W) label maps of a frame; the truth is 0 where `void` (bool) is true."""

    truth: np.ndarray
    result: np.ndarray
    void: np.ndarray


def label_map_pairs(scored: ScoredResults, names: list[str]) -> list[VideoPair]:
    """The folders of label maps of the named videos, where the protocol looks for them.

    Raises UserError where results or truth are files, or a folder for each object.
    """
    protocol = scored.rules.protocol
    for path in (scored.results, scored.annotations):
        if not protocol.label_maps or path.is_file():
            raise UserError(
                f"no pictures can be made from {path}: give folders of label maps <video>/<frame>.png, and "
                "a protocol that scores them"
            )
    roots = mask_root(scored.results), mask_root(scored.annotations, protocol.folders)
    pairs = video_pairs(*roots, names)
    for folder in (folder for pair in pairs for folder in (pair.truth, pair.result)):
        if list_folders(folder) and not list_files(folder, {".png"}):
            raise UserError(
                f"{folder} has a folder for each object: join the masks of a frame into one label map "
                f"{folder}/<frame>.png, whose pixel values are the object ids"
            )
    return pairs


def rules_of_video(pair: VideoPair, rules: Rules) -> Rules:
    """The rules for one video: one of DAVIS 2016 has a single object."""
    if rules.single_object or not rules.protocol.has_davis_2016:
        return rules
    return rules._replace(single_object=shows_one_object(list_files(pair.truth, {".png"})))


def read_maps(pair: VideoPair, mask: Path, rules: Rules) -> LabelMaps:
    """The label maps of the frame whose true mask has the file name of `mask`."""
    truth, result = read_pair(pair.truth / mask.name, pair.result / mask.name)
    if rules.single_object:
        void = np.zeros(truth.shape, dtype=bool)
        return LabelMaps((truth > 0).astype(np.uint8), (result > 0).astype(np.uint8), void)
    void = rules.protocol.void(truth)
    return LabelMaps(np.where(void, 0, truth), result, void)
