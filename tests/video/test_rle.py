"""Run-length encodings: there and back, and as pycocotools has them."""

import numpy as np
import pytest

from common.errors import UserError
from video.rle import checked_rle, decode_rle, encode_rle

coder = pytest.importorskip("pycocotools.mask")


def test_run_length_encodings_come_back_and_follow_the_columns():
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


SIZE = (2, 3)


@pytest.mark.parametrize(
    ("rle", "told"),
    [
        ({"size": [2, 3], "counts": [0] * 20_000_000}, "more runs than pixels"),
        ({"size": [2, 3], "counts": "0" * 100}, "more runs than pixels"),
        ({"size": [2, 3], "counts": [2**62, 2**62, 2**62, 2**62, 6]}, "do not fill"),
        ({"size": [2, 3], "counts": [5.5, 0.5]}, "not whole numbers"),
        ({"size": [2, 3], "counts": [True, 5]}, "not whole numbers"),
        ({"size": [2, 3], "counts": "oooooooo1"}, "too long"),
        ({"size": [2, 3], "counts": 3}, "no RLE"),
        ({"size": [2, 4], "counts": [6]}, "has the size"),
        ([[0, 0, 1, 1]], "no polygon"),
        ([[0, 0, 1, 1, 2]], "no polygon"),
        ([[0, 0, 1, 1, "2", 0]], "no polygon"),
        ([[0, 0, 1e9, 0, 0, 1e9]], "does not fit"),
        ([[0, 0, 3, 2] * 100], "does not fit"),
    ],
)
def test_a_mask_that_is_none_or_absurd_is_refused_in_a_line(rle, told):
    with pytest.raises(UserError, match=f"^the mask .*{told}"):
        checked_rle(rle, SIZE, "the mask")


def test_polygons_are_the_area_that_pycocotools_draws():
    polygons = [[0, 0, 4, 0, 4, 3, 0, 3], [6.0, 1.0, 8.0, 1.0, 8.0, 4.0]]
    rle = checked_rle(polygons, (5, 9), "the mask")
    drawn = [coder.decode(one).astype(bool) for one in coder.frPyObjects(polygons, 5, 9)]
    assert np.array_equal(decode_rle(rle), drawn[0] | drawn[1]) and drawn[0].sum() == 12


def test_absent_masks_and_sizes_with_a_fraction_of_zero_are_read():
    assert checked_rle([], SIZE, "the mask") is None and checked_rle(None, SIZE, "the mask") is None
    rle = checked_rle({"size": [2.0, 3.0], "counts": [1, 2, 3]}, SIZE, "the mask")
    assert decode_rle(rle).sum() == 2
    compressed = {"size": [2.0, 3.0], "counts": encode_rle(np.ones(SIZE, bool))["counts"]}
    assert decode_rle(checked_rle(compressed, SIZE, "the mask")).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("far", [1e308, -1e308, 1e5, 10**17])
def test_a_polygon_that_is_far_away_is_refused_without_a_warning(far):
    for polygon in ([0, 0, far, -far, 4, 4], [far, -far, -far, far, far, far]):
        with pytest.raises(UserError, match="does not fit"):
            checked_rle([polygon], (5, 9), "the mask")
