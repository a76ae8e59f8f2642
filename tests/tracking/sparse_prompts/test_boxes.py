"""Boxes in a flag and in a JSON file, and what is none."""

import json

import pytest

from common.errors import UserError
from tracking.sparse_prompts.boxes import box_of_flag, check_box, read_boxes, region_box


def write(path, content: object):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_flag_is_four_numbers_or_eight():
    assert box_of_flag("1,2.5,30,4") == (1.0, 2.5, 30.0, 4.0)
    assert box_of_flag("10,10,20,10,20,20,10,20") == pytest.approx((9.5, 9.5, 11, 11))
    for text in ("1,2,3", "a,b,c,d", "1;2;3;4", "1,2,3,4,5"):
        with pytest.raises(UserError, match="--box"):
            box_of_flag(text)


def test_a_rotated_region_becomes_an_upright_box_of_its_area():
    x, y, width, height = region_box([10.0, 0, 20, 10, 10, 20, 0, 10])  # a square on its corner, area 200
    assert (x + width / 2, y + height / 2) == pytest.approx((10, 10))
    assert (width - 1) * (height - 1) == pytest.approx(200)
    with pytest.raises(UserError, match="no area"):
        check_box(1, region_box([5.0, 5] * 4), (30, 40))


@pytest.mark.filterwarnings("error")
def test_a_region_too_large_for_numbers_is_refused_without_a_warning():
    with pytest.raises(UserError, match="no area"):
        check_box(1, region_box([1e308, -1e308, -1e308, 1e308, 1e308, 1e308, 0.0, 0.0]), (30, 40))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not a JSON file"),
        ([1], "another form"),
        ({"one": [1, 2, 3, 4]}, "another form"),
        ({"one": {"a": [1, 2, 3, 4]}}, "id 'a'"),
        ({"one": {"0": [1, 2, 3, 4]}}, "id '0'"),
        ({"one": {"255": [1, 2, 3, 4]}}, "id '255'"),
        ({"one": {"01": [1, 2, 3, 4]}}, "id '01'"),
        ({"one": {"65536": [1, 2, 3, 4]}}, "whole numbers from 1 to 65535"),
        ({"one": {"9" * 5000: [1, 2, 3, 4]}}, "whole numbers from 1 to 65535"),
        ({"one": {"1": [1, 2, 3]}}, "no box"),
        ({"one": {"1": [1, 2, "3", 4]}}, "no box"),
        ({"one": {"1": [1, 2, True, 4]}}, "no box"),
        ({"one": {"1": None}}, "no box"),
    ],
)
def test_a_file_of_another_form_is_refused(content, words, tmp_path):
    path = write(tmp_path / "b.json", content)
    with pytest.raises(UserError, match=words) as refused:
        read_boxes(path)
    assert str(path) in str(refused.value)


def test_a_number_of_400_digits_is_refused_as_what_it_is(tmp_path):
    path = write(tmp_path / "b.json", '{"one": {"1": [1, 2, 3, 1' + 400 * "0" + "]}}")
    with pytest.raises(UserError, match="too long"):
        read_boxes(path)
