"""The flags of STCN."""

from dataclasses import dataclass

from common.config import MAX_SIDE, MAX_WIDTH, option
from configs.augmentation import Pasting


@dataclass
class NetworkConfig:
    backbone: str = option(
        "resnet50",
        "backbone of keys and values; resnet50: ResNet-50 for keys, ResNet-18 for values",
        ("resnet50", "mobilenet_v2", "narrow"),
    )
    backbone_weights: str = option(
        "imagenet", "pretrained weights of the key encoder: imagenet, none, or a file of torchvision weights"
    )
    value_weights: str = option(
        "imagenet",
        "pretrained weights of the value encoder: imagenet, none, or a file of torchvision weights",
    )
    load_network: str = option(
        "none",
        "fine-tune a checkpoint of this system: a file of main.py or of the authors, or a published name",
    )
    key_dim: int = option(64, "channels of keys", least=1, most=MAX_WIDTH)
    value_dim: int = option(
        512, "channels of values and of the decoder, a multiple of 16", least=16, most=MAX_WIDTH
    )
    single_object: bool = option(False, "encode values without the masks of other objects, as stage 0 does")


@dataclass
class CriterionConfig:
    start_warm: int = option(20_000, "bootstrapped loss: iterations that use all pixels", least=0)
    end_warm: int = option(
        70_000, "bootstrapped loss: iteration from which only --top_p of the pixels count", least=0
    )
    top_p: float = option(0.15, "bootstrapped loss: final share of the hardest pixels", least=0.001, most=1)


@dataclass(kw_only=True)
class TrackerConfig:
    top_k: int = option(20, "top-k memory elements that a query location reads", least=1)
    mem_every: int = option(5, "memorize every n-th frame", least=1)
    include_last: bool = option(False, "also memorize the previous frame, temporarily")
    max_memory_frames: int = option(
        0, "maximum number of frames in memory, the first and the latest; 0: no limit", least=0
    )
    short_side: int = option(
        480, "short side of frames in the network, in pixels; -1: as they are", most=MAX_SIDE
    )
    flip: bool = option(False, "track horizontally flipped frames, and flip the results back")


@dataclass(kw_only=True)
class DataConfig(Pasting):
    epochs: int
    crop_size: int = option(384, "side of the square training crops, in pixels", least=16, most=MAX_SIDE)
    max_jump: tuple[int, int, int, int, int, int] = option(
        (5, 10, 15, 20, 25, 5),
        "curriculum of the maximum distance between frames of a clip",
    )
    jump_at: tuple[float, float, float, float, float] = option(
        (0.1, 0.2, 0.3, 0.4, 0.9), "shares of all epochs after which the next value of --max_jump holds"
    )
    clips_per_video: int = option(1, "clips of each video in an epoch", least=1, most=100_000)
    instance: str = option("random", "which objects of a video are trained on", ("random", "largest"))
    min_area: int = option(1, "minimum area of an object in the first frame, in pixels", least=1)
    min_crop: float = option(0.36, "minimum share of a frame that a crop keeps", least=0.01, most=1)
    degrees: float = option(15.0, "maximum random rotation of each frame, in degrees", least=0)
    shear: float = option(10.0, "maximum random shear of each frame, in degrees", least=0)
    davis_root: str = option("none", "a DAVIS data set that joins --dataset_root")
    davis_repeats: int = option(5, "repetitions of each video of --davis_root in an epoch", least=1)
    static_root: str = option("none", "train on still images of this folder instead of videos")
