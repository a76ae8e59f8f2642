"""The loss of XMem: perfect answers, empty slots, ignored pixels."""

import pytest
import torch

from systems.stcn.criterion import STCNCriterion
from systems.xmem.criterion import XMemCriterion
from tests.support.clips import make_clip, perfect_logits, random_clip

CONFIG = XMemCriterion.Config(num_objects=2)


def test_the_perfect_answer_costs_nothing_and_any_other_does():
    clip = random_clip(3, slots=2)
    criterion, logits = XMemCriterion(CONFIG).train(), perfect_logits(clip).requires_grad_()
    losses = criterion({"logits": logits}, clip)
    assert losses.keys() == {"ce", "dice"}
    assert [x.item() for x in losses.values()] == pytest.approx([0, 0], abs=1e-5)
    losses = criterion({"logits": -logits}, clip)
    sum(losses.values()).backward()
    assert losses["dice"] > 0.5 and logits.grad.isfinite().all() and logits.grad.any()


def test_cross_entropy_is_that_of_stcn():
    clip = random_clip(4, slots=2)
    outputs = {"logits": perfect_logits(clip) * 0.03}
    plain = STCNCriterion(STCNCriterion.Config()).eval()(outputs, clip)["ce"]
    assert XMemCriterion(CONFIG).eval()(outputs, clip)["ce"].equal(plain)


def test_dice_is_a_mean_over_as_many_slots_as_a_clip_may_have():
    labels = torch.ones(1, 2, 4, 4, dtype=torch.uint8)
    logits, clip = torch.zeros(1, 1, 2, 4, 4), make_clip(labels)
    losses = [
        XMemCriterion(XMemCriterion.Config(num_objects=n)).eval()({"logits": logits}, clip)["dice"].item()
        for n in (1, 3)
    ]
    assert losses[0] == pytest.approx(1 - (16 + 1) / (8 + 16 + 1))
    assert losses[1] == pytest.approx(losses[0] / 3, abs=1e-5)  # empty slots cost next to nothing


def test_ignored_pixels_do_not_count():
    labels = torch.ones(1, 2, 4, 4, dtype=torch.uint8)
    labels[:, :, 2:] = 255
    clip = make_clip(labels)
    right = perfect_logits(clip)
    right[..., 2:, :] *= -1
    assert XMemCriterion(CONFIG).eval()({"logits": right}, clip)["dice"].item() == pytest.approx(0, abs=1e-5)
