"""The flags of SiamMask."""

from dataclasses import dataclass
from typing import ClassVar

from common.config import option


@dataclass
class NetworkConfig:
    backbone: str = option(
        "resnet50", "feature extractor, with dilation", ("resnet50", "mobilenet_v2", "narrow")
    )
    backbone_weights: str = option(
        "imagenet", "imagenet, none, or a file: torchvision's, or the published one of ResNet-50"
    )
    load_network: str = option(
        "none",
        "start from a SiamMask checkpoint instead, ours or a published one or its name",
    )
    refine: bool = option(False, "with the refinement module, which alone is trained then (step two)")
    thaw_at: float = option(
        0.5,
        "share of the epochs after which ImageNet's weights at stride 8 train; above 1: never",
        least=0,
    )


@dataclass
class CriterionConfig:
    w_cls: float = option(1.0, "weight of the class loss", least=0)
    w_loc: float = option(1.2, "weight of the box loss", least=0)
    w_mask: float = option(36.0, "weight of the mask loss", least=0)


@dataclass(kw_only=True)
class TrackerConfig:
    RETIRED: ClassVar = ("fold_batchnorm", "channels_last")
    penalty_k: float = option(0.09, "strength of the penalty for a change of size or ratio", least=0)
    window_influence: float = option(
        0.39, "weight of the window that favours the last place", least=0, most=1
    )
    size_lr: float = option(0.38, "share of a new size that is taken over where all is certain", least=0)
    seg_thr: float = option(0.3, "probability above which a pixel belongs to an object", least=0, most=1)
    mask_form: str = option(
        "best",
        "masks of 127x127 where the network refines, else of 63x63; of 63x63; or filled boxes",
        ("best", "coarse", "box"),
    )
    update_template: bool = option(
        False, "renew the templates of objects that are sure and still look like the first one"
    )
    update_every: int = option(5, "frames from one look for a new template to the next", least=1)
    update_score: float = option(0.9, "least score of an object that gives a new template", least=0, most=1)
    update_similarity: float = option(
        0.8,
        "least cosine of a new template and the first one, which keeps it from drifting",
        least=-1,
        most=1,
    )


@dataclass(kw_only=True)
class DataConfig:
    refine: bool
    clips_per_video: int = option(1, "pairs drawn from each video in an epoch", least=1, most=100_000)
    frame_range: int = option(20, "most annotated frames from template to search", least=1)
    min_area: int = option(1000, "pixels above which an object is trained on", least=0)
    negative: float | None = option(None, "share of pairs of different objects: 0.2, with --refine 0")
    gray: float = option(0.25, "share of pairs without colour", least=0, most=1)
    shift: float | None = option(None, "largest shift of the search, pixels: 64, with --refine 8")
    scale: float = option(0.18, "largest change of the search's size, relative", least=0, most=0.9)
    blur: float = option(0.18, "share of search crops that may be blurred", least=0, most=1)
