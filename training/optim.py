"""Parameter groups, learning-rate schedule and the moving average of weights."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

OPTIMIZERS = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
STATES = {"AdamW": MOMENTS, "Adam": MOMENTS, "SGD": ("momentum_buffer",)}  # what they keep of a parameter
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding)


def parameter_groups(
    network: nn.Module, criterion: nn.Module, *, lr_head: float, lr_backbone: float, weight_decay: float
) -> list[dict]:
    """The groups backbone and heads, each with and without weight decay; frozen parameters are in none.

    Norms, biases, embeddings (parameters held by a module itself rather than by a layer) and the criterion's
    own parameters do not decay. Each group has a `name`, for the log. The backbone is what the network's
    `backbone_parts` name.
    """
    backbone = tuple(f"{name}." for name in network.backbone_parts)
    groups = {
        (part, decay): {
            "name": part,
            "params": [],
            "lr": rate,
            "weight_decay": weight_decay if decay else 0.0,
        }
        for part, rate in (("backbone", lr_backbone), ("heads", lr_head))
        for decay in (True, False)
    }
    for module_name, module in network.named_modules():
        part = "backbone" if f"{module_name}.".startswith(backbone) else "heads"
        for name, parameter in module.named_parameters(recurse=False):
            decays = name == "weight" and not isinstance(module, NORMS)
            if parameter.requires_grad:
                groups[part, decays]["params"].append(parameter)
    groups["heads", False]["params"] += [p for p in criterion.parameters() if p.requires_grad]
    return [group for group in groups.values() if group["params"]]


def after_warmup(step: int, warmup_steps: int, total_steps: int, decay: Callable[[float], float]) -> float:
    """The factor of the learning rate at a step: a linear warm-up, then a function of the share that is done.

    The warm-up takes a tenth of all steps at most, so that a short run learns too.
    """
    warmup_steps = min(warmup_steps, total_steps // 10)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return decay(min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps)))


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """After the warm-up half a cosine down to 0."""
    return after_warmup(step, warmup_steps, total_steps, lambda done: 0.5 * (1 + math.cos(math.pi * done)))


def warmup_drop(step: int, warmup_steps: int, total_steps: int, drop_at: float) -> float:
    """After the warm-up 1, and 0.1 from the share `drop_at` of the steps after it on."""
    return after_warmup(step, warmup_steps, total_steps, lambda done: 1.0 if done < drop_at else 0.1)


def log_by_epoch(epoch: int, epochs: int, *, warmup_epochs: int, warmup_from: float, final: float) -> float:
    """In even ratios by epoch: from `warmup_from` to 1 at `warmup_epochs`, then to `final` in the last."""
    if epoch < warmup_epochs:
        return warmup_from ** (1 - epoch / warmup_epochs)
    return final ** (min(1.0, (epoch - warmup_epochs) / max(1, epochs - 1 - warmup_epochs)))


def learning_rate(
    optimizer: torch.optim.Optimizer,
    schedule: str,
    epochs: int,
    steps_per_epoch: int,
    *,
    warmup_steps: int,
    drop_at: float,
    warmup_epochs: int,
    warmup_from: float,
    final_lr: float,
) -> torch.optim.lr_scheduler.LRScheduler:
    """The scheduler by the name of the flag `--schedule`."""
    total = epochs * steps_per_epoch
    log = {"warmup_epochs": warmup_epochs, "warmup_from": warmup_from, "final": final_lr}
    factors = {
        "cosine": lambda step: warmup_cosine(step, warmup_steps, total),
        "drop": lambda step: warmup_drop(step, warmup_steps, total, drop_at),
        "constant": lambda step: after_warmup(step, warmup_steps, total, lambda done: 1.0),
        "log": lambda step: log_by_epoch(step // steps_per_epoch, epochs, **log),
    }
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factors[schedule])


class MovingAverage:
    """Exponential moving average of weights; its decay is at most (1 + n) / (10 + n) at update n."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        present = network.state_dict()
        moving = [name for name, value in self.weights.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.weights[name] for name in moving], [present[name] for name in moving], 1 - decay
        )

    def load(self, weights: dict[str, Tensor], updates: int) -> None:
        """Continue from the averages of a checkpoint."""
        self.updates = updates
        for name, value in self.weights.items():
            value.copy_(weights[name])

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Inside, the network has the averages as its weights."""
        present = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(present)


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError where an optimiser that was loaded could not take a step, or not a finite one."""
    if any(optimizer.defaults.keys() - group.keys() for group in optimizer.param_groups):
        raise ValueError("its optimizer lacks an option")
    for parameter, state in optimizer.state.items():
        for name in STATES[type(optimizer).__name__]:
            x, shape = state[name], () if name == "step" else parameter.shape
            if x is None and name == "momentum_buffer":  # of a parameter that had no gradient yet
                continue
            if not isinstance(x, Tensor) or x.shape != shape or not x.isfinite().all():
                raise ValueError(f"its optimizer has an odd {name}")


def gradient_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Clip the gradients to a total norm (no clipping at 0) and return the norm before it."""
    return nn.utils.clip_grad_norm_(parameters, max_norm if max_norm > 0 else math.inf)
