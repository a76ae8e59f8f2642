"""The network: shapes under every switch, what each part may see, and a gradient everywhere."""

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
    Attention,
    FeaturePyramid,
    TemporalAssociationModule,
    reduced,
    sine_positions,
    start,
)
from training.recompute import checkpoint_activations

SMALL = {"backbone": "narrow", "backbone_weights": "none", "hidden_dim": 32, "num_tokens": 5}
SMALL |= {"decoder_layers": 2, "num_heads": 4, "feedforward_dim": 48}


def make_network(**options) -> VITA_TCOVIS:
    torch.manual_seed(0)
    return VITA_TCOVIS(VITA_TCOVIS.Config(**{**SMALL, **options}))


def make_frames(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def shapes(outputs: dict) -> dict:
    return {name: tuple(x.shape) for name, x in outputs.items() if isinstance(x, Tensor)}


@pytest.mark.parametrize("mask_stride", [4, 8, 16, 32])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_shapes_follow_mask_stride_and_number_of_classes(mask_stride, num_classes):
    network = make_network(mask_stride=mask_stride, num_classes=num_classes)
    outputs = network(make_frames(2, 3, 3, 64, 96))
    masks, classes = (2, 3, 5, 64 // mask_stride, 96 // mask_stride), (2, 3, 5, num_classes + 1)
    layer = {"class_logits": classes, "mask_logits": masks}
    others = {"embeddings": (2, 3, 5, 128), "foreground_logits": (*masks[:2], *masks[3:])}
    assert shapes(outputs) == {**layer, **others}
    assert [shapes(aux) for aux in outputs["aux"]] == [layer, layer]  # before layer 1, and after it


@pytest.mark.parametrize("mask_stride", [4, 8, 16, 32])
def test_laterals_reach_down_to_the_mask_stride(mask_stride):
    pyramid = FeaturePyramid([256, 512, 1024, 2048], 32, mask_stride)
    laterals = {16: 1024, 8: 512, 4: 256}
    assert [conv.in_channels for conv in pyramid.laterals] == [
        channels for stride, channels in laterals.items() if stride >= mask_stride
    ]
    assert pyramid.proj.in_channels == 2048 and pyramid.proj.kernel_size == (1, 1)
    stages = {s: torch.randn(1, c, 64 // s, 64 // s) for s, c in {**laterals, 32: 2048}.items()}
    levels, features = pyramid(stages)
    sides = [x.shape[-1] for x in levels]
    assert sides == [2, 4, 8][: len(pyramid.laterals) + 1]  # what tokens attend to: strides 32, 16, 8
    assert features.shape == (1, 32, 64 // mask_stride, 64 // mask_stride)


@pytest.mark.parametrize("mask_stride", [4, 8, 16, 32])
@pytest.mark.parametrize("attention_stride", [4, 8, 16, 32])
def test_tokens_attend_to_three_strides_at_most_none_finer_than_asked(attention_stride, mask_stride):
    network = make_network(mask_stride=mask_stride, attention_stride=attention_stride, decoder_layers=3)
    _, given = decode(network, make_frames(1, 1, 3, 64, 64))
    strides = [s for s in (32, 16, 8, 4) if s >= max(attention_stride, mask_stride)][-3:]
    places = [(64 // stride) ** 2 for stride in strides]
    assert [args[2].shape[1] for args in given] == (3 * places)[:3]
    assert len(network.level_embedding) == len(strides)


@pytest.mark.parametrize("masked_attention", [True, False])
@pytest.mark.parametrize("mask_stride", [4, 32])
def test_every_parameter_gets_a_gradient(mask_stride, masked_attention):
    network = make_network(mask_stride=mask_stride, masked_attention=masked_attention)
    outputs = network(make_frames(1, 2, 3, 64, 64))
    layers = [outputs, *outputs["aux"]]
    terms = [layer[name].square().mean() for layer in layers for name in ("class_logits", "mask_logits")]
    weights = make_frames(128)  # the plain sum of a LayerNorm's output has no gradient
    terms += [(outputs["embeddings"] * weights).sum(), outputs["foreground_logits"].square().mean()]
    sum(terms).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    keys = [name for name in without if name.endswith(".k.bias")]  # softmax does not see a shift of all keys
    assert without == keys


def test_in_evaluation_there_are_no_auxiliary_predictions_and_the_outputs_are_the_same():
    network = make_network()
    frames = make_frames(1, 2, 3, 64, 64)
    training, evaluation = network(frames), network.eval()(frames)
    assert evaluation["aux"] == []
    for name in ("class_logits", "mask_logits", "embeddings"):
        assert torch.allclose(training[name], evaluation[name])


def test_every_frame_is_decoded_by_itself():
    network = make_network().eval()
    frames = make_frames(2, 3, 3, 64, 64)
    together = network(frames)
    alone = network(frames[1:, 2:])
    for name in ("class_logits", "mask_logits", "embeddings"):
        assert torch.allclose(together[name][1:, 2:], alone[name], atol=1e-4)


def test_the_prompt_cannot_leak_into_the_outputs():
    network = make_network().eval()
    frames = make_frames(1, 1, 3, 32, 32)
    prompted = network(frames, torch.ones(1, 2, 32, 32, dtype=torch.bool))
    assert torch.equal(prompted["mask_logits"], network(frames)["mask_logits"])


@pytest.mark.parametrize("size", [(33, 64), (64, 100)])
def test_frames_that_are_not_padded_are_refused(size):
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}.*multiples of 32"):
        make_network()(torch.zeros(1, 1, 3, *size))


def test_one_cell_and_one_token_are_enough():
    outputs = make_network(num_tokens=1)(make_frames(1, 1, 3, 32, 32))
    assert outputs["mask_logits"].shape == (1, 1, 1, 8, 8) and outputs["mask_logits"].isfinite().all()


def test_masked_attention_changes_the_outputs_and_its_switch_adds_no_parameter():
    frames = make_frames(1, 1, 3, 64, 64)
    masked, free = make_network(), make_network(masked_attention=False)
    assert masked.state_dict().keys() == free.state_dict().keys()
    assert not torch.allclose(masked(frames)["mask_logits"], free(frames)["mask_logits"])


@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_reducing_is_bilinear_resizing(step):
    x = make_frames(2, 3, 16, 24)
    expected = torch.nn.functional.interpolate(x, scale_factor=1 / step, mode="bilinear", align_corners=False)
    assert torch.allclose(reduced(x, 24 // step), expected, atol=1e-6)


def empty_masks(network: VITA_TCOVIS) -> VITA_TCOVIS:
    """Make every mask empty at every layer, whatever the frame: a constant, negative product."""
    for module, value in ((network.mask_head[-1], 1.0), (network.pyramid.smooth, -1.0)):
        nn.init.zeros_(module.weight)
        nn.init.constant_(module.bias, value)
    return network


def test_a_token_whose_mask_is_empty_attends_everywhere():
    frames = make_frames(1, 1, 3, 64, 64)
    masked, free = (empty_masks(make_network(masked_attention=on))(frames) for on in (True, False))
    assert (masked["mask_logits"] < 0).all()
    assert torch.allclose(masked["embeddings"], free["embeddings"], atol=1e-5)
    assert masked["embeddings"].isfinite().all()


def decode(network: VITA_TCOVIS, frames: Tensor) -> tuple[dict, list[tuple]]:
    """The outputs, and what each decoder layer was given."""
    given: list[tuple] = []
    for layer in network.layers:
        layer.register_forward_pre_hook(lambda module, args: given.append(args))
    return network(frames), given


def test_tokens_attend_inside_the_mask_of_the_layer_before():
    network = make_network(mask_stride=32)
    outputs, given = decode(network, make_frames(1, 1, 3, 128, 128))
    masks = [aux["mask_logits"][0] for aux in outputs["aux"]]  # (1, N, 4, 4) before layer 1, and after it
    assert any(0 < (mask >= 0).sum() < mask.numel() for mask in masks)
    for (*_, allowed), mask in zip(given, masks, strict=True):
        inside = mask.flatten(2) >= 0
        assert torch.equal(allowed, inside | ~inside.any(-1, keepdim=True))
    assert all(
        args[-1] is None
        for args in decode(make_network(masked_attention=False), make_frames(1, 1, 3, 32, 32))[1]
    )


@pytest.mark.parametrize(
    "mask_stride, cells", [(4, [4, 16, 64, 4]), (16, [4, 16, 4, 16]), (32, [4, 4, 4, 4])]
)
def test_layers_attend_to_the_strides_32_16_and_8_in_turn(mask_stride, cells):
    _, given = decode(make_network(mask_stride=mask_stride, decoder_layers=4), make_frames(1, 1, 3, 64, 64))
    assert [args[2].shape[1] for args in given] == cells
    assert [args[3].shape[0] for args in given] == cells


def test_attention_sees_allowed_keys_alone():
    torch.manual_seed(0)
    attention = Attention(16, 4)
    query, key = torch.randn(1, 2, 16), torch.randn(1, 6, 16)
    allowed = torch.tensor([[[True] * 3 + [False] * 3, [True] * 6]])
    changed = key + 9 * torch.tensor([0, 0, 0, 1, 1, 1])[:, None]
    before, after = attention(query, key, key, allowed), attention(query, changed, changed, allowed)
    assert torch.allclose(before[:, 0], after[:, 0], atol=1e-5)
    assert not torch.allclose(before[:, 1], after[:, 1], atol=1e-2)
    assert torch.allclose(before[:, 1:], attention(query[:, 1:], key, key), atol=1e-5)


def test_attention_is_softmax_of_scaled_products():
    torch.manual_seed(0)
    attention = Attention(8, 1)
    query, key = torch.randn(1, 2, 8), torch.randn(1, 3, 8)
    weights = (attention.q(query) @ attention.k(key).transpose(1, 2) / 8**0.5).softmax(-1)
    expected = attention.out(weights @ attention.v(key))
    assert torch.allclose(attention(query, key, key), expected, atol=1e-6)


def test_the_association_head_is_linear_relu_layer_norm():
    head = TemporalAssociationModule(2)
    nn.init.zeros_(head.linear.weight)
    nn.init.constant_(head.linear.bias[:64], 3.0)
    nn.init.constant_(head.linear.bias[64:], -3.0)  # ReLU makes it 0: mean 1.5, deviation 1.5
    assert [type(m) for m in head.children()] == [nn.Linear, nn.LayerNorm]
    out = head(torch.randn(4, 2))
    assert out.shape == (4, 128)
    assert torch.allclose(out[:, :64], torch.ones(4, 64), atol=1e-4)
    assert torch.allclose(out[:, 64:], -torch.ones(4, 64), atol=1e-4)


def test_positions_tell_rows_from_columns_and_every_cell_from_the_others():
    positions = sine_positions(3, 5, 32, torch.zeros(())).view(3, 5, 32)
    assert positions.abs().max() <= 1
    assert torch.equal(positions[:, 0, :16], positions[:, 4, :16])  # the row's half
    assert torch.equal(positions[0, :, 16:], positions[2, :, 16:])  # the column's half
    distances = torch.cdist(positions.flatten(0, 1), positions.flatten(0, 1)) + torch.eye(15)
    assert distances.min() > 0.1
    assert sine_positions(2, 2, 8, torch.zeros((), dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_outputs_are_finite_under_bf16_autocast():
    network = make_network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(make_frames(1, 2, 3, 64, 64))
    assert all(outputs[name].isfinite().all() for name in ("class_logits", "mask_logits", "embeddings"))


def test_a_network_built_for_a_checkpoint_fetches_nothing_and_has_the_same_weights(monkeypatch):
    def no_network() -> None:
        raise AssertionError("weights were fetched")

    monkeypatch.setattr("common.backbone.published_weights", no_network)
    options = {**SMALL, "backbone": "resnet50", "backbone_weights": "imagenet"}
    network = VITA_TCOVIS(VITA_TCOVIS.Config(**options))
    assert network.pyramid.proj.in_channels == 2048
    frozen = {name.split(".")[1] for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "layer1"}


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


def test_a_mobilenet_has_the_same_gradients_where_activations_are_computed_anew():
    gradients = []
    for recompute in (False, True):
        network = make_network(backbone="mobilenet_v2").train()
        if recompute:
            checkpoint_activations(network)
        outputs = network(make_frames(1, 2, 3, 64, 64))
        (outputs["mask_logits"].square().mean() + outputs["embeddings"].square().mean()).backward()
        gradients.append({name: p.grad for name, p in network.backbone.named_parameters()})
    assert all(x is not None for x in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0])


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
