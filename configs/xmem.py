"""The flags of XMem, which has many of STCN's."""

from dataclasses import dataclass, field
from typing import Any

from common.config import MAX_WIDTH, option
from configs import stcn


@dataclass
class NetworkConfig(stcn.NetworkConfig):
    value_dim: int = option(512, "channels of values, a multiple of 16", least=16, most=MAX_WIDTH)
    hidden_dim: int = option(64, "channels of the sensory memory; 0: none", least=0, most=MAX_WIDTH)
    decoder_dim: int = option(
        512, "channels of the decoder at stride 16, a multiple of 16", least=16, most=MAX_WIDTH
    )
    num_ref_frames: int = option(
        3, "frames of a training clip that one reads: the first, and others", least=1
    )
    deep_update_prob: float = option(
        0.2, "share of the frames after which training has a deep update", least=0, most=1
    )


@dataclass(kw_only=True)
class CriterionConfig(stcn.CriterionConfig):
    num_objects: int


@dataclass(kw_only=True)
class MemoryConfig:
    min_mid_term_frames: int = option(5, "frames that consolidation leaves in the working memory", least=1)
    max_mid_term_frames: int = option(10, "whole frames at which it starts", least=2)
    num_prototypes: int = option(128, "elements that a consolidation makes of the others", least=1)
    max_long_term_elements: int = option(10_000, "most elements of the long-term memory", least=1)
    enable_long_term_count_usage: bool = option(
        True, "a full long-term memory forgets what was read least, as published; off: the oldest"
    )
    no_long_term: bool = option(False, "keep every remembered frame whole: the memory has no bound")


def stcn_option(name: str, **changes: Any) -> Any:
    """An option of STCN's tracker, with another default where one is given."""
    option = stcn.TrackerConfig.__dataclass_fields__[name]
    return field(**{"default": option.default, "metadata": option.metadata} | changes)


@dataclass(kw_only=True)
class TrackerConfig(MemoryConfig):
    top_k: int = stcn_option("top_k", default=30)
    mem_every: int = stcn_option("mem_every")
    deep_update_every: int = option(
        -1,
        "least frames between deep updates of the sensory memory; -1: whenever a frame is remembered",
        least=-1,
    )
    short_side: int = stcn_option("short_side")
    flip: bool = stcn_option("flip")


@dataclass(kw_only=True)
class DataConfig(stcn.DataConfig):
    clip_length: int = option(8, "frames of a clip", least=2, most=1024)
    num_objects: int = option(3, "most objects of a clip", least=1)
    max_jump: tuple[int, int, int, int] = option(
        (5, 10, 15, 5),
        "largest distance of a clip's frame from another, in frames, as training goes on",
    )
    jump_at: tuple[float, float, float] = option(
        (0.1, 0.3, 0.9), "shares of all epochs after which the next --max_jump holds"
    )
