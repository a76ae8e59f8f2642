"""The flags of VITA-TCOVIS."""

from dataclasses import dataclass
from typing import ClassVar

from common.config import MAX_SIDE, MAX_WIDTH, option
from configs.augmentation import Augmentation, Pasting


@dataclass
class NetworkConfig:
    ADDED: ClassVar = {"load_network": "none", "propagate": False}
    backbone: str = option("resnet50", "backbone network", ("resnet50", "mobilenet_v2", "narrow"))
    backbone_weights: str = option(
        "imagenet",
        "pretrained weights: imagenet, coco (Mask R-CNN, ResNet-50), none, or a file of torchvision weights",
    )
    load_network: str = option(
        "none", "fine-tune a checkpoint of this system, which may have other categories"
    )
    hidden_dim: int = option(256, "channels of tokens and features", least=8, most=MAX_WIDTH)
    num_tokens: int = option(
        20,
        "object tokens (queries), and the maximum number of objects in a training clip",
        least=1,
        most=65_535,
    )
    num_classes: int = option(
        1, "object categories, as in meta.json; 1: only objects and background", least=1
    )
    decoder_layers: int = option(6, "layers of the transformer decoder", least=1, most=200)
    num_heads: int = option(8, "attention heads", least=1)
    feedforward_dim: int = option(
        1024, "channels of the decoder's feed-forward layers", least=1, most=MAX_WIDTH
    )
    mask_stride: int = option(
        4, "stride of the mask features; 32: without lateral connections", (4, 8, 16, 32)
    )
    attention_stride: int = option(
        8, "finest of the three strides that tokens attend to; 4 suits small frames", (4, 8, 16, 32)
    )
    masked_attention: bool = option(True, "masked attention: a token attends only inside its previous mask")
    propagate: bool = option(True, "add to each frame's tokens what they held in the last frame")


@dataclass
class CriterionConfig:
    ADDED: ClassVar = {"w_instance": 0.0}
    w_class: float = option(2.0, "weight of the classification loss", least=0)
    w_mask: float = option(5.0, "weight of the binary cross-entropy of masks", least=0)
    w_dice: float = option(5.0, "weight of the dice loss of masks", least=0)
    w_match: float = option(2.0, "weight of the matching loss of embeddings", least=0)
    w_ctr: float = option(1.0, "weight of the contrastive loss of embeddings", least=0)
    w_foreground: float = option(5.0, "weight of the foreground loss of the mask features", least=0)
    w_instance: float = option(
        0.0, "weight of the instance discrimination of the mask features; 0: none", least=0
    )
    no_object: float = option(0.1, "weight of the no-object class in the classification loss", least=0)
    cost_class: float = option(2.0, "classification cost of the Hungarian matcher", least=0)
    cost_mask: float = option(5.0, "binary cross-entropy cost of the Hungarian matcher", least=0)
    cost_dice: float = option(5.0, "dice cost of the Hungarian matcher", least=0)
    assign: str = option("clip", "match tokens to objects once a clip, or in each frame", ("clip", "frame"))
    num_points: int = option(
        12544, "sampled points on which masks are compared; all pixels of smaller masks", least=4
    )
    deep_supervision: bool = option(True, "apply the losses after every decoder layer, too")
    temperature: float = option(
        0.1, "initial temperature of the contrastive loss, which is learned", least=0.01, most=1
    )
    match_temperature: float = option(0.3, "temperature of the matching loss", least=0.01)


@dataclass(kw_only=True)
class GlobalTrackerConfig:
    beta: float = option(0.2, "momentum of the memory bank: mu = (1 - beta) mu + beta e", least=0, most=1)
    match_threshold: float = option(
        0.5, "minimum similarity (cosine plus weighted mask IoU) to continue a track"
    )
    revive_threshold: float = option(0.6, "minimum similarity to revive a dormant track")
    birth_score: float = option(0.5, "minimum score to start a track; above 1: only prompts start tracks")
    update_score: float = option(0.5, "minimum score to update a track's embedding in the memory bank")
    max_overlap: float = option(
        0.5, "maximum share of a detection covered by another to update the memory bank"
    )
    iou_weight: float = option(0.5, "weight of the mask IoU with the track's last mask")
    iou_age: int = option(3, "maximum age of a track's last mask, in frames, for its IoU to count", least=0)
    max_age: int = option(30, "frames without a detection after which a track is dormant", least=0)
    max_dormant: int = option(256, "maximum number of dormant tracks; the oldest are deleted first", least=0)
    similarity: str = option(
        "bi_softmax", "similarity by which detections are assigned to tracks", ("bi_softmax", "cosine")
    )
    similarity_temperature: float = option(0.1, "temperature of the bi-softmax", least=0.001)


@dataclass(kw_only=True)
class TrackerConfig(GlobalTrackerConfig):
    image_size: int = option(
        384, "short side of frames in evaluation and inference, in pixels", least=16, most=MAX_SIDE
    )
    score_threshold: float = option(0.3, "minimum score of a detection")
    nms_iou: float = option(0.4, "non-maximum suppression: maximum mask IoU with a better detection")
    nms_inside: float = option(0.8, "non-maximum suppression: maximum share inside a better detection")
    mask_threshold: float = option(0.5, "minimum probability of a pixel of an object")


@dataclass(kw_only=True)
class DataConfig(Augmentation, Pasting):
    num_tokens: int
    num_classes: int
    image_size: int
    clip_length: int = option(5, "frames of a training clip", least=1, most=1024)
    clip_stride: int = option(1, "maximum step between frames of a clip; drawn from 1 to this", least=1)
    clips_per_video: int = option(1, "clips of each video in an epoch", least=1, most=100_000)
    min_area: int = option(16, "minimum area of an object in a frame, in pixels", least=1)
