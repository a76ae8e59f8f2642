"""STCN's network: its blocks are what they stand for, objects share their frame, training starts anywhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import mobilenet_v2, resnet18, resnet50

import main
from common.checkpoint import save_checkpoint
from common.errors import UserError
from inference import load_network
from systems.stcn.blocks import JoinedConv2d, JoinedResBlock, ResBlock
from systems.stcn.modules import STCN, others_of
from systems.stcn.published import CHANNELS, MASK_FILTERS
from systems.stcn.start import start, start_from
from systems.xmem.modules import XMem
from tests.support.commands import assert_refused, run_here
from tests.support.stcn_networks import FLAGS, NARROW, small_network


def random_inputs(B: int = 2, K: int = 2, size: int = 32, T: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T, 3, H, W) frames and (B, K, H, W) bool masks of bands of rows."""
    generator = torch.Generator().manual_seed(7)
    masks = torch.zeros(B, K, size, size, dtype=torch.bool)
    for k in range(K):
        masks[:, k, k * size // K : (k + 1) * size // K - 3] = True
    return torch.randn(B, T, 3, size, size, generator=generator), masks


@pytest.mark.parametrize("frame_first", [False, True])
def test_a_joined_convolution_is_that_of_the_frame_with_every_object(frame_first):
    torch.manual_seed(0)
    conv = JoinedConv2d(5, 4, 3, stride=2, padding=1, frame_first=frame_first)
    objects, frame = torch.randn(2, 3, 2, 9, 8), torch.randn(2, 1, 3, 9, 8)
    parts = [objects, frame.expand(-1, 3, -1, -1, -1)]
    joined = torch.cat(parts[::-1] if frame_first else parts, 2).flatten(0, 1)
    plain = F.conv2d(joined, conv.weight, conv.bias, stride=2, padding=1).unflatten(0, (2, 3))
    torch.testing.assert_close(conv(objects, frame), plain, atol=1e-5, rtol=0)


def test_a_joined_block_is_the_plain_one_on_the_concatenation():
    torch.manual_seed(0)
    joined, plain = JoinedResBlock(5, 4), ResBlock(5, 4)
    plain.load_state_dict(joined.state_dict())
    objects, frame = torch.randn(2, 3, 2, 9, 8), torch.randn(2, 1, 3, 9, 8)
    whole = torch.cat([objects, frame.expand(-1, 3, -1, -1, -1)], 2).flatten(0, 1)
    torch.testing.assert_close(joined(objects, frame).flatten(0, 1), plain(whole), atol=1e-5, rtol=0)


def test_the_sum_of_the_others_is_worked_by_hand():
    masks = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1)
    assert others_of(masks).flatten().tolist() == [0.75, 1.25, 1.5]


@pytest.mark.parametrize("objects", [0, 1, 2, 4])
def test_the_logits_are_those_of_every_frame_but_the_first(objects):
    frames, masks = random_inputs(K=max(1, objects))
    logits = small_network()(frames, masks[:, :objects])["logits"]
    assert logits.shape == (2, 2, objects + 1, 32, 32) and logits.isfinite().all()


def test_frames_are_read_from_those_before_them_only():
    network = small_network()
    frames, masks = random_inputs(T=4)
    with torch.no_grad():
        whole, start = network(frames, masks)["logits"], network(frames[:, :3], masks)["logits"]
    torch.testing.assert_close(whole[:, :2], start, atol=1e-5, rtol=0)


def test_the_order_of_objects_does_not_matter():
    network = small_network()
    frames, masks = random_inputs()
    with torch.no_grad():
        one, other = network(frames, masks)["logits"], network(frames, masks.flip(1))["logits"]
    torch.testing.assert_close(one[:, :, [0, 2, 1]], other, atol=1e-4, rtol=0)


def test_an_object_without_a_mask_is_nowhere_and_changes_nothing():
    network = small_network()
    frames, masks = random_inputs(K=1)
    with torch.no_grad():
        alone = network(frames, masks)["logits"].softmax(2)
        padded = network(frames, torch.cat([masks, torch.zeros_like(masks)], 1))["logits"].softmax(2)
    assert padded[:, :, 2].max() < 1e-5
    torch.testing.assert_close(padded[:, :, :2], alone, atol=1e-4, rtol=0)


def test_frames_that_are_not_padded_are_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        small_network().encode_key(torch.zeros(1, 3, 40, 32))


def test_batch_norm_keeps_its_statistics_and_its_scales_are_trained():
    network = STCN(STCN.Config(backbone_weights="none", value_weights="none")).train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 50 and not any(norm.training for norm in norms) and network.decoder.training
    assert all(norm.weight.requires_grad for norm in norms)


def test_a_network_of_one_object_does_not_see_the_others():
    network = small_network(single_object=True)
    frames, masks = random_inputs()
    assert network.value_encoder.conv1.weight.shape[1] == CHANNELS - 1
    with torch.no_grad():
        f16 = network.encode_key(frames[:, 0]).f16
        values = [
            network.encode_value(frames[:, 0], f16, masks.float(), others)
            for others in (masks.float(), torch.zeros_like(masks, dtype=torch.float32))
        ]
    assert values[0].equal(values[1])


# ------------------------------------------------------------------------------------------------ the start


def test_imagenet_weights_are_copied_and_mask_channels_are_orthogonal(tmp_path):
    torch.manual_seed(1)
    files = {"resnet50": resnet50(weights=None), "resnet18": resnet18(weights=None)}
    for name, net in files.items():
        torch.save(net.state_dict(), tmp_path / f"{name}.pth")
    weights = {"backbone_weights": tmp_path / "resnet50.pth", "value_weights": tmp_path / "resnet18.pth"}
    network = STCN(STCN.Config(**{flag: str(path) for flag, path in weights.items()}))
    start(network, network.config)
    keys, values = network.key_encoder, network.value_encoder
    assert keys.res2[1].conv2.weight.equal(files["resnet50"].layer1[1].conv2.weight)
    assert keys.layer3[5].bn3.running_var.equal(files["resnet50"].layer3[5].bn3.running_var)
    assert values.layer3[1].conv2.weight.equal(files["resnet18"].layer3[1].conv2.weight)
    filters = values.conv1.weight
    assert filters[:, :3].equal(files["resnet18"].conv1.weight)
    masks = filters[:, 3:].flatten(1)  # (64, 98): the rows are orthonormal
    torch.testing.assert_close(masks @ masks.T, torch.eye(64), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def mobilenet() -> nn.Module:
    """torchvision's with random weights and the statistics of noise."""
    torch.manual_seed(0)
    net = mobilenet_v2().train()
    with torch.no_grad():
        for _ in range(20):
            net.features(torch.randn(4, 3, 64, 64))
    return net.eval()


@pytest.mark.parametrize("network", [STCN, XMem], ids=["stcn", "xmem"])
def test_mobilenet_weights_give_the_features_of_torchvision_in_both_encoders(network, mobilenet, tmp_path):
    torch.save(mobilenet.state_dict(), path := tmp_path / "mobilenet_v2.pth")
    options = {"backbone": "mobilenet_v2", "backbone_weights": str(path), "value_weights": str(path)}
    network = network(network.Config(**options)).train()
    start_from(network, network.config, {})
    frames, _ = random_inputs(B=1, T=1, size=96)
    x, expected = frames[:, 0], []
    for number, block in enumerate(mobilenet.features[:14]):
        x = block(x)
        if number in (3, 6, 13):
            expected.append(x)
    keys, values = network.key_encoder, network.value_encoder
    torch.testing.assert_close(list(keys(frames[:, 0])), expected, rtol=1e-4, atol=1e-5)
    no_mask = frames.new_zeros(1, 1, 2, 96, 96)
    x = values.tail(values.bn1(values.conv1(no_mask, frames)[:, 0]))
    x = values.layer3(values.layer2(values.layer1(x)))
    torch.testing.assert_close(x, expected[-1], rtol=1e-4, atol=1e-5)
    masks = values.conv1.weight[:, 3:].flatten(1)  # (32, 18): the columns are orthonormal
    torch.testing.assert_close(masks.T @ masks, torch.eye(18), atol=1e-5, rtol=0)


@pytest.mark.parametrize("backbone, kind", [("resnet50", "ResNet-"), ("mobilenet_v2", "MobileNetV2")])
@pytest.mark.parametrize("flag", ["--backbone_weights", "--value_weights"])
def test_weights_of_another_network_are_refused_with_their_flag(flag, backbone, kind, tmp_path, small_data):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.pth")
    flags = ["--system", "stcn", "--dataset_root", small_data, "--run_dir", tmp_path / "runs"]
    flags += ["--backbone", backbone, "--backbone_weights", "none", "--value_weights", "none"]
    assert_refused(run_here(main.main, *flags, flag, tmp_path / "other.pth"), flag, f"not a {kind}")
    assert_refused(run_here(main.main, *flags, flag, tmp_path / "absent.pth"), flag, "no such file")
    assert not (tmp_path / "runs").exists()


def test_a_narrow_network_has_no_weights_to_start_from():
    for flag in ("backbone_weights", "value_weights"):
        network = STCN(STCN.Config(**NARROW | {flag: "imagenet"}))
        with pytest.raises(UserError, match=f"--{flag} none"):
            start(network, network.config)


@pytest.fixture
def saved(tmp_path):
    """A function that saves a small network as a checkpoint of ours."""

    def save(network: STCN) -> str:
        options = {"network": vars(network.config), "tracker": {}}
        state = {"format": 1, "system": "stcn", "config": options, "model": network.state_dict(), "ema": None}
        save_checkpoint(tmp_path / "start.pth", state)
        return str(tmp_path / "start.pth")

    return save


def test_training_starts_from_another_checkpoint(saved):
    first = small_network(1)
    second = small_network(2, load_network=saved(first))
    assert all(x.equal(second.state_dict()[name]) for name, x in first.state_dict().items())


def test_a_network_of_stage_0_gets_orthogonal_filters_for_the_others(saved):
    first = small_network(1, single_object=True)
    second = small_network(2, load_network=saved(first))
    filters, added = (network.state_dict()[MASK_FILTERS] for network in (first, second))
    assert added[:, :4].equal(filters) and added.shape[1] == 5
    last = added[:, 4].flatten(1)
    torch.testing.assert_close(last @ last.T, torch.eye(len(last)), atol=1e-5, rtol=0)


def test_another_size_of_network_is_refused(saved):
    path = saved(small_network(1))
    with pytest.raises(UserError, match=r"--load_network .* other options"):
        small_network(2, load_network=path, value_dim=32)
    with pytest.raises(UserError, match=r"--load_network .* other options"):
        small_network(2, load_network=path, single_object=True)


@pytest.mark.parametrize("backbone", ["narrow", "mobilenet_v2"])
def test_a_checkpoint_is_loaded_without_reading_what_training_started_from(backbone, saved, tmp_path):
    network = small_network(1, backbone=backbone)
    for source in ("load_network", "backbone_weights", "value_weights"):
        setattr(network.config, source, str(tmp_path / "gone.pth"))
    loaded, config = load_network(saved(network), "stcn")
    assert config["network"]["key_dim"] == 8
    assert all(x.equal(loaded.state_dict()[name]) for name, x in network.state_dict().items())


def test_the_flags_of_the_small_network_are_those_of_the_command():
    args, _ = main.parse_args(FLAGS)
    assert (args.key_dim, args.value_dim, args.backbone) == (8, 16, "narrow")
