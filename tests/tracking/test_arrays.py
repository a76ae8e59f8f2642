"""Frames and prompts as scripts have them."""

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from common.types import Prompt
from inference import load_tracker
from tests.support.xmem_networks import small_tracker
from tracking.arrays import ArrayTracker, as_frame, as_prompt, tracker_options

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 255, (4, 30, 40, 3), dtype=np.uint8)
MASK = np.zeros((30, 40), dtype=np.uint8)
MASK[5:15, 10:30] = 3


def test_arrays_pictures_and_tensors_are_the_same_frame():
    tensor = torch.from_numpy(FRAMES[0]).permute(2, 0, 1)
    for frame in (FRAMES[0], Image.fromarray(FRAMES[0]), tensor):
        assert as_frame(frame).equal(tensor)
    assert as_frame(FRAMES[0][:, ::-1]).equal(tensor.flip(-1))


@pytest.mark.parametrize(
    "frame",
    [
        FRAMES[0] / 255,
        FRAMES[0, :, :, 0],
        FRAMES[0].transpose(2, 0, 1),
        np.zeros((30, 40, 4), dtype=np.uint8),
        torch.zeros(3, 30, 40),
        torch.zeros(30, 40, 3, dtype=torch.uint8),
        Image.new("L", (40, 30)),
    ],
    ids=["float", "grey", "channels first", "RGBA", "float tensor", "channels last", "grey picture"],
)
def test_what_is_no_frame_is_refused_with_the_remedy(frame):
    with pytest.raises(UserError, match=r"an array \(H, W, 3\) or a tensor \(3, H, W\), not .* of "):
        as_frame(frame)


def test_a_label_map_of_any_integers_is_a_prompt():
    for labels in (MASK, MASK.astype(np.int64), torch.from_numpy(MASK), Image.fromarray(MASK)):
        prompt = as_prompt(labels, (30, 40))
        assert prompt.ids == [3] and prompt.labels.dtype == torch.int64
    assert as_prompt(MASK > 0, (30, 40)).ids == [1]
    assert as_prompt(np.full((30, 40), 255, dtype=np.uint8), (30, 40)).ids == []  # void
    boxes = Prompt(boxes={2: (1, 2, 3, 4)})
    assert as_prompt(boxes, (30, 40)) is boxes and as_prompt(None, (30, 40)) is None


def test_a_prompt_of_another_size_or_kind_is_refused():
    with pytest.raises(UserError, match=r"the size \(30, 40\) of its frame, not \(40, 30\)"):
        as_prompt(MASK.T, (30, 40))
    with pytest.raises(UserError, match="integers or bool, not of float64"):
        as_prompt(MASK / 2, (30, 40))


def test_arrays_are_tracked_as_tensors_are():
    own, arrays = small_tracker(), ArrayTracker(small_tracker())
    tensors = torch.from_numpy(FRAMES).permute(0, 3, 1, 2)
    prompt = Prompt(torch.from_numpy(MASK.astype(np.int64)))
    expected = [own.step(frame, prompt if t == 0 else None) for t, frame in enumerate(tensors)]
    for _ in range(2):  # the second video begins anew
        tracks = list(arrays.track(FRAMES, MASK))
        assert len(tracks) == 4
        assert all(x.masks.equal(y.masks) for x, y in zip(tracks, expected, strict=True))
    assert arrays.config is arrays.tracker.config and arrays.needs_prompt


def test_a_prompt_may_come_on_any_frame():
    tracker = ArrayTracker(small_tracker())
    ids = [tracks.ids.tolist() for tracks in tracker.track(FRAMES, {1: MASK, 2: MASK == 3})]
    assert ids == [[], [3], [3, 1], [3, 1]]


@pytest.mark.parametrize("prompts", [None, {}])
def test_without_a_prompt_that_is_needed_nothing_begins(prompts):
    with pytest.raises(UserError, match="label map of the first frame"):
        ArrayTracker(small_tracker()).track(FRAMES, prompts)


def test_options_replace_what_a_tracker_was_trained_with():
    config = small_tracker().config
    assert tracker_options(type(config), vars(config), {"top_k": 5}, "x.pth").top_k == 5
    with pytest.raises(UserError, match=r"^x.pth: its tracker has no option top_l, but: .*top_k"):
        tracker_options(type(config), vars(config), {"top_l": 5}, "x.pth")
    with pytest.raises(UserError, match=r"^options of x.pth: .*top_k"):
        tracker_options(type(config), vars(config), {"top_k": 0}, "x.pth")


def test_a_tracker_is_loaded_with_its_config(trained):
    tracker = load_tracker(trained.run / "best.pth", device="cpu", beta=0.5)
    assert (tracker.config.beta, tracker.config.image_size) == (0.5, 32)
    assert tracker.step(FRAMES[0]).labels.shape == (30, 40)
