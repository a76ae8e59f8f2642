"""Features of a backbone: weights from everywhere and nowhere, what is frozen, frozen norms in bf16."""

import os
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2, resnet18, resnet50
from torchvision.models.detection.backbone_utils import BackboneWithFPN, _resnet_fpn_extractor
from torchvision.models.resnet import BasicBlock as TorchvisionBasicBlock
from torchvision.ops import FrozenBatchNorm2d as TorchvisionFrozenBatchNorm2d

from common.backbone import (
    Backbone,
    BasicBlock,
    FrozenBatchNorm2d,
    for_inference,
    group_norm,
    published_weights,
)
from common.errors import UserError


def loaded_backbone(source: str) -> Backbone:
    backbone = Backbone("resnet50", source)
    backbone.load(source)
    return backbone


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory) -> Path:
    """torchvision's own ResNet-50 with random weights and statistics."""
    torch.manual_seed(0)
    net = resnet50()
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.mark.parametrize(
    "name, channels",
    [
        ("narrow", [32, 48, 64, 96]),
        ("mobilenet_v2", [24, 32, 96, 320]),
        ("resnet50", [256, 512, 1024, 2048]),
    ],
)
def test_without_weights_four_stages_are_trained_with_group_norm(name, channels):
    torch.manual_seed(0)
    backbone = Backbone(name, "none")
    stages = backbone(torch.randn(2, 3, 64, 96))
    assert backbone.channels == channels
    assert {s: tuple(x.shape) for s, x in stages.items()} == {
        s: (2, c, 64 // s, 96 // s) for s, c in zip((4, 8, 16, 32), channels, strict=True)
    }
    assert all(p.requires_grad for p in backbone.parameters())
    assert not any(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in backbone.modules())
    assert not list(backbone.buffers()) and all(x.isfinite().all() for x in stages.values())


def test_a_weights_file_gives_the_features_of_torchvision_and_freezes_stem_layer1_and_norms(weights_file):
    backbone = loaded_backbone(str(weights_file))
    net = resnet50()
    net.load_state_dict(torch.load(weights_file, weights_only=True))
    net.eval()
    frames = torch.randn(1, 3, 64, 64)
    x = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(frames)))))
    with torch.no_grad():
        expected = net.layer4(net.layer3(net.layer2(x)))
        found = backbone.train()(frames)  # frozen norms are the same in training
    assert torch.allclose(found[4], x, rtol=1e-3, atol=1e-4)
    assert torch.allclose(found[32], expected, rtol=1e-3, atol=1e-4)
    frozen = {name.split(".")[0] for name, p in backbone.named_parameters() if not p.requires_grad}
    trained = {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert frozen == {"stem", "layer1"} and trained == {"layer2", "layer3", "layer4"}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    assert not any("bn" in name for name, _ in backbone.named_parameters())


def test_imagenet_weights_are_taken_from_torchvision(monkeypatch, weights_file):
    weights = torch.load(weights_file, weights_only=True)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *args, **kwargs: weights)
    backbone = loaded_backbone("imagenet")
    assert torch.equal(backbone.stem.conv1.weight, weights["conv1.weight"])


@pytest.mark.parametrize(
    "which, name",
    [
        ("ResNet50_Weights.IMAGENET1K_V2", "resnet50-11ad3fa6.pth"),
        ("MobileNet_V2_Weights.IMAGENET1K_V1", "mobilenet_v2-b0353104.pth"),
        ("MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1", "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"),
    ],
)
def test_a_damaged_file_in_torchs_cache_is_told_with_its_path(tmp_path, monkeypatch, which, name):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    cached.parent.mkdir(parents=True)
    torch.save({}, cached)
    with pytest.raises(UserError, match=rf"{re.escape(name)} is damaged.*download it again"):
        published_weights(which)


@pytest.mark.parametrize(
    "error",
    [
        URLError("[Errno -2] Name or service not known"),
        TimeoutError("timed out"),
        RuntimeError('invalid hash value (expected "11ad3fa6", got "00")'),
    ],
)
def test_without_a_network_imagenet_is_one_clear_error_that_names_the_flag(monkeypatch, error):
    def fail(*args, **kwargs) -> None:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(UserError) as caught:
        published_weights("ResNet50_Weights.IMAGENET1K_V2")
    message = str(caught.value)
    assert "\n" not in message and str(error) in message
    assert "--backbone_weights PATH" in message and "--backbone_weights none" in message
    with pytest.raises(UserError, match="cannot be fetched"):
        loaded_backbone("imagenet")  # never a silent random start


def test_a_network_for_a_checkpoint_reads_no_weights_and_has_the_same_names(monkeypatch, weights_file):
    expected = loaded_backbone(str(weights_file)).state_dict()

    def fail(*args) -> None:
        raise AssertionError("weights were fetched")

    monkeypatch.setattr("common.backbone.published_weights", fail)
    for weights in ("imagenet", "no/such/file.pth"):
        built = Backbone("resnet50", weights).state_dict()
        assert {k: x.shape for k, x in built.items()} == {k: x.shape for k, x in expected.items()}


def write_junk(path: Path) -> None:
    path.write_bytes(b"junk")


def write_list(path: Path) -> None:
    torch.save([1, 2], path)


def write_code(path: Path) -> None:
    torch.save({"conv1.weight": os.system}, path)


def write_other_network(path: Path) -> None:
    torch.save(resnet18().state_dict(), path)


@pytest.mark.parametrize("write", [write_junk, write_list, write_code, write_other_network])
def test_a_bad_weights_file_is_one_short_line_that_names_it(tmp_path, write):
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(UserError) as caught:
        loaded_backbone(str(path))
    message = str(caught.value)
    assert message.startswith(f"--backbone_weights {path}")
    assert "\n" not in message and len(message) < 400


def test_an_absent_weights_file_is_told_with_the_legal_values(tmp_path):
    with pytest.raises(
        UserError, match=r"absent\.pth: no such file; legal values are imagenet, coco, none or a file"
    ):
        loaded_backbone(str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("weights", ["imagenet", "file.pth"])
def test_the_narrow_backbone_has_no_weights_to_load(weights):
    with pytest.raises(UserError, match="add --backbone_weights none"):
        Backbone("narrow", weights)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_basic_block_is_torchvisions_from_its_random_start(stride):
    torch.manual_seed(0)
    block = BasicBlock(16, 24, stride)
    torch.manual_seed(0)
    shortcut = nn.Sequential(nn.Conv2d(16, 24, 1, stride, bias=False), group_norm(24))
    theirs = TorchvisionBasicBlock(16, 24, stride, shortcut, norm_layer=group_norm)
    assert [name for name, _ in block.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert all(map(torch.equal, block.parameters(), theirs.parameters()))
    x = torch.randn(2, 16, 8, 6)
    assert torch.equal(block(x), theirs(x))


def test_frozen_batch_norm_is_torchvisions_and_keeps_bf16():
    torch.manual_seed(0)
    ours, theirs = FrozenBatchNorm2d(4), TorchvisionFrozenBatchNorm2d(4)
    for buffer in ours.buffers():
        buffer.uniform_(0.5, 2)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 5, 5)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert ours(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nn.Sequential(nn.Conv2d(4, 4, 1), ours)(x).dtype == torch.bfloat16
    assert not list(ours.parameters())


def test_for_inference_every_batch_norm_is_folded_which_changes_rounding_only(weights_file):
    frames = torch.randn(1, 3, 64, 96)
    plain = loaded_backbone(str(weights_file))
    fast = for_inference(loaded_backbone(str(weights_file)))
    assert not any(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in fast.modules())
    assert not any(p.requires_grad for p in fast.parameters())
    folded = fast(frames)
    for stride, features in plain(frames).items():
        tolerance = 1e-5 * features.abs().max().item()
        torch.testing.assert_close(folded[stride], features, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def mobilenet_file(tmp_path_factory) -> Path:
    """torchvision's own MobileNetV2 with random weights and the statistics of noise."""
    torch.manual_seed(0)
    net = mobilenet_v2().train()
    with torch.no_grad():
        for _ in range(20):
            net.features(torch.randn(4, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.save(net.state_dict(), path)
    return path


def loaded_mobilenet(source: str) -> Backbone:
    backbone = Backbone("mobilenet_v2", source)
    backbone.load(source)
    return backbone


def test_a_mobilenet_file_gives_the_features_of_torchvision_and_freezes_stem_and_layer1(mobilenet_file):
    net = mobilenet_v2()
    net.load_state_dict(torch.load(mobilenet_file, weights_only=True))
    backbone = loaded_mobilenet(str(mobilenet_file)).train()
    x = frames = torch.randn(1, 3, 64, 96)
    expected = {}
    for number, block in enumerate(net.eval().features):
        x = block(x)
        if number in (3, 6, 13, 17):
            expected[64 // x.shape[-2]] = x
    torch.testing.assert_close(backbone(frames), expected, rtol=1e-3, atol=1e-4)
    frozen = {name.split(".")[0] for name, p in backbone.named_parameters() if not p.requires_grad}
    trained = {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert frozen == {"stem", "layer1"} and trained == {"layer2", "layer3", "layer4"}


def test_for_inference_the_blocks_of_a_mobilenet_are_folded_too(mobilenet_file):
    frames = torch.randn(1, 3, 64, 96)
    plain, fast = (loaded_mobilenet(str(mobilenet_file)) for _ in range(2))
    for_inference(fast)
    assert not any(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in fast.modules())
    folded = fast(frames)
    for stride, features in plain(frames).items():
        tolerance = 1e-5 * features.abs().max().item()
        torch.testing.assert_close(folded[stride], features, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name, title", [("mobilenet_v2", "MobileNetV2"), ("resnet50", "ResNet-50")])
def test_the_weights_of_another_network_are_refused_by_the_name_of_the_right_one(
    name, title, weights_file, mobilenet_file
):
    other = {"mobilenet_v2": weights_file, "resnet50": mobilenet_file}[name]
    with pytest.raises(UserError, match=f"not a {title} of torchvision"):
        Backbone(name, str(other)).load(str(other))


@pytest.fixture(scope="module")
def detector() -> BackboneWithFPN:
    """The backbone of torchvision's Mask R-CNN of COCO, with random weights and the statistics of noise."""
    torch.manual_seed(0)
    network = _resnet_fpn_extractor(resnet50(), 5, norm_layer=nn.BatchNorm2d).train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(2, 3, 64, 64))
    return network.eval()


@pytest.fixture(scope="module")
def detector_file(detector, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "maskrcnn.pth"
    weights = {f"backbone.{key}": x for key, x in detector.state_dict().items()}
    torch.save(weights | {"roi_heads.box_head.0.0.weight": torch.zeros(4, 4, 3, 3)}, path)
    return path


def test_of_a_detector_of_coco_backbone_and_laterals_are_taken(detector, detector_file):
    backbone = Backbone("resnet50", "coco")
    laterals = backbone.load(str(detector_file))
    frames = torch.randn(1, 3, 64, 96)
    features = backbone(frames)
    body = detector.body(frames)
    for place, stride in enumerate((4, 8, 16, 32)):
        torch.testing.assert_close(features[stride], body[str(place)], rtol=1e-3, atol=1e-4)
        lateral = nn.functional.conv2d(body[str(place)], **laterals[stride])
        expected = detector.fpn.inner_blocks[place](body[str(place)])
        torch.testing.assert_close(lateral, expected, rtol=1e-3, atol=1e-4)


def test_the_name_coco_stands_for_torchvisions_detector(monkeypatch, detector_file):
    weights, asked = torch.load(detector_file, weights_only=True), []

    def fetch(address: str, **options) -> dict:
        asked.append(address)
        return weights

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    assert set(loaded_backbone("coco").load("coco")) == {4, 8, 16, 32}
    assert {Path(address).name for address in asked} == {"maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"}


def test_other_backbones_have_no_weights_of_coco():
    with pytest.raises(UserError, match="--backbone_weights coco: only ResNet-50"):
        Backbone("mobilenet_v2", "coco").load("coco")


def test_weights_that_training_programs_wrapped_are_the_same(weights_file, tmp_path):
    weights = torch.load(weights_file, weights_only=True)
    torch.save({"state_dict": {f"module.{key}": x for key, x in weights.items()}}, tmp_path / "wrapped.pth")
    backbone = loaded_backbone(str(tmp_path / "wrapped.pth"))
    assert torch.equal(backbone.stem.conv1.weight, weights["conv1.weight"])


def test_weights_of_a_backbone_that_are_not_finite_are_refused(tmp_path):
    torch.save({"conv1.weight": torch.tensor([1.0, torch.nan])}, tmp_path / "spoiled.pth")
    with pytest.raises(UserError, match=r"--backbone_weights .*spoiled\.pth: it holds numbers .* not finite"):
        loaded_backbone(str(tmp_path / "spoiled.pth"))
