"""The published files of SiamMask are known by their keys and loaded strictly; a line says what they are."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import inference
from common.errors import UserError
from inference import load_network
from systems.siammask.modules import SiamMask
from systems.siammask.published import PYSOT, recognise
from systems.siammask.start import REFINEMENT
from systems.siammask.tracker import SiamMaskTracker
from tests.support.commands import assert_refused, files_in, run_here


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A state dict of full size with random weights; nobody may change it."""
    torch.manual_seed(0)
    return SiamMask(SiamMask.Config(refine=True)).state_dict()


@pytest.fixture
def path(tmp_path) -> Iterator[Path]:
    """Of a file of 86 MB, which does not outlive its test."""
    yield tmp_path / "SiamMask_DAVIS.pth"
    (tmp_path / "SiamMask_DAVIS.pth").unlink(missing_ok=True)


def pysot_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {}
    for key, value in weights.items():
        theirs, ours = next((theirs, ours) for theirs, ours in PYSOT.items() if key.startswith(ours))
        names[theirs + key.removeprefix(ours)] = value
    return names


def same(network: SiamMask, weights: dict[str, Tensor]) -> bool:
    state = network.state_dict()
    return state.keys() == weights.keys() and all(x.equal(state[name]) for name, x in weights.items())


def test_the_training_checkpoint_of_several_gpus_is_the_network_with_its_options(path, weights, capsys):
    entries = {f"module.{name}": x for name, x in weights.items()}
    torch.save(
        {"epoch": 20, "arch": "Custom", "state_dict": entries, "best_acc": 0.0, "anchor_cfg": {}}, path
    )
    network, config = load_network(path, "siammask")
    assert same(network, weights) and not network.training
    assert config["network"]["refine"] and config["tracker"] == vars(SiamMaskTracker.Config())
    published = {"penalty_k": 0.09, "window_influence": 0.39, "size_lr": 0.38, "seg_thr": 0.3}
    assert {name: config["tracker"][name] for name in published} == published
    description = "the published SiamMask, with refinement, 356 entries, a training checkpoint of epoch 20"
    assert capsys.readouterr().out == f"{path}: {description}\n"


def test_a_base_checkpoint_without_refinement_is_the_base_network(path, weights, capsys):
    base = {name: x for name, x in weights.items() if not name.startswith(REFINEMENT)}
    torch.save(base, path)
    network, config = load_network(path)
    assert same(network, base) and network.refine_model is None and not config["network"]["refine"]
    assert "the base model without refinement, 324 entries" in capsys.readouterr().out


def test_the_names_of_pysot_are_the_same_weights(path, weights, capsys):
    torch.save(pysot_names(weights), path)
    network, _ = load_network(path)
    assert same(network, weights)
    assert "pysot's SiamMask, with refinement, 356 entries" in capsys.readouterr().out


def test_the_counters_of_batch_norm_may_be_absent(weights):
    published = recognise({name: x for name, x in weights.items() if "num_batches_tracked" not in name})
    assert published.weights.keys() == weights.keys()


def test_missing_further_and_misshapen_weights_are_refused(path, weights):
    torch.save({name: x for name, x in weights.items() if name != "rpn_model.cls.head.3.bias"}, path)
    with pytest.raises(UserError, match=r"1 missing \(rpn_model.cls.head.3.bias\)"):
        load_network(path)
    torch.save(weights | {"more": torch.zeros(1), "refine_model.post2.bias": torch.zeros(3)}, path)
    with pytest.raises(
        UserError, match=r"1 unexpected \(more\), 1 of another shape \(refine_model.post2.bias\)"
    ):
        load_network(path)


def test_other_files_are_not_taken_for_siammask():
    for content in ([1], {}, {"a": torch.zeros(1)}, {"state_dict": None}, {"state_dict": {}}, torch.zeros(2)):
        assert recognise(content) is None


def test_the_command_runs_the_published_file_with_a_box_and_a_preset(path, weights, tmp_path):
    torch.save(weights, path)
    (tmp_path / "videos" / "one").mkdir(parents=True)
    for t in range(2):
        Image.new("RGB", (53, 37), (90 * t, 40, 120)).save(tmp_path / "videos" / "one" / f"{t:05d}.png")
    preset = Path(inference.__file__).parent / "presets" / "siammask_davis.txt"
    flags = ["--checkpoint", path, "--video_root", tmp_path / "videos", "--output", tmp_path / "out"]
    outcome = run_here(inference.main, f"@{preset}", *flags, "--box", "5,6,20,20", "--device", "cpu")
    assert outcome.status == 0 and outcome.out[0].startswith(f"{path}: the published SiamMask")
    assert files_in(tmp_path / "out" / "Annotations") == ["one/00000.png", "one/00001.png"]


def test_a_checkpoint_of_another_system_is_refused_by_the_command(trained, tmp_path):
    flags = ["--system", "siammask", "--checkpoint", trained.run / "best.pth", "--video_root", tmp_path]
    assert_refused(
        run_here(inference.main, *flags, "--output", tmp_path / "out", "--box", "1,1,5,5"), "vita_tcovis"
    )
    assert not (tmp_path / "out").exists()
