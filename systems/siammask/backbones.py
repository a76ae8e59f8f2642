"""SiamMask's dilated backbones, whose last two stages are at stride 8: ResNets and MobileNetV2.

The names of the ResNet are those of the published weights, those of MobileNetV2 torchvision's.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import distributed
from common.backbone import PRETRAINED, body_of, group_norm, pretrained_weights, title_of
from common.errors import UserError
from video.transforms import IMAGENET_MEAN, IMAGENET_STD

EXPANSION = 4  # of a bottleneck's width to its channels
# Of each ResNet: channels of conv1, width and number of the blocks of each stage.
SIZES = {"resnet50": (64, (64, 128, 256), (3, 4, 6)), "narrow": (16, (8, 16, 24), (1, 1, 2))}
# Of each backbone: channels of the features that are correlated.
CORRELATED = {"resnet50": 256, "mobilenet_v2": 128, "narrow": 64}

Norm = Callable[[int], nn.Module]


class BatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose statistics in training are those of all processes' batches, equally large.

    It is torch's SyncBatchNorm, which refuses a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to its own shape and type; statistics are float32."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            mean = distributed.mean_with_gradient(x.float().mean((0, 2, 3)))
            centred = x.float() - mean[:, None, None]
            variance = distributed.mean_with_gradient(centred.square().mean((0, 2, 3)))
            self._remember(mean.detach(), variance.detach(), x[:, 0].numel() * distributed.world_size())
            scale = self.weight * (variance + self.eps).rsqrt()
            return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics, of which the variance is the unbiased one of `count` pixels."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(1, count - 1), self.momentum)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut; the stride is that of the 3x3, which then does not pad."""

    def __init__(self, inputs: int, width: int, norm: Norm, *, stride: int, dilation: int, shortcut: int):
        """shortcut: kernel size of the convolution beside the block; 0: there is none"""
        super().__init__()
        outputs, padding = EXPANSION * width, dilation if dilation > 1 else 2 - stride
        options = {"stride": stride, "padding": padding, "dilation": dilation, "bias": False}
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), norm(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, **options), norm(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), norm(outputs)
        self.downsample = None
        if shortcut:
            padding = 0 if shortcut == 1 or stride > 1 else 1
            beside = nn.Conv2d(inputs, outputs, shortcut, stride=stride, padding=padding, bias=False)
            self.downsample = nn.Sequential(beside, norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class DilatedResNet(nn.Module):
    """Crops (M, 3, S, S) to p0, p1, p2, p3: for S = 255 of 125, 63, 31 and 31 cells, for 127 of 61, 31, 15,
    15.

    channels: of p0 to p3; frozen: parts that are never trained where there are weights of ImageNet
    """

    frozen = ("conv1", "bn1", "layer1")
    first = ("conv1.weight", "bn1.running_mean")
    pretrained = PRETRAINED["resnet50"]

    def __init__(self, name: str):
        super().__init__()
        first, widths, blocks = SIZES[name]
        norm = BatchNorm2d if name == "resnet50" else group_norm
        self.channels = (first, *(EXPANSION * width for width in widths))
        self.conv1 = nn.Conv2d(3, first, 7, stride=2, bias=False)
        self.bn1 = norm(first)
        geometry = ({"stride": 1, "shortcut": 1}, {"stride": 2, "shortcut": 3}, {"stride": 1, "shortcut": 3})
        stages = []
        for place, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            inputs, outputs = self.channels[place : place + 2]
            stage = [Bottleneck(inputs, width, norm, dilation=1, **geometry[place])]
            dilation = 2 if place == 2 else 1
            for _ in range(count - 1):
                stage.append(Bottleneck(outputs, width, norm, stride=1, dilation=dilation, shortcut=0))
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3 = stages

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p0 = F.relu(self.bn1(self.conv1(x)))
        p1 = self.layer1(F.max_pool2d(p0, 3, stride=2, padding=1))
        p2 = self.layer2(p1)
        return p0, p1, p2, self.layer3(p2)


class DilatedMobileNet(nn.Sequential):
    """MobileNetV2 with the cells of DilatedResNet, of the same sizes and in the same places.

    Without padding where that has none; the fourth stride of 2 is 1, and what follows it is dilated. The
    attributes are those of DilatedResNet.
    """

    channels = (16, 24, 32, 96)
    frozen = ("0", "1", "2", "3")
    first = ("0.0.weight", "0.1.running_mean")
    pretrained = PRETRAINED["mobilenet_v2"]

    def __init__(self) -> None:
        from torchvision.models import mobilenet_v2

        super().__init__(*mobilenet_v2(weights=None, norm_layer=BatchNorm2d).features[:14])
        self[0][0].padding = (0, 0)
        depthwise = {number: self[number].conv[1][0] for number in range(4, 14)}
        depthwise[4].padding = (0, 0)
        depthwise[7].stride = (1, 1)
        for number in range(8, 14):
            depthwise[number].padding = depthwise[number].dilation = (2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = x[..., 2:-2, 2:-2]  # by so much a window of 7x7 is larger than the 3x3 of here
        levels = []
        for number, block in enumerate(self):
            x = block(x)
            if number in (1, 3, 6, 13):  # the last of a stage
                levels.append(x)
        return tuple(levels)


def make_backbone(name: str) -> DilatedResNet | DilatedMobileNet:
    return DilatedMobileNet() if name == "mobilenet_v2" else DilatedResNet(name)


def centred(x: Tensor, side: int) -> Tensor:
    """(..., S, S), a kernel or a crop, in the middle of (..., side, side), zeros around it."""
    return F.pad(x, [(side - x.shape[-1]) // 2] * 4)


def is_published(weights: dict[str, Tensor]) -> bool:
    """Whether a state dict is the published `resnet.model`, which was trained on raw BGR pixels.

    Its names begin with `features.` and its shortcuts are 3x3; torchvision's ResNet has neither.
    """
    shortcut = weights.get("layer2.0.downsample.0.weight")
    is_wide = shortcut is not None and shortcut.shape[-1] == 3
    return is_wide or "features.conv1.weight" in weights


def fold_normalisation(weights: dict[str, Tensor], first: tuple[str, str]) -> dict[str, Tensor]:
    """torchvision's weights for raw BGR pixels (0 to 255) in place of RGB in ImageNet statistics.

    first: names of the first convolution's weight and of the running mean after it
    As conv((x / 255 - mean) / std) = conv'(x) - shift, the convolution takes the division, and the shift goes
    into the running mean. That is exact because the convolution does not pad here.
    """
    kernel, mean = (weights[name].double() for name in first)
    pixel_mean, pixel_std = (torch.tensor(x, dtype=torch.float64) for x in (IMAGENET_MEAN, IMAGENET_STD))
    shift = kernel.sum((2, 3)) @ (pixel_mean / pixel_std)
    folded = (kernel / (255 * pixel_std[:, None, None])).flip(1)
    return weights | dict(zip(first, (folded.float(), (mean + shift).float()), strict=True))


def load_imagenet(backbone: DilatedResNet | DilatedMobileNet, source: str) -> None:
    """Fill the backbone, which sees raw BGR pixels, from ImageNet's weights of its kind.

    source: `imagenet`, `coco` (ResNet-50), or a file with a state dict of torchvision's network, into which
        its normalisation is folded, or of the published `resnet.model`, which stays as it is; the shortcuts
        of layer2 and layer3 are 3x3 here, and one of 1x1 becomes the middle of it
    Raises UserError where the weights cannot be loaded or do not fit.
    """
    weights = body_of(pretrained_weights(source, backbone.pretrained))
    as_published = is_published(weights)
    weights = {key.removeprefix("features."): value for key, value in weights.items()}
    state = backbone.state_dict()
    for key, value in state.items():
        kernel = weights.get(key)
        if kernel is not None and kernel.ndim == 4 and kernel.shape[2:] == (1, 1) != value.shape[2:]:
            weights[key] = centred(kernel, value.shape[-1])
    needed = [key for key in state if not key.endswith("num_batches_tracked")]
    unfit = [key for key in needed if key not in weights or weights[key].shape != state[key].shape]
    if unfit:
        lack = f"it has no fitting {unfit[0]}"
        raise UserError(f"--backbone_weights {source}: not a {title_of(backbone.pretrained)}: {lack}")
    weights = weights if as_published else fold_normalisation(weights, backbone.first)
    backbone.load_state_dict({key: weights.get(key, value) for key, value in state.items()})


def init_convolutions(module: nn.Module) -> None:
    """Convolutions of features and branches from N(0, 2 / (k * k * outputs)), as published."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.kernel_size[0] * part.kernel_size[1] * part.out_channels
            nn.init.normal_(part.weight, 0, (2 / fan_out) ** 0.5)


def freeze(module: nn.Module, frozen: bool) -> None:
    """Train the parameters of a module, or leave them alone and its batch norms as they are."""
    for parameter in module.parameters():
        parameter.requires_grad_(not frozen)


def hold_statistics(module: nn.Module) -> None:
    """Batch norms without a trained parameter keep their statistics: after `train`, put them into `eval`."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and not part.weight.requires_grad:
            part.eval()


def crop_middle(features: Tensor, side: int) -> Tensor:
    """The middle side x side of (..., S, S), S - side even."""
    margin = (features.shape[-1] - side) // 2
    return features[..., margin : margin + side, margin : margin + side]


def depthwise_correlation(search: Tensor, kernel: Tensor) -> Tensor:
    """Correlate each channel of (B, C, S, S) with the same one of (B, C, k, k): (B, C, S - k + 1, ...)."""
    B, C = kernel.shape[:2]
    result = F.conv2d(
        search.reshape(1, B * C, *search.shape[2:]), kernel.reshape(B * C, 1, *kernel.shape[2:]), groups=B * C
    )
    return result.unflatten(1, (B, C))[0]
