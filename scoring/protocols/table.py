"""The table of protocols: those of the field, and our own, each with all that is to be known of it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scoring.label_folders import MASK_FOLDERS
from scoring.protocols.davis import DAVIS_FOLDERS, UNSUPERVISED_FOLDERS, davis, davis_unsupervised
from scoring.protocols.mots import MOTS_FOLDERS, ignored_region, mots
from scoring.protocols.servers import (
    DAVIS_SERVER,
    DAVIS_UNSUPERVISED_SERVER,
    MOTS_SERVER,
    YOUTUBE_VOS_SERVER,
    Server,
)
from scoring.protocols.tcovis import tcovis
from scoring.protocols.vos import SAV_FOLDERS, sav, youtube_vos
from scoring.protocols.ytvis import ytvis
from scoring.report import Report
from video.label_maps import void_in


def no_void(truth: np.ndarray) -> np.ndarray:
    """(H, W) bool, False throughout: 255 is an id as any other."""
    return np.zeros(truth.shape, dtype=bool)


class Protocol(NamedTuple):
    """A row of PROTOCOLS.

    score: (results, annotations, **options) to the report; the keyword options become flags, which its
    docstring explains
    label_maps: whether results are folders of label maps; else they are JSON files
    folders: where the true label maps may lie below the root of a data set
    by_id: whether an object is scored against the result of its id, unless an option `prompted` says so
    percent: whether scores are in percent, not fractions of 1
    leading: the number by which single videos are ordered; by default the first of all videos that they have
    void: (H, W) true labels to (H, W) bool, the pixels that no object can claim
    void_is_background: whether a result pays for its pixels there; else they count for nothing
    drops_void: whether a result that mostly lies there, and on no object, is dropped
    has_davis_2016: whether any label is the result of the one object of a video that `shows_one_object`
    server: what its server takes, None where there is none
    """

    score: Callable[..., Report]
    label_maps: bool = True
    folders: tuple[str, ...] = MASK_FOLDERS
    by_id: bool = False
    percent: bool = False
    leading: str | None = None
    void: Callable[[np.ndarray], np.ndarray] = void_in
    void_is_background: bool = False
    drops_void: bool = False
    has_davis_2016: bool = False
    server: Server | None = None


PROTOCOLS = {
    "tcovis": Protocol(tcovis, percent=True, leading="J&F"),
    "davis": Protocol(
        davis,
        folders=DAVIS_FOLDERS,
        by_id=True,
        void_is_background=True,
        has_davis_2016=True,
        server=DAVIS_SERVER,
    ),
    "davis_unsupervised": Protocol(
        davis_unsupervised, folders=UNSUPERVISED_FOLDERS, server=DAVIS_UNSUPERVISED_SERVER
    ),
    "sav": Protocol(sav, folders=SAV_FOLDERS, by_id=True, percent=True, void=no_void),
    "youtube_vos": Protocol(youtube_vos, by_id=True, leading="J&F", server=YOUTUBE_VOS_SERVER),
    "ytvis": Protocol(ytvis, label_maps=False),
    "mots": Protocol(
        mots,
        folders=MOTS_FOLDERS,
        void=ignored_region,
        void_is_background=True,
        drops_void=True,
        server=MOTS_SERVER,
    ),
}
