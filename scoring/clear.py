"""CLEAR scores (Bernardin and Stiefelhagen, 2008) of one sequence, exactly as TrackEval has them."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from scoring.counts import EPS, MATCH_THRESHOLD, Counts, Frame, best_pairs


class IdSwitch(NamedTuple):
    """A true object that is matched to another id than the last time it was matched.

    frame: the 0-based number of the frame among those that were scored
    """

    frame: int
    truth_id: int
    old_id: int
    new_id: int


@dataclass
class ClearCounts(Counts):
    """What the CLEAR scores are made of.

    tp, fn, fp: detections matched, missed and invented; similarity: sum over the matches
    mostly_tracked, partly_tracked, mostly_lost: numbers of true ids
    fragments: how often tracked spells of true ids begin again
    frames: frames of the sequences in which there are both truth and results
    switches: every id switch, in the order of sequences and frames
    """

    tp: int = 0
    fn: int = 0
    fp: int = 0
    similarity: float = 0.0
    mostly_tracked: int = 0
    partly_tracked: int = 0
    mostly_lost: int = 0
    fragments: int = 0
    frames: int = 0
    switches: list[IdSwitch] = field(default_factory=list)

    def scores(self) -> dict[str, float]:
        """TrackEval's names and units; on masks MOTA, sMOTA, MOTP are called MOTSA, sMOTSA, MOTSP."""
        switches = len(self.switches)
        truth = max(1, self.tp + self.fn)
        ids = max(1, self.mostly_tracked + self.partly_tracked + self.mostly_lost)
        damped = np.log10(switches) if switches else 0.0
        return {
            "MOTA": (self.tp - self.fp - switches) / truth,
            "sMOTA": (self.similarity - self.fp - switches) / truth,
            "MOTP": self.similarity / max(1, self.tp),
            "MODA": (self.tp - self.fp) / truth,
            "MOTAL": float((self.tp - self.fp - damped) / truth),
            "CLR_Re": self.tp / truth,
            "CLR_Pr": self.tp / max(1, self.tp + self.fp),
            "CLR_F1": self.tp / max(1, self.tp + self.fn / 2 + self.fp / 2),
            "MTR": self.mostly_tracked / ids,
            "PTR": self.partly_tracked / ids,
            "MLR": self.mostly_lost / ids,
            "FP_per_frame": self.fp / max(1, self.frames),
            "CLR_TP": self.tp,
            "CLR_FN": self.fn,
            "CLR_FP": self.fp,
            "IDSW": switches,
            "MT": self.mostly_tracked,
            "PT": self.partly_tracked,
            "ML": self.mostly_lost,
            "Frag": self.fragments,
            "CLR_Frames": self.frames,
            "MOTP_sum": self.similarity,
        }


def _match_frame(frame: Frame, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of CLEAR's matches: first those that continue a match, then the most similarity.

    previous: (K,) result id of each true id in the previous step, -1 without one
    """
    continues = previous[frame.truth][:, None] == frame.result[None, :]
    score = np.where(frame.similarity < MATCH_THRESHOLD - EPS, 0, 1000 * continues + frame.similarity)
    rows, columns = best_pairs(score)
    accepted = score[rows, columns] > EPS
    return rows[accepted], columns[accepted]


def clear_counts(frames: list[Frame], truth_count: np.ndarray, result_count: np.ndarray) -> ClearCounts:
    """CLEAR's counts of one sequence; arguments as for `hota_counts`, whose ids stand in the id switches.

    As in TrackEval, a frame without truth or without results does not end a tracked spell.
    """
    K = len(truth_count)
    last, previous = np.full(K, -1), np.full(K, -1)  # result id of the last match; of the step before
    tracked, spells = np.zeros(K, dtype=int), np.zeros(K, dtype=int)
    similarity, switches = 0.0, []
    for number, frame in enumerate(frames):
        if not frame.similarity.size:
            continue
        rows, columns = _match_frame(frame, previous)
        truth, result = frame.truth[rows], frame.result[columns]
        switched = (last[truth] >= 0) & (last[truth] != result)
        pairs = zip(truth[switched].tolist(), result[switched].tolist(), strict=True)
        switches += [IdSwitch(number, i, int(last[i]), j) for i, j in pairs]
        tracked[truth] += 1
        spells[truth] += previous[truth] < 0
        similarity += float(frame.similarity[rows, columns].sum())
        previous[:] = -1
        previous[truth] = last[truth] = result
    tp, share = int(tracked.sum()), tracked / np.maximum(1, truth_count)
    mostly, partly = int((share > 0.8).sum()), int(((share >= 0.2) & (share <= 0.8)).sum())
    return ClearCounts(
        tp=tp,
        fn=int(truth_count.sum()) - tp,
        fp=int(result_count.sum()) - tp,
        similarity=similarity,
        mostly_tracked=mostly,
        partly_tracked=partly,
        mostly_lost=K - mostly - partly,
        fragments=int(np.maximum(spells - 1, 0).sum()),
        frames=len(frames) if truth_count.any() and result_count.any() else 0,
        switches=switches,
    )
