"""HOTA, CLEAR and Identity (IDF1) from the similarities of each frame, exactly as TrackEval has them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.optimize import linear_sum_assignment

ALPHAS = np.arange(0.05, 0.99, 0.05)  # the 19 localisation thresholds of HOTA
MATCH_THRESHOLD = 0.5  # the similarity from which CLEAR and Identity accept a match
EPS = np.finfo(np.float64).eps


class Frame(NamedTuple):
    """One frame: K true ids and N result ids, unique in the frame, and their (K, N) similarity in [0, 1]."""

    truth: np.ndarray
    result: np.ndarray
    similarity: np.ndarray


class IdSwitch(NamedTuple):
    """A true object that is matched to another id than the last time it was matched.

    frame: the 0-based number of the frame among those that were scored
    """

    frame: int
    truth_id: int
    old_id: int
    new_id: int


def _exact_sum(values: Sequence[Any]) -> Any:
    """The sum of numbers, arrays, lists or counts, which their order changes in no bit; lists are joined."""
    if isinstance(values[0], Counts):
        return type(values[0]).total(values)
    if isinstance(values[0], np.ndarray):
        return np.array([math.fsum(column) for column in zip(*values, strict=True)])
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    return math.fsum(values) if isinstance(values[0], float) else sum(values)


class Counts:
    """Base of the dataclasses of counts: the scores of several sequences are those of the sums."""

    @classmethod
    def total(cls, counts: Iterable[Self]) -> Self:
        """The counts of all sequences together; of none, every count is zero."""
        counts = list(counts)
        names = [f.name for f in fields(cls)] if counts else []
        return cls(**{name: _exact_sum([getattr(one, name) for one in counts]) for name in names})


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


def combine(scores: Iterable[TrackingScore]) -> TrackingScore:
    """The score of all sequences together; of none, every count is zero."""
    return TrackingScore.total(scores)


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
        rows, columns = linear_sum_assignment(-score)
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


def identity_counts(frames: list[Frame], truth_count: np.ndarray, result_count: np.ndarray) -> IdentityCounts:
    """Identity's counts of one sequence; arguments as for `hota_counts`.

    To miss and invent the fewest detections is to share the most frames, so no dummy partners are needed.
    """
    shared = np.zeros((len(truth_count), len(result_count)))
    for frame in frames:
        shared[np.ix_(frame.truth, frame.result)] += frame.similarity >= MATCH_THRESHOLD
    tp = int(shared[linear_sum_assignment(-shared)].sum())
    return IdentityCounts(tp, int(truth_count.sum()) - tp, int(result_count.sum()) - tp)


def _match_frame(frame: Frame, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of CLEAR's matches: first those that continue a match, then the most similarity.

    previous: (K,) result id of each true id in the previous step, -1 without one
    """
    continues = previous[frame.truth][:, None] == frame.result[None, :]
    score = np.where(frame.similarity < MATCH_THRESHOLD - EPS, 0, 1000 * continues + frame.similarity)
    rows, columns = linear_sum_assignment(-score)
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
    rows, columns = linear_sum_assignment(-score)
    unmatched = np.ones(similarity.shape[1], dtype=bool)
    unmatched[columns[score[rows, columns] > EPS]] = False
    return ~(unmatched & (ignored_share > 0.5 + EPS))
