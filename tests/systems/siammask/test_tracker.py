"""SiamMask on a video: boxes and masks, several objects, edges of the picture, renewed templates."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from common.backbone import for_inference
from common.errors import UserError
from common.types import Prompt, Tracks
from systems.siammask import crops
from systems.siammask.tracker import OBJECTS_AT_ONCE, SiamMaskTracker
from tests.support.siammask_networks import RedFinder, small_network, small_tracker
from tests.support.vos_videos import play

SIZE = (60, 80)


def red_square(x: int, y: int, side: int = 16, size: tuple[int, int] = SIZE) -> Tensor:
    """A grey frame with a red square, as far as it lies inside."""
    frame = torch.full((3, *size), 90, dtype=torch.uint8)
    rows, columns = slice(max(0, y), max(0, y + side)), slice(max(0, x), max(0, x + side))
    frame[:, rows, columns] = torch.tensor([250, 10, 10], dtype=torch.uint8)[:, None, None]
    return frame


def noise(count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 255, (count, 3, *size), generator=generator, dtype=torch.uint8)


def follow(
    path: list[tuple[int, int]], box: tuple[float, ...], **options
) -> tuple[SiamMaskTracker, list[Tracks]]:
    """The stand-in on a red square that goes along a path."""
    tracker = small_tracker(RedFinder(), window_influence=0.3, **options)
    return tracker, play(tracker, [red_square(*place) for place in path], {0: Prompt(boxes={1: box})})


def iou(mask: Tensor, frame: Tensor) -> float:
    red = frame[0] == 250
    return float((mask & red).sum() / (mask | red).sum())


# ------------------------------------------------------------------------------------------------- following


def test_a_box_is_followed_and_gives_masks_scores_and_rotated_boxes():
    path = [(20 + 2 * t, 20 + t) for t in range(8)]
    tracker, results = follow(path, (20, 20, 16, 16))
    for tracks, place in zip(results, path, strict=True):
        assert iou(tracks.labels == 1, red_square(*place)) > 0.75
        assert tracks.boxes.shape == (1, 4, 2)
    assert all(tracks.scores[0] > 0.9 for tracks in results)
    centre = results[-1].boxes[0].mean(0)
    assert centre.tolist() == pytest.approx([path[-1][0] + 8, path[-1][1] + 8], abs=2)
    assert tracker.targets[0].centre == pytest.approx((path[-1][0] + 8, path[-1][1] + 8), abs=6)


def test_a_mask_and_its_box_start_the_same_track():
    frames = noise(3)
    labels = torch.zeros(SIZE, dtype=torch.int64)
    labels[10:31, 20:45] = 4
    by_mask = play(small_tracker(), frames, {0: Prompt(labels)})
    by_box = play(small_tracker(), frames, {0: Prompt(boxes={4: (20, 10, 25, 21)})})
    assert all(torch.equal(mine.masks, its.masks) for mine, its in zip(by_mask, by_box, strict=True))
    assert by_mask[0].labels.equal(labels)


def test_of_a_mask_with_a_box_the_box_gives_the_template_and_the_mask_is_shown():
    labels = torch.zeros(SIZE, dtype=torch.int64)
    labels[10:20, 10:20] = 4
    tracker = small_tracker()
    tracks = tracker.step(noise(1)[0], Prompt(labels, {4: (5, 6, 30, 20)}))
    assert tracker.targets[0].size == (30, 20) and tracks.labels.equal(labels)


def test_objects_do_not_know_of_one_another():
    frames, boxes = noise(4), {1: (5, 5, 20, 14), 2: (40, 20, 18, 25), 9: (20, 30, 30, 12)}
    together = play(small_tracker(), frames, {0: Prompt(boxes=boxes)})
    for place, (track, box) in enumerate(boxes.items()):
        alone = play(small_tracker(), frames, {0: Prompt(boxes={track: box})})
        for both, one in zip(together, alone, strict=True):
            torch.testing.assert_close(both.masks[place], one.masks[0], atol=1e-4, rtol=0)
            torch.testing.assert_close(both.boxes[place], one.boxes[0], atol=1e-2, rtol=0)
            torch.testing.assert_close(both.scores[place], one.scores[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("at_once", [2, 5])
def test_objects_are_the_same_however_many_go_through_the_network_at_once(at_once, monkeypatch):
    frames, boxes = noise(2), {i: (4.0 * i, 10.0, 12.0, 12.0) for i in range(1, 6)}
    in_turn = play(small_tracker(), frames, {0: Prompt(boxes=boxes)})
    monkeypatch.setitem(OBJECTS_AT_ONCE, "cpu", at_once)
    together = play(small_tracker(), frames, {0: Prompt(boxes=boxes)})
    torch.testing.assert_close(together[1].masks, in_turn[1].masks, atol=1e-4, rtol=0)


def test_a_pixel_goes_to_the_likeliest_object_above_the_threshold():
    tracker = small_tracker(seg_thr=0.4)
    frames = noise(3)
    for tracks in play(tracker, frames, {0: Prompt(boxes={3: (5, 5, 30, 30), 8: (20, 20, 30, 30)})}):
        best, which = tracks.masks.max(0)
        expected = torch.where(best > 0.4, tracks.ids[which], 0)
        assert tracks.labels.equal(expected)


def test_a_known_id_that_is_given_again_starts_anew_in_its_place():
    prompts = {
        0: Prompt(boxes={1: (5, 5, 20, 20), 2: (40, 20, 20, 20)}),
        2: Prompt(boxes={1: (30, 30, 10, 12)}),
    }
    tracker = small_tracker()
    results = play(tracker, noise(3), prompts)
    assert results[2].ids.tolist() == [1, 2] and tracker.targets[0].size == (10, 12)
    assert results[2].scores[0] == 1


@pytest.mark.parametrize("form", ["best", "coarse", "box"])
def test_every_form_of_masks_works_with_refinement_and_without(form):
    for refine in (False, True):
        tracks = play(
            small_tracker(small_network(refine=refine), mask_form=form),
            noise(2),
            {0: Prompt(boxes={1: (9, 9, 20, 20)})},
        )[-1]
        assert tracks.masks.isfinite().all() and tracks.boxes.isfinite().all()
        if form == "box":
            assert set(tracks.masks.unique().tolist()) <= {0.0, 1.0}


def test_a_network_made_fast_for_inference_differs_by_rounding_only():
    torch.manual_seed(1)
    network = small_network(refine=True)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand_like(value) + 0.5)
    image = torch.rand(2, 3, 255, 255) * 255
    with torch.no_grad():
        kernels, _ = network.encode_template(image[..., 64:191, 64:191])
        plain = network.search(kernels, image)
        fast = for_inference(copy.deepcopy(network))
        assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in fast.modules())
        kernels, _ = fast.encode_template(image[..., 64:191, 64:191])
        folded = fast.search(kernels, image)
    for name in ("cls", "loc", "row"):
        mine, its = getattr(plain, name), getattr(folded, name)
        torch.testing.assert_close(mine, its, atol=float(1e-4 * mine.abs().max()), rtol=0)


def test_a_network_that_was_trained_further_is_used_from_the_next_video_on():
    network = small_network()
    tracker = small_tracker(network)
    prompts = {0: Prompt(boxes={1: (9, 9, 20, 20)})}
    before = play(tracker, noise(2), prompts)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    after = play(tracker, noise(2), prompts)
    assert not before[1].masks.equal(after[1].masks)


# ------------------------------------------------------------------------------------------------- hard cases


def test_a_target_that_leaves_the_picture_is_unsure_and_found_again_where_it_returns():
    out = [(20 + 6 * t, 24) for t in range(13)]  # from frame 10 on it is outside
    tracker, results = follow(out + out[::-1], (20, 24, 16, 16))
    gone = [tracks for tracks, (x, _) in zip(results, out + out[::-1], strict=True) if x >= SIZE[1]]
    assert len(gone) == 6 and all(tracks.scores[0] < 0.1 and not tracks.labels.any() for tracks in gone)
    assert all(tracks.boxes.isfinite().all() for tracks in results)
    assert iou(results[-1].labels == 1, red_square(*out[0])) > 0.75
    x, y = tracker.targets[0].centre
    assert 0 <= x <= SIZE[1] and 0 <= y <= SIZE[0]


def test_the_centre_stays_in_the_frame_and_the_box_has_ten_pixels_at_least():
    tracker = small_tracker(size_lr=1.0)
    for seed in range(3):
        play(tracker, noise(6, seed=seed), {0: Prompt(boxes={1: (70, 50, 20, 20), 2: (-15, -15, 20, 20)})})
        for one in tracker.targets:
            assert 0 <= one.centre[0] <= SIZE[1] and 0 <= one.centre[1] <= SIZE[0]
            assert 10 <= one.size[0] <= SIZE[1] and 10 <= one.size[1] <= SIZE[0]


def test_an_object_of_eight_pixels_is_followed():
    frames = [red_square(30 + t, 30, side=8) for t in range(5)]
    tracker = small_tracker(RedFinder(), window_influence=0.3)
    results = play(tracker, frames, {0: Prompt(boxes={1: (30, 30, 8, 8)})})
    assert iou(results[-1].labels == 1, frames[-1]) > 0.5
    single = torch.zeros(SIZE, dtype=torch.int64)
    single[30, 30] = 1  # a mask of one pixel
    assert play(small_tracker(), noise(2), {0: Prompt(single)})[1].masks.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_frames_of_one_pixel_give_tracks_of_that_size(size):
    labels = torch.ones(size, dtype=torch.int64)
    for tracks in play(small_tracker(), noise(3, size), {0: Prompt(labels)}):
        assert tracks.labels.shape == size and tracks.masks.shape == (1, *size)
        assert tracks.masks.isfinite().all() and tracks.boxes.isfinite().all()


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((100, 5, 20, 20), "outside of the frame of 80x60"),
        ((-30, 5, 20, 20), "outside"),
        ((5, 60, 20, 20), "outside"),
        ((5, 5, 0, 20), "no area"),
        ((5, 5, 20, -3), "no area"),
        ((5, 5, float("nan"), 20), "no area"),
        ((5, 5, float("inf"), 20), "no area"),
        ((-900, -900, 2000, 2000), "4 times as large"),
    ],
)
def test_a_box_that_shows_nothing_is_refused_by_its_numbers(box, words):
    with pytest.raises(UserError, match=words) as refused:
        small_tracker().step(noise(1)[0], Prompt(boxes={7: box}))
    assert "id 7" in str(refused.value)


def test_a_crop_shows_the_mean_colour_outside_of_the_frame_and_halves_are_rounded_to_even():
    frame = np.zeros((10, 10, 3), np.uint8)
    frame[4, 4] = 255
    colour = np.array([10.9, 20.2, 30.7])
    far = crops.crop(frame, (100.0, 100.0), 5, 5, colour)
    assert (far == [10, 20, 30]).all()
    for centre, place in ((4.5, 2), (5.5, 0), (3.5, 2), (2.5, 4)):  # x0 = round(centre - 3)
        window = crops.crop(frame, (centre, 4.0), 5, 5, colour)
        assert window[:, :, 0].max(0).argmax() == 4 - round(centre - 3), place


# -------------------------------------------------------------------------------------------------- templates


def kernels_after(update: bool, frames: Tensor, **options) -> tuple[Tensor, Tensor]:
    """The first kernels of an object, and those after the video."""
    tracker = small_tracker(small_network(refine=True), update_template=update, update_every=1, **options)
    tracker.step(frames[0], Prompt(boxes={1: (20, 20, 20, 20)}))
    first = tracker.targets[0].kernels.mask.clone()
    for frame in frames[1:]:
        tracker.step(frame)
    return first, tracker.targets[0].kernels.mask


SURE = {"update_score": 0.0, "update_similarity": -1.0}


def test_a_template_stays_as_it_was_given_unless_it_may_be_renewed():
    first, last = kernels_after(False, noise(3), **SURE)
    assert first.equal(last)


def test_a_sure_and_similar_object_renews_its_template():
    first, last = kernels_after(True, noise(3), **SURE)
    assert not first.equal(last)


@pytest.mark.parametrize("doubt", [{"update_score": 1.0}, {"update_similarity": 1.0}])
def test_a_doubtful_object_keeps_its_template(doubt):
    first, last = kernels_after(True, noise(3), **SURE | doubt)
    assert first.equal(last)


def test_templates_are_looked_for_every_so_many_frames():
    tracker = small_tracker(update_template=True, update_every=3, **SURE)
    frames = noise(4)
    tracker.step(frames[0], Prompt(boxes={1: (20, 20, 20, 20)}))
    kernels = [tracker.targets[0].kernels.cls]
    for frame in frames[1:]:
        tracker.step(frame)
        kernels.append(tracker.targets[0].kernels.cls)
    assert kernels[0].equal(kernels[1]) and kernels[1].equal(kernels[2]) and not kernels[2].equal(kernels[3])
