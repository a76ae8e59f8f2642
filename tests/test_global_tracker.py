"""GlobalTracker with vectors alone: births, momentum, gates, deaths, returns, prompted ids, and causality."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inference import GlobalTracker

AXES = torch.eye(8)  # embeddings of objects that have nothing in common


def make_tracker(**options) -> GlobalTracker:
    return GlobalTracker(GlobalTracker.Config(**options))


def at(cosine: float, axis: int = 0, other: int = 7) -> Tensor:
    """A unit vector that has this cosine with one axis."""
    return cosine * AXES[axis] + math.sqrt(1 - cosine**2) * AXES[other]


def update(tracker: GlobalTracker, *vectors: Tensor, score: float = 0.9, **details) -> list[int]:
    embeddings = torch.stack(vectors) if vectors else torch.zeros(0, 8)
    return tracker.update(embeddings, torch.full((len(embeddings),), score), **details).tolist()


def box_masks(*boxes: tuple[int, int, int, int], size: int = 16) -> Tensor:
    """(K, size, size) bool masks of (x, y, width, height)."""
    masks = torch.zeros(len(boxes), size, size, dtype=torch.bool)
    for mask, (x, y, w, h) in zip(masks, boxes, strict=True):
        mask[y : y + h, x : x + w] = True
    return masks


def random_video(seed: int, frames: int = 12) -> list[tuple[Tensor, Tensor]]:
    """Noisy detections of up to six objects that come and go: embeddings and scores of each frame."""
    generator = torch.Generator().manual_seed(seed)
    video = []
    for _ in range(frames):
        visible = torch.rand(6, generator=generator) < 0.6
        noise = 0.15 * torch.randn(6, 8, generator=generator)
        video.append(((AXES[:6] + noise)[visible], torch.rand(6, generator=generator)[visible]))
    return video


def play(tracker: GlobalTracker, video: list[tuple[Tensor, Tensor]]) -> list[list[int]]:
    return [tracker.update(*detections).tolist() for detections in video]


# ------------------------------------------------------------------------------------------------ life


def test_without_detections_there_are_no_tracks_and_time_passes():
    tracker = make_tracker()
    assert update(tracker) == [] and tracker.bank == {} and tracker.frame == 1
    masks = torch.zeros(0, 4, 4, dtype=torch.bool)
    assert (
        update(tracker, masks=masks, class_probs=torch.zeros(0, 2), prompted_ids=torch.zeros(0).long()) == []
    )


def test_new_objects_get_new_ids_and_the_bank_is_a_dictionary_of_their_unit_embeddings():
    tracker = make_tracker()
    assert update(tracker, 5 * AXES[0], 0.1 * AXES[1]) == [1, 2]
    assert list(tracker.bank) == [1, 2] and type(tracker.bank) is dict
    assert torch.allclose(torch.stack(list(tracker.bank.values())), AXES[:2])
    assert update(tracker, AXES[1], AXES[2], AXES[0]) == [2, 3, 1]


def test_the_bank_follows_the_momentum_formula_and_keeps_unit_length():
    tracker, bank = make_tracker(beta=0.2), AXES[0]
    update(tracker, AXES[0])
    for cosine in (0.9, 0.7, 0.8):
        assert update(tracker, 3 * at(cosine)) == [1]
        bank = F.normalize((1 - 0.2) * bank + 0.2 * at(cosine), dim=0)
        assert torch.allclose(tracker.bank[1], bank, atol=1e-6)
        assert tracker.bank[1].norm().item() == pytest.approx(1)


@pytest.mark.parametrize("beta, expected", [(0.0, AXES[0]), (1.0, at(0.8))])
def test_the_extremes_of_the_momentum_keep_the_first_or_the_last_embedding(beta, expected):
    tracker = make_tracker(beta=beta)
    update(tracker, AXES[0])
    update(tracker, at(0.8))
    assert torch.allclose(tracker.bank[1], expected, atol=1e-6)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_the_match_threshold_gates_what_continues_a_track(threshold):
    for cosine, expected in ((threshold + 0.01, [1]), (threshold - 0.01, [2])):
        tracker = make_tracker(match_threshold=threshold, revive_threshold=1.0)
        update(tracker, AXES[0])
        assert update(tracker, at(cosine)) == expected


def test_a_track_takes_the_better_of_two_detections_and_the_other_is_born():
    tracker = make_tracker()
    update(tracker, AXES[0])
    assert update(tracker, at(0.8), at(0.95)) == [2, 1]


def test_a_weak_detection_is_neither_born_nor_updates_but_continues_its_track():
    tracker = make_tracker()
    assert update(tracker, AXES[0], score=0.4) == [0] and tracker.bank == {}
    update(tracker, AXES[0])
    assert update(tracker, at(0.9), AXES[1], score=0.4) == [1, 0]
    assert torch.equal(tracker.bank[1], AXES[0])
    record = tracker.records[1]
    assert (record.last_seen, record.hits, record.score) == (2, 2, pytest.approx(0.4))


def test_birth_and_update_scores_are_separate_switches():
    tracker = make_tracker(birth_score=0.95, update_score=0.3)
    assert update(tracker, AXES[0], score=0.9) == [0]
    assert update(tracker, AXES[0], score=0.96) == [1]
    update(tracker, at(0.9), score=0.4)
    assert not torch.equal(tracker.bank[1], AXES[0])


def test_more_tracks_than_detections_and_back():
    tracker = make_tracker()
    assert update(tracker, *AXES[:3]) == [1, 2, 3]
    assert update(tracker, AXES[1]) == [2]
    assert update(tracker) == []
    assert update(tracker, AXES[2], AXES[3], AXES[0], AXES[1]) == [3, 4, 1, 2]


def test_class_probabilities_are_summed_over_the_frames_in_which_a_track_is_seen():
    tracker = make_tracker()
    for probs in ([0.6, 0.3], [0.1, 0.8]):
        update(tracker, AXES[0], class_probs=torch.tensor([probs]))
    update(tracker, AXES[1], class_probs=torch.ones(1, 2))
    assert tracker.records[1].class_probs.tolist() == pytest.approx([0.7, 1.1])


# ------------------------------------------------------------------------------------------------ masks


def test_a_detection_under_another_does_not_update_the_bank_but_the_one_above_does():
    tracker = make_tracker()
    apart, under = box_masks((0, 0, 4, 4), (8, 8, 8, 8)), box_masks((7, 8, 4, 4), (8, 8, 8, 8))
    update(tracker, AXES[0], AXES[1], masks=apart)
    assert update(tracker, at(0.9, 0), at(0.9, 1), masks=under) == [1, 2]
    assert torch.equal(tracker.bank[1], AXES[0])  # three quarters of it lie under the other
    assert not torch.equal(tracker.bank[2], AXES[1])
    assert torch.equal(tracker.records[1].mask, under[0]) and tracker.records[1].last_seen == 1


def test_an_overlap_of_half_is_not_yet_an_occlusion():
    tracker = make_tracker()
    half = box_masks((6, 8, 4, 4), (8, 8, 8, 8))
    for cosine in (1.0, 0.9):
        update(tracker, at(cosine, 0), at(cosine, 1), masks=half)
    assert not torch.equal(tracker.bank[1], AXES[0])


def twins_that_cross(frames: int = 11) -> list[Tensor]:
    """Two equal squares that pass each other, one a little below the other; their order alternates."""
    video = [box_masks((t, 3, 5, 5), (10 - t, 6, 5, 5)) for t in range(frames)]
    return [masks.flip(0) if t % 2 else masks for t, masks in enumerate(video)]


def follow_twins(tracker: GlobalTracker) -> list[list[int]]:
    """Ids of the upper and the lower twin in each frame; both have one embedding."""
    ids_of_frames = [update(tracker, AXES[0], AXES[0], masks=masks) for masks in twins_that_cross()]
    return [ids[::-1] if t % 2 else ids for t, ids in enumerate(ids_of_frames)]


def test_identical_twins_that_cross_keep_their_ids_by_their_masks():
    assert follow_twins(make_tracker()) == [[1, 2]] * 11


def test_without_the_iou_term_appearance_cannot_tell_twins():
    assert follow_twins(make_tracker(iou_weight=0.0)) != [[1, 2]] * 11


@pytest.mark.parametrize("gap, by_mask", [(0, True), (2, True), (3, False)])
def test_the_last_mask_counts_only_a_few_frames(gap, by_mask):
    tracker = make_tracker(iou_age=3)
    here, there = box_masks((0, 0, 4, 4)), box_masks((9, 9, 4, 4))
    update(tracker, at(0.80, 0, 1), at(0.78, 0, 2), masks=torch.cat([here, there]))
    for _ in range(gap):
        update(tracker)
    assert update(tracker, AXES[0], masks=there) == ([2] if by_mask else [1])


@pytest.mark.parametrize("weight, stayed, expected", [(0.5, True, [1]), (0.5, False, [2]), (0.0, True, [2])])
def test_a_track_that_stayed_in_place_continues_at_a_lower_cosine(weight, stayed, expected):
    tracker = make_tracker(iou_weight=weight)
    here, elsewhere = box_masks((0, 0, 4, 4)), box_masks((9, 9, 4, 4))
    update(tracker, AXES[0], masks=here)
    assert update(tracker, at(0.2), masks=here if stayed else elsewhere) == expected


# ------------------------------------------------------------------------------------------------ death


@pytest.mark.parametrize("gap, active", [(4, True), (5, False)])
def test_a_track_is_dormant_when_it_was_unseen_for_max_age_frames(gap, active):
    tracker = make_tracker(max_age=5)
    update(tracker, AXES[0])
    for _ in range(gap):
        update(tracker)
    assert update(tracker, at(0.55)) == ([1] if active else [2])  # between the two thresholds
    assert (1 in tracker.bank) == (1 in tracker.records) == active and (1 in tracker.dormant) != active


def test_an_object_that_returns_after_a_long_gap_gets_its_old_id():
    tracker = make_tracker(max_age=5)
    update(tracker, AXES[0], AXES[1])
    for _ in range(50):
        assert update(tracker, AXES[1]) == [2]
    assert list(tracker.dormant) == [1]
    assert update(tracker, AXES[1], AXES[0]) == [2, 1] and tracker.dormant == {}


def test_a_dormant_track_returns_only_above_the_stricter_cosine_and_is_then_active():
    for cosine, expected in ((0.59, [2]), (0.61, [1])):
        tracker = make_tracker(max_age=1)
        update(tracker, AXES[0])
        for _ in range(40):
            update(tracker)
        assert list(tracker.dormant) == [1] and tracker.bank == tracker.records == {}
        assert update(tracker, at(cosine)) == expected
        assert list(tracker.bank) == expected and (1 in tracker.dormant) == (expected == [2])


def test_a_missing_track_does_not_take_the_object_of_a_dormant_one():
    tracker = make_tracker(max_age=2)
    a, b = AXES[0], at(0.55)
    assert update(tracker, a, b) == [1, 2]
    for _ in range(4):
        assert update(tracker, b) == [2]
    assert list(tracker.dormant) == [1] and list(tracker.bank) == [2]
    assert update(tracker, a) == [1]  # though its cosine with 2 would do


def test_no_track_gets_the_id_that_label_maps_ignore():
    tracker = make_tracker()
    tracker.next_id = 254
    assert update(tracker, AXES[0], AXES[1], AXES[2]) == [254, 256, 257]


def test_after_the_last_id_of_a_label_map_nothing_is_born_and_tracks_go_on():
    tracker = make_tracker()
    assert update(tracker, AXES[0], prompted_ids=torch.tensor([60_000])) == [60_000]
    tracker.next_id = 65_535
    with pytest.warns(UserWarning, match="id 65535 is the last"):
        assert update(tracker, *AXES[:3]) == [60_000, 65_535, 0]
    assert update(tracker, *AXES[:4]) == [60_000, 65_535, 0, 0] and 0 not in tracker.bank


def test_the_store_of_dormant_tracks_is_bounded_and_the_oldest_leave_first():
    tracker = make_tracker(max_age=0, max_dormant=2)
    for axis in range(4):
        assert update(tracker, AXES[axis]) == [axis + 1]
    update(tracker)
    assert list(tracker.dormant) == [3, 4]
    assert update(tracker, AXES[0], AXES[3]) == [5, 4]  # the first is forgotten and its id is not reused


def test_memory_is_flat_and_ids_are_never_reused_however_many_objects_pass():
    tracker = make_tracker(max_age=0, max_dormant=3, revive_threshold=1.1)
    for number in range(1, 100):
        assert update(tracker, AXES[number % 2]) == [number]
        assert len(tracker.bank) == len(tracker.records) == 1 and len(tracker.dormant) == min(number - 1, 3)


def test_reset_forgets_everything():
    tracker = make_tracker(max_age=0)
    first = play(tracker, random_video(0))
    tracker.reset()
    assert (tracker.bank, tracker.dormant, tracker.records) == ({}, {}, {})
    assert play(tracker, random_video(0)) == first


# ------------------------------------------------------------------------------------------------ prompts


def test_a_prompted_id_is_the_id_and_births_beside_it_take_other_ids():
    tracker = make_tracker()
    assert update(tracker, *AXES[:3], prompted_ids=torch.tensor([2, 0, 0])) == [2, 3, 4]
    assert update(tracker, AXES[3], AXES[0]) == [5, 2]


def test_a_prompted_id_outranks_similarity_and_score_and_sets_the_embedding_anew():
    tracker = make_tracker()
    update(tracker, AXES[0], AXES[1])
    ids = update(tracker, AXES[0], AXES[1], score=0.1, prompted_ids=torch.tensor([2, 0]))
    assert ids == [2, 0]  # the second's track is given to the first
    assert torch.equal(tracker.bank[2], AXES[0])


def test_a_prompted_id_wakes_a_dormant_track():
    tracker = make_tracker(max_age=0)
    update(tracker, AXES[0])
    update(tracker)
    update(tracker)
    assert list(tracker.dormant) == [1]
    assert update(tracker, AXES[4], prompted_ids=torch.tensor([1])) == [1]
    assert list(tracker.bank) == [1] and tracker.dormant == {}


def test_with_a_birth_score_above_one_only_prompted_ids_start_tracks():
    tracker = make_tracker(birth_score=1.1)
    assert update(tracker, AXES[0], AXES[1], prompted_ids=torch.tensor([0, 6])) == [0, 6]
    assert update(tracker, AXES[0], AXES[1]) == [0, 6]


# ------------------------------------------------------------------------------------------------ properties


@pytest.mark.parametrize("seed", range(4))
def test_what_is_decided_does_not_depend_on_later_frames(seed):
    video, tracker = random_video(seed), make_tracker(max_age=2)
    whole = play(tracker, video)
    for length in range(len(video)):
        assert play(make_tracker(max_age=2), video[:length]) == whole[:length]


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_the_detections_changes_nothing_but_the_numbers_of_births(seed):
    video = random_video(seed)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(scores), generator=generator) for _, scores in video]
    shuffled = [(e[o], s[o]) for (e, s), o in zip(video, orders, strict=True)]
    plain, mixed = (play(make_tracker(max_age=2), v) for v in (video, shuffled))
    pairs = {
        (plain[t][int(place)], track)
        for t, order in enumerate(orders)
        for place, track in zip(order, mixed[t], strict=True)
    }
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})  # one to one
    assert all((a == 0) == (b == 0) for a, b in pairs)


@pytest.mark.parametrize("moment", [0, 1, 5, 11])
def test_a_saved_state_continues_as_if_nothing_had_happened(moment, tmp_path):
    video, tracker = random_video(2), make_tracker(max_age=1)
    play(tracker, video[:moment])
    torch.save(tracker.state_dict(), tmp_path / "state.pth")
    state = torch.load(tmp_path / "state.pth", weights_only=True)  # tensors and plain types alone
    snapshot = tracker.state_dict()
    expected = play(tracker, video[moment:])
    for kept in (state, snapshot):
        resumed = make_tracker(max_age=1)
        resumed.load_state_dict(kept)
        assert play(resumed, video[moment:]) == expected
        assert all(torch.equal(resumed.bank[i], tracker.bank[i]) for i in tracker.bank)


def test_half_precision_embeddings_are_compared_in_float32():
    tracker = make_tracker()
    assert update(tracker, AXES[0].bfloat16()) == [1] == update(tracker, at(0.9).bfloat16())
    assert tracker.bank[1].dtype == torch.float32


@pytest.mark.parametrize("similarity, expected", [("cosine", [3, 2]), ("bi_softmax", [3, 1])])
def test_pairs_are_chosen_by_cosine_or_by_bi_softmax(similarity, expected):
    """The second detection looks a little more like track 2 than 1, but so does the first."""
    tracker = make_tracker(similarity=similarity, match_threshold=0.0)
    tracks = torch.tensor([[3.0, 0, 1, 2], [3, 3, 3, 3], [0, 1, 2, 3]])
    assert tracker.update(tracks, torch.ones(3)).tolist() == [1, 2, 3]
    detections = torch.tensor([[0.0, 1, 2, 2], [2, 0, 3, 2]])
    assert tracker.update(detections, torch.ones(2)).tolist() == expected
