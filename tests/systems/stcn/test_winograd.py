"""Convolutions in Winograd's form are the plain ones, and which of a network take it."""

from argparse import Namespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import inference
from common.backbone import digest, for_inference
from systems.stcn import winograd
from systems.stcn.blocks import JoinedConv2d
from systems.stcn.winograd import WinogradConv2d, convolve, transform_weight


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(("size", "padding"), [((1, 1), 1), ((3, 3), 0), ((9, 13), 1), ((16, 8), 0)])
def test_a_convolution_by_transformed_weights_is_the_plain_one(m, size, padding):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, *size), torch.randn(5, 3, 3, 3)
    result = convolve(x, transform_weight(weight, m), m, padding)
    expected = F.conv2d(x.double(), weight.double(), padding=padding).float()
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("numbers", [1, 4000, 9000])
def test_strips_of_any_height_give_the_same_numbers(m, numbers, monkeypatch):
    x, weight = torch.randn(1, 3, 30, 11), transform_weight(torch.randn(5, 3, 3, 3), m)
    whole = convolve(x, weight, m)
    monkeypatch.setattr(winograd, "STRIP_NUMBERS", numbers)
    torch.testing.assert_close(convolve(x, weight, m), whole, atol=1e-5, rtol=0)


def test_no_picture_is_a_legal_batch():
    weight = transform_weight(torch.randn(5, 3, 3, 3), 4)
    assert convolve(torch.zeros(0, 3, 6, 7), weight, 4).shape == (0, 5, 6, 7)


def wide_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        WinogradConv2d(128, 128, 3, padding=1),
        nn.Sequential(WinogradConv2d(128, 640, 3, bias=False)),
        WinogradConv2d(640, 640, 3, padding=1),
        WinogradConv2d(640, 128, 3, stride=2),  # this one and what follows gain nothing
        WinogradConv2d(128, 64, 3),
        WinogradConv2d(64, 128, 1),
    )


@torch.no_grad()
def test_for_inference_on_a_cpu_wide_convolutions_of_stride_one_change_their_form():
    x = torch.randn(1, 128, 24, 20)
    expected, fast = wide_network()(x), for_inference(wide_network())
    forms = [part.m for part in fast.modules() if isinstance(part, WinogradConv2d)]
    assert forms == [4, 4, 2, 0, 0, 0]  # by 4 where it makes not too many numbers of the weights
    torch.testing.assert_close(fast(x), expected, atol=1e-5, rtol=0)
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    torch.testing.assert_close(for_inference(fast)(x), expected, atol=1e-5, rtol=0)  # once and for all


@pytest.mark.parametrize("where", [{"winograd": False}, {"device": torch.device("meta")}])
def test_convolutions_keep_their_form_where_it_is_not_asked_for_or_there_is_no_cpu(where):
    network = for_inference(wide_network(), **where)
    assert not any(part.m for part in network.modules() if isinstance(part, WinogradConv2d))


def test_weights_are_known_by_the_same_digest_in_every_form():
    plain, other = wide_network(), wide_network()
    nn.init.zeros_(other[0].weight)
    known = digest(for_inference(wide_network()))
    assert known == digest(for_inference(for_inference(wide_network())))
    assert known == digest(for_inference(plain, winograd=False)) != digest(for_inference(other))


@pytest.mark.parametrize("frame_first", [False, True])
@torch.no_grad()
def test_a_joined_convolution_changes_its_form_too(frame_first):
    torch.manual_seed(0)
    network = nn.Sequential(JoinedConv2d(200, 128, 3, padding=1, frame_first=frame_first))
    objects, frame = torch.randn(1, 2, 72, 9, 7), torch.randn(1, 1, 128, 9, 7)
    expected = network[0](objects, frame)
    result = for_inference(network)[0](objects, frame)
    assert network[0].m == 4
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "flags, form", [({}, True), ({"amp": "bf16"}, False), ({"winograd": False}, False)], ids=str
)
def test_the_command_takes_winograds_form_in_float32_alone(flags, form):
    args = Namespace(**{"device": "cpu", "amp": "auto", "winograd": True} | flags)
    prepared = inference.prepared(wide_network(), args)
    assert any(part.m for part in prepared.modules() if isinstance(part, WinogradConv2d)) == form
