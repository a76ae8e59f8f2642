"""JSON that is read part by part."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotated import json_stream
from annotated.json_stream import JsonStream, open_json, read_part
from common.errors import UserError


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_json_is_read_part_by_part_wherever_the_file_is_cut(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    value = {
        "a": [1, -2.5e3, {"b": []}, 'x\\"é\u2028'],
        "c": {},
        "empty": [],
        "deep": [[123456789012345678], None],
        "numbers": [702.105, 1e30, -2.5e-30, 0.5],
    }
    (tmp_path / "x.json").write_text(json.dumps(value, indent=3, ensure_ascii=False), encoding="utf-8")

    def taken(stream: JsonStream) -> Any:
        if stream.peek() == "{":
            return {key: taken(stream) for key in stream.members()}
        return [taken(stream) for _ in stream.elements()] if stream.peek() == "[" else stream.value()

    with open(tmp_path / "x.json", encoding="utf-8") as file:
        stream = JsonStream(file)
        assert taken(stream) == value
        stream.end()
    with open(tmp_path / "x.json", encoding="utf-8") as file:
        assert JsonStream(file).value() == value
    (tmp_path / "x.json").write_text("1234567")
    with open(tmp_path / "x.json", encoding="utf-8") as file:
        assert JsonStream(file).value() == 1234567


@pytest.mark.parametrize("text", ["", "[1", "[1,]", "[1 2]", "[1]]", "{}", "nonsense", "[tru]", '["\xff"]'])
def test_what_is_no_json_list_is_named(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with (
        open(tmp_path / "x.json", encoding="utf-8") as file,
        pytest.raises(UserError, match=r"x\.json is not a JSON"),
    ):
        stream = JsonStream(file)
        for _ in stream.elements():
            stream.value()
        stream.end()


@pytest.mark.parametrize(
    "head", ['{"a": [1, 2', '{"a" 1', '["\\x"', "[nonsense", "[1 2]", '{"a": 1, b: 2}', '["\n"]', "[truth]"]
)
def test_a_fault_is_told_before_the_rest_of_the_file_is_read(tmp_path, monkeypatch, head):
    monkeypatch.setattr(json_stream, "CHUNK", 100)
    (tmp_path / "x.json").write_text(head + 10_000 * " " + "}")
    with open(tmp_path / "x.json", encoding="utf-8") as file:
        with pytest.raises(UserError, match=r"x\.json is not a JSON"):
            JsonStream(file).value()
        is_long = head == '{"a": [1, 2'  # of which the list might go on
        assert bool(file.read(1)) != is_long


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.recursive(st.none() | st.integers(-9, 9) | st.text(), st.lists, max_leaves=5)),
    indent=st.sampled_from([None, 1]),
    with_mark=st.booleans(),
    chunk=st.integers(1, 40),
)
def test_a_part_is_read_again_by_its_bytes(tmp_path_factory, values, indent, with_mark, chunk):
    path = tmp_path_factory.mktemp("part") / "x.json"
    text = json.dumps(values, ensure_ascii=False, indent=indent).replace("\n", "\r\n")
    path.write_bytes(text.encode("utf-8-sig" if with_mark else "utf-8"))
    places = []
    with pytest.MonkeyPatch.context() as patch, open_json(path, in_bytes=True) as stream:
        patch.setattr(json_stream, "CHUNK", chunk)
        for _ in stream.elements():
            start = stream.offset
            stream.value()
            places.append((start, stream.offset - start))
    assert [read_part(path, *place) for place in places] == values


def test_a_part_that_is_no_value_is_refused_with_path_and_place(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1')
    with pytest.raises(UserError, match=r"x\.json has no value at byte 0 .*: mend it"):
        read_part(tmp_path / "x.json", 0, 7)
