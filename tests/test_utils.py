"""Losses: values worked by hand, dense and slow definitions, nothing there at all."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.clips import make_clip, random_outputs
from utils import (
    TCOVISCriterion,
    contrastive_loss,
    cosine_statistics,
    dice_loss,
    foreground_loss,
    instance_loss,
    mask_bce,
    matching_loss,
    object_identities,
    weighted_mean,
)
from video.label_maps import IGNORE

ONE = torch.tensor(1.0)  # a temperature that changes nothing


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# ------------------------------------------------------------------------------------------------ mask losses


def test_mask_bce_by_hand_counts_the_weighted_points_alone():
    logits = torch.tensor([[0.0, 0.0, 50.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0, 0.0]])
    weights = torch.tensor([[1.0, 1.0, 0.0]])
    loss = mask_bce(logits, targets, weights)
    assert loss.item() == pytest.approx(math.log(2))
    loss.sum().backward()
    assert logits.grad.tolist() == [pytest.approx([-0.25, 0.25, 0])]


def test_dice_by_hand():
    weights = torch.ones(1, 2)
    sure = torch.tensor([[1.0, 0.0]])
    assert dice_loss(sure, torch.tensor([[1.0, 0.0]]), weights).item() == pytest.approx(0)
    assert dice_loss(sure, torch.tensor([[0.0, 1.0]]), weights).item() == pytest.approx(1 - 1 / 3)
    assert dice_loss(torch.full((1, 2), 0.5), torch.ones(1, 2), weights).item() == pytest.approx(1 - 3 / 4)
    assert dice_loss(sure, torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0)
    logits = torch.zeros(1, 2, requires_grad=True)
    dice_loss(logits.sigmoid(), torch.tensor([[1.0, 0.0]]), weights).sum().backward()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]


def test_dice_of_maps_of_any_shape_is_worked_by_hand():
    probs, mask = torch.tensor([[0.5, 1.0], [0.0, 0.25]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    loss = dice_loss(probs.flatten(), mask.flatten(), torch.ones(4))
    assert loss.item() == pytest.approx(1 - (2 * 1.5 + 1) / (1.75 + 2 + 1))
    assert dice_loss(torch.zeros(3, 16), torch.zeros(3, 16), torch.ones(3, 16)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("loss", [mask_bce, dice_loss])
def test_mask_losses_are_finite_where_no_point_counts_and_where_there_is_no_mask(loss):
    logits = torch.randn(2, 5, requires_grad=True)
    value = loss(logits, torch.ones(2, 5), torch.zeros(2, 5))
    value.sum().backward()
    assert value.tolist() == [0, 0] and logits.grad.abs().sum() == 0
    assert loss(logits[:0], torch.ones(0, 5), torch.ones(0, 5)).shape == (0,)


def test_a_weighted_mean_of_nothing_is_zero_with_a_zero_gradient():
    values = torch.randn(3, requires_grad=True)
    mean = weighted_mean(values, torch.zeros(3))
    mean.backward()
    assert mean == 0 and values.grad.tolist() == [0, 0, 0]
    assert weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0])).item() == pytest.approx(1.75)
    assert weighted_mean(torch.tensor([1.0, 4.0, 2.0]), torch.tensor([True, False, True])).item() == 1.5


def test_foreground_is_the_share_of_a_cell_that_lies_on_any_object():
    labels = torch.tensor([[[1, 0, 2, 2], [0, 0, 2, IGNORE]]], dtype=torch.uint8)  # two cells of 2x2
    p, q = (torch.sigmoid(torch.tensor(x)).item() for x in (0.3, -1.2))
    bce = -(0.25 * math.log(p) + 0.75 * math.log(1 - p)) - 0.75 * math.log(q)  # a quarter is ignored
    dice = 1 - (2 * (0.25 * p + 0.75 * q) + 1) / (p + 0.75 * q + 0.25 + 0.75 + 1)
    loss = foreground_loss(torch.tensor([[[0.3, -1.2]]]), labels)
    assert loss.tolist() == pytest.approx([bce / 1.75 + dice])


def test_foreground_of_a_frame_that_is_ignored_as_a_whole_costs_nothing():
    logits = torch.randn(1, 2, 2, requires_grad=True)
    loss = foreground_loss(logits, torch.full((1, 8, 8), IGNORE, dtype=torch.uint8))
    loss.sum().backward()
    assert loss.tolist() == [0.0] and not logits.grad.any()


def slow_instance_loss(features: Tensor, labels: Tensor) -> Tensor:
    """Cell by cell, of labels as large as the features."""
    losses = []
    for x, slots in zip(F.normalize(features, dim=1), labels, strict=True):
        present = sorted(set(slots.unique().tolist()) - {IGNORE})
        means = torch.stack([F.normalize(x[:, slots == k].mean(1), dim=0) for k in present])
        for place, k in enumerate(present):
            cells = x[:, slots == k].T
            losses.append(
                torch.stack([F.cross_entropy(10 * means @ c, torch.tensor(place)) for c in cells]).mean()
            )
    return torch.stack(losses).mean()


def test_instance_loss_is_what_its_slow_definition_says():
    features = torch.randn(3, 8, 4, 6)
    labels = torch.randint(0, 4, (3, 4, 6), dtype=torch.uint8)
    labels[0][labels[0] == 2] = 0  # no object 2 in the first frame
    labels[1, :2] = IGNORE
    expected = slow_instance_loss(features, labels)
    assert instance_loss(features, labels, 3).item() == pytest.approx(expected.item(), rel=1e-5)
    larger = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)  # cells of 4x4 pixels
    assert instance_loss(features, larger, 3).item() == pytest.approx(expected.item(), rel=1e-5)


def test_instance_loss_by_hand_and_its_gradient_pulls_a_strange_cell_to_its_object():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).T.view(1, 2, 1, 3)
    right = torch.tensor([[[1, 1, 0]]], dtype=torch.uint8)
    assert instance_loss(features, right, 1).item() == pytest.approx(math.log1p(math.exp(-10)), abs=1e-7)
    strange = features.clone().requires_grad_()
    instance_loss(strange, torch.tensor([[[1, 0, 0]]], dtype=torch.uint8), 1).backward()
    assert strange.grad[0, 1, 0, 1] < 0  # the second cell goes towards the third


def test_instance_loss_of_a_frame_that_is_ignored_as_a_whole_is_nothing():
    features = torch.randn(1, 4, 2, 2, requires_grad=True)
    loss = instance_loss(features, torch.full((1, 8, 8), IGNORE, dtype=torch.uint8), 2)
    loss.backward()
    assert loss.item() == 0 and not features.grad.any()


# ------------------------------------------------------------------------------------------------ association


def slow_matching_loss(objects: Tensor, visible: Tensor, temperature: float) -> float:
    total = weight = 0.0
    B, T, K = visible.shape
    for b, t, s, k in itertools.product(range(B), range(T), range(T), range(K)):
        if t == s or not visible[b, t, k] or not visible[b, s, k]:
            continue
        slots = visible[b, s].nonzero()[:, 0]
        row = objects[b, s, slots] @ objects[b, t, k] / temperature
        right = (slots == k).nonzero()[:, 0]
        total += F.cross_entropy(row[None], right).item() / abs(t - s)
        weight += 1 / abs(t - s)
    return total / weight


def slow_contrastive_loss(objects: Tensor, identities: Tensor, temperature: float) -> float:
    anchors = []
    for i, identity in enumerate(identities.tolist()):
        others = [j for j, other in enumerate(identities.tolist()) if other and other != identity]
        positives = [j for j, other in enumerate(identities.tolist()) if j != i and other == identity > 0]
        terms = []
        for j in positives:
            logits = objects[[j, *others]] @ objects[i] / temperature
            terms.append(F.cross_entropy(logits[None], torch.tensor([0])).item())
        if terms:
            anchors.append(sum(terms) / len(terms))
    return sum(anchors) / len(anchors) if anchors else 0.0


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_matching_loss_by_hand():
    visible = torch.ones(1, 2, 2, dtype=torch.bool)
    agree = torch.eye(2).expand(1, 2, 2, 2)  # two frames, two objects at right angles
    swap = torch.stack([torch.eye(2), torch.eye(2).flip(0)])[None]
    assert matching_loss(agree, visible, 1.0).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert matching_loss(swap, visible, 1.0).item() == pytest.approx(math.log(1 + math.e))
    assert matching_loss(agree, visible, 0.02).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_matching_loss_is_its_slow_definition(seed):
    objects = unit(2, 4, 3, 6, seed=seed)
    visible = torch.rand(2, 4, 3) < 0.7
    visible[0, :2, 0] = True  # one pair at least
    loss = matching_loss(objects, visible, 0.3).item()
    assert loss == pytest.approx(slow_matching_loss(objects, visible, 0.3), rel=1e-5)


def test_contrastive_loss_by_hand():
    objects = torch.eye(2)[[0, 0, 1]]
    loss = contrastive_loss(objects, torch.tensor([7, 7, 8]), ONE)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert contrastive_loss(objects, torch.tensor([7, 7, 8]), torch.tensor(0.02)).item() < 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_contrastive_loss_is_its_slow_definition(seed):
    objects = unit(12, 4, seed=seed)
    identities = torch.randint(0, 4, (12,), generator=torch.Generator().manual_seed(seed))
    loss = contrastive_loss(objects, identities, torch.tensor(0.2)).item()
    assert loss == pytest.approx(slow_contrastive_loss(objects, identities, 0.2), rel=1e-4)


@pytest.mark.parametrize("identities", [[], [0, 0], [5], [5, 6], [5, 5], [5, 5, 0]])
def test_contrastive_loss_is_zero_without_a_positive_or_without_a_negative(identities):
    objects = unit(len(identities), 4, seed=0).requires_grad_()
    loss = contrastive_loss(objects, torch.tensor(identities, dtype=torch.int64), torch.tensor(0.1))
    loss.backward()
    assert loss == 0 and objects.grad.isfinite().all() and objects.grad.abs().sum() == 0


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 3, 2), (1, 3, 0)])
def test_matching_loss_is_zero_in_one_frame_and_without_objects(size):
    objects = unit(*size, 4, seed=0).requires_grad_()
    loss = matching_loss(objects, torch.full(size, size[1] == 1), 0.1)
    loss.backward()
    assert loss == 0 and objects.grad.abs().sum() == 0


def test_identities_are_the_same_for_a_video_drawn_twice_and_differ_between_videos():
    clip = make_clip(torch.ones(3, 2, 4, 4), ids=torch.tensor([[9, 4], [4, 9], [9, 0]]))
    clip.names = [[("cat", "0"), ("cat", "1")], [("cat", "4"), ("cat", "5")], [("dog", "0"), ("dog", "1")]]
    visible = torch.ones(3, 2, 2, dtype=torch.bool)
    visible[0, 1, 0] = False
    identities = object_identities(clip, visible)
    assert identities[0, 0, 0] == identities[1, 0, 1] > 0 and identities[0, 0, 1] == identities[1, 1, 0] > 0
    assert identities[0, 0, 0] != identities[0, 0, 1] and identities[2, 0, 0] not in identities[:2]
    assert identities[0, 1, 0] == 0 and identities[2, :, 1].tolist() == [0, 0]  # invisible; an empty slot


def test_an_object_drawn_in_two_clips_is_a_positive_and_no_negative_of_itself():
    same = torch.ones(2, 2, 4, 4)
    clip = make_clip(same, ids=torch.tensor([[3], [3]]))
    clip.names = [[("cat", "0"), ("cat", "1")]] * 2
    outputs = random_outputs(0, clip, tokens=1)
    losses = TCOVISCriterion(TCOVISCriterion.Config())(outputs, clip)
    assert losses["contrastive"] == 0
    clip.names[1] = [("dog", "0"), ("dog", "1")]
    assert TCOVISCriterion(TCOVISCriterion.Config())(outputs, clip)["contrastive"] > 0


def test_cosine_statistics_by_hand_compare_objects_of_one_clip():
    objects = torch.eye(2)[torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])]
    identities = torch.tensor([[1, 1, 2, 0], [1, 2, 0, 0]])
    statistics = {name: value.item() for name, value in cosine_statistics(objects, identities).items()}
    expected = {"cosine_positive_sum": 2, "cosine_positive_count": 2}
    assert statistics == {**expected, "cosine_negative_sum": 0, "cosine_negative_count": 6}
