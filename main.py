"""The orchestrator: flags, training loop, checkpoints, logging, final evaluation.

python main.py [--system S] [@presets/X.txt] [flags]
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import run_check, run_command
from training.config import check_flags, parse_args
from training.listeners.agent import arguments

if __name__ == "__main__":  # help and mistakes come before torch is loaded, which takes seconds
    run_check(lambda: check_flags(arguments()))

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from annotated.videos import VideoSet
from common import distributed
from common.checkpoint import read_checkpoint, save_checkpoint
from common.device import autocast, pick_device, resolve_amp
from common.errors import UserError
from common.files import LOCK, sole_writer
from common.progress import every, plain_lines, progress, say
from common.seeding import mix
from common.types import Clip
from dataset import make_loaders
from inference import SYSTEMS
from tools.doctor.check import check_data
from tools.run_report.record import RunRecord
from tools.validation import Gallery, evaluate_tracker
from training.dry_run import dry_run
from training.heartbeat import joined
from training.history import Means, columns_of, read_rows, with_margin
from training.interrupt import Interrupted, interruptible
from training.listeners.agent import left_to_queue, take_dataset
from training.listeners.listener import Listeners
from training.listeners.opening import open_listeners, task_names
from training.loader import loader_errors
from training.optim import gradient_norm, parameter_groups
from training.report import Report, later_commands, next_command
from training.run_folder import find_checkpoint, new_run_folder, task_of
from training.state import check_finite, check_same_videos, is_finished, is_stale, make_state, read_resumable
from training.system import Plan
from training.videos import load_videos
from video.transforms import upload

# ------------------------------------------------------------------------------------------------ training


def run_network(network: nn.Module, clip: Clip) -> dict[str, Any]:
    """What a network says of a batch; the masks of the prompt are made where it looks at them."""
    return network(clip.frames, clip.prompt if network.takes_prompt else None)


class Objective(nn.Module):
    """Network and criterion as one module, so that one wrapper averages the gradients of both."""

    def __init__(self, network: nn.Module, criterion: nn.Module):
        super().__init__()
        self.network, self.criterion = network, criterion

    def forward(self, clip: Clip) -> dict[str, Tensor]:
        return self.criterion(run_network(self.network, clip), clip)


class Trainer:
    """One run: the loop over epochs and steps, and its evaluations.

    Everything random depends on (seed, epoch, sample) or (seed, step): a resumed run equals an unbroken one.
    """

    def __init__(self, plan: Plan, network: nn.Module, train: VideoSet, valid: VideoSet, report: Report):
        self.plan, self.options, self.valid, self.report = plan, plan.options, valid, report
        self.device = pick_device(self.options.device)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.criterion = plan.system.criterion(plan.configs["criterion"]).to(self.device)
        self.objective = self._make_objective()
        self.tracker = plan.system.tracker(self.network, plan.configs["tracker"])
        self.loaders = make_loaders(plan, train, valid, self.device)
        self.videos = train.digest
        self.clips_per_step = self.options.batch_size * self.options.accumulate * distributed.world_size()
        self.steps_per_epoch = -(-len(self.loaders.sampler) // self.options.accumulate)
        rates = {"lr_backbone": self.options.lr_backbone, "lr_head": self.options.lr_head}
        decay = self.options.weight_decay
        groups = parameter_groups(self.network, self.criterion, **rates, weight_decay=decay)
        self.state = make_state(self.network, self.criterion, groups, self.options, self.steps_per_epoch)
        self.skipped: list[str] = []  # bad files in place of which clips were drawn anew

    def _make_objective(self) -> nn.Module:
        objective = Objective(self.network, self.criterion)
        if distributed.world_size() == 1:
            return objective
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(objective, device_ids=devices)

    def fit(self) -> None:
        """Train until `epochs` are done; whatever ends it early leaves a checkpoint to continue from."""
        state = self.state
        if state.step == 0:
            self.save("last.pth")
        with interruptible() as interrupted:
            while not interrupted() and (state.history.row or self._has_more_epochs()):
                if state.history.row is None:
                    self._train_epoch(interrupted)
                else:
                    self._finish_epoch()
            if interrupted():
                self.report.checkpoint("last", state.step, at_once=True)
                remedy = f"continue with the same flags and --resume {self.report.folder / 'last.pth'}"
                say(f"interrupted at step {state.step}; {remedy}")
                raise Interrupted

    def _has_more_epochs(self) -> bool:
        """Whether there is an epoch left, and evaluations improved of late; every process must ask for it."""
        state, patience = self.state, self.options.patience
        if state.epoch >= self.options.epochs:
            return False
        if not distributed.any_process(is_stale(state.history.rows, state.best, patience)):
            return True
        say(f"none of {patience} evaluations was better: training ends after epoch {state.epoch}")
        return False

    def _train_epoch(self, interrupted: Callable[[], bool]) -> None:
        state, history, options = self.state, self.state.history, self.options
        begun = reported = time.monotonic()
        before = history.seconds
        done = state.step - state.epoch * self.steps_per_epoch  # steps of this epoch before an interruption
        self.loaders.sampler.set_epoch(state.epoch, start=done * options.accumulate)
        if self.network.set_epoch(state.epoch, options.epochs):
            self.objective = self._make_objective()  # other parameters are trained than before
        self.objective.train()
        steps = every(self.loaders.train, options.accumulate)
        title = f"epoch {state.epoch + 1}/{options.epochs}"
        for number, clips in enumerate(progress(steps, title, self.steps_per_epoch - done), start=done + 1):
            history.add(self.optimise(clips))
            state.step += 1
            now = time.monotonic()
            history.seconds = before + now - begun
            if state.step % options.log_steps == 0 or number == self.steps_per_epoch:
                speed, reported = history.interval.calls / (now - reported), now
                self._report_step(f"{title} step {number}/{self.steps_per_epoch}", speed)
            stops = interrupted()
            if state.step % options.checkpoint_steps == 0 or stops:
                history.means.share()
                self.save("last.pth")
            if stops:
                return
        state.end_epoch()
        self.save("last.pth")

    def optimise(self, clips: list[Clip]) -> dict[str, Tensor]:
        """One optimiser step over `accumulate` batches; returns losses and statistics on the device."""
        state = self.state
        total = self._backward(clips)
        state.scaler.unscale_(state.optimizer)
        norm = gradient_norm(self.objective.parameters(), self.options.clip_grad)
        losses = {name.removeprefix("loss/"): value for name, value in total.items() if "loss/" in name}
        # The scaler skips a step whose gradient is not finite by itself.
        checked = losses if state.scaler.is_enabled() else losses | {"gradient_norm": norm}
        check_finite(checked, state.step, self.report.folder / "last.pth")
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        state.scheduler.step()
        if state.ema:
            state.ema.update(self.network)
        total["loss/total"] = sum(value for name, value in total.items() if name.startswith("loss/"))
        return {**total, "gradient_norm": norm}

    def _backward(self, clips: list[Clip]) -> dict[str, Tensor]:
        """The gradients of a step's batches, added up; returns "loss/..." and statistics."""
        total: dict[str, Tensor] = {}
        for part, clip in enumerate(clips):
            self.skipped += clip.skipped
            torch.manual_seed(mix(self.options.seed, self.state.step, part))
            last = part == len(clips) - 1
            with nullcontext() if last or distributed.world_size() == 1 else self.objective.no_sync():
                with autocast(self.device, self.options.amp):
                    losses = self.objective(upload(clip, self.device))
                self.state.scaler.scale(sum(losses.values()) / len(clips)).backward()
            shares = {f"loss/{name}": loss.detach() / len(clips) for name, loss in losses.items()}
            for name, value in (shares | self.criterion.stats).items():
                total[name] = total.get(name, 0) + value
        return total

    def _report_step(self, title: str, speed: float) -> None:
        """Losses since the last report, on the screen where there is no bar and for the listeners."""
        state, options = self.state, self.options
        values = state.history.end_interval()
        if plain_lines() and state.step % options.log_steps == 0:
            left = (options.epochs * self.steps_per_epoch - state.step) / speed
            rates = f"{speed:.2f} steps/s, {left / 60:.1f} min left"
            say(f"{title}: loss {values['loss/total']:.3f}, {rates}")
        speed = {"speed/clips_per_second": speed * self.clips_per_step}
        self.report.numbers(values | state.rates | speed, state.step)

    def _finish_epoch(self) -> None:
        """Evaluate a trained epoch where it is time, and write its files.

        last.pth comes after the others: until then it says that the epoch is still to be finished, and a run
        that was killed on the way does all of it again.
        """
        state, options = self.state, self.options
        scores, last = {}, state.epoch == options.epochs
        if options.eval_every and (last or state.epoch % options.eval_every == 0):
            with state.ema.applied(self.network) if state.ema else nullcontext():
                scores = self.evaluate(options.eval_videos, f"epoch_{state.epoch:03d}")
        scores = columns_of(scores, "val")
        if state.end_evaluation(scores):
            self.save("best.pth")
            self.report.checkpoint("best", state.step, at_once=True)
        if options.save_every and state.epoch % options.save_every == 0:
            self.save(f"model_epoch_{state.epoch}.pth", weights_only=True)
        if distributed.is_main():
            self.report.epoch(state.history.rows, f"epoch {state.epoch}/{options.epochs}", scores)
        self.save("last.pth")

    def evaluate(self, num_videos: int, picture: str) -> dict[str, float]:
        """Losses and cosines on held-out clips; scores and pictures of held-out videos, of all where 0.

        One process does it; the others have no scores. Of all videos the first ones become films, too.
        """
        if not distributed.is_main():
            return {}
        self.objective.eval()
        with distributed.alone():
            films = None if num_videos else self.report.folder / "overlays" / picture
            scores, gallery = self._validate(), Gallery(films=films)
            options = {"num_videos": num_videos, "use_classes": self.plan.use_classes, "gallery": gallery}
            with autocast(self.device, self.options.amp):
                tracked = evaluate_tracker(self.tracker, self.valid, **options)
        scores |= {name: value for name, value in tracked.items() if value is not None}
        self.report.pictures(picture, gallery.picture(), gallery.slides, self.state.step)
        self.report.videos(gallery.rows, gallery.paths, self.state.step)
        return scores

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """The losses and the statistics of one clip of every held-out video, at fixed points.

        They have names of their own: batches of one clip have fewer negatives than those of training.
        """
        means = Means()
        for number, clip in enumerate(self.loaders.valid):
            torch.manual_seed(mix(self.options.seed, number))
            clip = upload(clip, self.device)
            with autocast(self.device, self.options.amp):
                losses = self.criterion(run_network(self.network, clip), clip)
            named = {f"val_loss/{name}": loss for name, loss in losses.items()}
            means.add(named | {"val_loss/total": sum(losses.values())} | self.criterion.stats)
        return with_margin(means.result())

    def save(self, name: str, *, weights_only: bool = False) -> None:
        """Write a checkpoint into the run folder, by one process; weights alone are without the optimiser."""
        if not distributed.is_main():
            return
        config = {role: asdict(config) for role, config in self.plan.configs.items()}
        config["categories"] = self.valid.categories if self.plan.use_classes else []
        header = {"format": 1, "system": self.plan.name, "config": config}
        flags = self.plan.flags | {"steps_per_epoch": self.steps_per_epoch, "videos": self.videos}
        state = self.state.state_dict(weights_only=weights_only)
        save_checkpoint(self.report.folder / name, {**header, **state, "args": flags})
        if name == "last.pth" and self.state.step:
            self.report.checkpoint("last", self.state.step)

    def resume(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Continue where a checkpoint stopped; UserError where the videos or the steps are others."""
        check_same_videos(checkpoint["args"], path, self.steps_per_epoch, self.videos)
        self.state.load_state_dict(checkpoint, path)
        if not (self.report.folder / "best.pth").is_file():
            self.state.best = None
        history, folder = self.state.history, self.report.folder
        if "history" not in checkpoint:  # of an older version
            history.rows = read_rows(folder / "results.csv", self.state.epoch)
        if history.rows and distributed.is_main():
            self.report.table(history.rows)


# ------------------------------------------------------------------------------------------------ a run


def announce(trainer: Trainer, train: VideoSet, troubles: list[str]) -> None:
    """The first lines of a run: versions, device, sizes, and every file that was left out."""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    millions = sum(p.numel() for p in trainer.network.parameters()) / 1e6
    counts = f"{len(train.videos)} training and {len(trainer.valid.videos)} validation videos"
    place = f"{trainer.device}, mixed precision {resolve_amp(trainer.options.amp, trainer.device)}"
    say(f"{trainer.plan.name}: {versions}, {place}, {millions:.1f} M parameters, {counts}")
    say(f"{trainer.options.epochs} epochs of {trainer.steps_per_epoch} steps into {trainer.report.folder}")
    for number, trouble in enumerate(troubles, start=1):
        say(f"skipped bad file {number} of {len(troubles)}: {trouble}")


def finish(trainer: Trainer) -> None:
    """The final evaluation, of the best weights; metrics.json; and the exact next command."""
    run, score = trainer.report.folder, distributed.broadcast(trainer.state.best)
    best = run / ("best.pth" if score else "last.pth")
    of = f"epoch {score['epoch']}, the best of the run" if score else "the last epoch"
    say(f"final evaluation on {len(trainer.valid.videos)} held-out videos, by the weights of {of}")
    weights = read_checkpoint(best, trainer.device)
    trainer.network.load_state_dict(weights["ema"] or weights["model"])
    scores = trainer.evaluate(num_videos=0, picture="final")
    if not distributed.is_main():
        return
    trainer.report.metrics(scores, trainer.state.history.run_seconds, trainer.state.step)
    trainer.report.facts(trainer.network, trainer.state, trainer.clips_per_step)
    if trainer.skipped:
        paths = ", ".join(sorted(set(trainer.skipped)))
        say(f"{len(trainer.skipped)} clips were drawn anew because of bad files: {paths}")
    say("next: " + next_command(trainer.valid, best, run, prompted=trainer.tracker.needs_prompt))
    say(str(run))


def run_training(args: argparse.Namespace, listeners: Listeners, begun: float, locks: ExitStack) -> None:
    """Data, then network, then the run folder, locked: what is wrong with the first two leaves no folder."""
    plan = SYSTEMS[args.system].plan(args)
    options = plan.options
    torch.set_num_threads(options.threads or torch.get_num_threads())
    checkpoint = find_checkpoint(options.resume, Path(options.run_dir))
    pick_device(options.device)  # what cannot be used is refused before anything is written
    state = read_resumable(checkpoint, plan.name, plan.configs, plan.flags) if checkpoint else None
    if state and is_finished(checkpoint, state, options):
        return
    data = None if options.synthetic else load_videos(options)
    torch.manual_seed(mix(options.seed))
    network = plan.make_network()
    if not checkpoint:
        plan.system.start(network, plan.configs["network"])
    is_first = not checkpoint and distributed.is_main()
    made = new_run_folder(options.run_dir, options.dry_run) if is_first else None
    run = checkpoint.parent if checkpoint else distributed.broadcast(made)
    if distributed.is_main():
        locks.enter_context(sole_writer(run / LOCK))
    train, valid, troubles = data or load_videos(options, run)
    try:
        trainer = Trainer(plan, network, train, valid, Report(run, listeners))
    except UserError:
        locks.close()
        if distributed.is_main() and not any(run.iterdir()):
            run.rmdir()
        raise
    if options.dry_run:
        return dry_run(trainer)
    trainer.state.history.begun = begun
    if state:
        trainer.resume(state, checkpoint)
    asks = {"prompted": trainer.tracker.needs_prompt, "use_classes": plan.use_classes}
    trainer.report.begin(plan.flags, trainer.state.step, later_commands(trainer.valid, run, **asks))
    announce(trainer, train, troubles)
    trainer.fit()
    finish(trainer)


def main() -> None:
    """Train, then evaluate: the last line printed is the run folder, the one before it the next command."""
    begun = time.monotonic()
    args, parser = parse_args(arguments())
    if left_to_queue(args, parser, **task_names(args, [args.system])):
        return
    take_dataset(args)
    if args.check_data:
        sys.exit(check_data(args.dataset_root, args.run_dir, synthetic=args.synthetic))
    if distributed.launch(args.devices):
        return
    with joined():
        listeners, continued = Listeners(), task_of(find_checkpoint(args.resume, Path(args.run_dir)))
        if distributed.is_main() and not args.dry_run:
            continued = None if args.clearml_continue == "new" else continued
            names = {"tags": [args.system], "continued": continued}
            listeners = open_listeners(args, parser, **names, own=[RunRecord(args, parser)])
        args.clearml_task = distributed.broadcast(listeners.task or continued)
        with ExitStack() as locks, listeners, loader_errors():  # the folder is locked until all is reported
            run_training(args, listeners, begun, locks)


if __name__ == "__main__":
    run_command(main)
