"""How the objects and the tracks of a frame overlap."""

from typing import NamedTuple

import numpy as np

from scoring.jf import pairwise_jf, slots_of
from scoring.tracking_scores import outside_ignored
from tools.evidence.label_maps import LabelMaps, Rules
from video.label_maps import ids_in


class FrameOverlaps(NamedTuple):
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

    def pairs(self, objects: np.ndarray, tracks: np.ndarray) -> np.ndarray:
        """(2, K, N) J and F of any (K,) objects and (N,) tracks: 0 where one is absent, 1 where both are."""
        rows, columns = np.isin(objects, self.objects), np.isin(tracks, self.tracks)
        pairs = np.stack([~rows[:, None] & ~columns] * 2).astype(np.float64)
        present = np.ix_(
            np.searchsorted(self.objects, objects[rows]), np.searchsorted(self.tracks, tracks[columns])
        )
        pairs[:, rows[:, None] & columns] = self.J[present].ravel(), self.F[present].ravel()
        return pairs

    def iou(self, object_id: int, track: int) -> float | None:
        """J of an object, which may be out of sight, with a track; None where the track is not there."""
        column = np.flatnonzero(self.tracks == track)
        return float(self.J[self.objects == object_id][:, column].sum()) if len(column) else None


def _counted(maps: LabelMaps, tracks: np.ndarray, J: np.ndarray, rules: Rules) -> np.ndarray:
    """(n,) bool: the tracks that CLEAR counts."""
    if not rules.protocol.drops_void:
        return np.ones(len(tracks), dtype=bool)
    slots, N = slots_of(maps.result, tracks), len(tracks)
    area, ignored = (np.bincount(s, minlength=N + 1)[1:] for s in (slots.ravel(), slots[maps.void]))
    return outside_ignored(J, ignored / area)


def measure(maps: LabelMaps, rules: Rules) -> FrameOverlaps:
    """Measure every object against every track of a frame."""
    void = None if rules.protocol.void_is_background else maps.void
    result = maps.result if void is None else np.where(void, 0, maps.result)
    objects, tracks = (np.array(ids_in(labels), dtype=np.int64) for labels in (maps.truth, result))
    J, F = pairwise_jf(maps.truth, maps.result, objects, tracks, void)
    return FrameOverlaps(objects, tracks, J, F, _counted(maps, tracks, J, rules))
