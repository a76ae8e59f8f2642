"""Features at strides 4, 8, 16 and 32: torchvision's ResNet-50 and MobileNetV2, and a narrow ResNet."""

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from common.checkpoint import check_digest, read_file, state_dict_of
from common.errors import UserError

NARROW_CHANNELS = (32, 48, 64, 96)
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
MOBILENET_ENDS = (2, 4, 7, 14, 18)  # where each of STAGES ends in `features` of torchvision's MobileNetV2
# torchvision's names of weights.
PRETRAINED = {
    "resnet50": "ResNet50_Weights.IMAGENET1K_V2",
    "mobilenet_v2": "MobileNet_V2_Weights.IMAGENET1K_V1",
}
DETECTOR = "MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1"  # Li et al., arXiv 2111.11429
BODY, LATERALS = "backbone.body.", "backbone.fpn.inner_blocks."  # in the names of its weights


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with fixed statistics, computed in the dtype of its input.

    torchvision's promotes to float32 under autocast, which doubles the memory of the activations.
    """

    eps = 1e-5

    def __init__(self, num_features: int):
        super().__init__()
        for name, value in {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}.items():
            self.register_buffer(name, torch.full((num_features,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> None:
    """Put a batch norm into the convolution before it, whose weights are not copied."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    conv.weight.mul_(scale[:, None, None, None])
    conv.bias = nn.Parameter(norm.bias - mean * scale, requires_grad=False)


def _fold_batch_norms(module: nn.Module) -> None:
    """Put every batch norm into the convolution that stands before it, in place."""
    previous = ""
    for name, part in list(module.named_children()):
        before = getattr(module, previous, None)
        if isinstance(part, nn.BatchNorm2d | FrozenBatchNorm2d) and isinstance(before, nn.Conv2d):
            _fold(before, part)
            setattr(module, name, nn.Identity())
        else:
            _fold_batch_norms(part)
        previous = name


def digest(network: nn.Module) -> str:
    """The SHA-256 of a network's weights; after `for_inference` the same on every device."""
    if hasattr(network, "plain_digest"):
        return network.plain_digest
    value = hashlib.sha256()
    for name, weights in network.state_dict().items():
        value.update(name.encode())
        value.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return value.hexdigest()


def for_inference(
    network: nn.Module, device: torch.device | None = None, *, winograd: bool = True
) -> nn.Module:
    """The network itself, made faster in place: the same up to rounding, but it can no longer train.

    Batch norms are folded into the convolutions, and 4-d weights have their channels last in memory.
    device: where it is to be; None: where it is
    winograd: whether parts that can (`use_winograd`) take Winograd's form, if that is a CPU
    """
    device = device or next(network.parameters()).device
    network.eval().requires_grad_(False)
    _fold_batch_norms(network)
    network.to(device, memory_format=torch.channels_last)
    wide = [part for part in network.modules() if hasattr(part, "use_winograd")]
    if wide and winograd and device.type == "cpu":
        network.plain_digest = digest(network)
        for part in wide:
            part.use_winograd()
    return network


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with 8 channels or more in each of at most 32 groups."""
    return nn.GroupNorm(min(32, channels // 8), channels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., CVPR 2016), with group norm.

    Names, order and random start are those of torchvision's BasicBlock with a shortcut of 1x1.
    """

    def __init__(self, inputs: int, channels: int, stride: int):
        super().__init__()
        shortcut = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride, bias=False), group_norm(channels))
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
        self.bn1 = group_norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = group_norm(channels)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.downsample(x)
        return self.relu(out)


def _resnet50_stages(norm_layer: type[nn.Module]) -> tuple[nn.Module, list[nn.Module], list[int]]:
    from torchvision.models import resnet50

    net = resnet50(weights=None, norm_layer=norm_layer)
    stem = nn.Sequential(OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, maxpool=net.maxpool))
    return stem, [net.layer1, net.layer2, net.layer3, net.layer4], [256, 512, 1024, 2048]


def _mobilenet_stages(norm_layer: type[nn.Module]) -> tuple[nn.Module, list[nn.Module], list[int]]:
    """MobileNetV2 (Sandler et al., arXiv 1801.04381) without its last 1x1 convolution, 1.8 M parameters.

    Blocks keep torchvision's numbers: `features.2.` is `layer1.2.` here.
    """
    from torchvision.models import mobilenet_v2

    blocks = mobilenet_v2(weights=None, norm_layer=norm_layer).features
    stem, *stages = [blocks[a:b] for a, b in pairwise((0, *MOBILENET_ENDS))]
    return stem, stages, [24, 32, 96, 320]


def _narrow_stages() -> tuple[nn.Module, list[nn.Module], list[int]]:
    """A ResNet with one basic block a stage, 0.5 M parameters, and two strided convolutions as its stem."""
    c4 = NARROW_CHANNELS[0]
    stem = nn.Sequential(
        nn.Conv2d(3, c4 // 2, 3, stride=2, padding=1, bias=False),
        group_norm(c4 // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(c4 // 2, c4, 3, stride=2, padding=1, bias=False),
        group_norm(c4),
        nn.ReLU(inplace=True),
    )
    stages, inputs = [], c4
    for channels in NARROW_CHANNELS:
        stages.append(BasicBlock(inputs, channels, stride=1 if channels == c4 else 2))
        inputs = channels
    return stem, stages, list(NARROW_CHANNELS)


def title_of(which: str) -> str:
    """The usual name of the network that weights of torchvision are of: ResNet-50, MobileNetV2."""
    return which.partition("_Weights")[0].replace("ResNet", "ResNet-").replace("_", "")


def published_weights(which: str, flag: str = "--backbone_weights") -> dict[str, Tensor]:
    """torchvision's weights of that name, from its cache or the web.

    Raises UserError, with the remedies, where neither has them.
    """
    from torchvision.models import get_weight

    weights = get_weight(which)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        if cached.is_file():  # torch checks what it downloads, once
            check_digest(cached)
        return weights.get_state_dict(progress=False, check_hash=True)
    except UserError:
        raise
    except (URLError, OSError, RuntimeError) as error:
        remedies = f"put it at {cached}, give a file with {flag} PATH, or train from scratch with {flag} none"
        raise UserError(f"{weights.url} cannot be fetched ({error}): {remedies}") from error


def read_backbone_weights(path: Path, flag: str = "--backbone_weights") -> dict[str, Tensor]:
    """The weights in a file of torch's, read without running any code in it; UserError where it has none."""
    if not path.exists():
        raise UserError(f"{flag} {path}: no such file; legal values are imagenet, coco, none or a file")
    try:
        weights = state_dict_of(read_file(path))
    except UserError as error:
        raise UserError(f"{flag} {error}") from error
    if not weights:
        raise UserError(f"{flag} {path}: not a state dict of tensors")
    if not all(x.isfinite().all() for x in weights.values()):
        raise UserError(f"{flag} {path}: it holds numbers that are not finite; give another file")
    return weights


def pretrained_weights(source: str, which: str, flag: str = "--backbone_weights") -> dict[str, Tensor]:
    """torchvision's weights of a network, or of the Mask R-CNN that has it as its backbone.

    source: `imagenet`, which stands for `which`; `coco`, for torchvision's Mask R-CNN of ResNet-50; or a file
    Raises UserError where they cannot be loaded, or are of COCO and the network is another.
    """
    if source == "coco" and not which.startswith("ResNet50"):
        raise UserError(f"{flag} coco: only ResNet-50 has weights of COCO; use imagenet or a file")
    if source in ("imagenet", "coco"):
        return published_weights(which if source == "imagenet" else DETECTOR, flag)
    return read_backbone_weights(Path(source), flag)


def body_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's weights in those of a detector of torchvision; of another network, all."""
    body = {key.removeprefix(BODY): x for key, x in weights.items() if key.startswith(BODY)}
    return body or weights


def laterals_of(weights: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """{stride: weight (256, C, 1, 1) and bias (256,)} of the 1x1 convolutions of a detector's pyramid.

    Their batch norms are folded into them. Empty where the weights are of no detector.
    """
    laterals = {}
    for place, stride in enumerate((4, 8, 16, 32)):
        prefix = f"{LATERALS}{place}."
        part = {key.removeprefix(prefix): x for key, x in weights.items() if key.startswith(prefix)}
        if part.keys() >= {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"}:
            scale = part["1.weight"] * (part["1.running_var"] + FrozenBatchNorm2d.eps).rsqrt()
            bias = part["1.bias"] - part["1.running_mean"] * scale
            laterals[stride] = {"weight": part["0.weight"] * scale[:, None, None, None], "bias": bias}
    return laterals


def _renamed(key: str) -> str | None:
    """The name in Backbone of a tensor of torchvision's; None for classifiers and counters, not used here."""
    if key.endswith("num_batches_tracked") or key.startswith(("fc.", "classifier.", "features.18.")):
        return None
    if key.startswith(("conv1.", "bn1.")):
        return f"stem.{key}"
    prefix, _, rest = key.partition(".")
    number = rest.split(".")[0]
    if prefix == "features" and number.isdecimal() and int(number) < MOBILENET_ENDS[-1]:
        return f"{STAGES[bisect_right(MOBILENET_ENDS, int(number))]}.{rest}"
    return key


class Backbone(nn.Module):
    """A convolutional network whose four stages are all returned.

    name: `resnet50` (256/512/1024/2048 channels), `mobilenet_v2` (24/32/96/320) or `narrow` (32/48/64/96)
    weights: `imagenet`, `coco` (ResNet-50), `none`, or the path of a state dict of torchvision's network of
        that name, or of a Mask R-CNN that has it. With weights, stem, layer1 and batch norm are frozen;
        without, norms are GroupNorm and everything is trained.
    Nothing is read here: `load` brings the weights. Raises UserError where there can be none.
    """

    def __init__(self, name: str, weights: str):
        super().__init__()
        self.name = name
        if name == "narrow" and weights != "none":
            raise UserError(f"--backbone narrow has no {weights} weights: add --backbone_weights none")
        frozen = weights != "none"
        norm_layer = FrozenBatchNorm2d if frozen else group_norm
        if name == "narrow":
            self.stem, stages, self.channels = _narrow_stages()
        elif name == "mobilenet_v2":
            self.stem, stages, self.channels = _mobilenet_stages(norm_layer)
        else:
            self.stem, stages, self.channels = _resnet50_stages(norm_layer)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        if frozen:
            self.stem.requires_grad_(False)
            self.layer1.requires_grad_(False)

    def load(self, source: str) -> dict[int, dict[str, Tensor]]:
        """Take torchvision's weights of the network, without its classifier and batch counters.

        source: `imagenet`, `coco`, or the path of a state dict
        Returns the 1x1 convolutions of a detector's pyramid, as `laterals_of`. Raises UserError where the
        weights cannot be loaded or do not fit; there is no silent random start.
        """
        published = PRETRAINED[self.name]
        weights = pretrained_weights(source, published)
        renamed = {
            new: value for key, value in body_of(weights).items() if (new := _renamed(key)) is not None
        }
        try:
            self.load_state_dict(renamed)
        except RuntimeError as error:  # torch lists every key, in hundreds of lines
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"--backbone_weights {source}: not a {title_of(published)} of torchvision ({reason} ...)"
            ) from error
        return laterals_of(weights)

    def forward(self, frames: Tensor) -> dict[int, Tensor]:
        """(B*T, 3, H, W) with H, W multiples of 32 to {stride: (B*T, C, h, w)} for 4, 8, 16, 32."""
        f4 = self.layer1(self.stem(frames))
        f8 = self.layer2(f4)
        f16 = self.layer3(f8)
        f32 = self.layer4(f16)
        return {4: f4, 8: f8, 16: f16, 32: f32}
