"""Clicks in flags and in a JSON file, and what is none."""

import json

import pytest

from common.errors import UserError
from tracking.sparse_prompts.clicks import clicks_of_flag, read_clicks


def test_a_flag_is_x_and_y_in_turn():
    assert clicks_of_flag("--click", "1,2.5", 1) == [(1, 2.5, 1)]
    assert clicks_of_flag("--negative_click", "1,2,3,4", 0) == [(1, 2, 0), (3, 4, 0)]
    for text in ("1", "1,2,3", "a,b", "", "1;2", "1,2,"):
        with pytest.raises(UserError, match=r"--click .* are no clicks: give x,y"):
            clicks_of_flag("--click", text, 1)
    for text in ("nan,1", "1,inf"):
        with pytest.raises(UserError, match=r"--click: .* is no click"):
            clicks_of_flag("--click", text, 1)


def test_a_file_has_clicks_of_both_kinds_for_each_id(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"one": {"3": [[1, 2, 1], [3.5, 4, 0]], "5": [[0, 0, 1]]}}))
    clicks = {3: [(1.0, 2.0, 1), (3.5, 4.0, 0)], 5: [(0.0, 0.0, 1)]}
    assert read_clicks(tmp_path / "c.json") == {"one": clicks}


@pytest.mark.parametrize(
    ("clicks", "words"),
    [
        ([[1, 2, 2]], r"\[1, 2, 2\] has another label than 1, on the object, and 0"),
        ([[1, 2, 0.5]], "another label"),
        ([[1, 2, -1]], "another label"),
        ([[1, 2]], r"\[1, 2\] is no click: give \[x, y, 1\]"),
        ([[1, 2, True]], "is no click"),
        ([["1", 2, 1]], "is no click"),
        ([1, 2, 1], "1 is no click"),
        ([], "are no clicks"),
        ({"x": 1}, "are no clicks"),
        (None, "None are no clicks"),
    ],
)
def test_what_is_no_click_is_refused(clicks, words, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"one": {"1": clicks}}))
    with pytest.raises(UserError, match=words) as refused:
        read_clicks(path)
    assert str(refused.value).startswith(f"--clicks {path}, one: ")


def test_an_absent_file_and_one_of_another_form_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"--clicks .*c\.json: no such file; it holds \{video"):
        read_clicks(tmp_path / "c.json")
    (tmp_path / "c.json").write_text("[1]")
    with pytest.raises(UserError, match=r"--clicks .*c\.json has another form than \{video"):
        read_clicks(tmp_path / "c.json")
