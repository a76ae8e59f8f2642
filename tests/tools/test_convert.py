"""Label maps to the YouTube-VIS form and back: exact both ways, whole or not at all, at flat memory."""

import json
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from scoring.protocols.ytvis import ytvis
from tests.support.commands import assert_refused, files_in, run_here
from tests.support.metrics_golden import FOLDER, needs_golden
from tools.convert import __main__ as convert
from tools.convert import json_stream
from tools.convert.json_stream import JsonStream
from tools.convert.vis_files import MaskTable, name_frames, read_results
from tracking.spool import ResultsSpool, TrackRow
from video.images import read_label_map, write_label_map
from video.rle import decode_rle, encode_rle

Maps = dict[str, dict[str, np.ndarray]]  # {video: {frame: label map}}

LEFT, RIGHT, TOP = np.zeros((3, 3, 4), dtype=bool)
LEFT[:, :2], RIGHT[:, 2:], TOP[0] = True, True, True


def write_maps(root: Path, maps: Maps) -> Path:
    for video, frames in maps.items():
        for frame, labels in frames.items():
            write_label_map(root / video / f"{frame}.png", labels)
    return root


def read_maps(root: Path) -> Maps:
    paths = sorted(root.glob("*/*.png"))
    return {
        v: {p.stem: read_label_map(p) for p in paths if p.parent.name == v}
        for v in {p.parent.name for p in paths}
    }


def assert_equal_maps(maps: Maps, others: Maps) -> None:
    assert {v: list(frames) for v, frames in maps.items()} == {
        v: list(frames) for v, frames in others.items()
    }
    for video, frames in maps.items():
        for frame, labels in frames.items():
            np.testing.assert_array_equal(labels, others[video][frame], f"{video} {frame}")


def random_maps(seed: int, ids: list[int]) -> Maps:
    """Two videos with frames in steps of 5, each of one size; each id is in the first frame."""
    random = np.random.default_rng(seed)
    maps = {}
    for video, size in (("ant", (5, 7)), ("bee", (8, 6))):
        frames = [random.choice([0, *ids], size) for _ in range(4)]
        frames[0].flat[: len(ids)] = ids
        maps[video] = {f"{5 * place:05d}": labels for place, labels in enumerate(frames)}
    return maps


def run(source: Path, target: Path, *flags: object) -> Path:
    """Convert as a user does, without complaint."""
    outcome = run_here(convert.main, source, "--output", target, *flags)
    assert outcome.status == 0 and outcome.out[-1].startswith(f"{target}: "), outcome
    return target


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def video_of(number: int, name: str, frames: list[str], size: tuple[int, int] = (3, 4)) -> dict:
    names = [f"{name}/{frame}.jpg" for frame in frames]
    return {"id": number, "height": size[0], "width": size[1], "length": len(names), "file_names": names}


def result_of(video: int, score: float, *masks: np.ndarray | None, category: int = 1) -> dict:
    rles = [None if mask is None else encode_rle(mask) for mask in masks]
    return {"video_id": video, "category_id": category, "score": score, "segmentations": rles}


def truth_of(videos: list[dict], results: list[dict] | None = None) -> dict:
    """An annotation file as official ones are, with keys that nobody asked for."""
    truth = {"info": {}, "licenses": [], "videos": videos}
    truth["categories"] = [{"id": 7, "name": "cat", "supercategory": "x"}, {"id": 3, "name": "dog"}]
    if results is not None:
        extra = {"iscrowd": 0, "height": 3, "width": 4, "length": 1}
        truth["annotations"] = [
            {"segmentations": entry["segmentations"], **extra, "areas": [], "bboxes": [], "id": 1 + i}
            | {key: entry[key] for key in ("video_id", "category_id")}
            for i, entry in enumerate(results)
        ]
    return truth


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


@pytest.mark.parametrize("seed", range(3))
def test_maps_to_annotations_and_back_are_the_same_maps(tmp_path, seed):
    ids = [2, 7, 254] if seed else [3, 254, 256, 300]  # the latter are 16-bit files
    maps = random_maps(seed, ids)
    truth = run(write_maps(tmp_path / "maps", maps), tmp_path / "truth.json")
    back = read_maps(run(truth, tmp_path / "back"))
    assert_equal_maps(back, maps)
    again = run(tmp_path / "back", tmp_path / "again.json")
    assert again.read_bytes() == truth.read_bytes()


def test_perfect_results_score_an_ap_of_1(tmp_path):
    maps = write_maps(tmp_path / "maps", random_maps(0, [1, 2, 3]))
    truth, results = run(maps, tmp_path / "t.json"), run(maps, tmp_path / "r.json", "--form", "results")
    overall = ytvis(results, truth)["overall"]
    assert overall["AP"] == overall["AP50"] == overall["AR10"] == 1


@needs_golden
def test_golden_annotations_survive_the_way_to_maps_and_back(tmp_path):
    official = FOLDER / "ytvis_gt.json"
    run(official, tmp_path / "maps")
    results = run(tmp_path / "maps", tmp_path / "r.json", "--videos", official, "--form", "results")
    assert ytvis(results, official)["overall"]["AP"] == 1
    again = run(tmp_path / "maps", tmp_path / "again.json", "--videos", official)
    found = FOLDER / "ytvis_pred.json"  # crowds stay crowds
    assert ytvis(found, again)["overall"] == ytvis(found, official)["overall"]


def test_results_to_maps_and_back_are_the_same_results(tmp_path):
    videos = write_json(
        tmp_path / "val.json",
        truth_of([video_of(40, "zoo", ["00000", "00005"]), video_of(9, "ant", ["00003"], (2, 2))]),
    )
    results = [
        result_of(40, 0.1, LEFT, None, category=3),
        result_of(40, 0.7, RIGHT, LEFT, category=7),
        result_of(9, 1 / 3, np.ones((2, 2), dtype=bool), category=3),
    ]
    source = write_json(tmp_path / "results.json", results)
    maps = run(source, tmp_path / "maps", "--videos", videos)
    assert files_in(maps) == ["ant/00003.png", "tracks.json", "zoo/00000.png", "zoo/00005.png"]
    expected = sorted(results, key=lambda entry: entry["video_id"] != 9)  # videos come by name
    assert load(run(maps, tmp_path / "by_tracks.json", "--form", "results")) == expected
    assert load(run(maps, tmp_path / "listed.json", "--form", "results", "--videos", videos)) == results


def test_what_inference_writes_is_converted_without_any_further_file(tmp_path):
    maps = {"b": {"00010": 1 * LEFT, "00015": 0 * LEFT, "00020": 1 * LEFT + 6 * RIGHT}, "a": {"7": 2 * TOP}}
    write_maps(tmp_path / "Annotations", maps)
    with ResultsSpool(tmp_path) as spool:
        for video, frames in maps.items():
            spool.start_video(video)
            for frame, labels in frames.items():
                present = sorted(set(labels.ravel().tolist()) - {0})
                spool.add_frame(frame, [TrackRow(i, i / 8, 2, encode_rle(labels == i)) for i in present])
        spool.write_results(tmp_path / "results.json")
        spool.write_tracks(tmp_path / "tracks.json")
    write_json(tmp_path / "categories.json", {"1": "ant", "2": "wasp"})
    back = read_maps(run(tmp_path / "results.json", tmp_path / "back"))
    numbered = {"b": {f: np.where(m == 6, 2, m) for f, m in maps["b"].items()}, "a": {"7": 1 * TOP}}
    assert_equal_maps(back, numbered)
    for source in (tmp_path, tmp_path / "Annotations"):
        results = run(source, tmp_path / "r.json", "--form", "results")
        assert load(results) == load(tmp_path / "results.json")
    truth = load(run(tmp_path, tmp_path / "truth.json"))
    assert truth["categories"] == [{"id": 1, "name": "ant"}, {"id": 2, "name": "wasp"}]
    assert [entry["category_id"] for entry in truth["annotations"]] == [2, 2, 2]


def draw(tmp_path: Path, entries: dict | list, *flags: object) -> np.ndarray:
    """The one map of an annotation or results file."""
    videos = write_json(tmp_path / "videos.json", truth_of([video_of(1, "a", ["0"])]))
    flags = flags if isinstance(entries, dict) else ("--videos", videos, *flags)
    return read_maps(run(write_json(tmp_path / "x.json", entries), tmp_path / "maps", *flags))["a"]["0"]


def test_the_higher_score_is_on_top_and_of_equals_the_first(tmp_path):
    results = [result_of(1, 0.5, TOP), result_of(1, 0.5, LEFT), result_of(1, 0.9, RIGHT)]
    np.testing.assert_array_equal(draw(tmp_path, results), [[1, 1, 3, 3], [2, 2, 3, 3], [2, 2, 3, 3]])


def test_the_smaller_true_object_is_on_top(tmp_path):
    truth = truth_of(
        [video_of(1, "a", ["0"])], [result_of(1, 0, LEFT, category=3), result_of(1, 0, TOP, category=7)]
    )
    np.testing.assert_array_equal(draw(tmp_path, truth), [[2, 2, 2, 2], [1, 1, 0, 0], [1, 1, 0, 0]])
    objects = load(tmp_path / "maps/meta.json")["videos"]["a"]["objects"]
    assert objects == {"1": {"category": "dog", "frames": ["0"]}, "2": {"category": "cat", "frames": ["0"]}}


def test_weak_results_are_left_out_and_take_no_id(tmp_path):
    results = [result_of(1, 0.2, TOP), result_of(1, 0.5, LEFT)]
    np.testing.assert_array_equal(draw(tmp_path, results, "--min_score", 0.5), 1 * LEFT)


def test_no_object_gets_the_id_255(tmp_path):
    masks = np.arange(20 * 20).reshape(20, 20)
    results = [result_of(1, 0.5, masks == i) for i in range(300)]
    videos = write_json(tmp_path / "v.json", truth_of([video_of(1, "a", ["0"], (20, 20))]))
    source = write_json(tmp_path / "r.json", results)
    maps = run(source, tmp_path / "maps", "--videos", videos)
    labels = read_label_map(maps / "a/0.png")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels.flat[:300], [*range(1, 255), *range(256, 302)])
    assert load(run(maps, tmp_path / "back.json", "--form", "results")) == results


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


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Good sources of each kind, to be spoilt."""
    write_maps(tmp_path / "maps", {"a": {"0": 1 * LEFT, "1": 2 * TOP}})
    results = [result_of(1, 0.5, LEFT, TOP, category=7)]
    write_json(tmp_path / "videos.json", truth_of([video_of(1, "a", ["0", "1"])]))
    write_json(tmp_path / "truth.json", truth_of([video_of(1, "a", ["0", "1"])], results))
    write_json(tmp_path / "results.json", results)
    (tmp_path / "junk.json").write_text('[{"video_id": 1,')
    return tmp_path


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nowhere --output x", "nowhere"),
        ("maps --output x", "must be a .json file"),
        ("maps/a --output x.json", "maps/a holds no videos"),
        ("maps --output x.json --min_score 0.5", "--min_score is for"),
        ("maps --output x.json --videos junk.json", "junk.json is not a JSON file"),
        ("results.json --output x", "tracks.json that names the videos"),
        ("results.json --output x --form truth", "--form is for a folder"),
        ("results.json --output maps --videos videos.json", "maps is there already"),
        ("truth.json --output x --videos videos.json", "truth.json holds annotations"),
        ("truth.json --output x --min_score 0.5", "--min_score"),
        ("videos.json --output x", "videos.json is not a YouTube-VIS annotation file"),
        ("junk.json --output x --videos videos.json", "junk.json is not a JSON file"),
        ("maps --output x.json --score 1", "--score"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_left(files, monkeypatch, command, message):
    monkeypatch.chdir(files)
    before = files_in(files)
    assert_refused(run_here(convert.main, *command.split()), message)
    assert files_in(files) == before


def spoil(path: Path, *keys: object, value: Any) -> None:
    """Change one value deep inside a JSON file."""
    content = part = load(path)
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    write_json(path, content)


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        (
            "results.json",
            (0, "segmentations"),
            [None],
            "result 0 has 1 segmentations, but video 1 has 2 frames",
        ),
        ("results.json", (0, "segmentations", 1, "size"), [4, 4], "result 0, frame 1, has the size [4, 4]"),
        ("results.json", (0, "segmentations", 1, "counts"), "a", "result 0, frame 1, has"),
        ("results.json", (0, "segmentations", 0), 5, "result 0, frame 0, is not an RLE"),
        ("results.json", (0, "video_id"), 8, "result 0 is of video 8"),
        ("results.json", (0, "score"), None, "result 0 must have video_id"),
        ("results.json", (0, "score"), float("nan"), "result 0 has the score nan"),
        ("results.json", (0, "segmentations"), None, "result 0 must have video_id"),
        ("videos.json", ("videos", 0, "file_names"), ["a/0.jpg"], "video 1 must have file_names"),
        ("videos.json", ("videos", 0, "file_names"), ["a/0.jpg", "b/1.jpg"], "video 1 must have file_names"),
        ("videos.json", ("videos", 0, "file_names"), ["a/0.jpg", "a/0.png"], "video 1 must have file_names"),
        (
            "videos.json",
            ("videos", 0, "file_names"),
            ["../0.jpg", "../1.jpg"],
            "video 1 must have file_names",
        ),
        ("videos.json", ("videos", 0, "file_names"), ["0.jpg", "1.jpg"], "video 1 must have file_names"),
        ("videos.json", ("videos", 0, "file_names"), None, "video 1 must have file_names"),
        ("videos.json", ("videos",), [video_of(1, "a", ["0", "1"])] * 2, "several videos with the id 1"),
        ("videos.json", ("videos",), [video_of(i, "a", ["0", "1"]) for i in (1, 2)], "with the folder a"),
    ],
)
def test_a_bad_file_is_named_and_no_folder_is_left(files, file, keys, value, message):
    spoil(files / file, *keys, value=value)
    before = files_in(files)
    flags = ("--videos", files / "videos.json", "--output", files / "x")
    assert_refused(run_here(convert.main, files / "results.json", *flags), file, message)
    assert files_in(files) == before and not (files / "x").exists()


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


def test_an_annotation_of_a_category_that_is_not_listed_is_named(files):
    spoil(files / "truth.json", "annotations", 0, "category_id", value=99)
    outcome = run_here(convert.main, files / "truth.json", "--output", files / "x")
    assert_refused(outcome, "truth.json: annotation 0 is of category 99")


def test_an_interrupt_leaves_what_was_there(files, monkeypatch):
    run(files / "maps", files / "t.json")
    before, former = files_in(files), (files / "t.json").read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.convert.masks_to_json.encode_rle", interrupt)
    monkeypatch.setattr("tools.convert.json_to_masks.write_label_map", interrupt)
    for source, target in ((files / "maps", files / "t.json"), (files / "truth.json", files / "x")):
        assert run_here(convert.main, source, "--output", target).status == 130
    assert files_in(files) == before and (files / "t.json").read_bytes() == former


def test_without_pycocotools_the_remedy_is_told(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    outcome = run_here(convert.main, files / "maps", "--output", files / "x.json")
    assert_refused(outcome, "converting masks needs pycocotools", "pip install pycocotools")


def test_names_of_frames_continue_in_even_steps_or_not_at_all():
    assert name_frames({1: "00005", 3: "00015"}, 5) == ["00000", "00005", "00010", "00015", "00020"]
    assert name_frames({0: "b", 1: "a"}, 2) == ["b", "a"]
    for known in (
        {},
        {0: "00000"},
        {0: "a", 1: "b"},
        {0: "0", 1: "1", 3: "7"},
        {3: "0", 4: "5"},
        {0: "1", 2: "2"},
    ):
        assert name_frames(known, 6) is None, known


def test_results_without_any_mask_get_no_maps_and_unnamed_frames_are_refused(tmp_path):
    source = write_json(tmp_path / "results.json", [result_of(1, 0.5, LEFT, None)])
    tracks = {"1": {"category": 1, "score": 0.5, "scores": {"x": 0.5}}}
    video, empty = {"video_id": 1, "frames": 2, "tracks": tracks}, {"video_id": 2, "frames": 9, "tracks": {}}
    write_json(tmp_path / "tracks.json", {"ant": video})
    outcome = run_here(convert.main, source, "--output", tmp_path / "x")
    assert_refused(outcome, "tracks.json does not name every frame of ant", "--videos")
    tracks["1"]["scores"]["y"] = 0.5
    write_json(source, [result_of(1, 0.5, LEFT, TOP)])
    write_json(tmp_path / "tracks.json", {"ant": video, "bee": empty})
    outcome = run_here(convert.main, source, "--output", tmp_path / "x")
    assert outcome.err == ["videos without any mask, which get no label maps: 1, such as bee"]
    assert files_in(tmp_path / "x") == ["ant/x.png", "ant/y.png", "tracks.json"]
    write_json(tmp_path / "tracks.json", {"ant": 5})
    assert_refused(run_here(convert.main, source, "--output", tmp_path / "y"), "tracks.json")


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_json_is_read_part_by_part_wherever_the_file_is_cut(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    value = {
        "a": [1, -2.5e3, {"b": []}, 'x\\"é\u2028'],
        "c": {},
        "empty": [],
        "deep": [[12345678901234567890], None],
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
