"""The published file of STCN by the command, and files that are almost one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import inference
from common.checkpoint import save_checkpoint
from common.errors import UserError
from inference import load_network
from systems.stcn.modules import STCN
from tests.support.commands import assert_refused, files_in, run_here
from video.images import read_label_map, write_label_map


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A state dict of full size with random weights; nobody may change it."""
    torch.manual_seed(0)
    return STCN(STCN.Config()).state_dict()


@pytest.fixture
def path(tmp_path) -> Iterator[Path]:
    """Of a file of 200 MB, which does not outlive its test."""
    yield tmp_path / "stcn.pth"
    (tmp_path / "stcn.pth").unlink(missing_ok=True)


def test_a_network_with_the_names_of_both_families_is_told_as_neither(path, weights):
    shared = {
        name: x for name, x in weights.items() if not name.startswith(("key_comp.", "decoder.compress."))
    }
    torch.save(shared, path)
    with pytest.raises(UserError, match="nor a published one of stcn, xmem"):
        load_network(path)


@pytest.fixture
def videos(tmp_path) -> Path:
    """A video of three frames with a prompt on the first."""
    (tmp_path / "videos" / "one").mkdir(parents=True)
    labels = torch.zeros(37, 53, dtype=torch.int64)
    labels[5:20, 7:30] = 6
    (tmp_path / "prompts" / "one").mkdir(parents=True)
    write_label_map(tmp_path / "prompts" / "one" / "00000.png", labels)
    for t in range(3):
        Image.new("RGB", (53, 37), (90 * t, 40, 120)).save(tmp_path / "videos" / "one" / f"{t:05d}.png")
    return tmp_path


def test_the_command_runs_the_published_file_and_refuses_a_truncated_one(path, weights, videos):
    torch.save(weights, path)
    flags = ["--system", "stcn", "--checkpoint", path, "--video_root", videos / "videos", "--short_side", -1]
    flags += ["--prompt_root", videos / "prompts", "--output", videos / "out", "--device", "cpu"]
    outcome = run_here(inference.main, *flags)
    assert outcome.status == 0 and outcome.out[0] == f"{path}: the published STCN, 405 entries"
    assert files_in(videos / "out" / "Annotations") == [f"one/{t:05d}.png" for t in range(3)]
    assert set(read_label_map(videos / "out" / "Annotations" / "one" / "00000.png").flat) == {0, 6}
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    flags[flags.index(videos / "out")] = videos / "other"
    assert_refused(run_here(inference.main, *flags), path, "damaged")
    assert not (videos / "other").exists()


def test_a_checkpoint_of_another_system_is_refused_by_the_command(trained, videos):
    flags = ["--system", "stcn", "--checkpoint", trained.run / "best.pth", "--video_root", videos / "videos"]
    flags += ["--prompt_root", videos / "prompts", "--output", videos / "out"]
    assert_refused(run_here(inference.main, *flags), "vita_tcovis", "stcn")
    assert not (videos / "out").exists()


def test_a_checkpoint_of_another_make_has_other_options(path, weights):
    state = {"format": 1, "system": "stcn", "config": {"network": {}}, "model": weights, "ema": None}
    save_checkpoint(path, state)
    with pytest.raises(UserError, match=r"NetworkConfig has other fields"):
        load_network(path)
