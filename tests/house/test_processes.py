"""Two processes with a clip each learn, for every system, what one process with both clips learns."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import main
from annotated.layouts import split_videos
from common import distributed
from common.types import Clip
from configs.systems import CONFIGS
from inference import SYSTEMS
from tests.support import fake_system as fake
from tests.support.commands import SMALL
from tests.support.processes import in_two_processes
from training.history import Means
from training.listeners.listener import Listeners
from training.report import Report

# Plain gradient descent: Adam divides by the gradient, so that rounding decides where there is next to none.
FLAGS = "--optimizer sgd --clip_grad 0 --schedule constant --warmup_steps 0 --num_workers 0 --device cpu"
# SiamMask's first gradients are a hundred times as long, and its batch norms over two pairs magnify rounding.
RATES = {name: "1e-5" if name == "siammask" else "1e-3" for name in SMALL}
# Two processes add up in another order, and the second step passes on the rounding of the first. A single
# process with the clips of its batches exchanged differs as much.
TOLERANCE = 1e-4
NORM_TOLERANCE = 1e-3  # after a step: noise of 1e-7 in the weights alone changes it by 2e-4


def without_its_last_objects(clip: Clip) -> Clip:
    """The batch, whose last clip shows nobody in the last process, and in a single one."""
    if distributed.rank() < distributed.world_size() - 1:
        return clip
    labels, ids = clip.labels.clone(), clip.ids.clone()
    labels[-1], ids[-1] = 0, 0
    return dataclasses.replace(clip, labels=labels, ids=ids)


def make_trainer(name: str, data: Path, run: Path) -> main.Trainer:
    """A trainer of two clips a step, in all processes together."""
    share = ["--batch_size", str(2 // distributed.world_size())]
    share += ["--lr_head", RATES[name], "--lr_backbone", RATES[name]]
    args, _ = main.parse_args(["--system", name, *SMALL[name], *FLAGS.split(), *share])
    plan = SYSTEMS[name].plan(args)
    train, valid, _ = split_videos([data], holdout=2, skip_bad=False)
    torch.manual_seed(0)
    return main.Trainer(plan, plan.make_network(), train, valid, Report(run, Listeners()))


def weights_of(trainer: main.Trainer) -> Tensor:
    """All parameters of network and criterion, in a row."""
    return torch.cat([p.detach().double().flatten() for p in trainer.objective.parameters()])


def train(name: str, data: Path, run: Path) -> dict[str, Any]:
    """An epoch of two steps: the weights before and after it, other tensors, and the figures of each step."""
    trainer = make_trainer(name, data, run)
    before, figures = weights_of(trainer), []
    trainer.objective.train()
    for clip in trainer.loaders.train:
        means = Means()
        means.add(trainer.optimise([without_its_last_objects(clip) if trainer.state.step else clip]))
        trainer.state.step += 1
        figures.append(means.result())
    buffers = [*trainer.network.buffers(), *trainer.criterion.buffers()]
    return {"before": before, "after": weights_of(trainer), "buffers": buffers, "figures": figures}


def train_all(rank: int, data: Path, run: Path) -> dict[str, Any]:
    SYSTEMS["fake"], CONFIGS["fake"] = fake.SYSTEM, fake.FAKE_CONFIGS
    return {name: train(name, data, run) for name in SYSTEMS}


@pytest.fixture(scope="module")
def processes(small_data, tmp_path_factory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    return in_two_processes(partial(train_all, data=small_data, run=folder), folder)


@pytest.mark.parametrize("name", [*SYSTEMS, "fake"])
def test_two_processes_learn_what_one_learns_of_their_clips(
    fake_system, processes, small_data, tmp_path, name
):
    alone = train(name, small_data, tmp_path)
    change = (alone["after"] - alone["before"]).norm()
    assert len(alone["figures"]) == 2
    for process in processes:
        one = process[name]
        assert (one["after"] - alone["after"]).norm() < TOLERANCE * change
        torch.testing.assert_close(one["buffers"], alone["buffers"], rtol=TOLERANCE, atol=1e-6)
        for step, (figures, expected) in enumerate(zip(one["figures"], alone["figures"], strict=True)):
            norm, figures = figures["gradient_norm"], figures | {"gradient_norm": 0}
            bound = NORM_TOLERANCE if step else TOLERANCE
            assert norm == pytest.approx(expected["gradient_norm"], rel=bound)
            expected = expected | {"gradient_norm": 0}
            assert figures == pytest.approx(expected, rel=TOLERANCE, abs=1e-6)
