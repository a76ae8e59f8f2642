"""What is exported runs by itself and says what the network says, or is not kept."""

import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from inference import SYSTEMS
from modules import VITA_TCOVIS
from tests.support import sam_networks, siammask_networks, stcn_networks, xmem_networks
from tests.support.commands import ROOT, assert_refused, files_in, run_here
from tools import export

ONNX = ("onnx", "onnxscript", "onnxruntime")


def vita_network() -> VITA_TCOVIS:
    sizes = {"hidden_dim": 16, "num_heads": 2, "decoder_layers": 2, "feedforward_dim": 16, "num_tokens": 3}
    return VITA_TCOVIS(VITA_TCOVIS.Config(backbone="narrow", backbone_weights="none", **sizes)).eval()


def save(path: Path, system: str, network: nn.Module) -> Path:
    config = {"network": asdict(network.config), "tracker": asdict(SYSTEMS[system].tracker.Config())}
    torch.save({"format": 1, "system": system, "config": config, "model": network.state_dict()}, path)
    return path


NETWORKS: dict[str, tuple[str, Callable[[], nn.Module], list[str]]] = {
    "vita": ("vita_tcovis", vita_network, ["m.pt2"]),
    "stcn": (
        "stcn",
        stcn_networks.small_network,
        ["m.decode.pt2", "m.encode_key.pt2", "m.encode_value.pt2"],
    ),
    "xmem": (
        "xmem",
        xmem_networks.small_network,
        ["m.decode.pt2", "m.deep_update.pt2", "m.encode_key.pt2", "m.encode_value.pt2"],
    ),
    "siammask": (
        "siammask",
        lambda: siammask_networks.small_network(refine=True),
        ["m.mask.pt2", "m.search.pt2", "m.template.pt2"],
    ),
    "sam_track": (
        "sam_track",
        lambda: sam_networks.small_network(attn_padding=False),
        ["m.encode.pt2", "m.track.pt2"],
    ),
}


def test_every_system_has_its_parts():
    assert export.PARTS.keys() == export.LEFT_OUT.keys() == SYSTEMS.keys() - {"fake"}


def export_here(checkpoint: Path, output: Path, *flags: object):
    return run_here(export.main, "--checkpoint", checkpoint, "--output", output, "--objects", 2, *flags)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_part_of_a_system_is_exported_and_says_what_the_network_says(name, tmp_path):
    system, make, files = NETWORKS[name]
    network = make()
    checkpoint = save(tmp_path / "c.pth", system, network)
    outcome = export_here(checkpoint, tmp_path / "out" / "m.pt2", "--size", 32, 64)
    assert (outcome.status, outcome.err) == (0, [])
    assert files_in(tmp_path / "out") == files and len(outcome.out) == len(files) + 1
    assert all("largest difference from the network 0" in line for line in outcome.out[:-1])
    for part in export.PARTS[system](network, export.Sizes(32, 64, 2)):
        with torch.no_grad():
            path = tmp_path / "out" / (f"m.{part.name}.pt2" if part.name else "m.pt2")
            outputs = export.run_pt2(path, part.example)
            expected = part.function(network, **part.example)  # of all weights, whatever the part keeps
        assert outputs.keys() == expected.keys() and not outputs.keys() & part.example.keys()
        for key, value in outputs.items():
            torch.testing.assert_close(value, expected[key])


def test_a_part_holds_the_weights_that_it_uses_and_leaves_the_network_whole():
    network = stcn_networks.small_network()
    names = set(network.state_dict())
    with torch.no_grad():
        keys, values, decode = export.stcn_parts(network, export.Sizes(32, 64, 1))
    kept = [{name.removeprefix("network.") for name in part.state_dict()} for part in (keys, values, decode)]
    assert set.union(*kept) == names == set(network.state_dict()) and sum(map(len, kept)) == len(names)


def part_of(name: str, function: Callable[..., dict]) -> export.Part:
    return export.Part(name, nn.Identity(), function, {"x": torch.rand(2, 3)})


@pytest.mark.parametrize(
    "function, told",
    [
        (lambda _, x: {"y": x + torch.rand(2, 3)}, r"odd\.pt2 is not kept: it differs .* by up to [01]\.\d"),
        (lambda _, x: {"y": x if x.sum() > 3 else -x}, r"odd cannot be exported: \w+: "),
    ],
    ids=["random", "branches on its input"],
)
def test_what_disagrees_or_cannot_be_exported_is_told_in_a_line_and_not_kept(
    function, told, tmp_path, monkeypatch
):
    def double(network: nn.Module, x: torch.Tensor) -> dict:
        return {"y": 2 * x}

    parts = {"stcn": lambda network, sizes: iter([part_of("odd", function), part_of("even", double)])}
    monkeypatch.setattr(export, "PARTS", parts)
    checkpoint = save(tmp_path / "c.pth", "stcn", stcn_networks.small_network())
    outcome = export_here(checkpoint, tmp_path / "out" / "m.pt2", "--size", 32, 64)
    assert outcome.status == 1 and len(outcome.err) == 1 and re.search(told, outcome.err[0])
    assert files_in(tmp_path / "out") == ["m.even.pt2"]


def test_mistakes_are_told_in_one_line(tmp_path):
    checkpoint = save(tmp_path / "c.pth", "stcn", stcn_networks.small_network())
    assert_refused(export_here(checkpoint, tmp_path / "m.bin"), "m.bin", ".pt2 or .onnx")
    assert_refused(export_here(checkpoint, tmp_path / "m.pt2", "--size", 33, 64), "--size 33 64", "of 16")
    assert_refused(export_here(tmp_path / "none.pth", tmp_path / "m.pt2"), "none.pth", "does not exist")
    assert files_in(tmp_path) == ["c.pth"]


def test_onnx_without_its_packages_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    checkpoint = save(tmp_path / "c.pth", "stcn", stcn_networks.small_network())
    outcome = export_here(checkpoint, tmp_path / "m.onnx")
    assert_refused(outcome, "m.onnx", "pip install onnx onnxscript onnxruntime")


def test_onnx_says_what_the_network_says(tmp_path):
    for package in ONNX:
        pytest.importorskip(package)
    checkpoint = save(tmp_path / "c.pth", "sam_track", sam_networks.small_network())
    outcome = export_here(checkpoint, tmp_path / "m.onnx")
    assert (outcome.status, outcome.err) == (0, [])
    assert files_in(tmp_path) == ["c.pth", "m.encode.onnx", "m.track.onnx"]


def test_the_example_of_the_page_runs_what_was_exported(tmp_path, monkeypatch, capsys):
    network = vita_network()
    network.class_head.bias.data[:] = torch.tensor([5.0, -5.0])  # every token is an object
    export_here(save(tmp_path / "c.pth", "vita_tcovis", network), tmp_path / "model.pt2")
    Image.fromarray(np.full((48, 80, 3), 90, dtype=np.uint8)).save(tmp_path / "frame.jpg")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(block.strip().splitlines()) <= 20
    exec(compile(block, "docs/export.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(re.fullmatch(r"token \d: score 1.00, \d+ cells", x) for x in lines)
