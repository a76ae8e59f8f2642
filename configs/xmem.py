"""The flags of XMem, which has many of STCN's."""

from dataclasses import dataclass, field
from typing import Any

from common.config import MAX_WIDTH, option
from configs import stcn


@dataclass
class NetworkConfig(stcn.NetworkConfig):
    value_dim: int = option(512, "channels of values; a multiple of 16", least=16, most=MAX_WIDTH)
    hidden_dim: int = option(64, "channels of the sensory memory; 0: without it", least=0, most=MAX_WIDTH)
    decoder_dim: int = option(
        512, "channels of the decoder at stride 16; a multiple of 16", least=16, most=MAX_WIDTH
    )
    num_ref_frames: int = option(3, "maximum number of memory frames that a frame of a clip reads", least=1)
    deep_update_prob: float = option(
        0.2, "probability of a deep update of the sensory memory after a frame", least=0, most=1
    )


@dataclass(kw_only=True)
class CriterionConfig(stcn.CriterionConfig):
    num_objects: int


@dataclass(kw_only=True)
class MemoryConfig:
    min_mid_term_frames: int = option(
        5, "minimum number of frames in working memory, left by a consolidation", least=1
    )
    max_mid_term_frames: int = option(
        10, "maximum number of frames in working memory, at which a consolidation starts", least=2
    )
    num_prototypes: int = option(128, "prototypes of a consolidation", least=1)
    max_long_term_elements: int = option(10_000, "maximum number of elements in long-term memory", least=1)
    enable_long_term_count_usage: bool = option(
        True, "a full long-term memory forgets the least used elements; false: the oldest"
    )
    no_long_term: bool = option(False, "without long-term memory: working memory has no limit")


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
        "minimum number of frames between deep updates of the sensory memory; -1: with --mem_every",
        least=-1,
    )
    short_side: int = stcn_option("short_side")
    flip: bool = stcn_option("flip")


@dataclass(kw_only=True)
class DataConfig(stcn.DataConfig):
    clip_length: int = option(8, "frames of a clip", least=2, most=1024)
    num_objects: int = option(3, "maximum number of objects in a clip", least=1)
    max_jump: tuple[int, int, int, int] = option(
        (5, 10, 15, 5),
        "curriculum of the maximum distance of a frame of a clip from another",
    )
    jump_at: tuple[float, float, float] = option(
        (0.1, 0.3, 0.9), "shares of all epochs after which the next value of --max_jump holds"
    )
