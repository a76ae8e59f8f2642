"""Files in the YouTube-VIS form, read at flat memory."""

import json
import tracemalloc
from contextlib import closing

from annotated import json_stream
from common.files import open_text
from tools.convert.vis_files import MaskTable, list_video, name_frames, read_results


def test_names_of_frames_continue_in_even_steps_or_not_at_all():
    assert name_frames({1: "00005", 3: "00015"}, 5) == ["00000", "00005", "00010", "00015", "00020"]
    assert name_frames({0: "b", 1: "a"}, 2) == ["b", "a"]
    for some in (
        {},
        {0: "00000"},
        {0: "a", 1: "b"},
        {0: "0", 1: "1", 3: "7"},
        {3: "0", 4: "5"},
        {0: "1", 2: "2"},
    ):
        assert name_frames(some, 6) is None, some


def test_a_file_is_read_at_flat_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", 1 << 16)
    rle = json.dumps({"size": [9, 9], "counts": "0" * 2000})
    head = '[{"video_id": 1, "category_id": 1, "score": 1, "segmentations": [null'
    (tmp_path / "x.json").write_text(head + f", {rle}" * 6000 + "]}]")
    with closing(MaskTable()) as table:
        tracemalloc.start()
        results = read_results(tmp_path / "x.json", table)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert table.get(0, 0) is None and table.get(0, 6000) == json.loads(rle)
    assert results[0]["num_segmentations"] == 6001
    assert (tmp_path / "x.json").stat().st_size > 12e6
    assert peak < 1e6


def test_backslashes_of_windows_are_separators():
    video = {"id": 1, "width": 4, "height": 3, "length": 2, "file_names": ["ant\\0.jpg", "ant\\5.jpg"]}
    listing = list_video(video, "x.json")
    assert (listing.name, listing.frames) == ("ant", ["0", "5"])


def test_a_file_in_utf_16_is_read(tmp_path):
    (tmp_path / "x.json").write_text('\n[{"video_id": 1}]', encoding="utf-16")
    with open_text(tmp_path / "x.json") as file:
        stream = json_stream.JsonStream(file)
        assert [stream.value() for _ in stream.elements()] == [{"video_id": 1}]
