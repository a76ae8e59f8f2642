"""The flags of VITA-TCOVIS."""

from dataclasses import dataclass
from typing import ClassVar

from common.config import MAX_SIDE, MAX_WIDTH, option
from configs.augmentation import Augmentation, Pasting


@dataclass
class NetworkConfig:
    ADDED: ClassVar = {"load_network": "none"}
    backbone: str = option("resnet50", "feature extractor", ("resnet50", "mobilenet_v2", "narrow"))
    backbone_weights: str = option(
        "imagenet",
        "imagenet, coco (of a Mask R-CNN of ResNet-50), none, or a file of torchvision weights",
    )
    load_network: str = option(
        "none", "start from the weights of a checkpoint of this system instead; its classes may be others"
    )
    hidden_dim: int = option(256, "width of tokens and features", least=8, most=MAX_WIDTH)
    num_tokens: int = option(
        20, "object tokens; also the most objects that the loader selects", least=1, most=65_535
    )
    num_classes: int = option(
        1, "classes of objects in meta.json; 1 tells objects from background only", least=1
    )
    decoder_layers: int = option(6, "layers of the transformer decoder", least=1, most=200)
    num_heads: int = option(8, "attention heads", least=1)
    feedforward_dim: int = option(1024, "width of the decoder's feed-forward layers", least=1, most=MAX_WIDTH)
    mask_stride: int = option(4, "stride of the mask features; 32 is without laterals", (4, 8, 16, 32))
    attention_stride: int = option(
        8, "finest stride that tokens attend to, of three; 4 is for small pictures", (4, 8, 16, 32)
    )
    masked_attention: bool = option(True, "let tokens attend only inside their previous mask")


@dataclass
class CriterionConfig:
    w_class: float = option(2.0, "weight of the class loss", least=0)
    w_mask: float = option(5.0, "weight of the mask binary cross-entropy", least=0)
    w_dice: float = option(5.0, "weight of the dice loss", least=0)
    w_match: float = option(2.0, "weight of the supervised matching loss", least=0)
    w_ctr: float = option(1.0, "weight of the contrastive loss", least=0)
    w_foreground: float = option(5.0, "weight of the mask features' foreground loss", least=0)
    no_object: float = option(0.1, "weight of the no-object class in the class loss", least=0)
    cost_class: float = option(2.0, "class cost of the matcher", least=0)
    cost_mask: float = option(5.0, "mask cost of the matcher", least=0)
    cost_dice: float = option(5.0, "dice cost of the matcher", least=0)
    assign: str = option(
        "clip", "one assignment of tokens for the clip, or one for each frame", ("clip", "frame")
    )
    num_points: int = option(
        12544, "points on which masks are compared; all pixels where there are fewer", least=4
    )
    deep_supervision: bool = option(True, "supervise every decoder layer and the tokens before the first")
    temperature: float = option(
        0.1, "temperature of the contrastive loss at the start; it is learned", least=0.01, most=1
    )
    match_temperature: float = option(0.3, "temperature of the matching loss", least=0.01)


@dataclass(kw_only=True)
class GlobalTrackerConfig:
    beta: float = option(0.2, "momentum of the memory bank: mu = (1 - beta) mu + beta e", least=0, most=1)
    match_threshold: float = option(0.5, "least cosine, plus weighted mask IoU, that continues a track")
    revive_threshold: float = option(0.6, "least cosine that brings a dormant track back")
    birth_score: float = option(0.5, "least score that starts a track; above 1 only prompts start any")
    update_score: float = option(0.5, "least detection score that updates the memory bank")
    max_overlap: float = option(0.5, "share of a detection under another above which the bank is not updated")
    iou_weight: float = option(0.5, "weight of the mask IoU with the track's last mask")
    iou_age: int = option(3, "frames since a track was seen up to which its last mask counts", least=0)
    max_age: int = option(30, "frames unseen after which a track is dormant", least=0)
    max_dormant: int = option(256, "dormant tracks that are kept; the oldest leave first", least=0)
    similarity: str = option("bi_softmax", "what pairs are chosen by", ("bi_softmax", "cosine"))
    similarity_temperature: float = option(0.1, "temperature of the bi-softmax of cosines", least=0.001)


@dataclass(kw_only=True)
class TrackerConfig(GlobalTrackerConfig):
    image_size: int = option(
        384, "short side of the frames in evaluation and inference, pixels", least=16, most=MAX_SIDE
    )
    score_threshold: float = option(0.3, "least score of a detection")
    nms_iou: float = option(0.6, "mask IoU with a better detection above which one is dropped")
    nms_inside: float = option(0.8, "share inside a better detection above which one is dropped")
    mask_threshold: float = option(0.5, "probability above which a pixel belongs to an object")


@dataclass(kw_only=True)
class DataConfig(Augmentation, Pasting):
    num_tokens: int
    num_classes: int
    image_size: int
    clip_length: int = option(5, "frames of a training clip", least=1, most=1024)
    clip_stride: int = option(1, "largest step between frames of a clip; drawn from 1 to this", least=1)
    clips_per_video: int = option(1, "clips drawn from each video in an epoch", least=1, most=100_000)
    min_area: int = option(16, "pixels that an object must cover in a frame to count as there", least=1)
