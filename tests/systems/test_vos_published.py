"""The published files of STCN and XMem are recognised by their keys and loaded strictly, and it is told."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from common.errors import UserError
from inference import load_network
from systems.stcn import published as stcn
from systems.stcn.modules import STCN
from systems.stcn.published import MASK_FILTERS
from systems.stcn.tracker import STCNTracker
from systems.xmem import published as xmem
from systems.xmem.modules import XMem
from systems.xmem.tracker import XMemTracker


class Kind(NamedTuple):
    """A published network; `only_here` is a weight that no other has, `options` are its tracker's."""

    network: type[nn.Module]
    tracker: type
    recognise: Callable[[Any], Any]
    description: str
    only_here: str
    options: dict[str, Any]


STCN_OPTIONS = {"top_k": 20, "mem_every": 5, "include_last": False, "max_memory_frames": 0}
XMEM_OPTIONS = {"top_k": 30, "mem_every": 5, "deep_update_every": -1}
XMEM_OPTIONS |= {"min_mid_term_frames": 5, "max_mid_term_frames": 10, "num_prototypes": 128}
XMEM_OPTIONS |= {
    "max_long_term_elements": 10_000,
    "enable_long_term_count_usage": True,
    "no_long_term": False,
}
KINDS = {
    "stcn": Kind(STCN, STCNTracker, stcn.recognise, "STCN, 405 entries", "key_comp.bias", STCN_OPTIONS),
    "xmem": Kind(
        XMem, XMemTracker, xmem.recognise, "XMem, 412 entries", "key_proj.d_proj.bias", XMEM_OPTIONS
    ),
}
OTHERS = {"stcn": "vita_tcovis", "xmem": "stcn"}


@pytest.fixture(scope="module", params=KINDS)
def system(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def weights(system) -> dict[str, Tensor]:
    """A state dict of full size with random weights; nobody may change it."""
    torch.manual_seed(0)
    network = KINDS[system].network
    return network(network.Config()).state_dict()


@pytest.fixture
def path(tmp_path) -> Iterator[Path]:
    """Of a file of 200 MB, which does not outlive its test."""
    yield tmp_path / "published.pth"
    (tmp_path / "published.pth").unlink(missing_ok=True)


def load(path: Path, content: object, system: str | None = None) -> tuple[nn.Module, dict]:
    torch.save(content, path)
    return load_network(path, system)


def test_a_flat_state_dict_is_the_network_with_the_published_options(path, system, weights, capsys):
    kind = KINDS[system]
    network, config = load(path, weights, system)
    assert all(x.equal(network.state_dict()[name]) for name, x in weights.items()) and not network.training
    assert config["system"] == system and config["tracker"] == vars(kind.tracker.Config())
    assert config["tracker"] == kind.options | {"short_side": 480, "flip": False}
    assert capsys.readouterr().out == f"{path}: the published {kind.description}\n"


def test_a_network_of_stage_0_gets_a_mask_channel_of_zeros(path, weights, capsys):
    stage_0 = weights | {MASK_FILTERS: weights[MASK_FILTERS][:, :4].clone()}
    filters = load(path, stage_0)[0].state_dict()[MASK_FILTERS]
    assert filters[:, :4].equal(stage_0[MASK_FILTERS]) and not filters[:, 4].any() and filters.shape[1] == 5
    assert "stage 0" in capsys.readouterr().out


def test_the_weights_in_a_training_checkpoint_are_found(path, system, weights, capsys):
    scheduler = {"milestones": Counter([125_000]), "last_epoch": 3}
    content = {"it": 150_000, "network": weights, "optimizer": {"state": {}}, "scheduler": scheduler}
    name = KINDS[system].only_here
    assert load(path, content)[0].state_dict()[name].equal(weights[name])
    assert "iteration 150000" in capsys.readouterr().out


def test_the_counters_of_batch_norm_may_be_absent(path, weights):
    network, _ = load(path, {name: x for name, x in weights.items() if "num_batches_tracked" not in name})
    assert network.state_dict()["key_encoder.bn1.num_batches_tracked"] == 0


def test_missing_further_and_misshapen_weights_are_refused(path, system, weights):
    name = KINDS[system].only_here
    broken = {name: x for name, x in weights.items() if not name.startswith("decoder.pred")}
    with pytest.raises(UserError, match=r"2 missing \(decoder.pred.bias, decoder.pred.weight\)"):
        load(path, broken)
    with pytest.raises(UserError, match=r"1 unexpected \(more\)"):
        load(path, weights | {"more": torch.zeros(1)})
    with pytest.raises(UserError, match=rf"1 of another shape \({name}\)"):
        load(path, weights | {name: torch.zeros(3)})
    with pytest.raises(UserError, match=r"1 of another shape \(value_encoder.conv1.weight\)"):
        load(path, weights | {MASK_FILTERS: torch.zeros(64, 3, 7, 7)})


def test_another_system_is_refused(path, system, weights):
    with pytest.raises(UserError, match=f"is a checkpoint of the system {system}, not of {OTHERS[system]}"):
        load(path, weights, OTHERS[system])


@pytest.mark.parametrize(
    "content",
    [[1], {}, {"a": torch.zeros(1)}, {"it": 3, "network": None}, torch.zeros(2)],
    ids=["list", "empty", "foreign", "without weights", "tensor"],
)
def test_other_files_are_not_taken_for_either(content):
    assert stcn.recognise(content) is None and xmem.recognise(content) is None


def test_neither_is_taken_for_the_other(system, weights):
    assert [name for name, kind in KINDS.items() if kind.recognise(weights)] == [system]
    assert stcn.recognise({"key_comp.": 1}) is None and xmem.recognise({"decoder.fuser.": 1}) is None
