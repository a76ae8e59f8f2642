"""The scoring protocols of the field, on folders of results: DAVIS, SA-V, YouTube-VOS, YouTube-VIS, MOTS, our own.

Each takes (results, annotations, **options) and returns {"protocol", "overall": {...}, "videos": {name: {...}}}, with
the names and the units of the official program. Every protocol raises UserError that names the file where the input
is not what it should be.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from common.errors import UserError
from common.mask_folders import VideoPair, mask_root, read_pair, read_pairs, score_each, true_masks, video_pairs
from common.metrics import pairwise_jf, pairwise_overlap, slots_of, statistics
from common.tracking_metrics import TrackingAccumulator, TrackingScore, combine, outside_ignored
from common.types import IGNORE
from common.video_ap import average_precision
from common.video_scores import AP_NAMES, VideoScore, VideoScorer, summarise
from common.vos_dataset import list_files, list_folders, read_categories

Report = dict[str, Any]
MAX_PROPOSALS = 20  # of the unsupervised DAVIS challenge
MOTS_IGNORE = 10_000  # the id of regions to ignore in a 16-bit MOTS annotation


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


# --- DAVIS ---------------------------------------------------------------------------------------------------------


def davis_set(annotations: Path, image_set: str) -> list[str] | None:
    """The sequences that ImageSets/2017/<image_set>.txt of a DAVIS root lists; None where it has no such file."""
    path = annotations / "ImageSets" / "2017" / f"{image_set}.txt"
    return path.read_text(encoding="utf-8").split() if path.is_file() else None


def _objects_of_first_frame(path: Path, truth: np.ndarray) -> list[int]:
    """DAVIS scores the objects 1 to N, N the largest id in the first frame, whatever enters later."""
    return list(range(1, int(truth[truth != IGNORE].max(initial=0)) + 1))


def _davis_objects(J: np.ndarray, F: np.ndarray, official_decay: bool) -> dict[str, dict[str, float]]:
    """{object: its means, recalls and decays} from J and F, each (N, T)."""
    objects = {}
    for i, values in enumerate(zip(J, F, strict=True), start=1):
        (JM, JR, JD), (FM, FR, FD) = (statistics(x, official_decay) for x in values)
        objects[str(i)] = {"J&F-Mean": (JM + FM) / 2} | {
            "J-Mean": JM, "J-Recall": JR, "J-Decay": JD, "F-Mean": FM, "F-Recall": FR, "F-Decay": FD
        }
    return objects
