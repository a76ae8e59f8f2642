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
from training.run_folder import find_checkpoint, has_results

EXAMPLES = """examples:
  python main.py --synthetic easy --epochs 2                    make data, train and evaluate
  python main.py @presets/a100.txt --dataset_root ./dataset     train by a preset; later flags win
  python main.py --resume auto                                  continue the newest run
  python main.py --system stcn --help                           the flags of another system
  python main.py --dataset_root ./dataset --check_data          look for faults in a data set
"""


@dataclass
class DataFlags:
    """What is trained on."""

    dataset_root: tuple[str, ...] = option(
        ("./dataset",),
        "one or more data sets: YouTube-VOS, DAVIS, MOTS, YouTube-VIS, OVIS, COCO, or images with masks",
    )
    dataset_weights: tuple[int, ...] = option(
        (), "repetitions of each --dataset_root in an epoch (default: 1 each)", least=1, most=1000
    )
    synthetic: str | None = option(
        None, "generate synthetic videos into the run folder and train on them", ("easy", "hard", "twins")
    )
    synthetic_videos: int = option(250, "training videos of --synthetic", least=1)
    holdout: int = option(20, "without valid/, hold out every n-th training video for validation", least=2)
    skip_bad: bool = option(False, "skip damaged files and list them, instead of stopping")
    check_data: bool = option(
        False, "check all masks of --dataset_root, report faults in a new run folder, and do not train"
    )


@dataclass
class LoopFlags:
    """How long is trained, and on how much at once."""

    epochs: int = option(20, "passes over the training videos", least=1)
    batch_size: int = option(8, "clips in a batch, in each process", least=1)
    accumulate: int = option(1, "gradient accumulation: batches of an optimizer step", least=1)
    lr_head: float = option(1e-4, "learning rate of all but the backbone", least=0)
    lr_backbone: float = option(1e-5, "learning rate of the backbone", least=0)
    patience: int = option(
        0, "early stopping: evaluations without a better J&F after which training ends; 0: never", least=0
    )
    seed: int = option(0, "seed of all randomness", least=0)


@dataclass
class OutputFlags:
    """What is written, and how often."""

    run_dir: str = option("runs", "folder in which each run makes a new numbered folder")
    resume: str | None = option(
        None, "checkpoint to continue from, or auto: the newest last.pth in --run_dir"
    )
    eval_every: int = option(1, "epochs between evaluations on validation videos; 0: only the last", least=0)
    eval_videos: int = option(8, "validation videos tracked in an evaluation; 0: all", least=0)
    save_every: int = option(
        1, "epochs between saved weights, model_epoch_<epoch>.pth; 0: none are saved", least=0
    )
    checkpoint_steps: int = option(500, "steps between writes of last.pth within an epoch", least=1)
    log_steps: int = option(50, "steps between reports within an epoch", least=1)


@dataclass
class HardwareFlags:
    """Where is computed, how fast, and in how much memory."""

    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
    devices: int = option(1, "GPUs, or CPU processes, of this machine, as by torchrun", least=1)
    amp: str = option("auto", "mixed precision; auto: bf16 or fp16 on a GPU, off on a CPU", AMP_CHOICES)
    num_workers: int = option(
        2, "processes that load data, for each training process", least=0, most=MAX_WORKERS
    )
    loader_timeout: int = option(300, "seconds to wait for a batch of --num_workers; 0: for ever", least=0)
    threads: int = option(0, "CPU threads of the network; 0: the default of torch", least=0, most=1024)
    checkpoint_activations: bool = option(False, "activation checkpointing: less memory, more time")
    dry_run: bool = option(False, "report memory and time that the run needs, and do not train")
    memory_gb: float | None = option(
        None, "GPU memory in GiB for --dry_run (default: that of the GPU, 16 without one)"
    )


@dataclass
class OptimizerFlags:
    """How weights are updated."""

    optimizer: str = option(
        "adamw",
        "AdamW; Adam, with L2 weight decay; SGD, with momentum 0.9",
        ("adamw", "adam", "sgd"),
    )
    weight_decay: float = option(0.05, "weight decay; none of norms, biases and embeddings", least=0)
    clip_grad: float = option(1.0, "maximum gradient norm; 0: no clipping", least=0)
    ema: float = option(
        0.999, "decay of the moving average of weights, which is evaluated; 0: none", least=0, most=1
    )
    schedule: str = option(
        "cosine",
        "learning rate schedule after the warm-up; log: geometric, by epoch",
        ("cosine", "drop", "constant", "log"),
    )
    warmup_steps: int = option(
        100, "steps of linear warm-up, at most a tenth of all; none with --schedule log", least=0
    )
    drop_at: float = option(
        5 / 6,
        "--schedule drop: share of the steps after which the learning rate is divided by 10",
        least=0,
        most=1,
    )
    final_lr: float = option(
        0.5,
        "--schedule log: final learning rate, relative to --lr_head and --lr_backbone",
        least=1e-6,
        most=1,
    )
    warmup_epochs: int = option(0, "--schedule log: epochs of warm-up", least=0)
    warmup_from: float = option(
        0.2, "--schedule log: initial learning rate of the warm-up, relative", least=1e-6, most=1
    )


@dataclass
class TrainConfig(DataFlags, LoopFlags, OutputFlags, HardwareFlags, OptimizerFlags):
    """The flags of the training loop, the same for every system."""


COMMON = {"data": DataFlags, "training": LoopFlags, "output": OutputFlags}
FURTHER = {
    "hardware": HardwareFlags,
    "optimizer": OptimizerFlags,
    "ClearML and TensorBoard": TrainingListenersConfig,
}


def make_parser(system: str) -> Parser:
    """The parser of the flags of the training loop, of its listeners, and of the parts of a system."""
    parser = Parser(
        prog="main.py",
        usage="python main.py [--system SYSTEM] [@PRESET] [flags]",
        description="Trains a system on videos with masks, then evaluates it.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--system", default=system, choices=list(CONFIGS), help=f"system to train (default: {DEFAULT})"
    )
    for title, config in (COMMON | CONFIGS[system].titled(system) | FURTHER).items():
        add_config_flags(parser, config, title)
    parser.set_defaults(**CONFIGS[system].training)
    return parser


def parse_args(argv: Sequence[str]) -> tuple[argparse.Namespace, Parser]:
    """Read `--system`, then all flags with that system's; foreign and abbreviated ones are refused."""
    first = Parser(add_help=False)
    first.add_argument("--system", default=DEFAULT, choices=list(CONFIGS))
    parser = make_parser(first.parse_known_args(argv)[0].system)
    return parser.parse_args(argv), parser


def read_options(args: argparse.Namespace) -> tuple[TrainConfig, dict[str, Any]]:
    """The options of the loop, and of each part by its role.

    Raises UserError where a number is out of range, or flags disagree.
    """
    options = config_from_args(TrainConfig, args)
    if options.patience and not options.eval_every:
        raise UserError("--patience counts evaluations, and --eval_every 0 has only one: give 1 or more")
    return options, CONFIGS[args.system].read(args)


def check_flags(argv: Sequence[str]) -> None:
    """Show the help, or refuse flags and paths that no run can have, as far as that takes no torch.

    Raises UserError.
    """
    args, _ = parse_args(argv)
    options, _ = read_options(args)
    if args.queue:  # paths are those of the agent's machine
        return
    if options.resume not in (None, "auto"):
        check_checkpoint(Path(options.resume))
    if options.synthetic or args.clearml_dataset:
        return
    if has_results(find_checkpoint(options.resume, Path(options.run_dir))):
        return  # it may have nothing to train any more
    for root in options.dataset_root:
        if not Path(root).is_dir():
            raise UserError(f"--dataset_root {root} is no folder: give one with train/, or --synthetic easy")
