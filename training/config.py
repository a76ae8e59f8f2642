"""The flags of main.py: the training loop's, and those of a system's parts; nothing in here loads torch."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import AMP_CHOICES, MAX_WORKERS, Parser, add_config_flags, config_from_args, option
from common.errors import UserError
from common.files import check_checkpoint
from configs.listeners import TrainingListenersConfig
from configs.systems import CONFIGS, DEFAULT

DESCRIPTION = "Trains a system, then evaluates it: flags, training loop, checkpoints, logging."


@dataclass
class TrainConfig:
    """The flags of the training loop, the same for every system."""

    dataset_root: tuple[str, ...] = option(
        ("./dataset",),
        "one or several data sets: YouTube-VOS, DAVIS, MOTS, YouTube-VIS, OVIS, COCO, images with masks",
    )
    dataset_weights: tuple[int, ...] = option(
        (),
        "how often an epoch goes through the videos of each --dataset_root: once unless given",
        least=1,
        most=1000,
    )
    synthetic: str | None = option(None, "write synthetic videos and train on them", ("easy", "hard"))
    synthetic_videos: int = option(250, "training videos of --synthetic", least=1)
    run_dir: str = option("runs", "a fresh numbered folder is made in here for every run")
    resume: str | None = option(None, "continue from a checkpoint, or `auto`: from the newest in --run_dir")
    epochs: int = option(20, "passes over the training videos", least=1)
    patience: int = option(
        0, "evaluations without a better J&F after which training ends; 0: it takes all --epochs", least=0
    )
    batch_size: int = option(8, "clips in a batch, in each process", least=1)
    accumulate: int = option(1, "batches in an optimiser step", least=1)
    num_workers: int = option(2, "processes that load data", least=0, most=MAX_WORKERS)
    loader_timeout: int = option(300, "seconds to wait for a batch of --num_workers; 0: for ever", least=0)
    lr_head: float = option(1e-4, "learning rate of everything but the backbone", least=0)
    lr_backbone: float = option(1e-5, "learning rate of the backbone", least=0)
    optimizer: str = option(
        "adamw",
        "AdamW; Adam with its weight decay in the gradient; SGD with a momentum of 0.9",
        ("adamw", "adam", "sgd"),
    )
    weight_decay: float = option(0.05, "norms, biases and embeddings have none", least=0)
    schedule: str = option(
        "cosine",
        "learning rate after the warm-up; log: in even ratios by epoch",
        ("cosine", "drop", "constant", "log"),
    )
    drop_at: float = option(
        5 / 6, "share of the steps after the warm-up at which --schedule drop divides by 10", least=0, most=1
    )
    final_lr: float = option(
        0.5, "share of the learning rate that --schedule log ends with", least=1e-6, most=1
    )
    warmup_epochs: int = option(0, "epochs of the warm-up of --schedule log", least=0)
    warmup_from: float = option(
        0.2, "share of the learning rate that --schedule log begins with in a warm-up", least=1e-6, most=1
    )
    warmup_steps: int = option(
        100, "steps of linear warm-up, at most a tenth of all; none of --schedule log", least=0
    )
    clip_grad: float = option(1.0, "largest gradient norm; 0: any", least=0)
    ema: float = option(0.999, "decay of the average of weights that is evaluated; 0: none", least=0, most=1)
    amp: str = option("auto", "mixed precision; auto: bf16 or fp16 on a GPU, off on a CPU", AMP_CHOICES)
    seed: int = option(0, "seed of everything random", least=0)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
    devices: int = option(1, "processes on this machine, one a GPU; more than one as by torchrun", least=1)
    threads: int = option(0, "CPU threads of the network; 0: as many as torch likes", least=0, most=1024)
    skip_bad: bool = option(False, "leave bad files out, and list them, rather than stop")
    holdout: int = option(20, "without valid/, every so many-th training video is held out", least=2)
    eval_every: int = option(1, "epochs between evaluations on held-out videos; 0: only the last", least=0)
    eval_videos: int = option(8, "held-out videos that are tracked while training; 0: all", least=0)
    save_every: int = option(1, "epochs between the weights model_epoch_X.pth; 0: none", least=0)
    checkpoint_steps: int = option(500, "steps between writings of last.pth within an epoch", least=1)
    checkpoint_activations: bool = option(
        False, "compute activations anew in the backward pass: less memory, more time"
    )
    dry_run: bool = option(False, "say what memory and time the run needs, train nothing, write nothing")
    check_data: bool = option(
        False, "look at every mask on all cores, list what is wrong in a fresh folder, train nothing"
    )
    memory_gb: float | None = option(
        None, "GiB of GPU memory that --dry_run fits the run into; the GPU's, or 16 without one"
    )
    log_steps: int = option(50, "steps between reports within an epoch", least=1)


def make_parser(system: str) -> Parser:
    """The parser of the flags of the training loop, of its listeners, and of the parts of a system."""
    parser = Parser(prog="main.py", description=DESCRIPTION)
    parser.add_argument("--system", default=system, choices=sorted(CONFIGS), help="what is trained")
    add_config_flags(parser, TrainConfig, "training")
    add_config_flags(parser, TrainingListenersConfig, "listeners")
    for role, config in CONFIGS[system].parts.items():
        add_config_flags(parser, config, f"{system}: {role}")
    parser.set_defaults(**CONFIGS[system].training)
    return parser


def parse_args(argv: Sequence[str]) -> tuple[argparse.Namespace, Parser]:
    """Read `--system`, then all flags with that system's; foreign and abbreviated ones are refused."""
    first = Parser(add_help=False)
    first.add_argument("--system", default=DEFAULT, choices=sorted(CONFIGS))
    parser = make_parser(first.parse_known_args(argv)[0].system)
    return parser.parse_args(argv), parser


def read_options(args: argparse.Namespace) -> tuple[TrainConfig, dict[str, Any]]:
    """The options of the loop, and of each part by its role.

    Raises UserError where a number is out of range, or flags disagree.
    """
    options = config_from_args(TrainConfig, args)
    if options.patience and not options.eval_every:
        raise UserError("--patience counts evaluations, of which --eval_every 0 has one: give another")
    return options, CONFIGS[args.system].read(args)


def check_flags(argv: Sequence[str]) -> None:
    """Show the help, or refuse flags and paths that no run can have, as far as that takes no torch.

    Raises UserError.
    """
    args, _ = parse_args(argv)
    options, _ = read_options(args)
    if options.resume not in (None, "auto"):
        check_checkpoint(Path(options.resume))
    if options.synthetic or args.clearml_dataset or args.queue:
        return
    for root in options.dataset_root:
        if not Path(root).is_dir():
            raise UserError(f"--dataset_root {root} is no folder: give one with train/, or --synthetic easy")
