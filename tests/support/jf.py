"""J and F of one pair of masks, by way of the pairs of label maps that the product measures."""

import numpy as np

from scoring.jf import BOUND_TH, pairwise_jf


def jf_of_pair(
    truth: np.ndarray, prediction: np.ndarray, void: np.ndarray | None = None, bound_th: float = BOUND_TH
) -> tuple[float, float]:
    """J and F of two (H, W) bool masks; `void` pixels count for nothing."""
    labels = truth.astype(np.uint8), prediction.astype(np.uint8)
    J, F = pairwise_jf(*labels, [1], [1], void, bound_th)
    return float(J[0, 0]), float(F[0, 0])


def region_similarity(truth: np.ndarray, prediction: np.ndarray, void: np.ndarray | None = None) -> float:
    """J of two (H, W) bool masks."""
    return jf_of_pair(truth, prediction, void)[0]


def boundary_measure(
    truth: np.ndarray, prediction: np.ndarray, void: np.ndarray | None = None, bound_th: float = BOUND_TH
) -> float:
    """F of two (H, W) bool masks."""
    return jf_of_pair(truth, prediction, void, bound_th)[1]
