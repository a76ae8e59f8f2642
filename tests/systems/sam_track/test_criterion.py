"""The losses of SAM for tracking: by hand, at the perfect answer, on nothing at all, on both scales."""

import math

import pytest
import torch
from torch import Tensor

from common.types import Clip
from systems.sam_track.criterion import SAMTrackCriterion, dice_of_maps
from systems.sam_track.dataset import PairClip
from tests.support.clips import make_clip
from tests.support.processes import in_two_processes
from video.label_maps import IGNORE

BOTH = pytest.mark.parametrize("loss", ["probs", "logits"])


def criterion(**options: object) -> SAMTrackCriterion:
    return SAMTrackCriterion(SAMTrackCriterion.Config(image_size=8, **options))


def one_clip(second: list[list[int]]) -> Clip:
    """A pair of frames, the second with these labels, each repeated to 4x4 pixels."""
    labels = torch.tensor(second).repeat_interleave(4, 0).repeat_interleave(4, 1)
    return make_clip(torch.stack([torch.ones_like(labels), labels])[None])


def outputs_of(probs: Tensor) -> dict[str, Tensor]:
    """Predictions of one object, (2, 2) probabilities of the quarters of the frame and of the square."""
    large = probs.repeat_interleave(4, 0).repeat_interleave(4, 1)[None, None, None]
    return {"probs": large, "logits": probs.logit()[None, None, None]}


@BOTH
def test_the_cross_entropy_is_the_mean_over_pixels(loss):
    outputs = outputs_of(torch.tensor([[0.8, 0.4], [0.5, 0.1]]))
    losses = criterion(loss=loss)(outputs, one_clip([[1, 0], [0, 0]]))
    expected = -sum(map(math.log, (0.8, 0.6, 0.5, 0.9))) / 4
    assert losses.keys() == {"ce"} and losses["ce"].item() == pytest.approx(expected, rel=1e-5)


@BOTH
def test_ignored_pixels_and_empty_slots_do_not_count(loss):
    probs = torch.tensor([[0.8, 0.4], [0.5, 0.1]])
    clip = one_clip([[1, 0], [IGNORE, IGNORE]])
    expected = -(math.log(0.8) + math.log(0.6)) / 2
    assert criterion(loss=loss)(outputs_of(probs), clip)["ce"].item() == pytest.approx(expected, rel=1e-5)
    outputs = {name: torch.cat([x, torch.rand_like(x)], 2) for name, x in outputs_of(probs).items()}
    clip.ids, clip.classes = torch.tensor([[7, 0]]), torch.zeros(1, 2, dtype=torch.int64)
    assert criterion(loss=loss)(outputs, clip)["ce"].item() == pytest.approx(expected, rel=1e-5)


@BOTH
def test_the_loss_is_none_at_the_perfect_answer_and_finite_at_the_worst(loss):
    clip = one_clip([[1, 0], [0, 1]])
    perfect = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    outputs = outputs_of(perfect.clamp(1e-7, 1 - 1e-7))
    assert criterion(loss=loss, w_dice=1)(outputs, clip)["ce"] < 1e-5
    assert criterion(loss=loss, w_dice=1)(outputs, clip)["dice"] < 1e-5
    worst = criterion()({"probs": 1 - outputs["probs"].round(), "logits": outputs["logits"]}, clip)
    assert worst["ce"].isfinite() and worst["ce"] > 10


@BOTH
def test_a_clip_without_objects_costs_nothing_and_has_gradients(loss):
    clip = one_clip([[0, 0], [0, 0]])
    clip.ids = clip.classes = torch.zeros(1, 0, dtype=torch.int64)
    probs = torch.zeros(1, 1, 0, 8, 8, requires_grad=True)
    logits = torch.zeros(1, 1, 0, 2, 2, requires_grad=True)
    losses = criterion(loss=loss, w_dice=1)({"probs": probs, "logits": logits}, clip)
    sum(losses.values()).backward()
    assert [loss.item() for loss in losses.values()] == [0, 0]


def test_dice_by_hand():
    probs, targets = torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[1.0, 1.0]]])
    weights = torch.ones(1, 1, 2)
    assert dice_of_maps(probs, targets, weights).item() == pytest.approx(1 - (2 * 1.5 + 1) / (1.5 + 2 + 1))
    assert dice_of_maps(probs, targets, torch.tensor([[[0.0, 1.0]]])).item() == pytest.approx(0)


def test_cells_know_the_size_of_each_frame_of_a_batch():
    """The frame fills the upper half of the square, whose lower half is background and counts."""
    base = one_clip([[1, 1], [IGNORE, IGNORE]])
    clip = PairClip(**vars(base) | {"sizes": [(4, 8)]}, files=[["a", "b"]])
    outputs = outputs_of(torch.tensor([[0.8, 0.8], [0.4, 0.4]]))
    expected = -(2 * math.log(0.8) + 2 * math.log(0.6)) / 4
    assert criterion(loss="logits")(outputs, clip)["ce"].item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_computed_in_full_precision_under_autocast():
    clip, outputs = one_clip([[1, 0], [0, 0]]), outputs_of(torch.tensor([[0.8, 0.4], [0.5, 0.1]]))
    plain = criterion()(outputs, clip)["ce"]
    with torch.autocast("cpu", torch.bfloat16):
        assert criterion()(outputs, clip)["ce"].equal(plain)


def test_the_statistics_are_ious_of_training_or_of_validation():
    one = criterion()
    outputs, clip = outputs_of(torch.tensor([[0.8, 0.7], [0.5, 0.1]])), one_clip([[1, 0], [0, 0]])
    one.train()(outputs, clip)
    assert {name: x.item() for name, x in one.stats.items()} == {
        "pairs/train_iou_sum": 0.5,
        "pairs/train_iou_count": 1,
    }
    one.eval()(outputs, clip)
    assert "pairs/val_iou_sum" in one.stats


# ------------------------------------------------------------------------------------------------ processes

KINDS = {
    "probs": {"loss": "probs"},
    "logits": {"loss": "logits"},
    "dice": {"loss": "probs", "w_dice": 2.0},
}


def gradient(clips: slice, **options: object) -> Tensor:
    """Of a slope that scales all logits of some of two clips, which have 64 and 16 pixels that count."""
    labels = torch.tensor([[1, 0], [0, 1]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    labels = labels.repeat(2, 2, 1, 1)
    labels[1, :, :4] = labels[1, :, :, :4] = IGNORE
    logits = torch.randn(2, 1, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    slope = torch.tensor(0.7, requires_grad=True)
    logits = slope * logits[clips]
    probs = logits.sigmoid().repeat_interleave(4, -1).repeat_interleave(4, -2)
    losses = criterion(**options)({"logits": logits, "probs": probs}, make_clip(labels[clips]))
    sum(losses.values()).backward()
    return slope.grad


def gradients_of_a_share(rank: int) -> dict[str, Tensor]:
    """What each of two processes computes of its clip."""
    return {name: gradient(slice(rank, rank + 1), **options) for name, options in KINDS.items()}


def test_two_processes_with_a_clip_each_learn_what_one_learns_of_both(tmp_path):
    shares = in_two_processes(gradients_of_a_share, tmp_path)
    for name, options in KINDS.items():
        whole = gradient(slice(None), **options)
        mean = torch.stack([share[name] for share in shares]).mean()
        torch.testing.assert_close(mean, whole)
        alone = [gradient(slice(rank, rank + 1), **options) for rank in range(2)]
        assert not torch.isclose(torch.stack(alone).mean(), whole)
