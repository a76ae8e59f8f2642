"""Label maps as prompts: which ids each frame prompts, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from tracking.prompts import PromptFolder

FRAME = torch.zeros(3, 2, 3, dtype=torch.uint8)


def write_map(root: Path, name: str, rows: list[list[int]], dtype=np.uint8) -> None:
    path = root / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, dtype=dtype)).save(path)


def prompts_of(folder: PromptFolder, video: str, frames: list[str]) -> dict[str, list[list[int]]]:
    """The label maps that a video is prompted with, by frame."""
    prompt_of = folder.of_video(video)
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
    prompt_of = PromptFolder(root).of_video("cat")
    with pytest.raises(UserError, match=r"00\.png is 3x2 but its frame is 5x4"):
        prompt_of("00", torch.zeros(3, 4, 5, dtype=torch.uint8))
