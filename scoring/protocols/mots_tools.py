"""The scores of mots_tools, the first program for MOTS: matches by IoU alone, its own kind of fragments."""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scoring.counts import Counts

MISSED = -1  # in place of the id of a result


@dataclass
class MotsToolsCounts(Counts):
    """What the scores are made of; of several sequences they are added.

    tp, fp, fn: detections matched, invented and missed; ignored: results dropped with their region
    similarity: sum of the IoUs of the matches
    mostly_tracked, partly_tracked, mostly_lost: numbers of true ids
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    ignored: int = 0
    similarity: float = 0.0
    id_switches: int = 0
    fragments: int = 0
    mostly_tracked: int = 0
    partly_tracked: int = 0
    mostly_lost: int = 0

    def scores(self) -> dict[str, float | int]:
        """The official names, in fractions of 1 (Voigtlaender et al., 2019); infinite where undefined."""
        n_gt, n_result, switches = self.tp + self.fn, self.tp + self.fp, self.id_switches
        recall, precision = (self.tp / n_gt, self.tp / n_result) if n_gt and n_result else (0.0, 0.0)
        both = recall + precision
        tracks = max(1, self.mostly_tracked + self.partly_tracked + self.mostly_lost)

        def accuracy(gain: float) -> float:
            return gain / n_gt if n_gt else -math.inf

        return {
            "sMOTSA": accuracy(self.similarity - self.fp - switches),
            "MOTSA": accuracy(self.tp - self.fp - switches),
            "MOTSP": self.similarity / self.tp if self.tp else math.inf,
            "MOTSAL": accuracy(self.tp - self.fp - (math.log10(switches) if switches else 0)),
            "MODSA": accuracy(self.tp - self.fp),
            "recall": recall,
            "precision": precision,
            "F1": 2 * recall * precision / both if both else 0.0,
            "MT": self.mostly_tracked / tracks,
            "PT": self.partly_tracked / tracks,
            "ML": self.mostly_lost / tracks,
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
            "id_switches": switches,
            "fragments": self.fragments,
            "n_gt": n_gt,
            "n_itr": self.ignored,
        }


def count_switches(track: Sequence[int]) -> int:
    """How often the id changes from one match to the next, however many frames lie between."""
    matched = [i for i in track if i != MISSED]
    return sum(a != b for a, b in itertools.pairwise(matched))


def count_fragments(track: Sequence[int]) -> int:
    """How often a match begins anew that is not the object's first and lasts for two frames.

    The official quirk: on the object's last frame any new match counts, the first and a single one too.
    """
    fragments, last = 0, len(track) - 1
    for t in range(1, len(track)):
        new = track[t] not in (MISSED, track[t - 1])
        lasting = t < last and track[t + 1] != MISSED and any(i != MISSED for i in track[:t])
        fragments += new and (t == last or lasting)
    return fragments


class MotsToolsAccumulator:
    """Takes the frames of one sequence in order; keeps who is matched to whom, no pixels."""

    def __init__(self) -> None:
        self._frames: list[MotsToolsCounts] = []
        self._tracks: defaultdict[int, list[int]] = defaultdict(
            list
        )  # {true id: the result's, frame by frame}

    def add(
        self,
        truth_ids: Sequence[int],
        result_ids: Sequence[int],
        similarity: np.ndarray,
        ignored_share: np.ndarray,
    ) -> None:
        """Take the next frame of K true ids and N result ids, whose masks do not overlap.

        similarity: (K, N) mask IoU; ignored_share: (N,) share of each result's pixels in the ignored region
        A match is an IoU above 0.5, which no other pair of either can have.
        """
        matches = similarity > 0.5
        tp, ignored = int(matches.sum()), int((~matches.any(0) & (ignored_share > 0.5)).sum())
        fp, fn = len(result_ids) - tp - ignored, len(truth_ids) - tp
        self._frames.append(MotsToolsCounts(tp, fp, fn, ignored, float(similarity[matches].sum())))
        for row, truth_id in enumerate(truth_ids):
            columns = np.flatnonzero(matches[row])
            self._tracks[int(truth_id)].append(int(result_ids[columns[0]]) if len(columns) else MISSED)

    def score(self) -> MotsToolsCounts:
        """The counts of the frames so far."""
        shares = np.array([np.mean(np.array(track) != MISSED) for track in self._tracks.values()])
        mostly, lost = int((shares > 0.8).sum()), int((shares < 0.2).sum())
        tracks = MotsToolsCounts(
            id_switches=sum(map(count_switches, self._tracks.values())),
            fragments=sum(map(count_fragments, self._tracks.values())),
            mostly_tracked=mostly,
            partly_tracked=len(shares) - mostly - lost,
            mostly_lost=lost,
        )
        return MotsToolsCounts.total([*self._frames, tracks])
