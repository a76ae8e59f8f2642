"""The ids in label maps, and edges that were smoothed."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from video.label_maps import edge_ids, has_smoothed_edges, ids_in


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_ids_are_all_above_the_background(kind):
    labels = np.array([[0, 7, 7], [2, 255, 0]], dtype=kind)
    assert ids_in(labels) == [2, 7, 255]
    assert ids_in(np.zeros((2, 2), dtype=kind)) == ids_in(np.zeros((0, 3), dtype=kind)) == []
    assert ids_in(np.full((2, 2), 3, dtype=kind)) == [3]


def smoothed(mask: np.ndarray, levels: int) -> np.ndarray:
    """A mask of 0 and 255 whose edges are blurred, as a paint program draws it."""
    return uniform_filter(mask.astype(float), levels).round().astype(np.uint8)


@pytest.mark.parametrize("levels", [2, 3, 5, 9])
def test_edges_that_a_paint_program_smooths_are_noticed(levels):
    disc = (np.hypot(*np.mgrid[-40:40, -50:50]) < 25) * 255
    assert has_smoothed_edges(smoothed(disc, levels)) and not has_smoothed_edges(disc.astype(np.uint8))


def test_objects_that_touch_or_are_small_have_no_smoothed_edges():
    touching = np.arange(1, 13, dtype=np.uint8).reshape(3, 4).repeat(3, 0).repeat(3, 1)
    small = np.zeros((20, 20), np.uint8)
    small[1::4, 1::4] = np.arange(1, 26).reshape(5, 5)  # of one pixel each
    assert not has_smoothed_edges(touching) and not has_smoothed_edges(small)
    assert edge_ids(touching) == edge_ids(small) == []
    assert not has_smoothed_edges(np.zeros((3, 3), np.uint8))
