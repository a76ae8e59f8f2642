"""Training of every system on a simulated GPU: it runs, learns what a CPU does, and seldom waits."""

from pathlib import Path

import pytest
import torch

import main
from annotated.layouts import split_videos
from inference import SYSTEMS
from tests.support.commands import SMALL, run_here
from tests.support.simulated_gpu import simulated_gpu
from training.history import Means
from training.listeners.listener import Listeners
from training.report import Report

# What a step waits for. Each ends with the look whether all is finite.
WAITS = {
    "vita_tcovis": ["utils.py", "training/state.py"],  # the costs of the matching
    "stcn": ["systems/stcn/criterion.py", "training/state.py"],  # pixels that count, and the iteration
    "xmem": ["systems/stcn/criterion.py", "training/state.py"],
    "siammask": ["systems/siammask/criterion.py", "training/state.py"],  # windows that hold an object
    "sam_track": ["training/state.py"],
}


def make_trainer(name: str, data: Path, run: Path, device: str) -> main.Trainer:
    """A trainer of two clips a step, which has the same weights on every device."""
    flags = "--batch_size 2 --num_workers 0 --amp off --device".split()
    args, _ = main.parse_args(["--system", name, *SMALL[name], *flags, device])
    plan = SYSTEMS[name].plan(args)
    train, valid, _ = split_videos([data], holdout=2, skip_bad=False)
    torch.manual_seed(0)
    return main.Trainer(plan, plan.make_network(), train, valid, Report(run, Listeners()))


def learn(trainer: main.Trainer) -> dict[str, float]:
    """The figures of an epoch."""
    means = Means()
    trainer.objective.train()
    for clip in trainer.loaders.train:
        means.add(trainer.optimise([clip]))
        trainer.state.step += 1
    return means.result()


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step_waits_for_the_gpu_exactly_as_often_as_it_must(small_data, tmp_path, name):
    with simulated_gpu() as gpu:
        trainer = make_trainer(name, small_data, tmp_path, "cuda")
        trainer.objective.train()
        for clip in trainer.loaders.train:
            gpu.reset()
            trainer.optimise([clip])
            assert [event.line.split(":")[0] for event in gpu.synchronisations] == WAITS[name]


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_epoch_and_its_evaluation_are_on_a_gpu_what_they_are_on_a_cpu(small_data, tmp_path, name):
    with simulated_gpu():  # where attention is computed in one way on both
        expected, trainer = (make_trainer(name, small_data, tmp_path, device) for device in ("cpu", "cuda"))
        assert learn(trainer) == pytest.approx(learn(expected), rel=1e-5, abs=1e-6)
        scores, on_gpu = expected.evaluate(1, "epoch"), trainer.evaluate(1, "epoch")
    assert on_gpu["val_loss/total"] == pytest.approx(scores["val_loss/total"], rel=1e-5)
    assert on_gpu.keys() == scores.keys()  # of masks that are hardly trained no threshold says the same


def test_a_run_is_trained_saved_resumed_and_scored_on_a_gpu(undrawn, small_data, tmp_path):
    flags = [*SMALL["vita_tcovis"], "--dataset_root", small_data, "--run_dir", tmp_path, "--device", "cuda"]
    flags += ["--eval_every", 0]
    with simulated_gpu():
        first = run_here(main.main, *flags, "--epochs", 1)
        assert "cuda, mixed precision bf16" in first.out[0]
        again = run_here(main.main, *flags, "--epochs", 2, "--resume", first.run / "last.pth")
    assert again.run == first.run and (again.run / "metrics.json").is_file()


def test_a_dry_run_on_a_gpu_trains_its_steps_there_and_writes_nothing(small_data, tmp_path):
    flags = [*SMALL["vita_tcovis"], "--dataset_root", small_data, "--run_dir", tmp_path / "runs"]
    with simulated_gpu():
        outcome = run_here(main.main, *flags, "--device", "cuda", "--memory_gb", 16, "--dry_run")
    assert outcome.status == 0
    assert "it fits" in outcome.out
    assert not (tmp_path / "runs").exists()
