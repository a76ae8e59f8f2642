"""Overlaps of objects of two label maps, and ids that jump from one to the other."""

import numpy as np

from tools.doctor.identities import changed_ids, overlaps, sampled


def bands(*ids: int, shift: int = 0) -> np.ndarray:
    """(20, 20) with a band of four rows of each id, from the top."""
    labels = np.zeros((20, 20), dtype=np.uint8)
    for place, track in enumerate(ids):
        labels[4 * place + shift : 4 * place + 4 + shift] = track
    return labels


def test_overlaps_are_those_worked_by_hand():
    iou = overlaps(bands(1, 3), bands(1, 3, shift=1), [1, 3])
    assert np.allclose(iou, [[3 / 5, 0], [1 / 7, 3 / 5]])  # 3 of 5 rows; 1 of 4 + 4 - 1


def test_an_id_that_goes_on_under_another_is_found():
    assert changed_ids(bands(1, 2), bands(1, 5), [1, 2, 5]) == [(2, 5)]


def test_two_ids_that_change_places_are_found_both():
    assert changed_ids(bands(1, 2), bands(2, 1), [1, 2]) == [(1, 2), (2, 1)]


def test_objects_that_stay_move_leave_or_come_are_no_change():
    assert changed_ids(bands(1, 2), bands(1, 2), [1, 2]) == []
    assert changed_ids(bands(1, 2), bands(1, 2, shift=3), [1, 2]) == []
    assert changed_ids(bands(1), bands(0, 0, 2), [1, 2]) == []
    assert changed_ids(bands(), bands(), []) == []


def test_void_pixels_are_no_object():
    before, after = bands(255, 1), bands(2, 1)
    assert changed_ids(before, after, [1, 2]) == []
    assert changed_ids(np.where(before == 255, -1, before.astype(np.int32)), after, [1, 2]) == []


def test_a_large_map_is_sampled_and_a_small_one_is_whole():
    assert sampled(np.zeros((720, 1280), np.uint8)).shape == (240, 427)
    assert sampled(np.zeros((240, 300), np.uint8)).shape == (240, 300)
