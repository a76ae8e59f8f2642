"""Folders of label maps: which videos are scored, and what is said of bad ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from scoring.label_folders import mask_root, read_pair, true_masks, video_pairs, videos_without_truth


def write(path: Path, shape: tuple[int, ...] = (4, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(shape, dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("below", ["", "Annotations", "Annotations/480p"])
def test_masks_are_found_below_the_root_of_a_data_set(tmp_path, below):
    write(tmp_path / below / "cat" / "00000.png")
    assert mask_root(tmp_path) == tmp_path / below


def test_videos_are_those_of_the_annotations_unless_they_are_named(tmp_path):
    for side, names in (("truth", ("cat", "dog")), ("results", ("cat", "dog", "horse"))):
        for name in names:
            write(tmp_path / side / name / "00000.png")
    roots = tmp_path / "results", tmp_path / "truth"
    assert [pair.name for pair in video_pairs(*roots)] == ["cat", "dog"]
    assert [pair.name for pair in video_pairs(*roots, ["dog"])] == ["dog"]


def test_what_is_missing_is_named(tmp_path):
    truth = write(tmp_path / "truth" / "cat" / "00000.png")
    (tmp_path / "results").mkdir()
    with pytest.raises(UserError, match=r"there is no folder .*results/cat"):
        video_pairs(tmp_path / "results", tmp_path / "truth")
    with pytest.raises(UserError, match=r"there is no folder .*truth/dog"):
        video_pairs(tmp_path / "results", tmp_path / "truth", ["dog"])
    with pytest.raises(UserError, match="results holds no videos"):
        video_pairs(tmp_path / "truth", tmp_path / "results")
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        mask_root(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"00000\.png is a file: give a folder"):
        mask_root(truth)
    with pytest.raises(UserError, match=r"results/cat/00000\.png is missing"):
        read_pair(truth, tmp_path / "results" / "cat" / "00000.png")
    with pytest.raises(UserError, match=r"results holds no \.png label maps"):
        true_masks(tmp_path / "results")


def test_only_folders_with_label_maps_are_warned_of_as_videos_without_truth(tmp_path):
    write(tmp_path / "truth" / "cat" / "00000.png")
    for path in ("cat/00000.png", "dog/00000.png", "eel/000/00000.png", ".hidden/00000.png"):
        write(tmp_path / "results" / path)
    (tmp_path / "results" / "notes").mkdir()
    lines = videos_without_truth(tmp_path / "results", tmp_path / "truth")
    assert [line.split()[0] for line in lines] == [f"{tmp_path}/results/{name}" for name in ("dog", "eel")]
    assert lines[0].endswith("is not scored: there are no true masks of dog")


def test_a_result_of_another_size_is_named_with_both_sizes(tmp_path):
    truth, result = write(tmp_path / "a.png"), write(tmp_path / "b.png", (4, 7))
    with pytest.raises(UserError, match=r"b\.png is 7x4, but .*a\.png is 6x4"):
        read_pair(truth, result)


def test_a_colour_result_is_named(tmp_path):
    truth, result = write(tmp_path / "a.png"), write(tmp_path / "b.png", (4, 6, 3))
    with pytest.raises(UserError, match=r"b\.png"):
        read_pair(truth, result)
