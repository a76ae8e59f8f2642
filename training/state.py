"""What a checkpoint of a run holds, and how a run resumes from one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.checkpoint import check_weights, read_checkpoint
from common.device import pick_device, resolve_amp
from common.errors import UserError
from common.files import read_json
from common.progress import say
from training.config import TrainConfig
from training.history import History, Row, num_without_improvement, say_metrics
from training.optim import OPTIMIZERS, MovingAverage, check_optimizer, learning_rate
from training.run_folder import has_results

# Flags of the training loop that decide what a step draws, or that are part of the optimiser's state.
RUN_FLAGS = """seed batch_size accumulate optimizer lr_head lr_backbone weight_decay schedule drop_at
final_lr warmup_epochs warmup_from warmup_steps clip_grad ema amp holdout skip_bad synthetic
dataset_weights""".split()

PARTS = ("criterion", "optimizer", "scheduler", "scaler")  # of a run, beside its network
# How loading says that an entry is absent, of another type or of another shape.
MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def is_alike(value: Any, expected: Any) -> bool:
    """Whether a value has the form of another: types, and sizes of lists and tensors.

    Of dictionaries the entries that both have count, because versions of torch differ in others. What is None
    may have any form; a switch may be None.
    """
    if expected is None:
        return True
    if isinstance(expected, dict):
        is_dict = isinstance(value, dict)
        return is_dict and all(is_alike(value[key], expected[key]) for key in value.keys() & expected.keys())
    if isinstance(expected, list | tuple):
        is_list = isinstance(value, list | tuple) and len(value) == len(expected)
        return is_list and all(map(is_alike, value, expected))
    if isinstance(expected, Tensor):
        return isinstance(value, Tensor) and value.shape == expected.shape
    kinds = {float: (float, int), bool: (bool, type(None))}.get(type(expected), (type(expected),))
    return type(value) in kinds


def check_progress(state: dict[str, Any]) -> None:
    """Raise ValueError where the counts of a checkpoint cannot be those of a run."""
    epoch, step, length = state["epoch"], state["step"], state["args"]["steps_per_epoch"]
    if type(length) is not int or length < 1 or epoch < 0 or not 0 <= step - epoch * length <= length:
        raise ValueError(f"epoch {epoch} and step {step} with {length} steps an epoch")
    best = state["best"]
    if best is not None and not all(type(best[name]) in (int, float) for name in ("J&F", "epoch")):
        raise ValueError("its best score is no number")


@contextmanager
def misfits(path: Path) -> Iterator[None]:
    """Turn what loading the entries of a checkpoint raises into a UserError that names the file."""
    try:
        yield
    except UserError:
        raise
    except MISFITS as error:
        reason = f"{type(error).__name__}: {error!s:.120}"
        raise UserError(f"--resume {path} does not fit its run ({reason}): resume from another") from error


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _flag(name: str, value: Any) -> str:
    """A flag with its value as a command line has them."""
    values = value if isinstance(value, tuple) else (value,)
    return f"no --{name}" if value in (None, ()) else " ".join([f"--{name}", *map(str, values)])


def read_resumable(path: Path, system: str, configs: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Read the checkpoint from which a run of these options continues.

    configs: {"network", "criterion", "data": the dataclass of the run's options}
    args: all flags of the run
    Raises UserError for what `read_checkpoint` refuses, another system, weights without an optimiser, and
    options that would make another run of it (with the flags to give).
    """
    state = read_checkpoint(path)
    if state["system"] != system:
        raise UserError(f"--resume {path} is a checkpoint of {state['system']}, not of {system}")
    if state.get("optimizer") is None:
        raise UserError(f"--resume {path} holds weights only: resume from last.pth or best.pth")
    with misfits(path):
        check_progress(state)
    names = [name for name in RUN_FLAGS if name in state["args"]]  # an older file lacks newer flags
    now, before = ({name: _plain(flags.get(name)) for name in names} for flags in (args, state["args"]))
    if "amp" in names:  # auto is what it stands for on this device
        device = pick_device(args["device"])
        now["amp"], before["amp"] = (resolve_amp(flags["amp"], device) for flags in (now, before))
    for role in ("network", "criterion", "data"):
        added = getattr(configs[role], "ADDED", {})  # an older file lacks them
        now, before = now | asdict(configs[role]), before | added | state["config"].get(role, {})
    names = (now.keys() | before.keys()) - {"epochs"}  # a dataset may plan with them; a run may be prolonged
    changed = sorted(name for name in names if now.get(name) != before.get(name))
    if changed:
        flags = ", ".join(_flag(name, before.get(name)) for name in changed)
        raise UserError(f"--resume {path} was trained with {flags}: give the same flags")
    return state


def check_same_videos(flags: dict[str, Any], path: Path, steps_per_epoch: int, videos: str) -> None:
    """Raise UserError where the checkpoint of a path, by its flags, is of other videos or steps."""
    before = flags["steps_per_epoch"]
    if before != steps_per_epoch:
        change = f"an epoch had {before} steps and has {steps_per_epoch} now"
        raise UserError(f"--resume: {change}: give the same videos and number of processes")
    if flags.get("videos", videos) != videos:
        raise UserError(f"--resume {path}: it was trained on other videos: give the same --dataset_root")


def is_stale(rows: list[Row], best: dict[str, float] | None, patience: int) -> bool:
    """Whether the last `--patience` evaluations were not better than the best; 0: never."""
    return 0 < patience <= num_without_improvement(rows, best)


def is_finished(path: Path, state: dict[str, Any], options: TrainConfig) -> bool:
    """Whether the run of a checkpoint has all its epochs and scores, which a line says, with its folder."""
    rows = (state.get("history") or {}).get("rows", [])
    stale = is_stale(rows, state["best"], options.patience)
    if not (stale or state["epoch"] >= options.epochs) or not has_results(path):
        return False
    done = f"the {state['epoch']} epochs of {path} are done and scored"
    say(f"nothing to resume: {done}; raise {'--patience' if stale else '--epochs'} to train on")
    say_metrics(read_json(path.with_name("metrics.json")))
    say(str(path.parent))
    return True


@dataclass
class TrainState:
    """All that training changes, which is what a checkpoint keeps.

    epoch, step: epochs and optimiser steps that are done
    best: {"J&F", "epoch"} of the best weights so far; None before the first evaluation
    """

    network: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    ema: MovingAverage | None
    epoch: int = 0
    step: int = 0
    best: dict[str, float] | None = None
    history: History = field(default_factory=History)

    def state_dict(self, *, weights_only: bool = False) -> dict[str, Any]:
        """The entries of a checkpoint; weights alone are without the optimiser, and nothing resumes them."""
        return {
            "model": self.network.state_dict(),
            "ema": self.ema.weights if self.ema else None,
            "criterion": self.criterion.state_dict(),
            "optimizer": None if weights_only else self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "history": None if weights_only else self.history.state_dict(),
        }

    @property
    def rates(self) -> Row:
        """The learning rates, as columns of results.csv."""
        return {f"lr/{group['name']}": group["lr"] for group in self.optimizer.param_groups}

    def end_epoch(self) -> None:
        """Count an epoch whose steps are done, and make its row; every process must call it."""
        self.epoch += 1
        self.history.end_epoch(self.epoch, self.step, self.rates)

    def end_evaluation(self, scores: Row) -> bool:
        """Complete the row of an epoch by the scores of its evaluation; returns whether it is the best."""
        score = self.history.end_evaluation(scores).get("val/J&F")
        if score is None or (self.best is not None and score < self.best["J&F"]):
            return False
        self.best = {"J&F": score, "epoch": self.epoch}
        return True

    def load_state_dict(self, state: dict[str, Any], path: Path) -> None:
        """Continue from the entries of a checkpoint, that of a path; older ones have no history.

        Raises UserError where an entry is not of the form that this run writes.
        """
        with misfits(path):
            for weights in filter(None, (state["model"], state["ema"])):
                check_weights(path, self.network.state_dict(), weights)
            self.network.load_state_dict(state["model"])
            if self.ema:
                self.ema.load(state["ema"] or state["model"], updates=state["step"])
            for name in PARTS:
                self._load_part(getattr(self, name), state[name], name)
            check_optimizer(self.optimizer)
            if "history" in state:
                self.history.load_state_dict(state["history"])
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]

    @staticmethod
    def _load_part(part: Any, saved: Any, name: str) -> None:
        expected = part.state_dict()
        if not isinstance(saved, dict) or not is_alike(saved, expected):
            raise ValueError(f"its {name} is odd")
        if name == "scheduler":  # which takes every entry for an attribute
            saved = {key: saved[key] for key in expected}
        part.load_state_dict(saved)


def make_state(
    network: nn.Module, criterion: nn.Module, groups: list[dict], options: TrainConfig, steps_per_epoch: int
) -> TrainState:
    """The state of a run before its first step; groups: of the parameters, by `parameter_groups`."""
    optimizer = OPTIMIZERS[options.optimizer](groups, fused=True)
    names = ("warmup_steps", "drop_at", "warmup_epochs", "warmup_from", "final_lr")
    shape = {name: getattr(options, name) for name in names}
    scheduler = learning_rate(optimizer, options.schedule, options.epochs, steps_per_epoch, **shape)
    device = groups[0]["params"][0].device
    amp = resolve_amp(options.amp, device)
    scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
    ema = MovingAverage(network, options.ema) if options.ema > 0 else None
    return TrainState(network, criterion, optimizer, scheduler, scaler, ema)


def check_finite(losses: dict[str, Tensor], step: int, checkpoint: Path) -> None:
    """Raise UserError with all terms, before a loss that is not finite reaches the weights.

    checkpoint: the one from before, which the message names. All terms reach the CPU in one transfer.
    """
    values = torch.stack(list(losses.values()))
    if values.isfinite().all():
        return
    terms = ", ".join(f"{name} {value:.4g}" for name, value in zip(losses, values.tolist(), strict=True))
    remedy = "lower --lr_head and --lr_backbone, or use --amp off"
    raise UserError(f"the loss is not finite at step {step} ({terms}): {remedy}; {checkpoint} is from before")
