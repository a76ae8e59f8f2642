"""HOTA (Luiten et al., IJCV 2021) of one sequence, exactly as TrackEval has it."""

from dataclasses import dataclass, field

import numpy as np

from scoring.counts import EPS, Counts, Frame, best_pairs

ALPHAS = np.arange(0.05, 0.99, 0.05)  # the 19 localisation thresholds of HOTA


def _zeros() -> np.ndarray:
    return np.zeros(len(ALPHAS))


@dataclass
class HotaCounts(Counts):
    """What HOTA is made of; every field is (19,) float64, one value for each of ALPHAS.

    tp, fn, fp: detections matched, missed and invented
    association, association_recall, association_precision: sums over the matches of the association scores
    similarity: sum over the matches of the similarity
    """

    tp: np.ndarray = field(default_factory=_zeros)
    fn: np.ndarray = field(default_factory=_zeros)
    fp: np.ndarray = field(default_factory=_zeros)
    association: np.ndarray = field(default_factory=_zeros)
    association_recall: np.ndarray = field(default_factory=_zeros)
    association_precision: np.ndarray = field(default_factory=_zeros)
    similarity: np.ndarray = field(default_factory=_zeros)

    def scores(self) -> dict[str, np.ndarray]:
        """HOTA, DetA, AssA, LocA and their parts, each (19,) float64 in [0, 1] (Luiten et al., 2021)."""
        matches = np.maximum(1, self.tp)
        scores = {
            "DetA": self.tp / np.maximum(1, self.tp + self.fn + self.fp),
            "DetRe": self.tp / np.maximum(1, self.tp + self.fn),
            "DetPr": self.tp / np.maximum(1, self.tp + self.fp),
            "AssA": self.association / matches,
            "AssRe": self.association_recall / matches,
            "AssPr": self.association_precision / matches,
            "LocA": np.where(self.tp > 0, self.similarity / matches, 1.0),
        }
        scores["HOTA"] = np.sqrt(scores["DetA"] * scores["AssA"])
        scores["OWTA"] = np.sqrt(scores["DetRe"] * scores["AssA"])
        return scores


def _alignment(frames: list[Frame], truth_count: np.ndarray, result_count: np.ndarray) -> np.ndarray:
    """(K, N): how well each pair of ids fits together over the whole sequence."""
    shared = np.zeros((len(truth_count), len(result_count)))
    for frame in frames:
        s = frame.similarity
        total = s.sum(0)[None, :] + s.sum(1)[:, None] - s
        shared[np.ix_(frame.truth, frame.result)] += np.where(
            total > EPS, s / np.where(total > EPS, total, 1), 0
        )
    return shared / (truth_count[:, None] + result_count[None, :] - shared)


def hota_counts(frames: list[Frame], truth_count: np.ndarray, result_count: np.ndarray) -> HotaCounts:
    """HOTA's counts of one sequence.

    frames: ids are 0..K-1 and 0..N-1 over the sequence
    truth_count, result_count: (K,), (N,) frames in which each id is there
    """
    alignment = _alignment(frames, truth_count, result_count)
    matches = np.zeros((len(ALPHAS), *alignment.shape))  # (19, K, N)
    similarity = _zeros()
    for frame in frames:
        score = alignment[np.ix_(frame.truth, frame.result)] * frame.similarity
        rows, columns = best_pairs(score)
        matched = frame.similarity[rows, columns]
        accepted = matched >= ALPHAS[:, None] - EPS  # (19, matches of the frame)
        matches[:, frame.truth[rows], frame.result[columns]] += accepted
        similarity += accepted @ matched
    tp = matches.sum((1, 2))
    either = truth_count[:, None] + result_count[None, :] - matches
    return HotaCounts(
        tp=tp,
        fn=truth_count.sum() - tp,
        fp=result_count.sum() - tp,
        association=(matches * matches / np.maximum(1, either)).sum((1, 2)),
        association_recall=(matches * matches / np.maximum(1, truth_count[:, None])).sum((1, 2)),
        association_precision=(matches * matches / np.maximum(1, result_count[None, :])).sum((1, 2)),
        similarity=similarity,
    )
