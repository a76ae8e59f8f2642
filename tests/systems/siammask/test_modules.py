"""SiamMask's network: sizes, what is trained when, and where its weights come from."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2, resnet50

from common.checkpoint import save_checkpoint
from common.errors import UserError
from systems.siammask.backbones import (
    CORRELATED,
    Bottleneck,
    DilatedResNet,
    centred,
    depthwise_correlation,
    load_imagenet,
    make_backbone,
)
from systems.siammask.modules import SiamMask
from systems.siammask.refinement import WINDOWS, all_windows, window_at
from systems.siammask.start import start
from tests.support.siammask_networks import small_network
from training.optim import parameter_groups
from video.transforms import normalise


def trained(network: SiamMask) -> set[str]:
    """The parts that have trained parameters, down to the layers of the backbone."""
    names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    return {".".join(name.split(".")[: 3 if name.startswith("features.features") else 2]) for name in names}


@pytest.mark.parametrize(
    ("side", "cells"), [(127, (61, 31, 15, 15)), (143, (69, 35, 17, 17)), (255, (125, 63, 31, 31))]
)
def test_all_backbones_have_the_published_sizes(side, cells):
    for name in CORRELATED:
        with torch.no_grad():
            levels = make_backbone(name).eval()(torch.zeros(1, 3, side, side))
        assert tuple(level.shape[-1] for level in levels) == cells
        assert tuple(level.shape[1] for level in levels) == make_backbone(name).channels


def test_the_cells_of_a_mobilenet_lie_where_those_of_the_published_backbone_do():
    torch.manual_seed(0)
    crop = torch.rand(1, 3, 351, 351, requires_grad=True)
    levels = make_backbone("mobilenet_v2").eval()(crop)
    for level, (first, step) in zip(levels, ((3, 2), (3, 4), (7, 8), (7, 8)), strict=True):
        place = level.shape[-1] // 2 - 2
        (gradient,) = torch.autograd.grad(level[0, :, place, place].square().sum(), crop, retain_graph=True)
        seen = gradient[0].abs().sum(0) > 0
        for side in (seen.any(0), seen.any(1)):  # what a cell sees lies around its own place
            places = side.nonzero()
            assert (places.min() + places.max()).item() / 2 == first + step * place


def test_the_outputs_of_both_steps_have_the_sizes_that_are_promised():
    frames = torch.rand(2, 2, 3, 255, 255) * 255
    outputs = small_network()(frames)
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {
        "cls": (2, 10, 25, 25),
        "loc": (2, 20, 25, 25),
        "mask": (2, 64, 25, 25),
        "mask_weight": (63 * 63, 64),
        "mask_bias": (63 * 63,),
    }
    assert small_network(refine=True)(frames[..., 56:199, 56:199])["refined"].shape == (2, 3, 3, 127, 127)


def test_the_last_layer_of_the_mask_branch_gives_the_coarse_masks():
    network, frames = small_network(), torch.rand(1, 2, 3, 255, 255) * 255
    with torch.no_grad():
        outputs = network(frames)
        kernels, _ = network.encode_template(frames[:, 0, :, 64:191, 64:191])
        expected = network.coarse_masks(network.search(kernels, frames[:, 1]).row)
    masks = torch.einsum("oc,bcyx->boyx", outputs["mask_weight"], outputs["mask"])
    torch.testing.assert_close(masks + outputs["mask_bias"][:, None, None], expected, atol=1e-4, rtol=1e-4)


def test_the_template_is_the_middle_of_the_first_crop():
    network, frames = small_network(), torch.rand(1, 2, 3, 255, 255) * 255
    other = frames.clone()
    other[:, 0, :, :64] = other[:, 0, :, :, 191:] = 0
    with torch.no_grad():
        assert network(frames)["cls"].equal(network(other)["cls"])


def test_a_correlation_by_hand():
    search = torch.arange(2 * 2 * 3 * 3).view(2, 2, 3, 3).float()
    kernel = torch.ones(2, 2, 2, 2) * torch.tensor([1.0, 2.0])[:, None, None, None]
    result = depthwise_correlation(search, kernel)
    assert result.shape == (2, 2, 2, 2)
    assert result[0, 0].tolist() == [[0 + 1 + 3 + 4, 1 + 2 + 4 + 5], [3 + 4 + 6 + 7, 4 + 5 + 7 + 8]]
    assert result[1, 0, 0, 0] == 2 * (18 + 19 + 21 + 22)


def test_a_window_of_a_place_is_the_slice_of_the_padded_features():
    for side, (width, step, margin) in zip((125, 63, 31), WINDOWS, strict=True):
        features = torch.rand(3, 2, side, side)
        places = torch.tensor([[0, 0], [24, 24], [7, 19]])
        padded = nn.functional.pad(features, [margin] * 4)
        for k, (y, x) in enumerate(places.tolist()):
            expected = padded[k, :, y * step : y * step + width, x * step : x * step + width]
            assert window_at(features, places, width, step, margin)[k].equal(expected)


def test_all_windows_come_by_sample_row_and_column():
    features = torch.arange(2 * 17 * 17).view(2, 1, 17, 17).float()
    result = all_windows(features, 15, 1)
    assert result.shape == (18, 1, 15, 15)
    assert result[9 + 3 + 2, 0].equal(features[1, 0, 1:16, 2:17])


# -------------------------------------------------------------------------------------------- what is trained


def test_a_backbone_with_weights_is_frozen_and_thaws_but_for_its_first_layers():
    network = SiamMask(SiamMask.Config())
    every = {"features.downsample", "rpn_model.cls", "rpn_model.loc", "mask_model.mask"}
    deep = {"features.features.layer2", "features.features.layer3"}
    assert trained(network) == every | deep  # all that some epoch trains: what an optimiser must know
    assert network.set_epoch(0, 20) and trained(network) == every
    assert not network.set_epoch(9, 20)
    assert network.set_epoch(10, 20) and trained(network) == every | deep
    network.train()
    assert not network.features.features.layer1[0].bn1.training and not network.features.features.bn1.training
    assert network.features.features.layer2[0].bn1.training and network.rpn_model["cls"].head[1].training
    network.set_epoch(3, 20)
    assert not network.features.features.layer2[0].bn1.training


def test_a_mobilenet_with_weights_thaws_at_stride_8():
    network = SiamMask(SiamMask.Config(backbone="mobilenet_v2"))
    every = {"features.downsample", "rpn_model.cls", "rpn_model.loc", "mask_model.mask"}
    assert network.set_epoch(0, 20) and trained(network) == every
    deep = {f"features.features.{number}" for number in range(4, 14)}
    assert network.set_epoch(10, 20) and trained(network) == every | deep
    network.train()
    norms = {number: network.features.features[number].conv[0][1] for number in (3, 4)}
    assert norms[4].training and not norms[3].training


def test_a_network_from_random_weights_is_trained_as_a_whole():
    network = small_network()
    assert not network.set_epoch(0, 20) and all(p.requires_grad for p in network.parameters())


def test_the_second_step_trains_the_refinement_and_the_mask_branch_up_to_its_head():
    network = small_network(refine=True).train()
    names = {name for name, p in network.named_parameters() if p.requires_grad}
    starts = ("refine_model.", "mask_model.mask.conv_kernel.", "mask_model.mask.conv_search.")
    assert names == {name for name, _ in network.named_parameters() if name.startswith(starts)}
    assert (
        not network.rpn_model["cls"].head[1].training and network.mask_model["mask"].conv_search[1].training
    )


def test_the_backbone_has_the_rate_of_the_backbone():
    rates = {"lr_head": 1.0, "lr_backbone": 0.1, "weight_decay": 0.0}
    network = small_network()
    place = {id(p): g["lr"] for g in parameter_groups(network, nn.Module(), **rates) for p in g["params"]}
    for name, parameter in network.named_parameters():
        assert place[id(parameter)] == (0.1 if name.startswith("features.features.") else 1.0), name


# -------------------------------------------------------------------------------------------- where it starts


def test_a_kernel_of_one_pixel_becomes_the_middle_of_one_of_nine():
    kernel = torch.rand(4, 2, 1, 1)
    large = centred(kernel, 3)
    assert large.shape == (4, 2, 3, 3) and large[..., 1:2, 1:2].equal(kernel)
    assert large.sum() == pytest.approx(kernel.sum().item())


@pytest.fixture
def resnet() -> dict[str, torch.Tensor]:
    """As a file of torchvision's ResNet-50 has it: shortcuts of 1x1, layer4 and a classifier."""
    torch.manual_seed(3)
    weights = {
        name: torch.rand_like(x) for name, x in DilatedResNet("resnet50").state_dict().items() if x.ndim
    }
    for name in ("layer2.0.downsample.0.weight", "layer3.0.downsample.0.weight"):
        weights[name] = weights[name][..., :1, :1].clone()
    return weights | {"fc.bias": torch.zeros(1000)}


def test_weights_of_torchvision_are_read_and_fit(resnet, tmp_path):
    torch.save(resnet, tmp_path / "resnet.pth")
    backbone = DilatedResNet("resnet50")
    load_imagenet(backbone, str(tmp_path / "resnet.pth"))
    result = backbone.state_dict()
    assert result["layer1.2.conv3.weight"].equal(resnet["layer1.2.conv3.weight"])
    shortcut = result["layer3.0.downsample.0.weight"]
    assert (
        shortcut[..., 1:2, 1:2].equal(resnet["layer3.0.downsample.0.weight"])
        and not shortcut[..., 0, :].any()
    )
    torch.save(
        {f"features.{name}": x for name, x in backbone.state_dict().items()}, tmp_path / "resnet.model"
    )
    other = DilatedResNet("resnet50")
    load_imagenet(other, str(tmp_path / "resnet.model"))  # the published file, whose shortcuts are 3x3
    assert all(x.equal(result[name]) for name, x in other.state_dict().items())


def with_statistics(net: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics such as batch norms have that were trained."""
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.5)
            part.running_var.uniform_(0.5, 2)
    return net.eval()


def test_mobilenet_features_from_imagenet_are_those_of_the_normalised_picture(tmp_path):
    torch.manual_seed(0)
    net = with_statistics(mobilenet_v2(weights=None))
    torch.save(net.state_dict(), tmp_path / "mobilenet.pth")
    network = SiamMask(
        SiamMask.Config(backbone="mobilenet_v2", backbone_weights=str(tmp_path / "mobilenet.pth"))
    )
    start(network, network.config)
    rgb = torch.randint(0, 256, (2, 3, 127, 255), dtype=torch.uint8)
    for conv in (net.features[0][0], net.features[4].conv[1][0]):
        conv.padding = (0, 0)  # as here
    with torch.no_grad():
        p0, p1, p2, p3 = network.eval().features.features(rgb.flip(1).float())
        expected = [normalise(rgb)[..., 2:-2, 2:-2]]
        for start_of, end in pairwise((0, 2, 4, 7, 14)):
            expected.append(net.features[start_of:end](expected[-1]))
    found = (p0, p1, p2, p3[..., ::2, ::2])  # where the strided network has its cells
    torch.testing.assert_close(found, tuple(expected[1:]), rtol=1e-4, atol=1e-4)
    assert all(level.std() > 0.1 for level in found)


@pytest.mark.parametrize("height, width", [(127, 127), (40, 255)])
def test_features_from_imagenet_are_those_of_the_normalised_picture(tmp_path, height, width):
    torch.manual_seed(0)
    torchvision_net = with_statistics(resnet50(weights=None))
    torch.save(torchvision_net.state_dict(), tmp_path / "resnet.pth")
    backbone = DilatedResNet("resnet50").eval()
    load_imagenet(backbone, str(tmp_path / "resnet.pth"))
    rgb = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    torchvision_net.conv1.padding = 0  # as here
    stem = nn.Sequential(torchvision_net.conv1, torchvision_net.bn1, torchvision_net.relu)
    with torch.no_grad():
        p0, p1, *_ = backbone(rgb.flip(1).float())
        expected = stem(normalise(rgb))
        expected_p1 = torchvision_net.layer1(torchvision_net.maxpool(expected))
    assert p0.shape == expected.shape and (p0 - expected).abs().max() < 1e-4
    assert (p1 - expected_p1).abs().max() < 1e-4 and p1.std() > 0.1


def test_weights_of_another_network_and_none_for_a_narrow_one_are_refused(resnet, tmp_path):
    del resnet["layer2.3.conv3.weight"]
    torch.save(resnet, tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=r"no fitting layer2\.3\.conv3\.weight"):
        load_imagenet(DilatedResNet("resnet50"), str(tmp_path / "resnet.pth"))
    network = SiamMask(SiamMask.Config(backbone="narrow"))
    with pytest.raises(UserError, match="add --backbone_weights none"):
        start(network, network.config)


def write_checkpoint(path, network: SiamMask) -> None:
    config = {"network": dataclasses.asdict(network.config)}
    save_checkpoint(
        path,
        {"format": 1, "system": "siammask", "config": config, "model": network.state_dict(), "ema": None},
    )


def test_the_second_step_starts_from_the_first_and_the_first_may_start_from_the_second(tmp_path):
    base = small_network(seed=5)
    write_checkpoint(tmp_path / "base.pth", base)
    second = small_network(seed=6, refine=True, load_network=str(tmp_path / "base.pth"))
    result = second.state_dict()
    assert all(x.equal(result[name]) for name, x in base.state_dict().items())
    write_checkpoint(tmp_path / "second.pth", second)
    again = small_network(seed=7, load_network=str(tmp_path / "second.pth")).state_dict()
    assert all(x.equal(result[name]) for name, x in again.items())


def test_weights_of_another_width_are_refused(tmp_path):
    write_checkpoint(tmp_path / "base.pth", small_network())
    with pytest.raises(UserError, match=r"other options, as features\.features\.conv1\.weight"):
        network = SiamMask(SiamMask.Config(load_network=str(tmp_path / "base.pth")))
        start(network, network.config)


def test_a_block_pads_by_its_dilation_or_by_what_its_stride_leaves():
    x = torch.zeros(1, 8, 15, 15)
    options = {"norm": nn.BatchNorm2d, "shortcut": 3}
    assert Bottleneck(8, 2, stride=2, dilation=1, **options)(x).shape[-1] == 7
    assert Bottleneck(8, 2, stride=1, dilation=1, **options)(x).shape[-1] == 15
    assert Bottleneck(8, 2, stride=1, dilation=2, norm=nn.BatchNorm2d, shortcut=0).conv2.padding == (2, 2)
