"""The published files of XMem are recognised by their keys and loaded strictly, in their weights' sizes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.checkpoint import load_network
from common.errors import UserError
from systems.stcn.start import MASK_FILTERS
from systems.xmem.modules import XMem
from systems.xmem.published import recognise, sizes_of
from systems.xmem.tracker import XMemTracker


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A state dict of full size with random weights; nobody may change it."""
    torch.manual_seed(0)
    return XMem(XMem.Config(), pretrained=False).state_dict()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "XMem.pth"


def load(path: Path, content: object, system: str | None = None) -> tuple[XMem, dict]:
    torch.save(content, path)
    return load_network(path, system)


def test_a_flat_state_dict_is_the_network_with_the_published_options(path, weights, capsys):
    network, config = load(path, weights, "xmem")
    assert all(x.equal(network.state_dict()[name]) for name, x in weights.items()) and not network.training
    assert config["tracker"] == vars(XMemTracker.Config())
    published = {"top_k": 30, "mem_every": 5, "deep_update_every": -1, "short_side": 480, "flip": False}
    published |= {"min_mid_term_frames": 5, "max_mid_term_frames": 10, "num_prototypes": 128}
    published |= {"max_long_term_elements": 10_000, "no_long_term": False}
    assert config["tracker"] == published | {"enable_long_term_count_usage": True}
    assert capsys.readouterr().out == f"{path}: the published XMem, 412 entries\n"


def test_a_network_of_stage_0_gets_a_mask_channel_of_zeros(path, weights, capsys):
    stage_0 = weights | {MASK_FILTERS: weights[MASK_FILTERS][:, :4].clone()}
    content = {"it": 150_000, "network": stage_0, "optimizer": {}, "scheduler": {}}
    filters = load(path, content)[0].state_dict()[MASK_FILTERS]
    assert filters[:, :4].equal(stage_0[MASK_FILTERS]) and not filters[:, 4].any() and filters.shape[1] == 5
    out = capsys.readouterr().out
    assert "stage 0" in out and "iteration 150000" in out


def test_a_network_without_sensory_memory_is_known_by_what_it_lacks(path, capsys):
    weights = XMem(XMem.Config(hidden_dim=0), pretrained=False).state_dict()
    network, config = load(path, weights)
    assert config["network"]["hidden_dim"] == 0 and not hasattr(network.decoder, "hidden_update")
    assert capsys.readouterr().out == f"{path}: the published XMem, 402 entries, without sensory memory\n"


def test_other_sizes_are_read_from_the_weights(path):
    sizes = {"key_dim": 32, "value_dim": 128, "hidden_dim": 16, "decoder_dim": 64}
    weights = XMem(XMem.Config(**sizes), pretrained=False).state_dict()
    assert sizes_of(weights) == sizes
    config = load(path, weights)[1]["network"]
    assert {name: config[name] for name in sizes} == sizes


def test_the_counters_of_batch_norm_may_be_absent(path, weights):
    network, _ = load(path, {name: x for name, x in weights.items() if "num_batches_tracked" not in name})
    assert network.state_dict()["key_encoder.bn1.num_batches_tracked"] == 0


def test_missing_further_and_misshapen_weights_are_refused(path, weights):
    broken = {name: x for name, x in weights.items() if not name.startswith("decoder.pred")}
    with pytest.raises(UserError, match=r"2 missing \(decoder.pred.bias, decoder.pred.weight\)"):
        load(path, broken)
    with pytest.raises(UserError, match=r"1 unexpected \(more\)"):
        load(path, weights | {"more": torch.zeros(1)})
    with pytest.raises(UserError, match="does not fit its network"):
        load(path, weights | {"key_proj.key_proj.weight": torch.zeros(())})
    with pytest.raises(UserError, match="is a checkpoint of the system xmem, not of stcn"):
        load(path, weights, "stcn")


def test_other_files_are_not_taken_for_xmem():
    for content in ([1], {}, {"a": torch.zeros(1)}, {"it": 3, "network": None}, {"decoder.fuser.": 1}):
        assert recognise(content) is None
    assert recognise({"key_comp.weight": torch.zeros(1)}) is None
