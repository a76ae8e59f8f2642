"""The traced memory is that of a real step; checkpointing saves some; --dry_run says how to fit."""

import dataclasses
from itertools import accumulate

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import main
from common.types import Clip
from configs.systems import CONFIGS
from inference import SYSTEMS
from tests.support.clips import make_clip
from tests.support.commands import TINY, assert_refused, files_in, run_here
from training.config import TrainConfig
from training.dry_run import Recipe, cheaper
from training.memory import trace_step
from training.recompute import checkpoint_activations

OPTIONS = TrainConfig(ema=0.0, optimizer="adamw")


def make_objective(*flags: str) -> nn.Module:
    """Network and criterion of a small VITA-TCOVIS in training."""
    args, _ = main.parse_args([*TINY, *flags])
    configs = CONFIGS["vita_tcovis"].read(args)
    torch.manual_seed(0)
    parts = SYSTEMS["vita_tcovis"]
    return main.Objective(parts.network(configs["network"]), parts.criterion(configs["criterion"])).train()


def two_objects(size: int = 96, B: int = 2) -> Clip:
    """Two objects that every frame shows, on noise."""
    labels = torch.zeros(B, 2, size, size, dtype=torch.uint8)
    labels[..., : size // 3, :] = 1
    labels[..., -size // 3 :, :] = 2
    clip = make_clip(labels)
    return dataclasses.replace(clip, frames=torch.randn(clip.frames.shape))


def allocated_peak(objective: nn.Module, clip: Clip) -> int:
    """Bytes that torch's allocator holds at most in forward and backward, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        sum(objective(clip).values()).backward()
    events = profiler.profiler.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]  # negative where one is freed
    return max(accumulate(sizes))


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_trace_counts_what_the_allocator_gives_to_a_real_step(checkpointed):
    objective, clip = make_objective("--hidden_dim", "32"), two_objects()
    if checkpointed:
        checkpoint_activations(objective.network)
    traced = trace_step(objective, clip, OPTIONS, "off")
    traced_peak = traced.peak - traced.between - clip.frames.nbytes - clip.labels.nbytes
    assert traced_peak == pytest.approx(allocated_peak(objective, clip), rel=0.01)


def test_between_steps_weights_average_and_moments_live():
    objective = make_objective()
    weights = sum(p.nbytes for p in objective.parameters())
    options = dataclasses.replace(OPTIONS, ema=0.9)
    traced = trace_step(objective, two_objects(), options, "off")
    assert traced.between == pytest.approx(4 * weights, rel=0.05)  # AdamW has two moments
    assert all(p.grad is None for p in objective.parameters())


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_checkpointing_saves_memory(amp):
    objective, clip = make_objective("--decoder_layers", "3"), two_objects()
    whole = trace_step(objective, clip, OPTIONS, amp)
    checkpoint_activations(objective.network)
    assert trace_step(objective, clip, OPTIONS, amp).peak < whole.peak


def test_cheaper_recipes_keep_the_clips_of_a_step():
    recipes = list(cheaper(Recipe(12, 1, "off", checkpointed=False), can_checkpoint=True))
    assert [recipe.flags for recipe in recipes] == [
        "--batch_size 12 --accumulate 1 --amp off",
        "--batch_size 12 --accumulate 1 --amp off --checkpoint_activations",
        "--batch_size 12 --accumulate 1 --amp bf16 --checkpoint_activations",
        "--batch_size 6 --accumulate 2 --amp bf16 --checkpoint_activations",
        "--batch_size 3 --accumulate 4 --amp bf16 --checkpoint_activations",
    ]


def test_a_dry_run_says_what_a_run_needs_and_writes_nothing(small_data, tmp_path):
    flags = [*TINY, "--dataset_root", small_data, "--run_dir", tmp_path / "runs", "--epochs", 1]
    outcome = run_here(main.main, *flags, "--dry_run")
    assert outcome.status == 0, outcome.err
    assert files_in(tmp_path) == []
    text = "\n".join(outcome.out)
    for part in ("parameters: ", "it fits", "clips/s on cpu", "wait", "hours"):
        assert part in text, text


def test_a_rate_that_cannot_be_measured_is_not_said(small_data, tmp_path):
    flags = [*TINY, "--dataset_root", small_data, "--run_dir", tmp_path / "runs", "--batch_size", 8]
    outcome = run_here(main.main, *flags, "--device", "auto", "--dry_run")
    assert "loaders: not measured, because an epoch is one batch" in outcome.out
    assert any(line.startswith("steps: not measured") for line in outcome.out) or torch.cuda.is_available()


def test_a_dry_run_says_that_nothing_fits(small_data, tmp_path):
    flags = [*TINY, "--dataset_root", small_data, "--run_dir", tmp_path / "runs", "--memory_gb", 1.5]
    outcome = run_here(main.main, *flags, "--amp", "bf16", "--checkpoint_activations", "--dry_run")
    assert outcome.status == 0, outcome.err
    assert any("--batch_size 1 --accumulate 2" in line for line in outcome.out)
    assert any(line.startswith("nothing fits") for line in outcome.out)


def test_a_system_whose_parts_count_their_calls_refuses_checkpointing(small_data, tmp_path):
    flags = ["--system", "siammask", "--dataset_root", small_data, "--run_dir", tmp_path]
    assert_refused(run_here(main.main, *flags, "--checkpoint_activations"), "--checkpoint_activations")
    assert files_in(tmp_path) == []
