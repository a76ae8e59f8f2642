"""Points: values worked by hand, dense sampling, what is ignored."""

import pytest
import torch
import torch.nn.functional as F

from tests.support.clips import random_clip
from video.label_maps import IGNORE
from video.points import pixel_centres, sample_labels, sample_logits, uncertain_points


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_pixel_centres_are_x_then_y_row_by_row():
    expected = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert pixel_centres(2, 2, torch.device("cpu")).tolist() == expected
    assert pixel_centres(1, 4, torch.device("cpu"))[:, 0].tolist() == [0.125, 0.375, 0.625, 0.875]


def test_logits_at_pixel_centres_are_the_logits_and_halfway_their_mean():
    logits = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    points = torch.cat([pixel_centres(2, 2, torch.device("cpu")), torch.tensor([[0.5, 0.25], [0.0, 0.0]])])
    assert sample_logits(logits, points[None]).flatten().tolist() == pytest.approx([1, 3, 5, 7, 2, 1])


def test_labels_at_pixel_centres_are_the_one_hot_masks_of_the_map():
    clip = random_clip(0)
    labels = clip.labels.flatten(0, 1)
    points = pixel_centres(8, 8, labels.device).expand(len(labels), -1, -1)
    sampled = sample_labels(labels, torch.arange(len(labels)), points)
    assert torch.allclose(sampled.all_masks(3), clip.masks.flatten(0, 1).flatten(2).float(), atol=1e-6)
    assert torch.allclose(sampled.counted, (labels != IGNORE).flatten(1).float(), atol=1e-6)
    first = sampled.masks(torch.ones(len(labels), dtype=torch.int64))
    assert torch.allclose(first, sampled.all_masks(3)[:, 0])


def test_labels_at_any_points_equal_bilinear_sampling_of_dense_masks():
    labels = torch.randint(0, 4, (2, 5, 9))
    points = torch.rand(3, 50, 2)
    rows = torch.tensor([1, 0, 1])
    sampled = sample_labels(labels.to(torch.uint8), rows, points)
    dense = F.one_hot(labels, 4).permute(0, 3, 1, 2).float()[rows, 1:]
    assert torch.allclose(sampled.all_masks(3), sample_logits(dense, points), atol=1e-5)
    assert torch.allclose(sampled.counted, torch.ones(3, 50))


def test_beside_ignored_pixels_a_mask_is_read_from_the_pixels_that_count():
    labels = torch.tensor([[[1, IGNORE]]], dtype=torch.uint8)
    sampled = sample_labels(labels, torch.zeros(1, dtype=torch.int64), torch.tensor([[[0.5, 0.5]]]))
    assert sampled.counted.item() == 0.5
    assert sampled.masks(torch.tensor([1])).item() == sampled.all_masks(1).item() == 1


def test_uncertain_points_lie_mostly_where_the_decision_is_near():
    ramp = torch.linspace(-20, 20, 64).expand(5, 64, 64).clone().requires_grad_()
    points = uncertain_points(ramp, 200)
    assert points.shape == (5, 200, 2) and not points.requires_grad
    assert points.min() >= 0 and points.max() <= 1
    near = (points[..., 0] - 0.5).abs() < 0.2
    assert near[:, :150].all() and not near[:, 150:].all()
    assert uncertain_points(torch.zeros(0, 8, 8), 12).shape == (0, 12, 2)
