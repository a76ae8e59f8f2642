"""The flags of SAM for tracking, and its defaults of training: Adam at a constant 1e-4, and nothing else."""

from dataclasses import dataclass
from typing import ClassVar

from common.config import MAX_SIDE, MAX_WIDTH, option


@dataclass
class NetworkConfig:
    ADDED: ClassVar = {"prompt_encoder": False}  # which older checkpoints of ours lack

    load_network: str = option(
        "none", "fine-tune a checkpoint: a file of main.py or of SAM, or a published name of SAM"
    )
    train_encoder: bool = option(False, "train the image encoder, too; its embeddings are not cached then")
    image_size: int = option(
        1024, "side of the square into which frames are resized and padded, in pixels", least=8, most=MAX_SIDE
    )
    patch_size: int = option(16, "side of a patch, in pixels", least=1)
    embed_dim: int = option(768, "channels of the image encoder", least=1, most=MAX_WIDTH)
    depth: int = option(12, "blocks of the image encoder", least=1, most=200)
    num_heads: int = option(12, "attention heads of the image encoder", least=1)
    mlp_ratio: float = option(
        4.0, "channels of the image encoder's MLPs, relative to --embed_dim", least=0.01
    )
    window_size: int = option(
        14, "side of an attention window, in patches; 0: global attention in every block", least=0
    )
    global_blocks: str = option("2,5,8,11", "indices of the blocks with global attention")
    out_dim: int = option(
        256, "channels of the image embedding and of the mask decoder", least=8, most=MAX_WIDTH
    )
    decoder_heads: int = option(
        8, "attention heads of the mask decoder and of the template attention", least=1
    )
    decoder_depth: int = option(2, "blocks of the mask decoder", least=1, most=200)
    decoder_mlp_dim: int = option(2048, "channels of the mask decoder's MLPs", least=1, most=MAX_WIDTH)
    num_multimask: int = option(3, "further masks of SAM's decoder, kept for its weights", least=0, most=200)
    iou_hidden: int = option(256, "channels of SAM's IoU prediction head", least=1, most=MAX_WIDTH)
    iou_depth: int = option(3, "layers of SAM's IoU prediction head", least=1, most=200)
    prompt_encoder: bool = option(False, "keep SAM's prompt encoder, frozen, for clicks and boxes")
    attn_pe: bool = option(False, "add positional encodings to queries and keys of the template attention")
    attn_norm: bool = option(False, "layer norm after the template attention")
    attn_padding: bool = option(True, "the template attention reads the padding of templates, too")
    interpolate: str = option(
        "probs",
        "what is resized to the frame: probabilities, or logits as in SAM",
        ("probs", "logits"),
    )
    embedding_cache: str = option(
        "embeddings", "folder of cached embeddings of the frozen image encoder; none: no cache"
    )
    cache_gb: float = option(50.0, "maximum size of --embedding_cache, in gigabytes", least=0)
    cache_type: str = option("float16", "type of cached embeddings", ("float16", "float32"))


@dataclass
class CriterionConfig:
    image_size: int
    loss: str = option(
        "probs",
        "cross-entropy of probabilities at the frame's size, or of logits at the decoder's",
        ("probs", "logits"),
    )
    w_dice: float = option(0.0, "weight of the dice loss", least=0)


@dataclass(kw_only=True)
class TrackerConfig:
    template: str = option(
        "previous",
        "template of an object: the previous frame, that of its prompt, or both",
        ("previous", "first", "both"),
    )
    gate: float = option(0.6, "minimum mean probability of a mask to become the template", least=0, most=1)
    feedback: str = option("soft", "mask of a template: probabilities, or binary", ("soft", "binary"))
    track_size: int = option(
        0,
        "side of the square into which frames are resized, in pixels; 0: as in training",
        least=0,
        most=MAX_SIDE,
    )


@dataclass(kw_only=True)
class DataConfig:
    instance: str = option("largest", "which object of a pair is trained on", ("largest", "random"))
    max_gap: int = option(1, "maximum distance from template to image, in annotated frames", least=1)
    clips_per_video: int = option(1, "pairs of each video in an epoch", least=1, most=100_000)
    min_area: int = option(1, "minimum area of an object in the template, in pixels", least=1)
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
