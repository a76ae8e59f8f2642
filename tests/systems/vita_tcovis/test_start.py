"""What VITA-TCOVIS starts from: a checkpoint with other options, weights alone, a published pyramid."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from common.checkpoint import save_checkpoint
from common.errors import UserError
from modules import (
    VITA_TCOVIS,
)
from systems.vita_tcovis.start import start
from tests.support.vita import SMALL, make_frames, make_network


def saved(network: VITA_TCOVIS, path: Path) -> str:
    config = {"network": asdict(network.config)}
    save_checkpoint(
        path, {"format": 1, "system": "vita_tcovis", "config": config, "model": network.state_dict()}
    )
    return str(path)


def started(first: VITA_TCOVIS, path: Path, **options) -> tuple[VITA_TCOVIS, dict[str, Tensor]]:
    """A network that starts from another's weights, and the weights that it was drawn with."""
    second = make_network(**options, load_network=saved(first, path))
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(1)
    drawn = {key: x.clone() for key, x in second.state_dict().items()}
    start(second, second.config)
    return second, drawn


def test_a_network_of_the_same_options_starts_with_all_weights_of_another(tmp_path, capsys):
    first = make_network()
    second, _ = started(first, tmp_path / "first.pth")
    weights = second.state_dict()
    assert all(x.equal(weights[key]) for key, x in first.state_dict().items())
    assert not capsys.readouterr().out


def test_with_another_number_of_classes_the_class_head_alone_begins_anew(tmp_path, capsys):
    first = make_network()
    second, drawn = started(first, tmp_path / "first.pth", num_classes=4)
    for key, x in second.state_dict().items():
        assert x.equal(drawn[key] if key.startswith("class_head.") else first.state_dict()[key]), key
    told = "the class head begins anew, for 4 classes, not 1"
    assert capsys.readouterr().out == f"--load_network {tmp_path / 'first.pth'}: {told}\n"


def test_weights_without_propagation_are_a_start_that_changes_nothing(tmp_path, capsys):
    first, frames = make_network(propagate=False), make_frames(1, 2, 3, 64, 64)
    second = make_network(load_network=saved(first, tmp_path / "first.pth"))
    start(second, second.config)
    assert second(frames)["mask_logits"].equal(first(frames)["mask_logits"])
    told = "it begins to propagate tokens from frame to frame"
    assert capsys.readouterr().out == f"--load_network {tmp_path / 'first.pth'}: {told}\n"


def test_weights_that_propagate_are_refused_where_nothing_does(tmp_path):
    with pytest.raises(UserError, match=r"first.pth: its network propagates tokens: add --propagate true"):
        started(make_network(), tmp_path / "first.pth", propagate=False)


@pytest.mark.parametrize("num_tokens", [3, 7])
def test_the_first_tokens_are_taken_and_further_ones_begin_anew(tmp_path, capsys, num_tokens):
    first = make_network()
    second, drawn = started(first, tmp_path / "first.pth", num_tokens=num_tokens)
    taken = min(5, num_tokens)
    for key in ("tokens", "token_positions"):
        weights = second.state_dict()[key]
        assert weights[:taken].equal(first.state_dict()[key][:taken])
        assert weights[taken:].equal(drawn[key][taken:])
    told = f"the first {taken} of 5 object tokens are taken, {num_tokens - taken} begin anew"
    assert capsys.readouterr().out == f"--load_network {tmp_path / 'first.pth'}: {told}\n"


def bare(network: VITA_TCOVIS, form: str) -> dict:
    weights = network.state_dict()
    if form in ("model", "state_dict"):
        return {form: weights}
    return {f"{form}.{key}" if form else key: x for key, x in weights.items()}


@pytest.mark.parametrize("form", ["", "model", "state_dict", "module", "_orig_mod", "module._orig_mod"])
def test_weights_alone_are_a_start_for_other_classes_and_tokens(tmp_path, capsys, form):
    first, path = make_network(num_classes=3), tmp_path / "bare.pth"
    torch.save(bare(first, form), path)
    second = make_network(num_classes=2, num_tokens=7, load_network=str(path))
    start(second, second.config)
    given, weights = first.state_dict(), second.state_dict()
    assert weights["tokens"][:5].equal(given["tokens"])
    kept = [key for key in given if not key.startswith(("class_head.", "token"))]
    assert len(kept) > 20 and all(weights[key].equal(given[key]) for key in kept)
    told = capsys.readouterr().out
    assert "the class head begins anew, for 2 classes, not 3" in told and "the first 5 of 5" in told


def test_weights_alone_are_refused_unless_they_are_finite_and_of_this_system(tmp_path):
    path, weights = tmp_path / "bare.pth", make_network().state_dict()
    torch.save(weights | {"tokens": weights["tokens"] * torch.nan}, path)
    with pytest.raises(UserError, match=r"bare.pth does not fit its network: weights 1 not finite"):
        start(make_network(), VITA_TCOVIS.Config(load_network=str(path)))
    torch.save({"conv1.weight": torch.zeros(8, 3, 7, 7)}, path)
    with pytest.raises(UserError, match=r"bare.pth is not a checkpoint of this project; pass another"):
        start(make_network(), VITA_TCOVIS.Config(load_network=str(path)))


@pytest.mark.parametrize("num_tokens", [5, 7])
@pytest.mark.parametrize("options", [{"hidden_dim": 16}, {"decoder_layers": 1}, {"mask_stride": 8}])
def test_a_network_of_other_sizes_is_refused_as_a_start(tmp_path, capsys, options, num_tokens):
    with pytest.raises(UserError, match=r"--load_network .*first.pth: its network has other options"):
        started(make_network(), tmp_path / "first.pth", num_tokens=num_tokens, **options)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "hidden_dim, mask_stride, taken",
    [(256, 4, "32, 16, 8, 4"), (256, 16, "32, 16"), (128, 4, "none, as their width is 256")],
)
def test_of_a_published_pyramid_the_convolutions_that_fit_are_taken(
    tmp_path, capsys, hidden_dim, mask_stride, taken
):
    torch.manual_seed(0)
    channels = {4: 256, 8: 512, 16: 1024, 32: 2048}
    weights = {f"backbone.body.{key}": x for key, x in resnet50().state_dict().items()}
    for place, inputs in enumerate(channels.values()):
        prefix = f"backbone.fpn.inner_blocks.{place}"
        norm = nn.BatchNorm2d(256).state_dict()
        weights[f"{prefix}.0.weight"] = torch.randn(256, inputs, 1, 1)
        weights |= {f"{prefix}.1.{key}": x for key, x in norm.items()}
    path = tmp_path / "maskrcnn.pth"
    torch.save(weights, path)
    sizes = {"hidden_dim": hidden_dim, "mask_stride": mask_stride}
    options = {**SMALL, **sizes, "backbone": "resnet50", "backbone_weights": str(path)}
    network = VITA_TCOVIS(VITA_TCOVIS.Config(**options))
    start(network, network.config)
    line = f"--backbone_weights {path}: the ResNet-50; laterals of strides: {taken}"
    assert line in capsys.readouterr().out
    pyramid = network.pyramid
    strides = (32, *pyramid.strides)
    for stride, lateral in zip(strides, (pyramid.proj, *pyramid.laterals), strict=True):
        given = weights[f"backbone.fpn.inner_blocks.{(4, 8, 16, 32).index(stride)}.0.weight"]
        is_taken = lateral.weight.shape == given.shape and torch.allclose(lateral.weight, given, rtol=1e-4)
        assert is_taken == (hidden_dim == 256)
