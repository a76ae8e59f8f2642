"""Run-length encodings: there and back, and as pycocotools has them."""

import numpy as np
import pytest

from video.masks import decode_rle, encode_rle


def test_run_length_encodings_come_back_and_follow_the_columns():
    pytest.importorskip("pycocotools")
    mask = np.random.default_rng(0).random((6, 9)) > 0.5
    rle = encode_rle(mask)
    assert rle["size"] == [6, 9] and isinstance(rle["counts"], str)
    assert np.array_equal(decode_rle(rle), mask)
    by_hand = {"size": [2, 2], "counts": [1, 2, 1]}  # down the first column, then the second
    assert decode_rle(by_hand).tolist() == [[False, True], [True, False]]
    assert not decode_rle(encode_rle(np.zeros((3, 4), bool))).any()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_run_length_encodings_are_those_of_pycocotools(share):
    coder = pytest.importorskip("pycocotools.mask")
    masks = np.random.default_rng(3).random((20, 7, 11)) < share
    masks[10:, :, :4] = masks[15:, :, 8:] = False  # columns without an object, at the left and on both sides
    for mask in masks:
        expected = coder.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
        assert encode_rle(mask)["counts"] == expected
