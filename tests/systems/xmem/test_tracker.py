"""XMem on a video: against a plain program, late objects, corrections, sensory memory, bounded memory."""

import pytest
import torch
import torch.nn.functional as F

from common.errors import UserError
from systems.stcn.affinity import keys_of_terms
from tests.support.vos_videos import BLUE, GREEN, RED, make_video, play, prompt_of
from tests.support.xmem_networks import LONG_TERM, small_network, small_tracker
from tests.support.xmem_plain import plain_program
from video.transforms import normalise

CASES = {
    "published": ({}, {0: {5: RED, 2: BLUE}}),
    "long term": (LONG_TERM, {0: {5: RED, 2: BLUE}}),
    "late": (LONG_TERM, {0: {5: RED}, 5: {2: BLUE}, 12: {3: GREEN}}),
    "late without long term": (LONG_TERM | {"no_long_term": True}, {0: {5: RED}, 5: {2: BLUE}}),
    "late, own schedule": (LONG_TERM | {"deep_update_every": 3}, {2: {5: RED}, 7: {2: BLUE}}),
    "corrected": (LONG_TERM, {0: {5: RED, 2: BLUE}, 4: {2: RED}, 9: {5: BLUE, 2: GREEN}}),
    "one frame stays": (LONG_TERM | {"min_mid_term_frames": 1, "mem_every": 1}, {0: {5: RED}}),
    "few candidates": (LONG_TERM | {"num_prototypes": 13}, {0: {5: RED}, 3: {2: BLUE}}),
    "the oldest are forgotten": (LONG_TERM | {"enable_long_term_count_usage": False}, {0: {5: RED}}),
    "all is forgotten": (LONG_TERM | {"max_long_term_elements": 5}, {0: {5: RED}}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("hidden_dim", [8, 0])
def test_videos_are_tracked_as_by_a_plain_program(name, hidden_dim):
    options, given = CASES[name]
    network, frames = small_network(hidden_dim=hidden_dim), make_video(26)
    prompts = {t: prompt_of(ids) for t, ids in given.items()}
    tracker = small_tracker(network, **options)
    masks = [tracks.masks for tracks in play(tracker, frames, prompts)[min(given) :]]
    expected, memory = plain_program(network, frames, prompts, tracker.config)
    for ours, plain in zip(masks, expected, strict=True):
        torch.testing.assert_close(ours, plain[1:].clamp(0, 1), atol=2e-4, rtol=0)
    for group in tracker.groups:
        bank, plain = group.bank, memory[tracker.ids[group.start]]
        assert (bank.num_working, bank.num_long_term) == (len(plain.working), len(plain.long_term))
        keys = keys_of_terms(bank.elements.terms)[0].T[bank.num_long_term :]
        torch.testing.assert_close(keys, torch.stack([e.key for e in plain.working]), atol=1e-4, rtol=0)


def test_a_late_object_remembers_what_it_would_as_the_first(monkeypatch):
    """Its memory is that of a video which starts with it, where the official program misaligns it."""
    network, frames = small_network(), make_video(30)
    whole = small_tracker(network, **LONG_TERM)

    def unmasked(tracker, image, features, probs):  # values that do not depend on the other objects
        return features.f16[:, :16].repeat(len(probs) - 1, 1, 1, 1)

    monkeypatch.setattr(type(whole), "_values", unmasked)
    play(whole, frames, {0: prompt_of({5: RED}), 7: prompt_of({2: BLUE})})
    alone = small_tracker(network, **LONG_TERM)
    play(alone, frames[7:], {0: prompt_of({2: BLUE})})
    late, first = whole.groups[1].bank, alone.groups[0].bank
    assert late.num_long_term == first.num_long_term > 0
    for ours, plain in zip(late.elements, first.elements, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_an_id_that_is_given_in_full_is_not_read(monkeypatch):
    tracker, frames = small_tracker(), make_video(3)
    monkeypatch.setattr(tracker, "_propagate", lambda *args, **kwargs: pytest.fail("nothing is to be found"))
    tracks = play(tracker, frames[:2], {0: prompt_of({5: RED}), 1: prompt_of({5: BLUE})})
    assert tracks[1].labels.equal(prompt_of({5: BLUE}).labels)


def test_the_memory_stays_where_it_is_once_it_is_full():
    tracker = small_tracker(**LONG_TERM)
    frames = make_video(60)
    tracker.reset()
    addresses, sizes = set(), []
    for t, frame in enumerate(frames):
        tracker.step(frame, prompt_of({5: RED, 2: BLUE}) if t == 0 else None)
        bank = tracker.groups[0].bank
        sizes.append(bank.num_long_term)
        if bank.num_long_term:
            addresses.add(bank.buffer.values.data_ptr())
            assert len(bank.buffer.use) == 13 + 4 * 12
    assert len(addresses) == 1 and max(sizes) == 13


def test_frames_are_resized_bilinearly_without_antialiasing(monkeypatch):
    tracker, inputs = small_tracker(short_side=32), []
    encode = tracker.network.encode_key
    monkeypatch.setattr(tracker.network, "encode_key", lambda frames: inputs.append(frames) or encode(frames))
    frame = make_video(1, (64, 90))[0]
    tracker.step(frame, prompt_of({5: RED}, (64, 90)))
    assert inputs[0][..., 1:46].equal(F.interpolate(normalise(frame)[None], (32, 45), mode="bilinear"))


def test_mixed_precision_runs_and_is_close():
    network, frames, prompts = small_network(3), make_video(12), {0: prompt_of({5: RED, 2: BLUE})}
    plain = play(small_tracker(network, **LONG_TERM), frames, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = play(small_tracker(network, **LONG_TERM), frames, prompts)
    assert all(one.masks.dtype == torch.float32 and one.masks.isfinite().all() for one in mixed)
    differences = [(a.masks - b.masks).abs().mean() for a, b in zip(plain, mixed, strict=True)]
    assert torch.stack(differences).mean() < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_mid_term_frames": 10}, "--min_mid_term_frames 10 must be less than"),
        (
            {"max_long_term_elements": 100},
            "--num_prototypes 128 must be at most",
        ),
        ({"short_side": 0}, "--short_side 0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        small_tracker(**options)
