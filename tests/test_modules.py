"""The network: shapes under every switch, what each part may see, and a gradient everywhere."""

import pytest
import torch
from torch import Tensor, nn

from modules import (
    VITA_TCOVIS,
    Attention,
    FeaturePyramid,
    TemporalAssociationModule,
    reduced,
    sine_positions,
)
from tests.support.vita import SMALL, make_frames, make_network
from training.recompute import checkpoint_activations


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
    others |= {"queries": (2, 5, 32), "mask_features": (2, 3, 32, *masks[3:])}
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
