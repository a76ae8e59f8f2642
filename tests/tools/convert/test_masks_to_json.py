"""Label maps to annotations and results: the official form, ids and categories."""

import numpy as np
from PIL import Image

from tests.support.commands import assert_refused, run_here
from tests.support.vis_files import (
    LEFT,
    TOP,
    load,
    result_of,
    run,
    truth_of,
    video_of,
    write_json,
    write_maps,
)
from tools.convert import __main__ as convert
from video.images import write_label_map
from video.rle import decode_rle, encode_rle


def test_label_maps_become_annotations_in_the_official_form(tmp_path):
    early = np.array([[0, 0, 0, 0], [9, 0, 0, 0], [0, 0, 0, 0]])
    late = np.array([[0, 4, 4, 0], [9, 4, 0, 0], [255, 255, 0, 0]], dtype=np.uint8)
    maps = {"a": {"00000": np.zeros((2, 3))}, "b": {"00007": early, "00010": early}}
    write_maps(tmp_path / "Annotations", maps)
    Image.fromarray(late).save(
        tmp_path / "Annotations/b/00010.png"
    )  # 255 in 8 bits, which nothing here writes
    (tmp_path / "Annotations/b/notes.txt").write_text("no label map")
    truth = load(run(tmp_path, tmp_path / "truth.json"))
    assert truth["videos"] == [video_of(1, "a", ["00000"], (2, 3)), video_of(2, "b", ["00007", "00010"])]
    assert truth["categories"] == [{"id": 1, "name": "object"}]
    head = {"video_id": 2, "category_id": 1, "iscrowd": 0}
    four = {"object_id": 4, "areas": [None, 3], "bboxes": [None, [1, 0, 2, 2]]}
    nine = {"object_id": 9, "areas": [1, 1], "bboxes": [[0, 1, 1, 1], [0, 1, 1, 1]]}
    four["segmentations"] = [None, encode_rle(late == 4)]
    nine["segmentations"] = [encode_rle(early == 9), encode_rle(late == 9)]
    assert truth["annotations"] == [{"id": 1, **head, **four}, {"id": 2, **head, **nine}]
    np.testing.assert_array_equal(decode_rle(truth["annotations"][0]["segmentations"][1]), late == 4)


def test_an_official_file_gives_ids_frames_and_categories_and_tells_what_it_lacks(tmp_path):
    maps = {"cats": {"1": 1 * LEFT, "3": 2 * TOP}, "dogs": {"0": 1 * LEFT}}
    write_maps(tmp_path, maps)
    objects = {"1": {"category": "dog"}, "2": {"category": "cat"}}
    write_json(tmp_path / "meta.json", {"videos": {"cats": {"objects": objects}}})
    official = truth_of([video_of(30, "fish", ["0"]), video_of(20, "cats", ["1", "2"])])
    official["annotations"] = None
    videos = write_json(tmp_path / "val.json", official)
    flags = ("--form", "results", "--videos", videos)
    outcome = run_here(convert.main, tmp_path, "--output", tmp_path / "r.json", *flags)
    assert load(tmp_path / "r.json") == [result_of(20, 1.0, LEFT, None, category=3)]
    assert outcome.out == [f"{tmp_path / 'r.json'}: 2 videos, 1 label maps, 1 objects"]
    assert [line.split(": ", 1)[1] for line in outcome.err] == [
        "1, such as fish",
        "1, such as dogs",
        f"1, such as {tmp_path / 'cats/3.png'}",
    ]
    truth = load(run(tmp_path, tmp_path / "t.json", "--videos", videos))
    assert truth["videos"] == official["videos"] and truth["categories"] == official["categories"]


def test_objects_of_which_nothing_is_known_are_of_the_only_category_or_else_of_1_which_is_told(tmp_path):
    write_maps(tmp_path / "maps", {"a": {"0": 1 * LEFT}})
    official = truth_of([video_of(1, "a", ["0"])], [])
    for categories, expected, notices in (([{"id": 7}], 7, 0), ([{"id": 7}, {"id": 1}], 1, 1)):
        videos = write_json(tmp_path / "v.json", official | {"categories": categories})
        flags = ("--form", "results", "--videos", videos, "--output", tmp_path / "r.json")
        assert len(run_here(convert.main, tmp_path / "maps", *flags).err) == notices
        assert load(tmp_path / "r.json") == [result_of(1, 1.0, LEFT, category=expected)]


def test_a_map_of_another_size_a_colour_map_and_an_unknown_category_are_named(files):
    def refuse(*parts: object) -> None:
        flags = ("--videos", files / "videos.json", "--output", files / "x.json")
        assert_refused(run_here(convert.main, files / "maps", *flags), *parts)
        assert not (files / "x.json").exists() and not list(files.glob(".*"))

    write_json(files / "maps/meta.json", {"videos": {"a": {"objects": {"1": {"category": "cow"}}}}})
    refuse("object 1 of video a is of the category cow")
    write_json(files / "maps/meta.json", {"videos": {"a": {"objects": {"1": {"category": "cat"}}}}})
    refuse("meta.json lacks object 2 of video a")
    (files / "maps/meta.json").unlink()
    write_label_map(files / "maps/a/1.png", np.zeros((3, 5)))
    refuse("a/1.png is 5x3, but video a is 4x3")
    Image.fromarray(np.zeros((3, 4, 3), dtype=np.uint8)).save(files / "maps/a/1.png")
    refuse("a/1.png is an RGB image")
