"""The flags of the training loop."""

from dataclasses import dataclass

from common.config import MAX_WORKERS, option
from common.device import AMP_CHOICES
from training.optim import OPTIMIZERS


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
        tuple(OPTIMIZERS),
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
