"""The flags of SAM for tracking, and its defaults of training: Adam at a constant 1e-4, and nothing else."""

from dataclasses import dataclass
from typing import ClassVar

from common.config import MAX_SIDE, MAX_WIDTH, option


@dataclass
class NetworkConfig:
    ADDED: ClassVar = {"prompt_encoder": False}  # which older checkpoints of ours lack

    load_network: str = option(
        "none", "start from a checkpoint of this system, ours or a published one of SAM or its name"
    )
    train_encoder: bool = option(False, "train the image encoder too, and keep no embeddings")
    image_size: int = option(
        1024, "side of the square that frames are fitted into, pixels", least=8, most=MAX_SIDE
    )
    patch_size: int = option(16, "side of a patch, pixels", least=1)
    embed_dim: int = option(768, "channels of the encoder's tokens", least=1, most=MAX_WIDTH)
    depth: int = option(12, "blocks of the encoder", least=1, most=200)
    num_heads: int = option(12, "attention heads of the encoder", least=1)
    mlp_ratio: float = option(4.0, "width of the encoder's MLPs, relative to --embed_dim", least=0.01)
    window_size: int = option(14, "cells a side of an attention window; 0: every block is global", least=0)
    global_blocks: str = option("2,5,8,11", "places of the blocks that attend to the whole grid")
    out_dim: int = option(256, "channels of the embedding and of the decoder", least=8, most=MAX_WIDTH)
    decoder_heads: int = option(8, "attention heads of decoder and template attention", least=1)
    decoder_depth: int = option(2, "blocks of the decoder", least=1, most=200)
    decoder_mlp_dim: int = option(2048, "width of the decoder's MLPs", least=1, most=MAX_WIDTH)
    num_multimask: int = option(3, "masks of SAM's decoder beside the one that is used", least=0, most=200)
    iou_hidden: int = option(256, "width of SAM's estimate of the IoU", least=1, most=MAX_WIDTH)
    iou_depth: int = option(3, "layers of SAM's estimate of the IoU", least=1, most=200)
    prompt_encoder: bool = option(
        False, "SAM's prompt encoder is kept, as it is, for clicks and boxes; its positions always are"
    )
    attn_pe: bool = option(False, "positions are added to queries and keys of the template attention")
    attn_norm: bool = option(False, "a layer norm follows the template attention")
    attn_padding: bool = option(True, "the cells of a template's padding are read too, as background")
    interpolate: str = option(
        "probs",
        "what is brought to the frame's size: probabilities, or SAM's logits",
        ("probs", "logits"),
    )
    embedding_cache: str = option(
        "embeddings", "folder for embeddings of the frozen encoder, which are made once; `none`: none"
    )
    cache_gb: float = option(50.0, "most gigabytes in --embedding_cache", least=0)
    cache_type: str = option("float16", "how embeddings are stored", ("float16", "float32"))


@dataclass
class CriterionConfig:
    image_size: int
    loss: str = option(
        "probs",
        "cross-entropy of probabilities on the frame's pixels, or of logits on the decoder's cells",
        ("probs", "logits"),
    )
    w_dice: float = option(0.0, "weight of the dice loss beside the cross-entropy", least=0)


@dataclass(kw_only=True)
class TrackerConfig:
    template: str = option(
        "previous", "which frame tells what an object looks like", ("previous", "first", "both")
    )
    gate: float = option(
        0.6, "least mean probability of a mask at which its frame becomes the template", least=0, most=1
    )
    feedback: str = option("soft", "a template's mask: probabilities, or the label map's", ("soft", "binary"))
    track_size: int = option(
        0,
        "side of the square that frames are fitted into here, pixels; 0: as in training",
        least=0,
        most=MAX_SIDE,
    )


@dataclass(kw_only=True)
class DataConfig:
    instance: str = option("largest", "which object of a pair is tracked", ("largest", "random"))
    max_gap: int = option(1, "most annotated frames from the template to the image", least=1)
    clips_per_video: int = option(1, "pairs drawn from each video in an epoch", least=1, most=100_000)
    min_area: int = option(1, "pixels of the template that an object must cover", least=1)
    flip_probability: float = option(0.0, "probability of a horizontal flip of a pair", least=0, most=1)


TRAINING = {
    "optimizer": "adam",
    "lr_head": 1e-4,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup_steps": 0,
    "clip_grad": 0.0,
    "ema": 0.0,
}
