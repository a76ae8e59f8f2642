"""Warps against torchvision's and by hand; a clip of a still image moves smoothly, and its labels with it."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from common.seeding import seeded
from video import warps
from video.label_maps import IGNORE
from video.warps import affine_grid, bend_grid, clip_of_still, read_by, thin_plate_grid

GROUND = [124.0, 116.0, 104.0]
LIMITS = ("DEGREES", "SHEAR", "ZOOM", "ZOOM_SPREAD", "SHIFT", "BEND")


def image() -> tuple[Tensor, Tensor]:
    """A frame as bright as 100 plus 40 times the label, and its label map: objects 1 and 3, and 255."""
    labels = torch.zeros(60, 80, dtype=torch.uint8)
    labels[10:30, 10:40], labels[35:55, 30:60], labels[5:15, 60:75] = 1, 3, IGNORE
    frame = (100 + 40 * labels.where(labels != IGNORE, 0)).expand(3, -1, -1).contiguous()
    return frame, labels


def test_a_thin_plate_spline_moves_its_points_and_nothing_without_offsets():
    torch.manual_seed(0)
    points = torch.rand(12, 2) * 2 - 1
    still = thin_plate_grid(points, torch.zeros(12, 2), 16, 20)
    centres = torch.nn.functional.affine_grid(torch.eye(2, 3)[None], (1, 1, 16, 20), align_corners=False)
    torch.testing.assert_close(still, centres, atol=1e-5, rtol=0)
    y, x = 5, 9  # a point on the centre of a pixel goes where its offset says
    points[0] = centres[0, y, x]
    offsets = torch.zeros(12, 2)
    offsets[0] = torch.tensor([0.1, -0.05])
    moved = thin_plate_grid(points, offsets, 16, 20)[0, y, x]
    torch.testing.assert_close(moved, centres[0, y, x] + offsets[0], atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "degrees, shear, scale", [(0.0, 0.0, 1.0), (13.0, 7.0, 1.0), (-9.0, 4.0, 0.8), (20.0, -10.0, 1.5)]
)
def test_a_turned_frame_is_that_of_torchvision(degrees, shear, scale):
    torch.manual_seed(0)
    frame = TF.gaussian_blur(torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8), 9)
    mask = (frame[:1] > 127).to(torch.uint8)
    grid = affine_grid(48, 64, degrees=degrees, shear=shear, scale=scale)
    turn = {"angle": degrees, "translate": [0, 0], "scale": scale, "shear": [shear, 0.0]}
    expected = TF.affine(mask, **turn, fill=[0.0])
    assert (read_by(grid, mask, [0.0], "nearest") != expected).float().mean() < 0.002  # ties
    moved = read_by(grid, frame, GROUND, "bilinear").int()
    expected = TF.affine(frame, **turn, interpolation=InterpolationMode.BILINEAR, fill=GROUND).int()
    edge = TF.affine(torch.ones(1, 48, 64), **turn, interpolation=InterpolationMode.BILINEAR, fill=[0.0])
    inside = (edge == 1).expand(3, -1, -1)  # its edge is mixed with the ground twice
    assert (moved - expected)[inside].abs().max() <= 1 and inside.float().mean() > 0.5
    assert (moved.permute(1, 2, 0)[edge[0] == 0] == torch.tensor(GROUND)).all()


def test_bends_that_are_computed_coarsely_are_those_of_the_spline():
    torch.manual_seed(0)
    points, offsets = torch.rand(8, 2) * 2 - 1, torch.randn(8, 2) * 0.03
    exact = thin_plate_grid(points, offsets, 192, 340) - thin_plate_grid(points, 0 * offsets, 192, 340)
    bend = bend_grid(points, offsets, 192, 340)
    assert bend.shape == exact.shape and exact.abs().max() > 0.05
    assert (bend - exact).abs().max() < 0.015 and (bend - exact).abs().mean() < 0.0005
    assert bend_grid(points, offsets, 1, 3).isfinite().all()


def test_without_motion_every_frame_is_the_image(monkeypatch):
    for limit in LIMITS:
        monkeypatch.setattr(warps, limit, 0.0)
    frame, labels = image()
    frames, found = clip_of_still(frame, labels, 4)
    assert torch.equal(found, labels.expand(4, -1, -1)) and torch.equal(frames, frame.expand(4, -1, -1, -1))


def test_objects_keep_their_labels_and_frames_show_them_where_they_are_labelled():
    frame, labels = image()
    for seed in range(10):
        with seeded(seed):
            frames, found = clip_of_still(frame, labels, 5)
        assert frames.shape == (5, 3, 60, 80) and frames.dtype == found.dtype == torch.uint8
        assert set(found.unique().tolist()) <= {0, 1, 3, IGNORE}
        expected = 100 + 40 * found.int()
        known = found != IGNORE
        near = (frames[:, 0].int() - expected).abs()[known]
        assert (near > 2).float().mean() < 0.08  # at the edges of objects only
        assert not torch.equal(found[0], found[4])


def test_the_motion_is_smooth():
    frame, labels = image()
    for seed in range(10):
        with seeded(seed):
            found = clip_of_still(frame, labels, 9)[1]
        middles = torch.stack([(label_map == 3).nonzero().float().mean(0) for label_map in found])
        steps = middles.diff(dim=0)
        assert steps.norm(dim=1).sum() > 1  # it moves
        assert steps.diff(dim=0).abs().max() < 2.5  # pixels of 60x80; independent warps differ by 10 and more


def test_what_is_outside_of_the_image_is_ignored_and_mirrored(monkeypatch):
    for limit in LIMITS:
        monkeypatch.setattr(warps, limit, 0.0)
    monkeypatch.setattr(warps, "ZOOM", -0.6931472)  # half as large
    frames, found = clip_of_still(torch.full((3, 40, 60), 90).byte(), torch.zeros(40, 60).byte(), 2)
    inside = torch.zeros(40, 60, dtype=torch.bool)
    inside[10:30, 15:45] = True
    assert (found[:, inside] == 0).all() and (found[:, ~inside] == IGNORE).all() and (frames == 90).all()
