"""What SiamMask is taught against the official program: targets, crops, losses, gradients, schedules."""

import numpy as np
import pytest
import torch
from torch import Tensor

from systems.siammask import crops
from systems.siammask.anchors import anchor_targets, box_iou, corners, make_anchors
from systems.siammask.augmentation import (
    Variation,
    box_in_wide,
    cut,
    greyed,
    mask_box,
    shift_colours,
    wide_crop,
)
from systems.siammask.criterion import (
    box_loss,
    class_loss,
    enlarge,
    mask_loss,
    mask_overlaps,
    mask_windows,
)
from tests.support.jf import region_similarity
from tests.support.siammask_golden import assert_official, bits, needs_exact_warp, numbers
from tests.support.siammask_sam_golden import golden, needs_golden
from tracking.sparse_prompts.boxes import region_box
from training.optim import learning_rate
from video.masks import labels_from_masks

pytestmark = needs_golden
TARGETS, LOSSES = "targets", "losses"
WIDE = (511, 511)


def targets_of(
    box: list[float], *, search: int = 255, side: int = 25, there: bool = True, every: bool = True
):
    return anchor_targets(torch.tensor([box]).float(), torch.tensor([there]), search, side, every=every)


@pytest.mark.parametrize("place", range(4))
def test_targets_of_anchors_are_official(place):
    box = numbers(TARGETS)[1]["target_boxes"][place]
    found = targets_of(box)
    iou = box_iou(corners(make_anchors(25, 127)), torch.tensor(box))
    arrays = {"delta": found.offsets[0].permute(3, 0, 1, 2), "weight": found.weights[0], "iou": iou}
    assert_official(TARGETS, {f"t{place}_{name}": x for name, x in arrays.items()})
    assert np.array_equal(found.classes[0], numbers(TARGETS)[0][f"t{place}_cls"])


@pytest.mark.parametrize("place", range(4))
def test_as_many_anchors_are_drawn_as_in_the_official_program(place):
    arrays, meta = numbers(TARGETS)
    found = targets_of(meta["target_boxes"][place], every=False)
    counts = [(found.classes == 1).sum(), (found.classes == 0).sum(), found.weights.max()]
    assert [float(x) for x in counts] == pytest.approx(arrays[f"t{place}_counts_sub"].tolist(), rel=1e-6)


def test_targets_of_negative_pairs_and_of_small_crops_are_official():
    arrays, meta = numbers(TARGETS)
    assert np.array_equal(targets_of([0.0] * 4, there=False).classes[0], arrays["neg_cls"])
    small = targets_of(meta["t143_box"], search=143, side=3)
    assert np.array_equal(small.classes[0], arrays["t143_cls"])
    assert_official(TARGETS, {"t143_delta": small.offsets[0].permute(3, 0, 1, 2)})


@needs_exact_warp
def test_the_wide_crop_is_official():
    arrays, meta = numbers(TARGETS)
    frames, labels = golden("make_inputs").make_clip(meta["precrop_seed"], frames=1)
    box = mask_box(labels[0] == 1)
    image, mask = wide_crop(np.ascontiguousarray(frames[0][..., ::-1]), labels[0] == 1, box)
    assert box == tuple(arrays["precrop_box"])
    assert_official(TARGETS, {"precrop_image": image})
    assert np.array_equal(mask, bits(TARGETS, "precrop_mask_bits", WIDE))


def test_the_object_stands_in_the_middle_of_the_wide_crop_as_large_as_in_a_template():
    width, height = 66.0, 44.0
    x1, y1, x2, y2 = box_in_wide((10.0, 20.0, 10.0 + width, 20.0 + height))
    scale = 127 / np.sqrt((width + 55) * (height + 55))
    assert (x2 - x1, y2 - y1) == pytest.approx((width * scale, height * scale))
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == (255, 255)


@needs_exact_warp
def test_augmentation_by_given_draws_is_official():
    arrays, meta = numbers(TARGETS)
    frames, labels = golden("make_inputs").make_clip(meta["aug_seed"], frames=1, height=511, width=511)
    noise = np.random.default_rng(meta["aug_randn_seed"])
    for place, draws in enumerate(meta["aug_draws"]):
        image = greyed(frames[0]) if place == 3 and meta["aug3_gray"] else frames[0]
        variation = Variation(tuple(draws), meta["aug_cfg"]["shift"], meta["aug_cfg"]["scale"])
        part = cut(image, labels[0] == 1, tuple(meta["aug_box"]), 255, variation)
        coloured = shift_colours(part.image, noise.standard_normal(3)).astype(np.float32)
        assert_official(TARGETS, {f"aug{place}_image": coloured}, 1e-6)
        assert part.box == pytest.approx(arrays[f"aug{place}_box"].tolist(), abs=1e-9)
        assert np.array_equal(part.mask, bits(TARGETS, f"aug{place}_mask_bits", (255, 255)))
    variation = Variation(tuple(meta["augz_draws"]), meta["augz_cfg"]["shift"], meta["augz_cfg"]["scale"])
    part = cut(frames[0], labels[0] == 1, tuple(meta["aug_box"]), 127, variation)
    assert_official(TARGETS, {"augz_image": part.image.astype(np.float32)})  # its colours were left alone
    assert part.box == pytest.approx(arrays["augz_box"].tolist(), abs=1e-9)


@needs_exact_warp
@pytest.mark.parametrize("place", range(3))
def test_masks_are_pasted_and_boxed_as_in_the_official_program(place):
    arrays, meta = numbers(TARGETS)
    size, window = (240, 320), crops.Window(*meta["paste"][place])
    assert crops.paste_matrix(window, 127, size) == pytest.approx(arrays[f"paste{place}_matrix"], rel=1e-12)
    pasted = np.empty(size, np.float32)
    crops.paste(arrays[f"paste{place}_in"], window, pasted)
    assert_official(TARGETS, {f"paste{place}_out": pasted})
    inside = pasted > meta["paste_thr"]
    assert (inside != bits(TARGETS, f"paste{place}_bits", size)).sum() <= 5
    assert crops.largest_contour(inside)[1] == pytest.approx(arrays[f"paste{place}_contour_area"], abs=5)
    found, official = crops.rotated_box(inside), arrays[f"paste{place}_rbox"]
    assert np.linalg.norm(found[:, None] - official[None], axis=-1).min(1).max() < 0.5


def test_objects_are_fused_and_measured_as_in_the_official_program():
    arrays, meta = numbers(TARGETS)
    vos = meta["vos"]
    probs = torch.from_numpy(golden("make_inputs").gauss(*vos["out"]))  # (K, T, H, W)
    truth = np.random.default_rng(vos["tgt_seed"]).integers(0, 4, tuple(probs.shape[1:]))

    def fused(threshold: float) -> np.ndarray:
        ids = torch.arange(1, 4)
        maps = [labels_from_masks(frame, ids, threshold, torch.ones(3)) for frame in probs.transpose(0, 1)]
        return torch.stack(maps).numpy()

    assert np.array_equal(fused(vos["thr"]), arrays["vos_fused"])
    inner = range(1, probs.shape[1] - 1)  # the first frame is given, and the last does not count
    for column, threshold in enumerate(vos["thrs"]):
        labels = fused(threshold)
        for k in range(3):
            overlaps = [region_similarity(truth[t] == k + 1, labels[t] == k + 1) for t in inner]
            assert np.mean(overlaps) == pytest.approx(arrays["vos_iou"][k, column], abs=1e-6)


def test_regions_of_eight_numbers_become_official_boxes():
    arrays, _ = numbers(TARGETS)
    for region, (cx, cy, width, height) in zip(arrays["region"].tolist(), arrays["region_box"], strict=True):
        x, y, w, h = region_box(region)
        assert (x + w / 2, y + h / 2, w, h) == pytest.approx((cx, cy, width, height), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "peak", "options"),
    [
        ("lr_base", 0.005, {"warmup_epochs": 5, "warmup_from": 0.2, "final_lr": 0.5}),
        ("lr_sharp", 0.01, {"warmup_epochs": 0, "warmup_from": 0.2, "final_lr": 0.25}),
    ],
)
def test_learning_rates_are_official(name, peak, options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = learning_rate(optimizer, "log", 20, 3, warmup_steps=0, drop_at=1.0, **options)
    rates = []
    for _ in range(20):
        for _ in range(3):
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
    official = np.repeat(numbers(TARGETS)[0][name], 3)
    assert rates == pytest.approx(official.tolist(), rel=1e-6)


# --------------------------------------------------------------------------------------------------- losses


def drawn(offset: int, shape: tuple[int, ...], *further: float) -> Tensor:
    return torch.from_numpy(golden("make_inputs").gauss(numbers(LOSSES)[1]["seed"] + offset, shape, *further))


def official_value(name: str) -> float:
    return float(numbers(LOSSES)[0][name])


def overlaps_of(logits: Tensor, truth: Tensor) -> list[float]:
    overlaps = mask_overlaps(logits, truth)
    return [
        float(x) for x in (overlaps.mean(), (overlaps > 0.5).float().mean(), (overlaps > 0.7).float().mean())
    ]


def test_the_losses_of_the_base_and_their_gradients_are_official():
    arrays, meta = numbers(LOSSES)
    cls, loc = drawn(1, (2, 10, 25, 25)).requires_grad_(), drawn(2, (2, 20, 25, 25)).requires_grad_()
    mask = drawn(4, (2, 3969, 25, 25)).requires_grad_()
    offsets = drawn(3, (2, 4, 5, 25, 25)).permute(0, 2, 3, 4, 1)
    classes = torch.from_numpy(arrays["label_cls"]).long()
    chosen = torch.from_numpy(arrays["mask_weight"])[:, 0] == 1
    truth = torch.from_numpy(bits(LOSSES, "gt_mask_bits", (2, 255, 255))).float() * 2 - 1
    wanted = mask_windows(truth, chosen, 32)
    logits = enlarge(mask.permute(0, 2, 3, 1)[chosen].view(-1, 63, 63))
    losses = {
        "loss_cls": class_loss(cls, classes),
        "loss_loc": box_loss(loc, offsets, torch.from_numpy(arrays["label_loc_weight"])),
        "loss_mask_base": mask_loss(logits, wanted),
    }
    for name, value in losses.items():
        assert value.item() == pytest.approx(official_value(name), rel=1e-5)
    total = sum(weight * loss for weight, loss in zip(meta["weights"], losses.values(), strict=True))
    assert total.item() == pytest.approx(official_value("loss_total"), rel=1e-5)
    total.backward()
    assert_official(LOSSES, {"grad_cls": cls.grad, "grad_loc": loc.grad, "grad_mask": mask.grad})
    assert overlaps_of(logits, wanted) == pytest.approx(arrays["iou_base"].tolist(), rel=1e-5)


def test_the_loss_of_the_refinement_and_its_gradient_are_official():
    arrays, _ = numbers(LOSSES)
    refined = drawn(6, (18, 16129), 2.0).requires_grad_()
    chosen = torch.from_numpy(arrays["refine_weight"])[:, 0] == 1
    truth = torch.where(drawn(7, (2, 143, 143), 1.0, 0.5) > 0, 1.0, -1.0)
    logits, wanted = refined.view(2, 3, 3, 127, 127)[chosen], mask_windows(truth, chosen, 0)
    loss = mask_loss(logits, wanted)
    assert loss.item() == pytest.approx(official_value("loss_mask_refine"), rel=1e-5)
    assert overlaps_of(logits, wanted) == pytest.approx(arrays["iou_refine"].tolist(), rel=1e-5)
    loss.backward()
    grad = refined.grad if arrays["grad_refine__stats"][4] < 1 else 36 * refined.grad
    assert_official(LOSSES, {"grad_refine": grad})


def test_without_an_object_the_class_loss_is_that_of_the_ground():
    cls = drawn(1, (2, 10, 25, 25))
    loss = class_loss(cls, torch.zeros(2, 5, 25, 25, dtype=torch.int64))
    assert loss.item() == pytest.approx(official_value("loss_cls_nopos"), rel=1e-5)
