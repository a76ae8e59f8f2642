"""`--dry_run`: what a run will need: memory, the loaders' rate against the step's, time; and how to fit."""

import copy
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import nn

from common.progress import say
from common.types import Clip
from training.config import TrainConfig
from training.memory import GIB, RESERVED, first_clips, trace_step
from training.recompute import checkpoint_activations
from video.transforms import upload

RECIPE_GB = 16.0  # the GPU that the recipes are made for
MOST_BATCHES, MOST_SECONDS = 40, 20.0  # of the loaders that are timed
STEPS = 2


@dataclass(frozen=True)
class Recipe:
    """The flags that decide the memory of a step."""

    batch_size: int
    accumulate: int
    amp: str
    checkpointed: bool

    @property
    def flags(self) -> str:
        flags = f"--batch_size {self.batch_size} --accumulate {self.accumulate} --amp {self.amp}"
        return flags + " --checkpoint_activations" * self.checkpointed


class Trainer(Protocol):
    """What a dry run asks of the trainer of `main.py`.

    objective: network and criterion as one module, from a batch to its losses
    loaders: of which `train` has the training batches; `largest` of its data set makes one as large as any
    steps_per_epoch: optimiser steps
    """

    options: TrainConfig
    device: torch.device
    network: nn.Module
    objective: nn.Module
    loaders: Any
    steps_per_epoch: int

    def optimise(self, clips: list[Clip]) -> Any:
        """An optimiser step over a list of batches."""


def recipe_of(options: TrainConfig) -> Recipe:
    """The recipe of a run; `--amp auto` stands for bf16, which takes as much memory as fp16."""
    amp = "bf16" if options.amp == "auto" else options.amp
    return Recipe(options.batch_size, options.accumulate, amp, options.checkpoint_activations)


def memory_of(options: TrainConfig, device: torch.device) -> float:
    """GiB to fit into: `--memory_gb`, or the GPU's, or without one those of the GPU of the recipes."""
    if options.memory_gb or device.type == "cpu":
        return options.memory_gb or RECIPE_GB
    return torch.cuda.get_device_properties(device).total_memory / GIB


def cheaper(recipe: Recipe, *, can_checkpoint: bool) -> Iterator[Recipe]:
    """The recipe, then ones of less and less memory with the same clips in an optimiser step."""
    yield recipe
    if can_checkpoint and not recipe.checkpointed:
        recipe = replace(recipe, checkpointed=True)
        yield recipe
    if recipe.amp == "off":
        recipe = replace(recipe, amp="bf16")
        yield recipe
    while recipe.batch_size % 2 == 0:
        recipe = replace(recipe, batch_size=recipe.batch_size // 2, accumulate=recipe.accumulate * 2)
        yield recipe


def estimate(trainer: Trainer, recipe: Recipe, batch: Clip) -> float:
    """GiB of tensors that live at once in a step of the recipe, on batches of the largest size; a line on it.

    batch: of at least as many clips as the recipe's
    """
    objective = copy.deepcopy(getattr(trainer.objective, "module", trainer.objective)).cpu()
    if recipe.checkpointed and not trainer.options.checkpoint_activations:
        checkpoint_activations(objective.network)
    clip = upload(trainer.loaders.train.dataset.largest(first_clips(batch, recipe.batch_size)), "cpu")
    options = replace(trainer.options, accumulate=recipe.accumulate)
    between, peak = (size / GIB for size in trace_step(objective, clip, options, recipe.amp))
    (_, T, _, H, W), K = clip.frames.shape, clip.ids.shape[1]
    kept = f"{between:.2f} between steps; {T} frames of {H}x{W} and {K} objects a clip"
    say(f"  {recipe.flags}: {peak:.2f} GiB ({kept})")
    return peak


def advise(trainer: Trainer, batch: Clip) -> None:
    """Estimate the memory of the run, and of cheaper recipes until one fits."""
    memory = memory_of(trainer.options, trainer.device)
    room, given = memory - RESERVED / GIB, recipe_of(trainer.options)
    say(f"memory, by a trace without data; of {memory:.1f} GiB tensors may take {room:.1f}:")
    for recipe in cheaper(given, can_checkpoint=bool(trainer.network.recomputed_parts)):
        if estimate(trainer, recipe, batch) <= room:
            say("it fits" if recipe == given else f"it does not fit, but this does: {recipe.flags}")
            return
    say("nothing fits: use smaller frames, fewer of them, or an even --batch_size, which can be halved")


def draw_batches(trainer: Trainer) -> tuple[list[Clip], float | None]:
    """The batches of an optimiser step, and the clips a second of the loaders once they are at work.

    The rate is None where an epoch is one batch.
    """
    batches = iter(trainer.loaders.train)
    latest = deque([next(batches)], maxlen=trainer.options.accumulate)
    begun, number = time.monotonic(), 0
    while number < MOST_BATCHES and time.monotonic() - begun < MOST_SECONDS:
        batch = next(batches, None)
        if batch is None:
            break
        latest.append(batch)
        number += 1
    rate = number * trainer.options.batch_size / (time.monotonic() - begun) if number else None
    return list(latest), rate


def measure_steps(trainer: Trainer, batches: list[Clip]) -> float:
    """Seconds of an optimiser step; on a GPU, one of batches of the largest size, whose memory is said."""
    on_gpu = trainer.device.type == "cuda"
    if on_gpu:
        batches = [trainer.loaders.train.dataset.largest(batch) for batch in batches]
    for _ in range(STEPS):  # the first one also prepares
        begun = time.monotonic()
        trainer.optimise(batches)
        if on_gpu:
            torch.cuda.synchronize(trainer.device)
    seconds = time.monotonic() - begun
    if on_gpu:
        peak = torch.cuda.max_memory_allocated(trainer.device) / GIB
        say(f"memory, measured in {STEPS} steps: {peak:.2f} GiB of tensors")
    return seconds


def compare_rates(trainer: Trainer, loading: float | None, seconds: float | None) -> None:
    """Say who waits for whom, and how long the run takes.

    loading: clips a second of the loaders; seconds: of an optimiser step; None where it was not measured
    """
    options, steps = trainer.options, trainer.options.epochs * trainer.steps_per_epoch
    clips = options.batch_size * options.accumulate
    if loading is None:
        say("loaders: not measured, because an epoch is one batch")
    else:
        say(f"loaders: {loading:.1f} clips/s with --num_workers {options.num_workers}")
    if seconds is None:
        say("steps: not measured without a GPU; --device cpu measures this CPU")
    else:
        say(f"steps: {clips / seconds:.1f} clips/s on {trainer.device}")
    if loading and seconds:
        steps_wait = loading < clips / seconds
        say("steps wait for the loaders: raise --num_workers" if steps_wait else "the loaders wait for steps")
    slowest = max(seconds or 0.0, clips / loading if loading else 0.0)
    limit = "about" if loading and seconds else "at least"
    say(f"{steps} steps take {limit} {steps * slowest / 3600:.2f} hours, without evaluation")


def dry_run(trainer: Trainer) -> None:
    """Draw batches, run two steps where there is a GPU (or `--device cpu`), and say what a run will need."""
    trainer.objective.train()
    trainer.network.set_epoch(trainer.options.epochs - 1, trainer.options.epochs)  # which trains the most
    parameters = sum(p.numel() for p in trainer.objective.parameters()) / 1e6
    trained = sum(p.numel() for p in trainer.objective.parameters() if p.requires_grad) / 1e6
    say(f"parameters: {parameters:.1f} M, of which {trained:.1f} M are trained")
    batches, loading = draw_batches(trainer)
    seconds = None
    try:
        if trainer.device.type == "cuda" or trainer.options.device == "cpu":
            seconds = measure_steps(trainer, batches)
    except torch.OutOfMemoryError:
        say(f"memory: the step does not fit into {trainer.device}")
    advise(trainer, batches[0])
    compare_rates(trainer, loading, seconds)
