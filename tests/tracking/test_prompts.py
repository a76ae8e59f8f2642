"""Label maps as prompts: which ids each frame prompts, and what is refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from tests.support.image_files import write_frame
from tests.support.label_folders import boxes, write
from tracking.config import RunConfig
from tracking.prompts import PromptFolder, prompts_of_run
from video.reader import ImageSequence, VideoFile

FRAME = torch.zeros(3, 2, 3, dtype=torch.uint8)


def write_map(root: Path, name: str, rows: list[list[int]], dtype=np.uint8) -> None:
    path = root / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, dtype=dtype)).save(path)


def video_of(root: Path, name: str, frames: list[str]) -> ImageSequence:
    """A video whose frames have these names."""
    for frame in frames:
        write_frame(root.parent / f"{root.name}.frames/{name}/{frame}.jpg", 2, 3)
    return ImageSequence(name, root.parent / f"{root.name}.frames/{name}")


def prompts_of(folder: PromptFolder, name: str, frames: list[str]) -> dict[str, list[list[int]]]:
    """The label maps that a video is prompted with, by frame."""
    prompt_of = folder.of_video(video_of(folder.root, name, frames))
    prompts = {frame: prompt_of(frame, FRAME) for frame in frames}
    return {frame: prompt.labels.tolist() for frame, prompt in prompts.items() if prompt is not None}


@pytest.fixture
def root(tmp_path) -> Path:
    write_map(tmp_path, "cat/00", [[0, 1, 1], [0, 0, 255]])
    write_map(tmp_path, "cat/05", [[1, 1, 2], [0, 2, 0]])
    write_map(tmp_path, "cat/09", [[1, 2, 2], [0, 0, 0]])
    write_map(tmp_path, "dog/00", [[0, 0, 0], [0, 0, 0]])
    write_map(tmp_path, "dog/01", [[300, 0, 0], [0, 0, 1]], np.uint16)
    return tmp_path


def test_each_id_is_taken_from_the_first_map_in_which_it_appears(root):
    assert prompts_of(PromptFolder(root), "cat", ["00", "01", "05", "09"]) == {
        "00": [[0, 1, 1], [0, 0, 0]],  # 255 is void in 8 bits
        "05": [[0, 0, 2], [0, 2, 0]],
    }


def test_every_map_is_taken_where_all_are_wanted_but_an_empty_one_is_no_prompt(root):
    folder = PromptFolder(root, "all")
    assert list(prompts_of(folder, "cat", ["00", "01", "05", "09"])) == ["00", "05", "09"]
    assert prompts_of(folder, "cat", ["09"]) == {"09": [[1, 2, 2], [0, 0, 0]]}
    assert prompts_of(folder, "dog", ["00", "01"]) == {"01": [[300, 0, 0], [0, 0, 1]]}


def test_every_video_begins_anew_and_one_without_maps_has_no_prompt(root):
    folder = PromptFolder(root)
    assert prompts_of(folder, "cat", ["05"]) == prompts_of(folder, "cat", ["05"])
    assert prompts_of(folder, "dog", ["01"]) == {"01": [[300, 0, 0], [0, 0, 1]]}
    assert prompts_of(folder, "bird", ["00"]) == {}


def test_an_absent_folder_and_a_map_of_another_size_are_told_with_path_and_remedy(root):
    with pytest.raises(UserError, match=r"--prompt_root .*absent: no such folder"):
        PromptFolder(root / "absent")
    prompt_of = PromptFolder(root).of_video(video_of(root, "cat", ["00"]))
    with pytest.raises(UserError, match=r"00\.png is 3x2 but its frame is 5x4"):
        prompt_of("00", torch.zeros(3, 4, 5, dtype=torch.uint8))


@pytest.fixture
def video(tmp_path) -> ImageSequence:
    for t in range(2):
        write_frame(tmp_path / f"frames/cat/{t:05d}.png", 20, 30)
    return ImageSequence("cat", tmp_path / "frames/cat")


def test_files_that_no_frame_asks_for_are_named_before_anything_is_tracked(tmp_path, video, capsys):
    folder = write(tmp_path / "prompts/cat", [boxes(o1=2)] * 2, ["00000", "0"])
    write_frame(folder / "cat/00001.jpg", 20, 30)
    (folder / "cat/.hidden").write_text("")
    PromptFolder(folder).check(video, needed=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "prompts/cat has files that are not used (0.png, 00001.jpg)" in line and "00000.png" in line


@pytest.mark.parametrize("name", ["0", "frame", "00002"])
def test_a_video_whose_prompts_are_all_passed_over_is_refused_with_their_names(tmp_path, video, name):
    folder = write(tmp_path / "prompts/cat", [boxes(o1=2)], [name])
    with pytest.raises(UserError, match=rf"video cat has no prompt: .*not used \({name}\.png\)"):
        PromptFolder(folder).check(video, needed=True)


def test_a_prompt_of_a_video_file_is_named_by_five_digits(tmp_path):
    clip = VideoFile("cat", tmp_path / "cat.mp4")
    names = ["00000", "00012", "123456"], ["0", "012", "frame", "00000 (1)", "0123456"]
    assert [[clip.has_frame(name) for name in some] for some in names] == [[True] * 3, [False] * 5]


def test_folders_of_prompts_that_no_video_has_are_named(tmp_path, video, capsys):
    for name in ("dog", "Cat"):
        write(tmp_path / "prompts" / name, [boxes(o1=2)])
    with pytest.raises(UserError, match="has no folder of a video, such as cat/, but Cat, dog"):
        prompts_of_run(tmp_path / "prompts", RunConfig(), [video], SimpleNamespace(needs_prompt=True))
    write(tmp_path / "prompts/cat", [boxes(o1=2)])
    prompts_of_run(tmp_path / "prompts", RunConfig(), [video], SimpleNamespace(needs_prompt=True))
    assert "no video has the name of Cat, dog" in capsys.readouterr().err


def test_smoothed_edges_of_a_prompt_join_and_are_told_once_with_its_path(tmp_path, video, capsys):
    smooth = (255 * (8 - np.hypot(*np.mgrid[-10:10, -15:15])).clip(0, 4) / 4).astype(np.uint8)
    folder = PromptFolder(write(tmp_path / "prompts/cat", [smooth]))
    folder.check(video, needed=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "cat/00000.png has smoothed edges" in line
    prompt = folder.of_video(video)("00000", torch.zeros(3, 20, 30))
    assert prompt.ids == [1] and capsys.readouterr().err == ""
    inside = np.hypot(*np.mgrid[-10:10, -15:15])
    assert (prompt.labels[inside <= 4] == 1).all() and (prompt.labels[inside >= 8] == 0).all()


def test_prompts_in_colours_have_one_id_a_colour_which_is_told(tmp_path, video, capsys):
    for frame, colours in (("00000", {2: (255, 0, 0)}), ("00001", {12: (0, 0, 255), 2: (255, 0, 0)})):
        picture = np.zeros((20, 30, 3), np.uint8)
        for left, colour in colours.items():
            picture[5:10, left : left + 6] = colour
        path = tmp_path / f"prompts/cat/{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    folder = PromptFolder(tmp_path / "prompts", "all")
    folder.check(video, needed=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("they are the objects 1 #ff0000, 2 #0000ff")
    prompt_of = folder.of_video(video)
    frame = torch.zeros(3, 20, 30)
    assert prompt_of("00000", frame).ids == [1]
    labels = prompt_of("00001", frame).labels
    assert (labels[5:10, 2:8] == 1).all() and (labels[5:10, 12:18] == 2).all() and (labels > 0).sum() == 60


def test_colours_and_numbers_in_one_video_are_refused(tmp_path, video):
    folder = write(tmp_path / "prompts/cat", [boxes(o1=2)])
    Image.new("RGB", (30, 20)).save(folder / "cat/00001.png")
    with pytest.raises(UserError, match=r"00001\.png has colours, .*00000\.png has numbers"):
        PromptFolder(folder).check(video, needed=True)


@pytest.mark.parametrize("highest", [60_001, 65_535])
def test_ids_that_leave_no_room_for_births_are_refused_before_anything_is_tracked(tmp_path, video, highest):
    folder = write(tmp_path / "prompts/cat", [np.where(boxes(o1=2), highest, 0).astype(np.uint16)])
    with pytest.raises(UserError, match=rf"00000\.png has the id {highest}.*: use ids up to 60000"):
        PromptFolder(folder).check(video, needed=False)
    PromptFolder(folder).check(video, needed=True)  # such a system gives no ids


@pytest.mark.parametrize("name", ["instances", "prompts"])
def test_the_regions_to_ignore_of_mots_are_no_objects_in_its_folder(tmp_path, video, name):
    labels = np.where(boxes(o1=2), 2001, np.where(boxes(o1=20), 10_000, 0)).astype(np.uint16)
    folder = PromptFolder(write(tmp_path / name / "cat", [labels]))
    folder.check(video, needed=False)
    ids = [2001] if name == "instances" else [2001, 10_000]
    assert folder.starts_of(video) == {"00000": ids}
    assert folder.of_video(video)("00000", torch.zeros(3, 20, 30)).ids == ids


def test_maps_that_only_show_regions_to_ignore_are_no_prompt(tmp_path, video):
    labels = np.where(boxes(o1=2), 10_000, 0).astype(np.uint16)
    folder = PromptFolder(write(tmp_path / "instances/cat", [labels]))
    with pytest.raises(UserError, match="video cat has no prompt"):
        folder.check(video, needed=True)


def test_maps_without_any_object_are_told_where_no_prompt_is_needed(tmp_path, video, capsys):
    folder = write(tmp_path / "prompts/cat", [boxes(), boxes()])
    PromptFolder(folder).check(video, needed=False)
    assert "prompts/cat has label maps without any object: cat is tracked without" in capsys.readouterr().err
    write(tmp_path / "prompts/cat", [boxes(), boxes(o3=2)])
    PromptFolder(folder).check(video, needed=False)
    assert capsys.readouterr().err == ""


def test_prompts_of_mots_that_are_text_are_told_how_to_become_label_maps(tmp_path):
    (tmp_path / "instances_txt").mkdir()
    with pytest.raises(UserError, match=r"instances: no such folder; it holds label maps"):
        PromptFolder(tmp_path / "instances")
    (tmp_path / "instances_txt/a.txt").write_text("")
    remedy = f"python -m tools.convert {tmp_path} --output {tmp_path / 'instances'}"
    with pytest.raises(UserError, match=f"instances: no such folder; make it by {remedy}"):
        PromptFolder(tmp_path / "instances")
