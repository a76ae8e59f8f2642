"""STCN on a video: prompts on any frame, what is remembered, sizes and mirrors; against a plain program."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import UserError
from common.types import Prompt
from systems.stcn.modules import STCN, others_of
from systems.stcn.tracker import resize_masks, scaled_size
from tests.support.stcn_networks import small_network, small_tracker
from tests.support.vos_videos import BLUE, RED, SIZE, make_video, play, prompt_of
from video.masks import pad_around, soft_aggregate
from video.transforms import normalise


@torch.no_grad()
def plain_program(
    network: STCN,
    frames: Tensor,
    prompts: dict[int, Prompt],
    *,
    top_k: int,
    mem_every: int,
    include_last: bool,
) -> list[Tensor]:
    """What the specification says, written plainly: a memory for each object, dense, with everything anew.

    Returns the (K + 1, H, W) probabilities of every frame from the first prompt on.
    """
    memory: dict[int, list] = {}  # id: [(keys, value, whether temporary)]
    last, outputs = 0, []
    for t, frame in enumerate(frames):
        image, window = pad_around(normalise(frame)[None], 16)
        features = network.encode_key(image)
        query = features.k16[0].flatten(1)
        probs = []
        for entries in memory.values():
            keys = torch.cat([key for key, *_ in entries], 1)  # (C, S)
            values = torch.cat([value.flatten(1) for _, value, _ in entries], 1)  # (V, S)
            distance = (keys[:, :, None] - query[:, None]).square().sum(0)
            best = (-distance / len(keys) ** 0.5).topk(min(top_k, len(distance)), dim=0)
            weights = torch.zeros_like(distance).scatter(0, best.indices, best.values.softmax(0))
            readout = (values @ weights).view(1, 1, len(values), *features.k16.shape[-2:])
            probs.append(network.decode(readout, features)[0, 0].sigmoid())
        ids = prompts[t].ids if t in prompts else []
        known = list(memory)
        objects = torch.stack(probs) if probs else torch.zeros(0, *image.shape[-2:])
        objects = soft_aggregate(objects[None])[0].softmax(0)[1:] if probs else objects
        memory |= {i: [] for i in ids if i not in memory}
        if ids:
            given = pad_around(torch.stack([prompts[t].labels == i for i in ids]).float(), 16)[0]
            objects = torch.cat([objects, torch.zeros(len(memory) - len(known), *image.shape[-2:])])
            objects[:, given.any(0)] = 0
            for i, mask in zip(ids, given, strict=True):
                objects[list(memory).index(i)] = mask
        if not memory:
            continue
        everything = soft_aggregate(objects[None])[0].softmax(0) if ids else None
        if everything is None:
            everything = soft_aggregate(torch.stack(probs)[None])[0].softmax(0)
        outputs.append(everything[(slice(None), *window)])
        due = bool(ids) or t - last >= mem_every
        last = t if due else last
        if due or include_last:
            masks = everything[1:][None]
            values = network.encode_value(image, features.f16, masks, others_of(masks))[0]
            for entries, value in zip(memory.values(), values, strict=True):
                entries[:] = [entry for entry in entries if not entry[2]] + [(query, value, not due)]
    return outputs


@pytest.mark.parametrize("include_last", [False, True])
@pytest.mark.parametrize(
    "prompts",
    [
        {0: {5: RED, 2: BLUE}},
        {0: {5: RED}, 4: {9: BLUE}},
        {2: {5: RED}, 5: {9: BLUE}, 6: {5: BLUE, 3: RED}},
    ],
)
def test_videos_are_tracked_as_by_a_plain_program(prompts, include_last):
    network, frames = small_network(3), make_video(10)
    prompts = {t: prompt_of(ids) for t, ids in prompts.items()}
    options = {"top_k": 7, "mem_every": 3, "include_last": include_last}
    tracks = play(small_tracker(network, **options), frames, prompts)
    expected = plain_program(network, frames, prompts, **options)
    start = min(prompts)
    assert all(len(one.ids) == 0 and not one.labels.any() for one in tracks[:start])
    assert len(expected) == len(frames) - start
    for ours, plain in zip(tracks[start:], expected, strict=True):
        torch.testing.assert_close(ours.masks, plain[1:], atol=1e-4, rtol=0)
        assert ours.labels.equal(
            F.pad(ours.ids, (1, 0))[torch.cat([1 - ours.masks.sum(0)[None], ours.masks]).argmax(0)]
        )


def test_the_prompt_is_what_its_frame_shows():
    prompt = prompt_of({5: RED, 300: BLUE})
    (tracks,) = play(small_tracker(), make_video(1), {0: prompt})
    assert tracks.labels.equal(prompt.labels) and tracks.ids.tolist() == [5, 300]
    assert tracks.scores.min() > 0.99


def test_a_correction_replaces_the_object_and_takes_from_others():
    tracks = play(small_tracker(), make_video(4), {0: prompt_of({5: RED, 2: BLUE}), 3: prompt_of({5: BLUE})})
    assert tracks[3].ids.tolist() == [2, 5]
    assert (tracks[3].labels == 5).equal(prompt_of({5: BLUE}).labels == 5)


def test_an_id_that_later_prompts_leave_out_is_followed_on():
    frames, both = make_video(6), prompt_of({2: BLUE, 5: RED})
    tracks = play(small_tracker(), frames, {0: both, 3: prompt_of({2: BLUE})})
    assert all(one.ids.tolist() == [2, 5] for one in tracks)


def test_objects_that_start_together_share_one_group():
    tracker = small_tracker(mem_every=2)
    play(tracker, make_video(5), {0: prompt_of({2: BLUE, 5: RED}), 3: prompt_of({9: RED})})
    assert [(group.start, group.stop, group.bank.num_frames) for group in tracker.groups] == [
        (0, 2, 3),
        (2, 3, 1),
    ]


def test_a_frame_is_encoded_once_and_none_before_the_first_prompt(monkeypatch):
    tracker, calls = small_tracker(), []
    encode = tracker.network.encode_key
    monkeypatch.setattr(tracker.network, "encode_key", lambda frames: calls.append(1) or encode(frames))
    play(tracker, make_video(6), {2: prompt_of({5: RED}), 4: prompt_of({2: BLUE})})
    assert len(calls) == 4


def test_a_bounded_memory_holds_that_many_frames_of_each_group():
    tracker = small_tracker(mem_every=1, max_memory_frames=3)
    play(tracker, make_video(12), {0: prompt_of({5: RED}), 2: prompt_of({2: BLUE})})
    assert [group.bank.num_frames for group in tracker.groups] == [3, 3]
    assert [len(group.bank.values) for group in tracker.groups] == [4, 4]  # with a temporary one


def test_a_bound_that_is_never_reached_changes_nothing():
    frames, prompts = make_video(9), {0: prompt_of({5: RED})}
    free = play(small_tracker(mem_every=2), frames, prompts)
    bound = play(small_tracker(mem_every=2, max_memory_frames=5), frames, prompts)
    assert all(one.masks.equal(other.masks) for one, other in zip(free, bound, strict=True))


@pytest.mark.parametrize(
    ("size", "short_side", "scaled"),
    [
        ((720, 1280), 480, (480, 853)),
        ((1280, 720), 480, (853, 480)),
        ((480, 910), 480, (480, 910)),
        ((200, 410), 480, (480, 984)),
        ((37, 53), -1, (37, 53)),
        ((30, 30), 48, (48, 48)),
    ],
)
def test_the_short_side_is_exact_and_the_long_one_rounded_down(size, short_side, scaled):
    assert scaled_size(size, short_side) == scaled


@pytest.mark.parametrize("short_side", [32, 64])
def test_another_size_in_the_network_gives_tracks_of_the_frames_size(short_side):
    frames = make_video(4)
    for tracks in play(small_tracker(short_side=short_side), frames, {0: prompt_of({5: RED})}):
        assert tracks.masks.shape == (1, *SIZE) and tracks.labels.shape == SIZE
    first = play(small_tracker(short_side=short_side), frames[:1], {0: prompt_of({5: RED})})[0]
    expected = prompt_of({5: RED}).labels
    assert ((first.labels == 5) & (expected == 5)).sum() > 0.85 * (expected == 5).sum()


def test_frames_are_resized_after_normalisation_without_antialiasing(monkeypatch):
    tracker, inputs = small_tracker(short_side=32), []
    encode = tracker.network.encode_key
    monkeypatch.setattr(tracker.network, "encode_key", lambda frames: inputs.append(frames) or encode(frames))
    frame = make_video(1, (64, 90))[0]
    tracker.step(frame, prompt_of({5: RED}, (64, 90)))
    plain = F.interpolate(normalise(frame)[None], (32, 45), mode="bicubic", antialias=False)
    assert inputs[0].shape == (1, 3, 32, 48)
    assert inputs[0][..., 1:46].equal(plain) and not inputs[0][..., 0].any() and not inputs[0][..., 46:].any()


def test_an_object_of_one_pixel_does_not_vanish_where_frames_shrink():
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, 31, 7] = masks[1, 0:20] = True
    small = resize_masks(masks, (10, 10))
    assert small[0].nonzero().tolist() == [[7, 1]] and small[1, :5].all() and not small[1, 5:].any()
    dot = prompt_of({8: (slice(3, 4), slice(5, 6))})
    tracks = play(small_tracker(short_side=16), make_video(2), {0: dot})
    assert tracks[0].ids.tolist() == [8] and (tracks[0].labels == 8).any()


def test_boxes_count_as_masks_and_one_outside_of_the_frame_is_refused():
    frames = make_video(3)
    by_box = play(small_tracker(), frames, {0: Prompt(boxes={5: (2, 4, 16, 16)})})
    by_mask = play(small_tracker(), frames, {0: prompt_of({5: RED})})
    assert all(one.masks.equal(other.masks) for one, other in zip(by_box, by_mask, strict=True))
    with pytest.raises(UserError, match="box of id 5"):
        small_tracker().step(frames[0], Prompt(boxes={5: (100, 4, 16, 16)}))


def test_a_short_side_that_is_no_size_is_refused():
    with pytest.raises(UserError, match="--short_side 0"):
        small_tracker(short_side=0)


def test_a_small_frame_has_fewer_elements_than_top_k():
    frames = make_video(3)[:, :, :20, :20]
    tracks = play(small_tracker(top_k=50), frames, {0: prompt_of({5: RED}, (20, 20))})
    assert all(one.masks.isfinite().all() for one in tracks)


def test_mixed_precision_runs_and_is_close():
    network, frames, prompts = small_network(3), make_video(6), {0: prompt_of({5: RED, 2: BLUE})}
    plain = play(small_tracker(network, mem_every=2), frames, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = play(small_tracker(network, mem_every=2), frames, prompts)
    assert all(one.masks.dtype == torch.float32 for one in mixed)
    assert (
        np.mean([(a.masks - b.masks).abs().mean().item() for a, b in zip(plain, mixed, strict=True)]) < 0.05
    )


def test_steps_leave_no_gradients_behind():
    (tracks,) = play(small_tracker(), make_video(1), {0: prompt_of({5: RED})})
    assert not tracks.masks.requires_grad
