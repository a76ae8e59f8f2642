"""The flags of SiamMask."""

from dataclasses import dataclass
from typing import ClassVar

from common.config import option


@dataclass
class NetworkConfig:
    backbone: str = option(
        "resnet50", "backbone network, with dilation", ("resnet50", "mobilenet_v2", "narrow")
    )
    backbone_weights: str = option(
        "imagenet", "pretrained weights: imagenet, none, or a file of torchvision or of SiamMask's authors"
    )
    load_network: str = option(
        "none",
        "fine-tune a checkpoint of this system: a file of main.py or of the authors, or a published name",
    )
    refine: bool = option(False, "second stage: add the mask refinement module, and train it alone")
    thaw_at: float = option(
        0.5,
        "share of the epochs for which the backbone's stages at stride 8 are frozen; above 1: all",
        least=0,
    )


@dataclass
class CriterionConfig:
    w_cls: float = option(1.0, "weight of the classification loss", least=0)
    w_loc: float = option(1.2, "weight of the box regression loss", least=0)
    w_mask: float = option(36.0, "weight of the mask loss", least=0)


@dataclass(kw_only=True)
class TrackerConfig:
    RETIRED: ClassVar = ("fold_batchnorm", "channels_last")
    penalty_k: float = option(0.09, "penalty for changes of scale and aspect ratio", least=0)
    window_influence: float = option(
        0.39, "weight of the cosine window around the previous position", least=0, most=1
    )
    size_lr: float = option(0.38, "learning rate of the box size", least=0)
    seg_thr: float = option(0.3, "minimum probability of a pixel of an object", least=0, most=1)
    mask_form: str = option(
        "best",
        "best: refined masks if the network has them; coarse: 63x63 masks; box: filled boxes",
        ("best", "coarse", "box"),
    )
    update_template: bool = option(
        False, "update templates with confident detections that resemble the first template"
    )
    update_every: int = option(5, "frames between template updates", least=1)
    update_score: float = option(0.9, "minimum score to update a template", least=0, most=1)
    update_similarity: float = option(
        0.8,
        "minimum cosine similarity of a new template to the first one",
        least=-1,
        most=1,
    )


@dataclass(kw_only=True)
class DataConfig:
    refine: bool
    clips_per_video: int = option(1, "pairs of each video in an epoch", least=1, most=100_000)
    frame_range: int = option(
        20, "maximum distance from template to search frame, in annotated frames", least=1
    )
    min_area: int = option(1000, "minimum area of an object, in pixels", least=0)
    negative: float | None = option(None, "share of negative pairs (default: 0.2, with --refine 0)")
    gray: float = option(0.25, "probability of greyscale", least=0, most=1)
    shift: float | None = option(
        None, "maximum shift of the search crop, in pixels (default: 64, with --refine 8)"
    )
    scale: float = option(0.18, "maximum relative change of scale of the search crop", least=0, most=0.9)
    blur: float = option(0.18, "probability of blur of the search crop", least=0, most=1)
