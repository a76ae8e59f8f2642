"""The orchestrator: flags, the table of systems, training loop, checkpoints, logging, final evaluation.

python main.py [--system S] [@presets/X.txt] [flags]
"""

import argparse
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from common import distributed
from common.checkpoint import read_checkpoint, read_resumable, save_checkpoint
from common.config import Parser, config_from_args
from common.device import autocast, pick_device
from common.distributed import say
from common.errors import UserError, run_command
from common.files import atomic_write, write_json
from common.progress import every, plain_lines, progress
from common.seeding import mix
from common.types import Clip
from dataset import EpochSampler, YouTubeVOSDataset, loaded, make_loader, split_videos
from evaluate import Gallery, evaluate_tracker
from inference import VITATracker
from modules import VITA_TCOVIS
from systems.sam_track import TRAINING as SAM_TRACK_TRAINING
from systems.sam_track.criterion import SAMTrackCriterion
from systems.sam_track.dataset import SAMTrackDataset
from systems.sam_track.modules import SAMTrack
from systems.sam_track.tracker import SAMTracker
from systems.siammask.criterion import SiamMaskCriterion
from systems.siammask.dataset import SiamMaskDataset
from systems.siammask.modules import SiamMask
from systems.siammask.tracker import SiamMaskTracker
from systems.stcn.criterion import STCNCriterion
from systems.stcn.dataset import STCNDataset
from systems.stcn.modules import STCN
from systems.stcn.tracker import STCNTracker
from systems.xmem.criterion import XMemCriterion
from systems.xmem.dataset import XMemDataset
from systems.xmem.modules import XMem
from systems.xmem.tracker import XMemTracker
from training.config import TrainConfig
from training.curves import plot_curves
from training.experiment import Experiment, open_experiment
from training.history import History, Means, columns_of, with_margin
from training.interrupt import interruptible
from training.optim import OPTIMIZERS, MovingAverage, gradient_norm, learning_rate, parameter_groups
from training.run_folder import find_checkpoint, new_run_folder
from training.system import System
from utils import TCOVISCriterion
from video import synthetic
from video.annotated import VOSFolder

SYSTEMS: dict[str, System] = {
    "vita_tcovis": System(VITA_TCOVIS, TCOVISCriterion, VITATracker, YouTubeVOSDataset),
    "stcn": System(STCN, STCNCriterion, STCNTracker, STCNDataset),
    "xmem": System(XMem, XMemCriterion, XMemTracker, XMemDataset),
    "siammask": System(SiamMask, SiamMaskCriterion, SiamMaskTracker, SiamMaskDataset),
    "sam_track": System(SAMTrack, SAMTrackCriterion, SAMTracker, SAMTrackDataset, SAM_TRACK_TRAINING),
}


def make_parser(name: str) -> Parser:
    """The flags of the training loop, of the experiment, and of one system's parts."""
    parser = Parser(prog="main.py", description=__doc__.splitlines()[0])
    parser.add_argument("--system", default=name, choices=sorted(SYSTEMS), help="what is trained")
    SYSTEMS[name].add_flags(parser, name)
    return parser


def parse_args(argv: Sequence[str]) -> tuple[argparse.Namespace, Parser]:
    """Read `--system`, then all flags with that system's; foreign and abbreviated ones are refused."""
    first = Parser(add_help=False)
    first.add_argument("--system", default="vita_tcovis", choices=sorted(SYSTEMS))
    parser = make_parser(first.parse_known_args(argv)[0].system)
    return parser.parse_args(argv), parser


# ----------------------------------------------------------------------------------------------------
# training


class Objective(nn.Module):
    """Network and criterion as one module, so that one wrapper averages the gradients of both."""

    def __init__(self, network: nn.Module, criterion: nn.Module):
        super().__init__()
        self.network, self.criterion = network, criterion

    def forward(self, clip: Clip) -> dict[str, Tensor]:
        return self.criterion(self.network(clip.frames, clip.prompt), clip)


class Trainer:
    """One run: the loop over epochs, what it writes, and how it continues after an interruption.

    Everything random depends on (seed, epoch, sample) or (seed, step): a resumed run equals an unbroken one.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        configs: dict[str, Any],
        network: nn.Module,
        run: Path,
        train: VOSFolder,
        valid: VOSFolder,
        experiment: Experiment,
    ):
        self.args, self.configs, self.run, self.valid, self.experiment = args, configs, run, valid, experiment
        system = SYSTEMS[args.system]
        self.device = pick_device(args.device)
        self.network = network.to(self.device)
        self.criterion = system.criterion(configs["criterion"]).to(self.device)
        self.objective = self._make_objective()
        self.tracker = system.tracker(self.network, configs["tracker"])
        self._make_loaders(system.make_dataset, train)
        self._make_optimizer()
        self.history = History(run / "results.csv")
        self.epoch = self.step = 0
        self.best: dict[str, float] | None = None
        self.skipped: list[str] = []
        self.use_classes = getattr(args, "num_classes", 1) > 1

    def _make_objective(self) -> nn.Module:
        objective = Objective(self.network, self.criterion)
        if distributed.world_size() == 1:
            return objective
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(objective, device_ids=devices)

    def _make_loaders(self, make_dataset: Callable[..., Dataset], train: VOSFolder) -> None:
        args, data = self.args, self.configs["data"]
        common = {"num_workers": args.num_workers, "pin_memory": self.device.type == "cuda"}
        clips = make_dataset(train, data, training=True, seed=args.seed, skip_bad=args.skip_bad)
        share = {"rank": distributed.rank(), "world_size": distributed.world_size()}
        self.sampler = EpochSampler(len(clips), args.batch_size, seed=args.seed, **share)
        self.loader = make_loader(clips, self.sampler, **common)
        held_out = make_dataset(self.valid, data, training=False, seed=args.seed, skip_bad=args.skip_bad)
        batches = list(every([(0, index) for index in range(len(held_out))], args.batch_size))
        self.valid_loader = make_loader(held_out, batches, **common)
        self.steps_per_epoch = -(-len(self.sampler) // args.accumulate)

    def _make_optimizer(self) -> None:
        args = self.args
        rates = {name: getattr(args, name) for name in ("lr_head", "lr_backbone", "weight_decay")}
        groups = parameter_groups(self.network, self.criterion, **rates)
        self.optimizer = OPTIMIZERS[args.optimizer](groups, fused=True)
        names = ("warmup_steps", "drop_at", "warmup_epochs", "warmup_from", "final_lr")
        options = {name: getattr(args, name) for name in names}
        schedule = args.schedule, args.epochs, self.steps_per_epoch
        self.scheduler = learning_rate(self.optimizer, *schedule, **options)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=args.amp == "fp16")
        self.ema = MovingAverage(self.network, args.ema) if args.ema > 0 else None

    def fit(self) -> None:
        """Train until `epochs` are done; whatever ends it early leaves a checkpoint to continue from."""
        if self.step == 0:
            self.save("last.pth")
        with interruptible() as interrupted:
            while self.epoch < self.args.epochs and not interrupted():
                self._train_epoch(interrupted)
        if interrupted():
            last = self.run / "last.pth"
            say(f"interrupted at step {self.step}; continue with the same flags and --resume {last}")
            raise KeyboardInterrupt

    def _train_epoch(self, interrupted: Callable[[], bool]) -> None:
        begun, means = time.monotonic(), Means()
        done = self.step - self.epoch * self.steps_per_epoch  # steps of this epoch before an interruption
        self.sampler.set_epoch(self.epoch, start=done * self.args.accumulate)
        if hasattr(self.network, "set_epoch") and self.network.set_epoch(self.epoch, self.args.epochs):
            self.objective = self._make_objective()  # other parameters are trained than before
        self.objective.train()
        steps = every(loaded(self.loader), self.args.accumulate)
        title = f"epoch {self.epoch + 1}/{self.args.epochs}"
        for number, clips in enumerate(progress(steps, title, self.steps_per_epoch - done), start=done + 1):
            means.add(self._optimise(clips))
            self.step += 1
            if self.step % self.args.log_steps == 0:
                self._report_step(title, number, means, (number - done) / (time.monotonic() - begun))
            if self.step % self.args.checkpoint_steps == 0 or interrupted():
                self.save("last.pth")
            if interrupted():
                return
        self.epoch += 1
        self._finish_epoch(means.result(), time.monotonic() - begun)

    def _optimise(self, clips: list[Clip]) -> dict[str, Tensor]:
        """One optimiser step over `accumulate` batches; returns losses and statistics on the device."""
        total: dict[str, Tensor] = {}
        for part, clip in enumerate(clips):
            self.skipped += clip.skipped
            torch.manual_seed(mix(self.args.seed, self.step, part, distributed.rank()))
            last = part == len(clips) - 1
            with nullcontext() if last or distributed.world_size() == 1 else self.objective.no_sync():
                with autocast(self.device, self.args.amp):
                    losses = self.objective(clip.to(self.device, non_blocking=True))
                self.scaler.scale(sum(losses.values()) / len(clips)).backward()
            shares = {f"loss/{name}": loss.detach() / len(clips) for name, loss in losses.items()}
            for name, value in (shares | self.criterion.stats).items():
                total[name] = total.get(name, 0) + value
        self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(self.objective.parameters(), self.args.clip_grad)
        losses = {name.removeprefix("loss/"): value for name, value in total.items() if "loss/" in name}
        # The scaler skips a step whose gradient is not finite by itself.
        self._check_finite(losses if self.scaler.is_enabled() else losses | {"gradient_norm": norm})
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        if self.ema:
            self.ema.update(self.network)
        total["loss/total"] = sum(value for name, value in total.items() if name.startswith("loss/"))
        return {**total, "gradient_norm": norm}

    def _check_finite(self, losses: dict[str, Tensor]) -> None:
        """Stop before a loss that is not finite reaches the weights; one transfer to the CPU."""
        values = torch.stack(list(losses.values()))
        if not values.isfinite().all():
            terms = ", ".join(
                f"{name} {value:.4g}" for name, value in zip(losses, values.tolist(), strict=True)
            )
            remedy = "lower --lr_head and --lr_backbone, or use --amp off"
            raise UserError(
                f"the loss is not finite at step {self.step} ({terms}): {remedy}; "
                f"{self.run / 'last.pth'} is from before"
            )

    def _rates(self) -> dict[str, float]:
        return {f"lr/{group['name']}": group["lr"] for group in self.optimizer.param_groups}

    def _report_step(self, title: str, number: int, means: Means, speed: float) -> None:
        """Losses since the start of the epoch, on the screen where there is no bar and in the experiment."""
        values = means.result()
        if plain_lines():
            left = (self.args.epochs * self.steps_per_epoch - self.step) / speed
            rates = f"{speed:.2f} steps/s, {left / 60:.1f} min left"
            say(f"{title} step {number}/{self.steps_per_epoch}: loss {values['loss/total']:.3f}, {rates}")
        self._send(columns_of(with_margin(values), "train"))

    def _send(self, values: dict[str, float]) -> None:
        """Give the experiment numbers by their names, group/series."""
        for name, value in values.items():
            group, _, series = name.partition("/")
            if series:
                self.experiment.scalars(group, {series: value}, self.step)

    def _finish_epoch(self, means: dict[str, float], seconds: float) -> None:
        """Write the row, the curves and the checkpoints of an epoch; evaluate where it is time."""
        row = {"epoch": self.epoch, "step": self.step, "seconds": seconds}
        row |= columns_of(with_margin(means), "train") | self._rates()
        last = self.epoch == self.args.epochs
        if self.args.eval_every and (last or self.epoch % self.args.eval_every == 0):
            with self.ema.applied(self.network) if self.ema else nullcontext():
                row |= columns_of(self.evaluate(self.args.eval_videos, f"epoch_{self.epoch:03d}"), "val")
        score = row.get("val/J&F")
        if score is not None and (self.best is None or score >= self.best["J&F"]):
            self.best = {"J&F": score, "epoch": self.epoch}
            self.save("best.pth")
        self.save("last.pth")
        if self.args.save_every and self.epoch % self.args.save_every == 0:
            self.save(f"model_epoch_{self.epoch}.pth", weights_only=True)
        if distributed.is_main():
            self._log(row)
        distributed.barrier()

    def _log(self, row: dict[str, float]) -> None:
        self.history.add(row)
        plot_curves(self.history.path, self.run / "results.png")
        self._send(row)
        shown = ("loss/total", "cosine/train_margin", "val/J&F", "id_switches/per_100_frames")
        numbers = ", ".join(f"{name} {row[name]:.3f}" for name in shown if row.get(name) is not None)
        say(f"epoch {self.epoch}/{self.args.epochs}: {numbers} ({row['seconds']:.0f} s)")

    # ------------------------------------------------------------------------------------------------
    # evaluation

    def evaluate(self, num_videos: int, picture: str) -> dict[str, float]:
        """Losses and cosines on held-out clips; scores and pictures of held-out videos, of all where 0.

        Every process takes part in the first, because the criterion speaks with all; one does the second.
        """
        self.objective.eval()
        scores = self._validate()
        if distributed.is_main():
            gallery = Gallery()
            options = {"num_videos": num_videos, "use_classes": self.use_classes, "gallery": gallery}
            tracked = evaluate_tracker(self.tracker, self.valid, **options)
            scores |= {name: value for name, value in tracked.items() if value is not None}
            self._write_picture(picture, gallery.picture())
        return scores

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """The total loss and the statistics of one clip of every held-out video, at fixed points."""
        means = Means()
        for number, clip in enumerate(loaded(self.valid_loader)):
            torch.manual_seed(mix(self.args.seed, number))
            clip = clip.to(self.device, non_blocking=True)
            with autocast(self.device, self.args.amp):
                losses = self.criterion(self.network(clip.frames, clip.prompt), clip)
            means.add({"loss": sum(losses.values()), **self.criterion.stats})
        return with_margin(means.result())

    def _write_picture(self, name: str, picture: np.ndarray) -> None:
        with atomic_write(self.run / "overlays" / f"{name}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        self.experiment.image("validation", "truth and tracks", self.step, picture)

    # ------------------------------------------------------------------------------------------------
    # checkpoints

    def save(self, name: str, *, weights_only: bool = False) -> None:
        """Write a checkpoint into the run folder, by one process; weights alone are without the optimiser."""
        if not distributed.is_main():
            return
        state = {
            "format": 1,
            "system": self.args.system,
            "config": {role: asdict(config) for role, config in self.configs.items()}
            | {"categories": self.valid.categories if self.use_classes else []},
            "model": self.network.state_dict(),
            "ema": self.ema.weights if self.ema else None,
            "criterion": self.criterion.state_dict(),
            "optimizer": None if weights_only else self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "args": vars(self.args) | {"steps_per_epoch": self.steps_per_epoch},
        }
        save_checkpoint(self.run / name, state)

    def resume(self, state: dict[str, Any]) -> None:
        """Continue where a checkpoint stopped; UserError where an epoch has another number of steps now."""
        before = state["args"]["steps_per_epoch"]
        if before != self.steps_per_epoch:
            told = f"an epoch had {before} steps and has {self.steps_per_epoch} now"
            raise UserError(f"--resume: {told}: give the same videos and number of processes")
        self.network.load_state_dict(state["model"])
        if self.ema:
            self.ema.load(state["ema"] or state["model"], updates=state["step"])
        self.criterion.load_state_dict(state["criterion"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.best = state["best"] if (self.run / "best.pth").is_file() else None
        self.history.resume(self.epoch)


def prepare_data(args: argparse.Namespace, run: Path) -> Path:
    """The root of the data set; synthetic videos are written into the run folder first."""
    if not args.synthetic:
        return Path(args.dataset_root)
    if distributed.is_main() and not (run / "data").exists():
        counts = {"train_videos": args.synthetic_videos, "valid_videos": 25, "frames": 20, "size": 64}
        synthetic.generate(run / "data", args.synthetic, seed=args.seed, **counts)
    distributed.barrier()
    return run / "data"


METRICS = """J F J&F J_tube AP AP50 AP75 AR10 HOTA DetA AssA IDF1 id_switches id_switches_per_100_frames
cosine_positive cosine_negative cosine_margin videos frames""".split()  # of metrics.json, beside `seconds`


def load_videos(args: argparse.Namespace, root: Path) -> tuple[VOSFolder, VOSFolder, list[str]]:
    return split_videos(root, holdout=args.holdout, skip_bad=args.skip_bad)


def announce(trainer: Trainer, train: VOSFolder, troubles: list[str]) -> None:
    """The first lines of a run: versions, device, sizes, and every file that was left out."""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    millions = sum(p.numel() for p in trainer.network.parameters()) / 1e6
    counts = f"{len(train.videos)} training and {len(trainer.valid.videos)} validation videos"
    say(f"{trainer.args.system}: {versions}, {trainer.device}, {millions:.1f} M parameters, {counts}")
    say(f"{trainer.args.epochs} epochs of {trainer.steps_per_epoch} steps into {trainer.run}")
    for number, trouble in enumerate(troubles, start=1):
        say(f"skipped bad file {number} of {len(troubles)}: {trouble}")


def finish(trainer: Trainer, begun: float) -> None:
    """The final evaluation, of the best weights; metrics.json; and the exact next command."""
    best = trainer.run / ("best.pth" if distributed.broadcast(trainer.best) else "last.pth")
    weights = read_checkpoint(best, trainer.device)
    trainer.network.load_state_dict(weights["ema"] or weights["model"])
    scores = trainer.evaluate(num_videos=0, picture="final")
    if not distributed.is_main():
        return
    metrics = {name: scores.get(name) for name in METRICS} | {"seconds": round(time.monotonic() - begun, 1)}
    write_json(trainer.run / "metrics.json", metrics)
    for name, value in metrics.items():
        say(f"{name:28} {'-' if value is None else f'{value:.3f}' if isinstance(value, float) else value}")
        if value is not None:
            trainer.experiment.single_value(name, value)
    trainer.experiment.figure("results", trainer.run / "results.png", trainer.step)
    trainer.experiment.artifact("metrics", metrics)
    trainer.experiment.model("best", best)
    if trainer.skipped:
        paths = ", ".join(sorted(set(trainer.skipped)))
        say(f"{len(trainer.skipped)} clips were drawn anew because of bad files: {paths}")
    command = [
        "--checkpoint",
        best,
        "--video_root",
        trainer.valid.root,
        "--output",
        trainer.run / "inference",
    ]
    if trainer.tracker.needs_prompt:
        command += ["--prompt_root", trainer.valid.videos[0].mask_folder.parent]
    say("next: python inference.py " + shlex.join(map(str, command)))
    say(str(trainer.run))


def run_training(args: argparse.Namespace, experiment: Experiment, begun: float) -> None:
    """Network, then data, then the run folder: what is wrong with the first two leaves no folder."""
    config_from_args(TrainConfig, args)  # the ranges of its numbers
    if args.threads:
        torch.set_num_threads(args.threads)
    checkpoint = find_checkpoint(args.resume, Path(args.run_dir))
    system = SYSTEMS[args.system]
    configs = system.configs(args)
    pick_device(args.device)  # what cannot be used is told before anything is written
    state = read_resumable(checkpoint, args.system, configs, vars(args)) if checkpoint else None
    torch.manual_seed(mix(args.seed))
    network = system.network(configs["network"], pretrained=checkpoint is None)
    data = None if args.synthetic else load_videos(args, Path(args.dataset_root))
    made = new_run_folder(Path(args.run_dir)) if not checkpoint and distributed.is_main() else None
    run = checkpoint.parent if checkpoint else distributed.broadcast(made)
    root = prepare_data(args, run)
    train, valid, troubles = data or load_videos(args, root)
    try:
        trainer = Trainer(args, configs, network, run, train, valid, experiment)
    except UserError:
        if distributed.is_main() and not any(run.iterdir()):
            run.rmdir()
        raise
    if state:
        trainer.resume(state)
    if distributed.is_main():
        (run / "metrics.json").unlink(missing_ok=True)  # of fewer epochs
        write_json(run / "args.json", vars(args))
    announce(trainer, train, troubles)
    trainer.fit()
    finish(trainer, begun)


def main() -> None:
    """Train, then evaluate: the last line printed is the run folder, the one before it the next command."""
    begun = time.monotonic()
    args, parser = parse_args(sys.argv[1:])
    distributed.init()
    recorded = open_experiment(
        args,
        parser,
        enabled=args.enable_clearml and distributed.is_main(),
        offline=args.clearml_offline,
        project_name=args.project_name,
        task_name=args.task_name,
        queue=args.queue if distributed.is_main() else None,
    )
    vars(args).update(distributed.broadcast(vars(args)))  # a ClearML agent may have changed them
    with recorded as experiment:
        run_training(args, experiment, begun)
    distributed.shutdown()


if __name__ == "__main__":
    run_command(main)
