"""Identity scores, IDF1 (Ristani et al., 2016), of one sequence, exactly as TrackEval has them."""

from dataclasses import dataclass

import numpy as np

from scoring.counts import MATCH_THRESHOLD, Counts, Frame, best_pairs


@dataclass
class IdentityCounts(Counts):
    """Detections under the one-to-one assignment of true ids to result ids that explains the most of them."""

    tp: int = 0
    fn: int = 0
    fp: int = 0

    def scores(self) -> dict[str, float]:
        """IDF1, IDP, IDR in [0, 1] (Ristani et al., 2016) and the counts."""
        return {
            "IDF1": self.tp / max(1, self.tp + self.fn / 2 + self.fp / 2),
            "IDR": self.tp / max(1, self.tp + self.fn),
            "IDP": self.tp / max(1, self.tp + self.fp),
            "IDTP": self.tp,
            "IDFN": self.fn,
            "IDFP": self.fp,
        }


def identity_counts(frames: list[Frame], truth_count: np.ndarray, result_count: np.ndarray) -> IdentityCounts:
    """Identity's counts of one sequence; arguments as for `hota_counts`.

    To miss and invent the fewest detections is to share the most frames, so no dummy partners are needed.
    """
    shared = np.zeros((len(truth_count), len(result_count)))
    for frame in frames:
        shared[np.ix_(frame.truth, frame.result)] += frame.similarity >= MATCH_THRESHOLD
    tp = int(shared[best_pairs(shared)].sum())
    return IdentityCounts(tp, int(truth_count.sum()) - tp, int(result_count.sum()) - tp)
