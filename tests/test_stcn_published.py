"""The published files of STCN are recognised by their keys and loaded strictly, with one line about each."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import assert_refused, files_in, run_here
from PIL import Image
from torch import Tensor

import inference
from common.checkpoint import load_network, save_checkpoint
from common.errors import UserError
from common.results import write_label_map
from common.vos_dataset import read_label_map
from systems.stcn.modules import STCN
from systems.stcn.published import recognise
from systems.stcn.start import MASK_FILTERS
from systems.stcn.tracker import STCNTracker


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A state dict of full size with random weights; nobody may change it."""
    torch.manual_seed(0)
    return STCN(STCN.Config(), pretrained=False).state_dict()


@pytest.fixture
def path(tmp_path) -> Iterator[Path]:
    """Of a file of 200 MB, which does not outlive its test."""
    yield tmp_path / "stcn.pth"
    (tmp_path / "stcn.pth").unlink(missing_ok=True)


def load(path: Path, content: object, system: str | None = None) -> tuple[STCN, dict]:
    torch.save(content, path)
    return load_network(path, system)


def test_a_flat_state_dict_is_the_network_with_the_published_options(path, weights, capsys):
    network, config = load(path, weights, "stcn")
    assert all(x.equal(network.state_dict()[name]) for name, x in weights.items()) and not network.training
    assert config["system"] == "stcn"
    assert config["tracker"] == vars(STCNTracker.Config())
    published = {"top_k": 20, "mem_every": 5, "include_last": False, "short_side": 480, "flip": False}
    assert config["tracker"] == published | {"max_memory_frames": 0}
    out = capsys.readouterr().out
    assert out == f"{path}: the published STCN, 405 entries\n"


def test_a_network_of_stage_0_gets_a_mask_channel_of_zeros(path, weights, capsys):
    stage_0 = weights | {MASK_FILTERS: weights[MASK_FILTERS][:, :4].clone()}
    network, _ = load(path, stage_0)
    filters = network.state_dict()[MASK_FILTERS]
    assert filters[:, :4].equal(stage_0[MASK_FILTERS]) and not filters[:, 4].any() and filters.shape[1] == 5
    assert "stage 0" in capsys.readouterr().out


def test_the_weights_in_a_training_checkpoint_are_found(path, weights, capsys):
    scheduler = {"milestones": Counter([125_000]), "last_epoch": 3}
    content = {"it": 150_000, "network": weights, "optimizer": {"state": {}}, "scheduler": scheduler}
    network, _ = load(path, content)
    assert network.state_dict()["key_comp.bias"].equal(weights["key_comp.bias"])
    assert "iteration 150000" in capsys.readouterr().out


def test_the_counters_of_batch_norm_may_be_absent(path, weights):
    network, _ = load(path, {name: x for name, x in weights.items() if "num_batches_tracked" not in name})
    assert network.state_dict()["key_encoder.bn1.num_batches_tracked"] == 0


def test_missing_further_and_misshapen_weights_are_refused(path, weights):
    broken = {name: x for name, x in weights.items() if not name.startswith("decoder.pred")}
    with pytest.raises(UserError, match=r"2 missing \(decoder.pred.bias, decoder.pred.weight\)"):
        load(path, broken)
    with pytest.raises(UserError, match=r"1 unexpected \(more\)"):
        load(path, weights | {"more": torch.zeros(1)})
    with pytest.raises(UserError, match=r"1 of another shape \(key_comp.bias\)"):
        load(path, weights | {"key_comp.bias": torch.zeros(3)})
    with pytest.raises(UserError, match=r"1 of another shape \(value_encoder.conv1.weight\)"):
        load(path, weights | {MASK_FILTERS: torch.zeros(64, 3, 7, 7)})


def test_other_files_are_not_taken_for_stcn(path, weights):
    for content in (
        [1],
        {},
        {"a": torch.zeros(1)},
        {"it": 3, "network": None},
        torch.zeros(2),
        {"key_comp.": 1},
    ):
        assert recognise(content) is None
    shared = {
        name: x for name, x in weights.items() if not name.startswith(("key_comp.", "decoder.compress."))
    }
    with pytest.raises(UserError, match="nor a published one of stcn, xmem"):
        load(path, shared)


def test_another_system_is_refused(path, weights):
    with pytest.raises(UserError, match="is a checkpoint of the system stcn, not of vita_tcovis"):
        load(path, weights, "vita_tcovis")


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
    with pytest.raises(UserError, match="other options of the stcn network"):
        load_network(path)
