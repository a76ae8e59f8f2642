"""What the trackers of STCN and XMem do alike."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from common.types import Prompt
from systems.stcn.tracker import STCNTracker
from tests.support import stcn_networks, xmem_networks
from tests.support.vos_videos import BLUE, RED, make_video, play, prompt_of


class Case(NamedTuple):
    module: str
    make: Callable[..., STCNTracker]
    options: dict  # with which memory is consolidated or forgotten


@pytest.fixture(params=["stcn", "xmem"])
def case(request) -> Case:
    if request.param == "stcn":
        bound = {"mem_every": 2, "max_memory_frames": 3}
        return Case("systems.stcn.tracker", stcn_networks.small_tracker, bound)
    return Case("systems.xmem.tracker", xmem_networks.small_tracker, xmem_networks.LONG_TERM)


def test_objects_are_decoded_in_parts_as_all_at_once(case, monkeypatch):
    windows = {i + 1: (slice(3 * i, 3 * i + 3), slice(5, 40)) for i in range(11)}
    frames, prompts = make_video(4), {0: prompt_of(windows)}
    parts = play(case.make(mem_every=1), frames, prompts)
    monkeypatch.setattr(f"{case.module}.OBJECTS_AT_ONCE", 99)
    whole = play(case.make(mem_every=1), frames, prompts)
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one.masks, other.masks, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bounded", [False, True])
def test_the_mirror_image_is_tracked_as_a_mirrored_video(case, bounded):
    frames, prompt = make_video(8), prompt_of({5: RED, 2: BLUE})
    options = case.options if bounded else {}
    flipped = play(case.make(flip=True, **options), frames, {0: prompt})
    mirrored = play(case.make(**options), frames.flip(-1), {0: Prompt(prompt.labels.flip(-1))})
    for one, other in zip(flipped, mirrored, strict=True):
        assert one.masks.equal(other.masks.flip(-1)) and one.labels.equal(other.labels.flip(-1))
