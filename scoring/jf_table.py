"""J and F of every object of a video against every result, frame by frame, whoever is there when."""

from collections.abc import Sequence

import numpy as np

from scoring.jf import pairwise_jf
from video.label_maps import ids_in, objects_in

NOBODY = 1 << 16  # an id that no label map of 8 or 16 bits can hold


def make_room(pairs: np.ndarray, K: int, N: int) -> np.ndarray:
    """(..., k+1, n+1) values of pairs of objects and results to (..., K+1, N+1), newcomers being last.

    The last row and the last column are an object and a result that are never there: newcomers, who have been
    absent until now, begin as their copies.
    """
    k, n = (side - 1 for side in pairs.shape[-2:])
    return np.pad(pairs, [*[(0, 0)] * (pairs.ndim - 2), (0, K - k), (0, N - n)], mode="edge")


class JFTable:
    """Takes the frames of one video in order; memory is flat in pixels.

    objects, results: the ids that came so far, in their order
    """

    def __init__(self) -> None:
        self.objects: list[int] = []
        self.results: list[int] = []
        self._frames: list[np.ndarray] = []  # (2, K+1, N+1) J and F, as for `make_room`

    def add(self, truth: np.ndarray, result: np.ndarray, void: np.ndarray | None = None) -> None:
        """Take the next frame, two (H, W) label maps; where `void` neither counts."""
        self.objects += [i for i in objects_in(truth) if i not in self.objects]
        self.results += [j for j in ids_in(result) if j not in self.results]
        ids = [*self.objects, NOBODY], [*self.results, NOBODY]
        self._frames.append(np.stack(pairwise_jf(truth, result, *ids, void)))

    def scores(self, objects: Sequence[int], results: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """J and F, each (T, K, N) float64, of the ids asked for; one that never came has empty masks."""
        K, N = len(self.objects), len(self.results)
        rows = [self.objects.index(i) if i in self.objects else K for i in objects]
        columns = [self.results.index(j) if j in self.results else N for j in results]
        J, F = np.stack([make_room(frame, K, N) for frame in self._frames], axis=1)[:, :, rows][..., columns]
        return J, F
