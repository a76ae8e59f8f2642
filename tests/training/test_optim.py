import math

import pytest
import torch
from torch import nn

from modules import VITA_TCOVIS
from training.optim import (
    OPTIMIZERS,
    MovingAverage,
    gradient_norm,
    learning_rate,
    log_by_epoch,
    parameter_groups,
    warmup_cosine,
    warmup_drop,
)
from utils import TCOVISCriterion


@pytest.fixture
def network() -> VITA_TCOVIS:
    options = {"backbone": "narrow", "backbone_weights": "none", "hidden_dim": 16, "num_heads": 2}
    return VITA_TCOVIS(VITA_TCOVIS.Config(**options, num_tokens=3, decoder_layers=1))


def groups_of(network: nn.Module, criterion: nn.Module) -> list[dict]:
    return parameter_groups(network, criterion, lr_head=1e-4, lr_backbone=1e-5, weight_decay=0.05)


def test_every_trainable_parameter_is_in_one_group_and_frozen_ones_are_in_none(network):
    criterion = TCOVISCriterion(TCOVISCriterion.Config())
    network.backbone.stem.requires_grad_(False)
    grouped = [id(p) for group in groups_of(network, criterion) for p in group["params"]]
    trained = [p for p in [*network.parameters(), *criterion.parameters()] if p.requires_grad]
    assert sorted(grouped) == sorted(map(id, trained)) and len(set(grouped)) == len(grouped)
    torch.optim.AdamW(groups_of(network, criterion))  # takes them as they are


def test_rates_go_by_part_and_norms_biases_embeddings_and_the_criterion_do_not_decay(network):
    criterion = TCOVISCriterion(TCOVISCriterion.Config())
    place = {id(p): group for group in groups_of(network, criterion) for p in group["params"]}
    names = dict(network.named_parameters()) | {f"criterion.{n}": p for n, p in criterion.named_parameters()}
    for name, parameter in names.items():
        group = place[id(parameter)]
        part = "backbone" if name.startswith("backbone.") else "heads"
        assert (group["name"], group["lr"]) == (part, {"backbone": 1e-5, "heads": 1e-4}[part]), name
        assert group["weight_decay"] == (0.05 if name.endswith("weight") and parameter.dim() > 1 else 0), name
    for name in ("tokens", "token_positions", "level_embedding", "criterion.log_temperature"):
        assert place[id(names[name])]["weight_decay"] == 0


def test_a_group_without_parameters_is_left_out():
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    network.backbone_parts = ()
    groups = groups_of(network, nn.Module())
    assert [(group["name"], group["weight_decay"]) for group in groups] == [("heads", 0.05)]


def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine():
    factors = [warmup_cosine(step, 4, 44) for step in range(46)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert factors[24] == pytest.approx(0.5)
    assert factors[14] == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert factors[44] == factors[45] == pytest.approx(0)
    assert factors[4:] == sorted(factors[4:], reverse=True)


def test_the_warm_up_takes_a_tenth_of_a_short_run_at_most():
    assert [warmup_cosine(step, 100, 20) for step in range(20)] == [
        warmup_cosine(step, 2, 20) for step in range(20)
    ]


def test_the_rate_drops_once_after_its_warm_up():
    assert [warmup_drop(step, 0, 10, 0.8) for step in range(12)] == [1.0] * 8 + [0.1] * 4
    assert [warmup_drop(step, 2, 20, 0.5) for step in (0, 1, 2, 10, 11)] == [1 / 3, 2 / 3, 1.0, 1.0, 0.1]


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.0), ("drop", 0.1), ("constant", 1.0)])
def test_the_rate_ends_as_its_schedule_says(schedule, last):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    by_epoch = {"warmup_epochs": 0, "warmup_from": 1.0, "final_lr": 1.0}
    scheduler = learning_rate(optimizer, schedule, 5, 4, warmup_steps=2, drop_at=0.5, **by_epoch)
    rates = []
    for _ in range(21):
        rates += scheduler.get_last_lr()
        optimizer.step(), scheduler.step()
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0]) and rates[-1] == pytest.approx(last)


@pytest.mark.parametrize("warmup, total", [(0, 0), (5, 5), (10, 3)])
def test_a_run_as_short_as_its_warm_up_has_a_finite_rate(warmup, total):
    assert all(0 <= warmup_cosine(step, warmup, total) <= 1 for step in range(12))


def set_weight(network: nn.Module, value: float) -> None:
    nn.init.constant_(network.weight, value)


def test_the_moving_average_follows_its_formula():
    network = nn.Linear(1, 1, bias=False)
    set_weight(network, 0)
    ema, expected = MovingAverage(network, 0.3), 0.0
    for update, value in enumerate([1.0, -2.0, 5.0, 3.0], start=1):
        set_weight(network, value)
        ema.update(network)
        decay = min(0.3, (1 + update) / (10 + update))  # 2/11, 3/12, then 0.3
        expected = decay * expected + (1 - decay) * value
        assert ema.weights["weight"].item() == pytest.approx(expected)


def test_the_averages_are_the_weights_inside_the_block_alone_even_after_an_exception():
    network = nn.BatchNorm1d(1)  # with a counter, which has no average
    set_weight(network, 0)
    ema = MovingAverage(network, 0.5)
    set_weight(network, 1)
    ema.update(network)
    average = ema.weights["weight"].item()
    assert 0 < average < 1
    with pytest.raises(ZeroDivisionError), ema.applied(network):
        assert network.weight.item() == average
        raise ZeroDivisionError
    assert network.weight.item() == 1 and ema.weights["weight"].item() == average


def test_averages_continue_from_a_checkpoint():
    network = nn.Linear(1, 1, bias=False)
    set_weight(network, 0)
    unbroken = MovingAverage(network, 0.9)
    set_weight(network, 1)
    unbroken.update(network)
    saved = {name: value.clone() for name, value in unbroken.weights.items()}
    resumed = MovingAverage(network, 0.9)
    resumed.load(saved, updates=1)
    set_weight(network, 2)
    for ema in (unbroken, resumed):
        ema.update(network)
    assert torch.equal(unbroken.weights["weight"], resumed.weights["weight"])
    assert saved["weight"] != resumed.weights["weight"]  # the checkpoint's own tensors stay as they were


@pytest.mark.parametrize("max_norm, kept", [(1.0, 1.0), (10.0, 5.0), (0.0, 5.0)])
def test_gradients_are_clipped_to_the_norm_and_not_at_all_at_zero(max_norm, kept):
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert gradient_norm([parameter], max_norm).item() == pytest.approx(5)
    assert parameter.grad.norm().item() == pytest.approx(kept, rel=1e-4)


def test_the_rate_of_the_schedule_log_changes_in_even_ratios_from_epoch_to_epoch():
    options = {"warmup_epochs": 2, "warmup_from": 0.25, "final": 0.01}
    factors = [log_by_epoch(epoch, 5, **options) for epoch in range(6)]
    assert factors == pytest.approx([0.25, 0.5, 1.0, 0.1, 0.01, 0.01])
    assert log_by_epoch(0, 1, warmup_epochs=0, warmup_from=0.2, final=0.5) == 1.0


def test_stochastic_gradient_descent_has_momentum():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = OPTIMIZERS["sgd"]([parameter], lr=1.0)
    for step in (1.0, 2.9):
        parameter.grad = torch.ones(1)
        optimizer.step()
        assert parameter.item() == pytest.approx(-step)


def test_a_network_says_what_its_backbone_is():
    network = nn.ModuleDict({"stem": nn.Linear(2, 2), "stems": nn.Linear(2, 2)})
    network.backbone_parts = ("stem",)
    place = {id(p): group["name"] for group in groups_of(network, nn.Module()) for p in group["params"]}
    assert {place[id(p)] for p in network["stem"].parameters()} == {"backbone"}
    assert {place[id(p)] for p in network["stems"].parameters()} == {"heads"}
