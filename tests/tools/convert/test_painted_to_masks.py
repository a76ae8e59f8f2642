"""Exports of CVAT and labelme become label maps, each label an object."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from tests.support.commands import assert_refused, run_here
from tools.convert import __main__ as convert
from tools.convert.painted_to_masks import read_labels
from video.images import read_label_map
from video.pictures import PALETTE

CVAT = """# label:color_rgb:parts:actions
background:0,0,0::
bear:250,50,83::
bird cage:51,221,255::
"""
LABELS = np.zeros((8, 10), np.uint8)
LABELS[1:4, 1:5], LABELS[5:8, 2:9] = 1, 2
COLOURS = np.array([(0, 0, 0), (250, 50, 83), (51, 221, 255)], np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def cvat(tmp_path) -> Path:
    """The export of a task of one video file, and of a folder of pictures."""
    for name in ("frame_000000", "frame_000012", "walk/left"):
        save(tmp_path / f"bear/SegmentationClass/{name}.png", COLOURS[LABELS])
    (tmp_path / "bear/labelmap.txt").write_text(CVAT)
    return tmp_path / "bear"


def test_an_export_of_cvat_has_an_id_a_label_and_the_names_of_frames(cvat, tmp_path):
    outcome = run_here(convert.main, cvat, "--output", tmp_path / "prompts")
    assert outcome.status == 0, outcome.err
    assert outcome.out == ["objects: 1 bear, 2 bird cage", f"{tmp_path / 'prompts'}: 2 videos, 3 label maps"]
    for name in ("bear/00000", "bear/00012", "walk/left"):
        path = tmp_path / f"prompts/{name}.png"
        assert Image.open(path).mode == "P" and np.array_equal(read_label_map(path), LABELS)


@pytest.mark.parametrize("form", ["palette", "colours"])
def test_an_export_of_labelme_has_an_id_a_class(tmp_path, form):
    source = tmp_path / "cat"
    labels = LABELS.copy()
    if form == "palette":
        labels[0, 0] = 255  # __ignore__
    save(source / "SegmentationClassPNG/00000.png", labels if form == "palette" else PALETTE[labels])
    (source / "class_names.txt").write_text("_background_\ncat\nmouse\n")
    outcome = run_here(convert.main, source, "--output", tmp_path / "prompts")
    assert outcome.status == 0, outcome.err
    assert np.array_equal(read_label_map(tmp_path / "prompts/cat/00000.png"), LABELS)


def test_a_colour_that_the_label_map_lacks_is_refused_and_nothing_is_written(cvat, tmp_path):
    odd = COLOURS[LABELS]
    odd[4, 4] = (1, 2, 3)
    path = save(cvat / "SegmentationClass/frame_000001.png", odd)
    outcome = run_here(convert.main, cvat, "--output", tmp_path / "prompts")
    assert_refused(outcome, path, "#010203")
    assert not (tmp_path / "prompts").exists()


@pytest.mark.parametrize(
    "line",
    ["cat", "cat:1,2::", "cat:1,2,256::", "cat:1,2,x::", "cat:-1,2,3::", "cat:250,50,83::", "cat:0,0,0::"],
)
def test_a_line_that_names_no_colour_of_its_own_is_refused(tmp_path, line):
    (tmp_path / "labelmap.txt").write_text(CVAT + line)
    with pytest.raises(UserError, match=r"labelmap\.txt: "):
        read_labels(tmp_path / "labelmap.txt")


def test_an_export_without_masks_or_labels_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/labelmap.txt").write_text(CVAT)
    refused = run_here(convert.main, tmp_path / "a", "--output", tmp_path / "prompts")
    assert_refused(refused, tmp_path / "a", "SegmentationClass")
    (tmp_path / "a/labelmap.txt").write_text("background:0,0,0::")
    assert_refused(
        run_here(convert.main, tmp_path / "a", "--output", tmp_path / "prompts"), "names 0 objects"
    )
