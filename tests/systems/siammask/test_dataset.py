"""Pairs of crops: what they show, how they are drawn, and what is taught from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from annotated.videos import VOSFolder
from systems.siammask.anchors import anchor_targets
from systems.siammask.augmentation import Variation as Drawn
from systems.siammask.augmentation import blur_kernel, mask_box, varied_square
from systems.siammask.criterion import SiamMaskCriterion, class_loss, mask_loss, mask_windows
from systems.siammask.dataset import Pairs, SiamMaskDataset
from tests.support.siammask_networks import small_network
from video.images import write_label_map

SIZE = (60, 90)


def write_videos(root: Path, videos: int = 3, frames: int = 6) -> VOSFolder:
    """Videos of a red square, id 3, that moves over grey; the second has nothing in it."""
    for number in range(videos):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / f"v{number}").mkdir(parents=True)
        for t in range(frames):
            labels = np.zeros(SIZE, np.int64)
            if number != 1:
                labels[20:38, 10 + 4 * t : 34 + 4 * t] = 3
            frame = np.full((*SIZE, 3), 100, np.uint8)
            frame[labels == 3] = (250, 20, 30)
            Image.fromarray(frame).save(root / "JPEGImages" / f"v{number}" / f"{t:05d}.png")
            write_label_map(root / "Annotations" / f"v{number}" / f"{t:05d}.png", labels)
    return VOSFolder(root)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> VOSFolder:
    return write_videos(tmp_path_factory.mktemp("pairs"))


def data(folder: VOSFolder, *, training: bool = True, seed: int = 0, **options) -> SiamMaskDataset:
    given = {"refine": False, "min_area": 16} | options
    return SiamMaskDataset(folder, SiamMaskDataset.Config(**given), training=training, seed=seed)


def test_a_pair_shows_the_object_in_the_middle_of_both_crops_where_nothing_is_drawn(folder):
    pair = data(folder, training=False)[0, 0]
    assert pair.frames.shape == (1, 2, 3, 255, 255) and pair.ids.tolist() == [[3]]
    x1, y1, x2, y2 = pair.boxes[0].tolist()
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((127, 127), abs=0.5)
    scale = 127 / np.sqrt((24 + 21) * (18 + 21))
    assert (x2 - x1, y2 - y1) == pytest.approx((24 * scale, 18 * scale), rel=1e-5)
    for labels, frame in zip(pair.labels[0], pair.frames[0], strict=True):
        rows, columns = labels.any(1).nonzero(), labels.any(0).nonzero()
        assert (rows[0] + rows[-1]).item() / 2 == pytest.approx(127, abs=1.5)
        assert (columns[-1] - columns[0]).item() == pytest.approx(24 * scale, abs=3)
        assert frame[2][labels == 1].mean() > 230 and frame[0][labels == 1].mean() < 50  # red is last: BGR
    template = pair.frames[0, 0]
    assert not template[:, :64].any() and not template[:, :, 191:].any()


def test_the_box_is_where_the_mask_is_however_the_crop_is_varied(folder):
    pairs = data(folder, negative=0.0, clips_per_video=4)
    for index in (0, 2, 3, 5):
        pair = pairs[1, index]
        mask = pair.labels[0, 1] == 1
        x1, y1, x2, y2 = mask_box(mask.numpy())
        assert pair.boxes[0].tolist() == pytest.approx([x1, y1, x2, y2], abs=4)


def test_draws_depend_on_seed_epoch_and_index_alone(folder):
    one, same, other = (data(folder, seed=seed)[epoch, 0] for seed, epoch in ((0, 0), (0, 0), (0, 1)))
    assert one.frames.equal(same.frames) and one.boxes.equal(same.boxes)
    assert not one.frames.equal(other.frames)
    assert not one.frames.equal(data(folder, seed=1)[0, 0].frames)


def test_a_negative_pair_has_no_object_in_its_search(folder):
    pair = data(folder, negative=1.0)[0, 0]
    assert pair.ids.tolist() == [[0]] and not pair.labels[0, 1].any() and pair.labels[0, 0].any()


def test_the_same_object_drawn_by_chance_as_another_is_no_negative_pair(tmp_path):
    pairs = data(write_videos(tmp_path, videos=1), negative=1.0)
    for epoch in range(3):
        pair = pairs[epoch, 0]
        assert pair.ids.tolist() == [[3]] and pair.labels[0, 1].any()


def test_a_video_without_an_object_gives_a_pair_without_one(folder):
    for training in (True, False):
        pair = data(folder, training=training, negative=0.0)[0, 1]
        assert pair.ids.tolist() == [[0]] and not pair.labels.any()


def test_a_small_object_is_not_trained_on(folder):
    assert data(folder, negative=0.0, min_area=24 * 18)[0, 0].ids.item() == 0
    assert data(folder, negative=0.0, min_area=24 * 18 - 1)[0, 0].ids.item() == 3


def test_the_second_step_has_small_crops_small_shifts_and_no_negative_pairs(folder):
    step = data(folder, refine=True)
    assert (step.search, step.shift, step.negative) == (143, 8.0, 0.0)
    assert step[0, 0].frames.shape == (1, 2, 3, 143, 143)
    first = data(folder)
    assert (first.search, first.shift, first.negative) == (255, 64.0, 0.2)
    given = data(folder, refine=True, shift=3.0, negative=0.5)
    assert (given.shift, given.negative) == (3.0, 0.5)


def test_pairs_without_colour_are_grey_in_both_crops(folder):
    pair = data(folder, negative=0.0, gray=1.0, blur=0.0)[0, 0]
    for frame, labels in zip(pair.frames[0], pair.labels[0], strict=True):
        spread = frame[:, labels == 1].std(1)
        assert spread.max() - spread.min() < 1e-3  # the channels differ by a constant, the colour's shift
    assert data(folder, negative=0.0, gray=0.0)[0, 0].frames[0, 1, 2].std() > 10


def test_a_batch_is_its_pairs_one_after_another(folder):
    pairs = data(folder)
    batch = pairs.collate([pairs[0, 0], pairs[0, 2]])
    assert isinstance(batch, Pairs) and batch.frames.shape[0] == len(batch.names) == 2
    assert batch.to("cpu").boxes.equal(batch.boxes) and batch.boxes[1].equal(pairs[0, 2].boxes[0])


def test_a_shift_ends_at_the_edge_of_the_wide_crop():
    (x1, y1, x2, y2), scales = varied_square(255, Drawn((1, -1, 0, 0), 500, 0.18))
    assert (x2, y1, scales) == (510, 0, (1, 1)) and (x1, y2) == (256, 254)


def test_a_blur_keeps_the_brightness():
    for size in (1, 3, 5):
        assert blur_kernel(size, 0.3).sum() == pytest.approx(1)
    assert blur_kernel(3, 1.0)[:, 1].tolist() == pytest.approx([1 / 3] * 3)


# ----------------------------------------------------------------------------------------- targets and losses


def test_at_most_sixteen_objects_and_sixty_four_anchors_are_taught():
    boxes = torch.tensor([[92.0, 92, 162, 162], [95, 95, 159, 159], [0, 0, 0, 0]])
    targets = anchor_targets(boxes, torch.tensor([True, True, False]), 255, 25)
    objects, ground = ((targets.classes == value).flatten(1).sum(1) for value in (1, 0))
    assert (objects[:2] > 0).all() and (objects <= 16).all() and objects[2] == 0
    assert (objects + ground).tolist() == [64, 64, 16]
    assert targets.weights.flatten(1).sum(1).tolist() == pytest.approx([1, 1, 0], abs=1e-5)


def test_which_anchors_are_taught_is_drawn_anew():
    boxes, there = torch.tensor([[95.0, 95, 159, 159]]), torch.tensor([True])
    torch.manual_seed(0)
    first, second = (anchor_targets(boxes, there, 255, 25).classes for _ in range(2))
    torch.manual_seed(0)
    assert anchor_targets(boxes, there, 255, 25).classes.equal(first) and not first.equal(second)


def test_the_class_loss_by_hand():
    logits, classes = torch.zeros(1, 10, 1, 1), torch.tensor([1, 0, 0, -1, -1]).view(1, 5, 1, 1)
    assert class_loss(logits, classes) == pytest.approx(np.log(2))
    logits[0, 5] = 20.0  # the object's anchor is sure
    assert class_loss(logits, classes) == pytest.approx(np.log(2) / 2)


def test_a_window_of_the_mask_loss_is_at_its_response_and_nothing_is_taught_outside():
    truth = torch.full((1, 255, 255), -1.0)
    truth[0, 100:110, 90:130] = 1
    chosen = torch.zeros(1, 25, 25, dtype=torch.bool)
    chosen[0, 12, 11] = chosen[0, 0, 0] = True
    corner, middle = mask_windows(truth, chosen, 32)
    assert middle.equal(truth[0, 64:191, 56:183])
    assert not corner[:32].any() and (corner[32:, 32:] == -1).all()


def test_the_mask_loss_is_zero_where_all_is_right_and_a_constant_where_nothing_is_taught():
    truth = torch.ones(2, 127, 127)
    truth[1] = -1
    assert mask_loss(100 * truth, truth) == pytest.approx(0, abs=1e-6)
    assert mask_loss(torch.randn(2, 127, 127), torch.zeros(2, 127, 127)) == pytest.approx(np.log(2))
    logits = torch.zeros(0, 127, 127, requires_grad=True)
    mask_loss(logits, truth[:0]).backward()
    assert not logits.grad.any()


def test_ignored_pixels_and_windows_without_an_object_teach_no_mask(folder):
    pairs = data(folder, training=False)
    pair = pairs[0, 0]
    criterion = SiamMaskCriterion(SiamMaskCriterion.Config())
    hidden = torch.randn(1, 8, 25, 25)
    outputs = {
        "cls": torch.zeros(1, 10, 25, 25),
        "loc": torch.zeros(1, 20, 25, 25),
        "mask": hidden.requires_grad_(),
        "mask_weight": torch.randn(63 * 63, 8),
        "mask_bias": torch.zeros(63 * 63),
    }
    assert set(criterion(outputs, pair)) == {"cls", "loc", "mask"}
    criterion(outputs, pair)["mask"].backward()
    taught = hidden.grad.abs().sum(1)[0] > 0
    assert (
        0 < taught.sum() <= 16 and not taught[0].any()
    )  # nothing at the edge: no anchor stands on the object
    hidden.grad = None
    unknown = replace(pair, labels=torch.full_like(pair.labels, 255))
    criterion(outputs, unknown)["mask"].backward()
    assert not hidden.grad.any()
    assert criterion.stats["mask_iou/train_count"] > 0


def test_the_weights_of_the_losses_are_flags(folder):
    pair = data(folder, training=False, refine=True)[0, 0]
    outputs = {"refined": torch.zeros(1, 3, 3, 127, 127)}
    losses = [SiamMaskCriterion(SiamMaskCriterion.Config(w_mask=w))(outputs, pair) for w in (36.0, 1.0)]
    assert [set(terms) for terms in losses] == [{"mask"}, {"mask"}]
    heavy, light = (float(terms["mask"]) for terms in losses)
    assert heavy == pytest.approx(36 * light) == pytest.approx(36 * np.log(2))


def test_every_parameter_of_the_second_step_gets_a_gradient(folder):
    pairs = data(folder, refine=True)
    batch = pairs.collate([pairs[0, 0], pairs[0, 2]])
    network = small_network(refine=True).train()
    network.set_epoch(0, 1)
    losses = SiamMaskCriterion(SiamMaskCriterion.Config())(network(batch.frames), batch)
    sum(losses.values()).backward()
    trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert trained and [name for name, grad in trained.items() if grad is None or not grad.any()] == []
    assert all(p.grad is None for p in network.parameters() if not p.requires_grad)
