"""Matcher and criterion: brute force, dense definitions, the perfect answer, and nothing there at all."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.types import Clip
from tests.support.clips import make_clip, perfect_outputs, random_clip, random_outputs
from utils import HungarianMatcher, TCOVISCriterion, foreground_loss, instance_loss
from video.label_maps import IGNORE


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# ------------------------------------------------------------------------------------------------ matcher


def dense_cost(layer: dict[str, Tensor], clip: Clip, b: int, t: int, n: int, k: int) -> float:
    """2 (-p) + 5 BCE + 5 dice over all pixels that are not ignored."""
    counted = clip.labels[b, t] != IGNORE
    logits = layer["mask_logits"][b, t, n][counted]
    target = (clip.labels[b, t] == k + 1)[counted].float()
    bce = F.binary_cross_entropy_with_logits(logits, target)
    dice = 1 - (2 * (logits.sigmoid() * target).sum() + 1) / (logits.sigmoid().sum() + target.sum() + 1)
    p = layer["class_logits"][b, t, n].softmax(-1)[clip.classes[b, k]]
    return (5 * bce + 5 * dice - 2 * p).item()


def best_total(costs: Tensor) -> float:
    """The least total of an (N, K) cost matrix over all ways to pair as many as possible."""
    costs = costs if costs.shape[0] >= costs.shape[1] else costs.T
    N, K = costs.shape
    return min(sum(costs[n, k].item() for k, n in enumerate(p)) for p in itertools.permutations(range(N), K))


def match(outputs: dict, clip: Clip, assign: str, num_points: int = 64) -> Tensor:
    """(B, T, K) the token that the matcher finds for each object."""
    return HungarianMatcher(2, 5, 5, assign=assign)([outputs], clip, num_points).matched[0]


@pytest.mark.parametrize("assign", ["clip", "frame"])
@pytest.mark.parametrize("seed, tokens, slots", [(0, 4, 3), (1, 5, 2), (2, 3, 3), (3, 2, 4), (4, 1, 3)])
def test_the_matching_is_the_best_of_all_permutations_of_the_dense_costs(seed, tokens, slots, assign):
    clip = random_clip(seed, slots=slots)
    clip.classes = torch.randint(0, 3, (2, slots))
    outputs = random_outputs(seed, clip, tokens=tokens, classes=3)
    matched, present = match(outputs, clip, assign), clip.present
    for b in range(2):
        frames = [list(range(3))] if assign == "clip" else [[0], [1], [2]]
        for group in frames:
            visible = [k for k in range(slots) if present[b, group, k].any()]
            costs = torch.zeros(tokens, slots)
            for n, k, t in itertools.product(range(tokens), visible, group):
                costs[n, k] += dense_cost(outputs, clip, b, t, n, k) * present[b, t, k]
            chosen = {k: int(matched[b, group, k].max()) for k in visible}
            paired = {k: n for k, n in chosen.items() if n >= 0}
            assert len(set(paired.values())) == len(paired) == min(tokens, len(visible))
            total = sum(costs[n, k].item() for k, n in paired.items())
            assert total == pytest.approx(best_total(costs[:, visible]), abs=1e-3)
    assert (matched[~present] == -1).all()


def swapped_clip() -> tuple[Clip, dict]:
    """Two objects that two tokens follow, but exchange in the last of three frames."""
    labels = torch.zeros(1, 3, 8, 8)
    labels[..., :4], labels[..., 6:] = 1, 2
    clip = make_clip(labels)
    outputs = perfect_outputs(clip, tokens=2)
    masks = outputs["mask_logits"].clone()
    masks[:, 2] = masks[:, 2].flip(1)
    return clip, {**outputs, "mask_logits": masks, "aux": []}


def test_clip_matching_holds_one_token_for_the_clip_and_frame_matching_follows_the_masks():
    clip, outputs = swapped_clip()
    assert match(outputs, clip, "clip").tolist() == [[[0, 1], [0, 1], [0, 1]]]
    assert match(outputs, clip, "frame").tolist() == [[[0, 1], [0, 1], [1, 0]]]


def test_a_frame_in_which_the_object_is_not_visible_costs_nothing():
    clip, outputs = swapped_clip()
    outputs["mask_logits"][:, :2] *= 0.01  # the last frame is what is sure
    assert match(outputs, clip, "clip")[0, 0].tolist() == [1, 0]
    clip.labels[:, 2] = 0
    assert match(outputs, clip, "clip").tolist() == [[[0, 1], [0, 1], [-1, -1]]]


@pytest.mark.parametrize("seed", range(3))
def test_sampled_points_decide_as_all_pixels_do(seed):
    clip = make_clip(random_clip(seed, size=4).labels.repeat_interleave(8, -1).repeat_interleave(8, -2))
    outputs = perfect_outputs(clip)
    outputs["mask_logits"] = outputs["mask_logits"][:, :, [2, 3, 0, 1]]
    matched = match(outputs, clip, "frame", num_points=200)
    assert torch.equal(matched, torch.tensor([2, 3, 0]).where(clip.present, -1))


def test_entries_name_each_visible_object_once_in_every_layer():
    clip = random_clip(5)
    outputs = random_outputs(5, clip)
    entries = HungarianMatcher(2, 5, 5)([*outputs["aux"], outputs], clip, 64)
    assert entries.per_layer == [int(clip.present.sum())] * 2
    assert entries.layer.tolist() == sorted(entries.layer.tolist())
    index = entries.layer, entries.clip, entries.frame, entries.slot
    assert torch.equal(entries.matched[index], entries.token)
    assert clip.present[entries.clip, entries.frame, entries.slot].all()


def test_costs_that_are_not_finite_are_clamped_and_counted_and_their_token_is_avoided():
    clip, outputs = swapped_clip()
    outputs["mask_logits"][:, :, 0] = torch.nan
    matcher = HungarianMatcher(2, 5, 5)
    matched = matcher([outputs], make_clip(clip.labels.where(clip.labels == 1, 0)), 64).matched
    assert matched[0, :, :, 0].unique().tolist() == [1]
    assert int(matcher.num_nonfinite) == 3  # one object, one token, three frames
    matcher([swapped_clip()[1]], clip, 64)
    assert int(matcher.num_nonfinite) == 0  # of the last call alone


def test_no_object_at_all_is_legal():
    clip = make_clip(torch.zeros(2, 3, 8, 8))
    entries = HungarianMatcher(2, 5, 5)([random_outputs(0, clip)], clip, 64)
    assert entries.matched.shape == (1, 2, 3, 0) and entries.per_layer == [0] and len(entries.token) == 0


# ------------------------------------------------------------------------------------------------ criterion


def losses_of(outputs: dict, clip: Clip, **options) -> dict[str, float]:
    criterion = TCOVISCriterion(TCOVISCriterion.Config(**options))
    return {name: value.item() for name, value in criterion(outputs, clip).items()}


@pytest.mark.parametrize("assign", ["clip", "frame"])
@pytest.mark.parametrize("classes", [1, 3])
def test_the_perfect_answer_costs_nothing(classes, assign):
    clip = random_clip(0)
    clip.classes = torch.randint(0, classes, (2, 3))
    sharp = {"temperature": 0.02, "match_temperature": 0.02}
    losses = losses_of(perfect_outputs(clip, classes=classes), clip, assign=assign, **sharp)
    assert losses == pytest.approx(dict.fromkeys(losses, 0), abs=1e-3)


def test_at_sampled_points_the_edge_of_an_object_to_ignored_pixels_costs_nothing():
    labels = torch.ones(1, 2, 32, 32)
    labels[..., ::3, :] = IGNORE
    outputs = perfect_outputs(make_clip(labels), tokens=1)
    outputs["mask_logits"] = torch.full_like(outputs["mask_logits"], 30.0)
    losses = losses_of({**outputs, "aux": []}, make_clip(labels), num_points=100)
    assert losses == pytest.approx(dict.fromkeys(losses, 0), abs=1e-3)


def test_class_and_mask_losses_by_hand():
    labels = torch.zeros(1, 1, 8, 8)
    labels[..., :4] = 1
    clip = make_clip(labels)
    blank = {"class_logits": torch.zeros(1, 1, 2, 2), "mask_logits": torch.zeros(1, 1, 2, 2, 2)}
    losses = losses_of({**blank, "embeddings": torch.ones(1, 1, 2, 8), "aux": []}, clip)
    expected = {"class": 2 * math.log(2), "mask": 5 * math.log(2), "dice": 5 * (1 - 33 / 65)}
    assert losses == pytest.approx({**expected, "match": 0, "contrastive": 0})


def test_association_losses_by_hand_have_a_temperature_each():
    labels = torch.zeros(1, 2, 8, 8)
    labels[..., :4], labels[..., 4:] = 1, 2
    clip = make_clip(labels)
    outputs = perfect_outputs(clip, tokens=3)  # at right angles to one another
    losses = losses_of(outputs, clip, temperature=0.5, match_temperature=0.25)
    assert losses["match"] == pytest.approx(2 * math.log(1 + math.exp(-4)), rel=1e-4)  # against one
    assert losses["contrastive"] == pytest.approx(
        math.log(1 + 2 * math.exp(-2)), rel=1e-4
    )  # the other, twice


def test_coarse_logits_are_compared_as_if_they_were_enlarged():
    clip = random_clip(3, slots=1, T=1)
    outputs = random_outputs(3, clip, tokens=1, stride=4)
    enlarged = F.interpolate(outputs["mask_logits"].detach()[:, 0], (8, 8), mode="bilinear")[:, None]
    once = losses_of({**outputs, "aux": []}, clip)
    assert once == pytest.approx(losses_of({**outputs, "mask_logits": enlarged, "aux": []}, clip), rel=1e-4)


def test_sampled_losses_of_a_uniform_mask_are_the_dense_ones():
    clip = make_clip(torch.ones(1, 2, 32, 32))
    outputs = random_outputs(0, clip, tokens=1, stride=4)
    outputs = {**outputs, "mask_logits": torch.full((1, 2, 1, 8, 8), 0.7), "aux": []}
    dense, sampled = losses_of(outputs, clip), losses_of(outputs, clip, num_points=100)
    assert sampled["mask"] == pytest.approx(dense["mask"], rel=1e-4)
    assert sampled["dice"] == pytest.approx(dense["dice"], rel=0.01)


@pytest.mark.parametrize("assign", ["clip", "frame"])
def test_what_is_predicted_on_ignored_pixels_changes_no_match_and_no_mask_loss(assign):
    clip = random_clip(1)
    outputs = {**random_outputs(1, clip), "aux": []}
    ignored = (clip.labels == IGNORE)[:, :, None]
    noise = torch.where(ignored, 5 * torch.randn(2, 3, 4, 8, 8), 0)
    changed = {**outputs, "mask_logits": outputs["mask_logits"] + noise}
    assert torch.equal(match(outputs, clip, assign), match(changed, clip, assign))
    before, after = losses_of(outputs, clip, assign=assign), losses_of(changed, clip, assign=assign)
    assert (after["mask"], after["dice"]) == pytest.approx((before["mask"], before["dice"]))


def test_a_token_on_ignored_pixels_has_no_no_object_loss():
    labels = torch.zeros(1, 1, 8, 8)
    labels[..., 4:] = IGNORE
    clip = make_clip(labels, ids=torch.zeros(1, 0, dtype=torch.int64))
    masks = torch.full((1, 1, 2, 8, 8), -9.0)
    masks[:, :, 0, :, 4:], masks[:, :, 1, :, :4] = 9, 9  # a real object that was not selected; background
    outputs = {"mask_logits": masks, "embeddings": torch.ones(1, 1, 2, 8), "aux": []}
    scores = torch.zeros(1, 1, 2, 2, requires_grad=True)
    loss = TCOVISCriterion(TCOVISCriterion.Config())({**outputs, "class_logits": scores}, clip)["class"]
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert scores.grad[0, 0, 0].tolist() == [0, 0] and scores.grad[0, 0, 1, 0] > 0


def test_no_objects_teach_only_that_there_are_none():
    clip = make_clip(torch.zeros(2, 2, 8, 8), ids=torch.zeros(2, 3, dtype=torch.int64))  # K = 3, all empty
    outputs = random_outputs(0, clip)
    losses = TCOVISCriterion(TCOVISCriterion.Config())(outputs, clip)
    sum(losses.values()).backward()
    assert {name for name, value in losses.items() if value > 0} == {"class"}
    assert outputs["class_logits"].grad.abs().sum() > 0 and outputs["mask_logits"].grad.abs().sum() == 0


def test_every_output_of_every_layer_and_the_temperature_get_a_finite_gradient():
    clip = random_clip(2)
    outputs = random_outputs(2, clip)
    criterion = TCOVISCriterion(TCOVISCriterion.Config())
    sum(criterion(outputs, clip).values()).backward()
    leaves = [x for layer in [outputs, *outputs["aux"]] for x in layer.values() if isinstance(x, Tensor)]
    for leaf in [*leaves, *criterion.parameters()]:
        assert leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0


def test_deep_supervision_counts_earlier_layers_and_only_where_it_is_on():
    clip = random_clip(4)
    outputs = random_outputs(4, clip)
    alone, both = ({**outputs, "aux": aux} for aux in ([], outputs["aux"]))
    assert losses_of(both, clip, deep_supervision=False) == losses_of(alone, clip)
    deep, flat = losses_of(both, clip), losses_of(alone, clip)
    assert all(deep[name] > flat[name] for name in ("class", "mask", "dice"))
    assert all(deep[name] == flat[name] for name in ("match", "contrastive"))  # the last layer's alone


def test_the_assign_switch_reaches_the_losses():
    clip, outputs = swapped_clip()
    assert losses_of(outputs, clip, assign="frame")["mask"] < 0.01 < losses_of(outputs, clip)["mask"]


def test_mask_features_are_taught_where_the_network_gives_them_each_loss_with_its_weight():
    clip = random_clip(0)
    outputs = random_outputs(0, clip)
    assert losses_of(outputs, clip).keys().isdisjoint(("foreground", "instance"))
    outputs["foreground_logits"] = torch.randn(clip.labels.shape)
    outputs["mask_features"] = torch.randn(*clip.labels.shape[:2], 8, *clip.labels.shape[2:])
    labels = clip.labels.flatten(0, 1)
    foreground = foreground_loss(outputs["foreground_logits"].flatten(0, 1), labels).mean()
    instance = instance_loss(outputs["mask_features"].flatten(0, 1), labels, clip.ids.shape[1])
    assert "instance" not in losses_of(outputs, clip)
    losses = losses_of(outputs, clip, w_foreground=3.0, w_instance=2.0)
    assert losses["foreground"] == pytest.approx(3 * float(foreground))
    assert losses["instance"] == pytest.approx(2 * float(instance))


@pytest.mark.parametrize("flag, name", [("w_class", "class"), ("w_mask", "mask"), ("w_dice", "dice")])
def test_weights_scale_their_loss_alone(flag, name):
    clip = random_clip(6)
    outputs = random_outputs(6, clip)
    plain, weighted = losses_of(outputs, clip), losses_of(outputs, clip, **{flag: 20.0})
    factor = 20 / getattr(TCOVISCriterion.Config(), flag)
    assert weighted == pytest.approx({**plain, name: plain[name] * factor}, rel=1e-5)


def test_an_unmatched_token_is_no_negative_of_the_association_losses():
    clip = random_clip(7)
    outputs = random_outputs(7, clip)
    changed = outputs["embeddings"].detach().clone()
    for b, t in itertools.product(range(2), range(3)):
        unmatched = sorted(set(range(4)) - set(match(outputs, clip, "clip")[b, t].tolist()))
        changed[b, t, unmatched] += 3
    before, after = losses_of(outputs, clip), losses_of({**outputs, "embeddings": changed}, clip)
    assert [after[x] for x in ("match", "contrastive")] == pytest.approx(
        [before[x] for x in ("match", "contrastive")]
    )


@pytest.mark.parametrize("start, expected", [(1e-4, 0.01), (0.1, 0.1), (50.0, 1.0)])
def test_the_learned_temperature_stays_within_bounds(start, expected):
    criterion = TCOVISCriterion(TCOVISCriterion.Config(temperature=start))
    assert criterion.temperature.item() == pytest.approx(expected)


def test_losses_are_float32_and_the_same_under_autocast():
    clip = random_clip(8)
    outputs = random_outputs(8, clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = TCOVISCriterion(TCOVISCriterion.Config())(outputs, clip)
    assert all(value.dtype == torch.float32 for value in losses.values())
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(losses_of(outputs, clip))
