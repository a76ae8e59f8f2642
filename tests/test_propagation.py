"""Tokens that go from frame to frame: what a frame knows of those before it, and what the tracker keeps."""

import pytest
import torch

from inference import VITATracker
from modules import VITA_TCOVIS
from tests.support.vita import make_frames, make_network

PREDICTED = ("class_logits", "mask_logits", "embeddings")


def propagating(**options) -> VITA_TCOVIS:
    """A network in evaluation that hands on more than nothing, as it does after a step of training."""
    network = make_network(**options).eval()
    torch.nn.init.xavier_uniform_(network.propagation.weight)
    return network


@pytest.mark.parametrize("make", [make_network, lambda: make_network(propagate=False)])
def test_at_first_and_without_propagation_every_frame_is_decoded_by_itself(make):
    network, frames = make().eval(), make_frames(2, 3, 3, 64, 64)
    together, alone = network(frames), network(frames[1:, 2:])
    for name in PREDICTED:
        assert torch.allclose(together[name][1:, 2:], alone[name], atol=1e-4)


def test_frames_one_by_one_are_decoded_as_a_clip_is():
    network, frames, queries = propagating(), make_frames(2, 3, 3, 64, 64), None
    together = network(frames)
    for t in range(3):
        one = network(frames[:, t : t + 1], queries=queries)
        queries = one["queries"]
        for name in PREDICTED:
            assert torch.allclose(together[name][:, t], one[name][:, 0], atol=1e-4)
    assert torch.allclose(queries, together["queries"], atol=1e-5)


def test_a_frame_knows_the_frames_before_it_and_none_after_it():
    network, frames = propagating(), make_frames(1, 3, 3, 64, 64)
    changed = frames.clone()
    changed[:, 1] += 1
    before, after = network(frames)["mask_logits"], network(changed)["mask_logits"]
    assert before[:, 0].allclose(after[:, 0], atol=1e-4) and not before[:, 2].allclose(after[:, 2], atol=1e-2)


@pytest.mark.parametrize("background, share", [(-50.0, 1.0), (50.0, 0.0)])
def test_a_token_is_handed_on_as_far_as_it_holds_an_object(background, share):
    network = propagating()
    with torch.no_grad():
        network.class_head.bias.copy_(torch.tensor([0, background]))
        tokens = make_frames(1, 5, 32)
        handed_on = network.propagation(network.token_norm(tokens))
        assert torch.allclose(network._queries(tokens), share * handed_on, atol=1e-5)


def test_in_training_some_objects_begin_anew():
    network = propagating().train()
    with torch.no_grad():
        network.class_head.bias.copy_(torch.tensor([0, -50.0]))
        tokens = make_frames(40, 5, 32)
        handed_on = network.propagation(network.token_norm(tokens))
        torch.manual_seed(0)
        given = network._queries(tokens)
    dropped = (given == 0).all(-1)
    assert 0.2 < dropped.float().mean() < 0.4
    assert torch.allclose(given[~dropped], handed_on[~dropped], atol=1e-5)


def pictures(number: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return list(torch.randint(256, (number, 3, 48, 64), generator=generator, dtype=torch.uint8))


def make_tracker(network: VITA_TCOVIS) -> VITATracker:
    return VITATracker(
        network, VITATracker.Config(image_size=64, score_threshold=0, birth_score=0, nms_iou=1)
    )


def test_the_tracker_hands_on_what_it_saw_and_forgets_it_between_videos():
    network, frames = propagating(), pictures(3)
    tracker = make_tracker(network)
    unbroken = [tracker.step(frame) for frame in frames]
    assert len(unbroken[2].ids) and not make_tracker(network).step(frames[2]).masks.allclose(
        unbroken[2].masks
    )
    tracker.reset()
    assert tracker.step(frames[0]).masks.equal(unbroken[0].masks)


def test_a_state_goes_on_as_the_unbroken_tracker():
    network, frames = propagating(), pictures(3)
    first, second = make_tracker(network), make_tracker(network)
    for frame in frames[:2]:
        first.step(frame)
    second.load_state_dict(first.state_dict())
    expected, found = first.step(frames[2]), second.step(frames[2])
    assert found.masks.equal(expected.masks) and found.ids.equal(expected.ids)
