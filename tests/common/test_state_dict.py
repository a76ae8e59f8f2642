"""Weights are found in whatever a training program wraps them, under the names of the bare network."""

import os
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from common.checkpoint import Loadable, load_network, save_checkpoint, state_dict_of
from common.errors import UserError

PREFIXES = ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]


class OneLayer(nn.Module):
    @dataclass
    class Config:
        width: int = 3

    def __init__(self, config: Config):
        super().__init__()
        self.layer = nn.Linear(2, config.width)


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return OneLayer(OneLayer.Config()).state_dict()


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: x for name, x in weights.items()}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("wrapper", ["", "model", "network", "state_dict"])
def test_weights_are_found_bare_or_wrapped_under_their_own_names(weights, wrapper, prefix):
    names = prefixed(weights, prefix)
    assert state_dict_of({"epoch": 3, wrapper: names} if wrapper else names) == weights


def test_two_weights_of_one_name_are_no_state_dict(weights):
    assert state_dict_of(weights | prefixed(weights, "module.")) == {}


@pytest.mark.parametrize("content", [None, [1], {"model": 3}, {"model": {"layer.weight": 3}}])
def test_what_holds_no_weights_is_no_state_dict(content):
    assert state_dict_of(content) == {}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_checkpoint_of_a_parallel_or_compiled_network_loads(tmp_path, weights, prefix):
    checkpoint = {"format": 1, "system": "one", "config": {"network": {"width": 3}}}
    save_checkpoint(tmp_path / "last.pth", checkpoint | {"model": prefixed(weights, prefix)})
    network, _ = load_network(tmp_path / "last.pth", {"one": Loadable(OneLayer, None)})
    assert all(x.equal(weights[name]) for name, x in network.state_dict().items())


# Of another type than the network's, 1e300 is finite only as long as it is not used.
@pytest.mark.parametrize(
    "bad", [torch.tensor(torch.nan), torch.tensor(torch.inf), torch.tensor(1e300).double()]
)
@pytest.mark.parametrize("role", ["model", "ema", "model beside ema"])
def test_weights_that_are_not_finite_are_refused_used_or_not(tmp_path, weights, bad, role):
    spoiled = {key: x.to(bad.dtype).clone() for key, x in weights.items()}
    spoiled["layer.bias"][0] = bad
    states = {"model": weights, "ema": weights if role == "model beside ema" else None}
    states |= {role.split()[0]: spoiled}
    options = {"network": {"width": 3}}
    save_checkpoint(tmp_path / "a.pth", {"format": 1, "system": "one", "config": options} | states)
    with pytest.raises(UserError, match=r"a\.pth does not fit .* 1 not finite \(layer\.bias\)$"):
        load_network(tmp_path / "a.pth", {"one": Loadable(OneLayer, None)})


def test_weights_of_complex_numbers_are_refused(tmp_path, weights):
    states = {"model": {key: x.to(torch.complex64) for key, x in weights.items()}}
    options = {"network": {"width": 3}}
    save_checkpoint(tmp_path / "a.pth", {"format": 1, "system": "one", "config": options} | states)
    with pytest.raises(UserError, match="its model is odd"):
        load_network(tmp_path / "a.pth", {"one": Loadable(OneLayer, None)})


@pytest.mark.parametrize("path", ["/dev/null", "pipe"])
def test_a_device_and_a_pipe_are_named_as_what_they_are(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a pipe, a device or a socket: give a file"):
        load_network(tmp_path / path, {"one": Loadable(OneLayer, None)})
