"""What XMem alone has in its published files: networks without sensory memory, sizes in the weights."""

import pytest
import torch

from common.errors import UserError
from inference import load_network
from systems.xmem.modules import XMem
from systems.xmem.published import sizes_of


def test_a_network_without_sensory_memory_is_known_by_what_it_lacks(tmp_path, capsys):
    path = tmp_path / "XMem.pth"
    torch.save(XMem(XMem.Config(hidden_dim=0)).state_dict(), path)
    network, config = load_network(path)
    assert config["network"]["hidden_dim"] == 0 and not hasattr(network.decoder, "hidden_update")
    assert capsys.readouterr().out == f"{path}: the published XMem, 402 entries, without sensory memory\n"


def test_other_sizes_are_read_from_the_weights(tmp_path):
    path = tmp_path / "XMem.pth"
    sizes = {"key_dim": 32, "value_dim": 128, "hidden_dim": 16, "decoder_dim": 64}
    weights = XMem(XMem.Config(**sizes)).state_dict()
    assert sizes_of(weights) == sizes
    torch.save(weights, path)
    config = load_network(path)[1]["network"]
    assert {name: config[name] for name in sizes} == sizes
    torch.save(weights | {"key_proj.key_proj.weight": torch.zeros(())}, path)
    with pytest.raises(UserError, match="does not fit its network"):
        load_network(path)
