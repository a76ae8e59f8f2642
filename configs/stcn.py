"""The flags of STCN."""

from dataclasses import dataclass

from common.config import MAX_SIDE, MAX_WIDTH, option
from configs.augmentation import Pasting


@dataclass
class NetworkConfig:
    backbone: str = option(
        "resnet50",
        "ResNet-50 for keys with ResNet-18 for values, or one light or narrow network for each",
        ("resnet50", "mobilenet_v2", "narrow"),
    )
    backbone_weights: str = option(
        "imagenet", "of the key encoder: imagenet, none, or a file of torchvision weights"
    )
    value_weights: str = option(
        "imagenet", "of the value encoder: imagenet, none, or a file of torchvision weights"
    )
    load_network: str = option(
        "none",
        "start from a checkpoint of this system instead, ours or a published one or its name",
    )
    key_dim: int = option(64, "channels of keys", least=1, most=MAX_WIDTH)
    value_dim: int = option(
        512, "channels of values and of the decoder, a multiple of 16", least=16, most=MAX_WIDTH
    )
    single_object: bool = option(False, "the value encoder does not see the other objects (stage 0)")


@dataclass
class CriterionConfig:
    start_warm: int = option(20_000, "training batches for which all pixels count", least=0)
    end_warm: int = option(70_000, "training batch from which only --top_p counts", least=0)
    top_p: float = option(0.15, "share of the hardest pixels that counts in the end", least=0.001, most=1)


@dataclass(kw_only=True)
class TrackerConfig:
    top_k: int = option(20, "memory elements that each cell of a frame reads", least=1)
    mem_every: int = option(5, "frames from one that is remembered to the next", least=1)
    include_last: bool = option(False, "also remember the last frame, for the next one only")
    max_memory_frames: int = option(
        0, "most frames remembered of an object, the first and the latest; 0: all", least=0
    )
    short_side: int = option(
        480, "short side of the frames in the network, pixels; -1: as they are", most=MAX_SIDE
    )
    flip: bool = option(False, "track the mirror image; the results are mirrored back")


@dataclass(kw_only=True)
class DataConfig(Pasting):
    epochs: int
    crop_size: int = option(384, "side of the square training frames, pixels", least=16, most=MAX_SIDE)
    max_jump: tuple[int, int, int, int, int, int] = option(
        (5, 10, 15, 20, 25, 5),
        "largest distance between frames of a clip, in frames, as training goes on",
    )
    jump_at: tuple[float, float, float, float, float] = option(
        (0.1, 0.2, 0.3, 0.4, 0.9), "shares of all epochs after which the next --max_jump holds"
    )
    clips_per_video: int = option(1, "clips drawn from each video in an epoch", least=1, most=100_000)
    instance: str = option("random", "which objects are target and second", ("random", "largest"))
    min_area: int = option(1, "pixels of the first frame that an object must cover", least=1)
    min_crop: float = option(0.36, "least share of a video's frame that a crop keeps", least=0.01, most=1)
    degrees: float = option(15.0, "random turn of each frame by itself", least=0)
    shear: float = option(10.0, "random shear of each frame by itself, degrees", least=0)
    davis_root: str = option("none", "a DAVIS folder whose videos join those of --dataset_root")
    davis_repeats: int = option(5, "times that each video of --davis_root counts", least=1)
    static_root: str = option("none", "train on still images of this folder, and on no video")
