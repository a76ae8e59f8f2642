"""The dilated ResNet of SiamMask: three stages, the last two at stride 8; of full width, or narrow.

The names are those of the published weights.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights

from common import distributed
from common.backbone import body_of, group_norm, pretrained_weights
from common.errors import UserError
from video.transforms import IMAGENET_MEAN, IMAGENET_STD

EXPANSION = 4  # of a bottleneck's width to its channels
# Of each backbone: channels of conv1, width and number of the blocks of each stage, channels of the features.
SIZES = {
    "resnet50": (64, (64, 128, 256), (3, 4, 6), 256),
    "narrow": (16, (8, 16, 24), (1, 1, 2), 64),
}
FROZEN = ("conv1", "bn1", "layer1")  # are never trained where there are weights of ImageNet

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

    channels: of p0 to p3
    """

    def __init__(self, name: str):
        super().__init__()
        first, widths, blocks, _ = SIZES[name]
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


def centred(x: Tensor, side: int) -> Tensor:
    """(..., S, S), a kernel or a crop, in the middle of (..., side, side), zeros around it."""
    return F.pad(x, [(side - x.shape[-1]) // 2] * 4)


def is_published(weights: dict[str, Tensor]) -> bool:
    """Whether a state dict is the published `resnet.model`, which was trained on raw BGR pixels.

    Its names begin with `features.` and its shortcuts are 3x3; torchvision's have neither.
    """
    shortcut = weights.get("layer2.0.downsample.0.weight")
    is_wide = shortcut is not None and shortcut.shape[-1] == 3
    return is_wide or any(key.startswith("features.") for key in weights)


def fold_normalisation(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's weights for raw BGR pixels (0 to 255) in place of RGB in ImageNet statistics.

    As conv((x / 255 - mean) / std) = conv'(x) - shift, conv1 takes the division, and the shift goes into the
    running mean of bn1. That is exact because conv1 does not pad here.
    """
    kernel, mean = weights["conv1.weight"].double(), weights["bn1.running_mean"].double()
    pixel_mean, pixel_std = (torch.tensor(x, dtype=torch.float64) for x in (IMAGENET_MEAN, IMAGENET_STD))
    shift = kernel.sum((2, 3)) @ (pixel_mean / pixel_std)
    folded = (kernel / (255 * pixel_std[:, None, None])).flip(1)
    return weights | {"conv1.weight": folded.float(), "bn1.running_mean": (mean + shift).float()}


def load_imagenet(backbone: DilatedResNet, source: str) -> None:
    """Fill the backbone, which sees raw BGR pixels, from ImageNet's weights of a ResNet-50.

    source: `imagenet`, `coco`, or a file with a state dict of torchvision's ResNet-50, into which its
        normalisation is folded, or of the published `resnet.model`, which stays as it is; the shortcuts of
        layer2 and layer3 are 3x3 here, and one of 1x1 becomes the middle of it
    Raises UserError where the weights cannot be had or do not fit.
    """
    weights = body_of(pretrained_weights(source, ResNet50_Weights.IMAGENET1K_V2))
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
        raise UserError(f"--backbone_weights {source}: not a ResNet-50: it has no fitting {unfit[0]}")
    weights = weights if as_published else fold_normalisation(weights)
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
