"""The Python of README.md and of docs/python.md runs as it stands."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from common.checkpoint import save_checkpoint
from inference import VITATracker
from modules import VITA_TCOVIS
from tests.support import xmem_networks
from tests.support.commands import ROOT, files_in

SIZE = (40, 48)


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def run(block: str, page: str) -> dict:
    names: dict = {}
    exec(compile(block, page, "exec"), names)
    return names


def save(path, system, network, tracker) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {"network": vars(network.config), "tracker": vars(tracker)}
    model = network.state_dict()
    save_checkpoint(path, {"format": 1, "system": system, "config": config, "model": model, "ema": None})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: checkpoints, a video in my_videos, its truth, a mask of its first frame."""
    torch.manual_seed(0)
    network = VITA_TCOVIS(
        VITA_TCOVIS.Config(backbone="narrow", backbone_weights="none", hidden_dim=16, num_heads=2)
    )
    tracker = VITATracker.Config(image_size=64, score_threshold=0.0, birth_score=0.0)
    save(tmp_path / "runs" / "1" / "best.pth", "vita_tcovis", network, tracker)
    small = xmem_networks.small_tracker()
    save(tmp_path / "xmem.pth", "xmem", small.network, small.config)
    labels = np.zeros(SIZE, dtype=np.uint8)
    labels[5:25, 10:30], labels[28:38, 5:40] = 1, 2
    Image.fromarray(labels).save(tmp_path / "mask.png")
    for name in ("my_videos", "truth"):
        (tmp_path / name / "clip").mkdir(parents=True)
    for t in range(3):
        frame = Image.new("RGB", SIZE[::-1], (80 * t, 90, 120))
        frame.save(tmp_path / "my_videos" / "clip" / f"{t:05d}.jpg")
        Image.fromarray(labels).save(tmp_path / "truth" / "clip" / f"{t:05d}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_ten_lines_of_python_track_every_frame(folder, capsys):
    (block,) = python_blocks("README.md")
    assert len(block.strip().splitlines()) <= 12
    run(block, "README.md")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["00000", "00001", "00002"]
    assert all(line.endswith("torch.Size([40, 48])") for line in lines)


def test_the_recipe_for_arrays_tracks_the_objects_of_the_mask(folder, capsys):
    names = run(python_blocks("docs/python.md")[0], "docs/python.md")
    assert names["tracker"].config.mem_every == 10
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.startswith("[1, 2] [") for line in lines)
    assert Image.open(folder / "last.png").size == SIZE[::-1]


def test_the_recipe_for_a_folder_writes_a_label_map_for_each_frame(folder):
    names = run(python_blocks("docs/python.md")[1], "docs/python.md")
    assert names["tracker"].config.birth_score == 0.3
    assert files_in(folder / "out") == [f"clip/{t:05d}.png" for t in range(3)]
    assert np.asarray(Image.open(folder / "out" / "clip" / "00002.png")).shape == SIZE


def test_the_recipe_for_scores_gives_a_perfect_result_100(folder, capsys):
    (folder / "truth").rename(folder / "out")
    (folder / "truth").symlink_to("out")
    run(python_blocks("docs/python.md")[2], "docs/python.md")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "100.0" and lines[1].startswith("1.0 {")


def test_docs_have_three_recipes():
    assert len(python_blocks("docs/python.md")) == 3
