"""HOTA, CLEAR and Identity (IDF1) from the similarities of each frame, exactly as TrackEval has them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scoring.clear import ClearCounts, IdSwitch, clear_counts
from scoring.counts import EPS, MATCH_THRESHOLD, Counts, Frame, best_pairs
from scoring.hota import HotaCounts, hota_counts
from scoring.identity import IdentityCounts, identity_counts


@dataclass
class SizeCounts(Counts):
    """How much there is: detections and ids of truth and results, frames."""

    truth_detections: int = 0
    truth_ids: int = 0
    result_detections: int = 0
    result_ids: int = 0
    frames: int = 0

    def scores(self) -> dict[str, int]:
        """TrackEval's names; what it gives for several sequences together lacks their frames."""
        return {
            "Dets": self.result_detections,
            "GT_Dets": self.truth_detections,
            "IDs": self.result_ids,
            "GT_IDs": self.truth_ids,
            "Frames": self.frames,
        }


@dataclass
class TrackingScore(Counts):
    """The families of one sequence, or of several that were added."""

    hota: HotaCounts = field(default_factory=HotaCounts)
    identity: IdentityCounts = field(default_factory=IdentityCounts)
    clear: ClearCounts = field(default_factory=ClearCounts)
    size: SizeCounts = field(default_factory=SizeCounts)


class TrackingAccumulator:
    """Takes the frames of one sequence in order; keeps ids and similarities, no pixels."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []

    def add(self, truth_ids: Sequence[int], result_ids: Sequence[int], similarity: np.ndarray) -> None:
        """Take the next frame: K true ids and N result ids, each unique, and their (K, N) mask IoU."""
        ids = (np.asarray(ids, dtype=np.int64) for ids in (truth_ids, result_ids))
        self._frames.append(Frame(*ids, np.asarray(similarity, dtype=np.float64)))

    def score(self) -> TrackingScore:
        """The score of the frames so far."""
        nothing = np.zeros(0, dtype=np.int64)
        truth_ids, truth_count = np.unique(
            np.concatenate([nothing, *(frame.truth for frame in self._frames)]), return_counts=True
        )
        result_ids, result_count = np.unique(
            np.concatenate([nothing, *(frame.result for frame in self._frames)]), return_counts=True
        )
        frames = [
            Frame(np.searchsorted(truth_ids, truth), np.searchsorted(result_ids, result), similarity)
            for truth, result, similarity in self._frames
        ]
        score = TrackingScore(
            hota_counts(frames, truth_count, result_count),
            identity_counts(frames, truth_count, result_count),
            clear_counts(frames, truth_count, result_count),
            SizeCounts(
                int(truth_count.sum()), len(truth_ids), int(result_count.sum()), len(result_ids), len(frames)
            ),
        )
        score.clear.switches = [
            IdSwitch(frame, int(truth_ids[truth]), int(result_ids[old]), int(result_ids[new]))
            for frame, truth, old, new in score.clear.switches
        ]
        return score


def outside_ignored(similarity: np.ndarray, ignored_share: np.ndarray) -> np.ndarray:
    """(N,) bool: the results of a frame that count, by the MOTS rule for regions to ignore.

    similarity: (K, N) mask IoU; ignored_share: (N,) share of each result's pixels inside the ignored region
    A result is dropped if it matches no true object and more than half of it is ignored.
    """
    score = np.where(similarity < MATCH_THRESHOLD - EPS, -10000.0, similarity)
    rows, columns = best_pairs(score)
    unmatched = np.ones(similarity.shape[1], dtype=bool)
    unmatched[columns[score[rows, columns] > EPS]] = False
    return ~(unmatched & (ignored_share > 0.5 + EPS))
