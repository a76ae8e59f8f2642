"""The README's Python runs as it stands."""

import re

import pytest
import torch
from PIL import Image

from common.checkpoint import save_checkpoint
from inference import VITATracker
from modules import VITA_TCOVIS
from tests.support.commands import ROOT


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: runs/1/best.pth and a video in my_videos."""
    torch.manual_seed(0)
    config = VITA_TCOVIS.Config(backbone="narrow", backbone_weights="none", hidden_dim=16, num_heads=2)
    tracker = VITATracker.Config(image_size=64, score_threshold=0.0, birth_score=0.0)
    state = {
        "format": 1,
        "system": "vita_tcovis",
        "config": {"network": vars(config), "tracker": vars(tracker)},
        "model": VITA_TCOVIS(config).state_dict(),
        "ema": None,
    }
    (tmp_path / "runs" / "1").mkdir(parents=True)
    save_checkpoint(tmp_path / "runs" / "1" / "best.pth", state)
    (tmp_path / "my_videos" / "clip").mkdir(parents=True)
    for t in range(3):
        Image.new("RGB", (48, 40), (80 * t, 90, 120)).save(tmp_path / "my_videos" / "clip" / f"{t:05d}.jpg")
    monkeypatch.chdir(tmp_path)


def test_the_ten_lines_of_python_track_every_frame(folder, capsys):
    (block,) = python_blocks()
    assert len(block.strip().splitlines()) <= 12
    exec(compile(block, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["00000", "00001", "00002"]
    assert all(line.endswith("torch.Size([40, 48])") for line in lines)
