"""GlobalTracker, the tracker of VITA-TCOVIS, and the command that tracks objects through videos.

python inference.py --checkpoint C --video_root V [--prompt_root P] --output O
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import run_check, run_command
from tracking.config import check_flags, check_page, make_parser, parse_first
from training.listeners.agent import arguments

if __name__ == "__main__":  # help and mistakes come before torch is loaded, which takes seconds
    run_check(lambda: check_flags(arguments()))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import checkpoint
from common.backbone import for_inference
from common.config import Parser, config_from_args, config_from_dict
from common.device import on_device, pick_device, resolve_amp
from common.errors import UserError
from common.types import Prompt, Tracker, Tracks
from configs.systems import DEFAULT
from configs.vita_tcovis import GlobalTrackerConfig, TrackerConfig
from dataset import YouTubeVOSDataset
from modules import VITA_TCOVIS
from systems.sam_track import system as sam_track
from systems.siammask import system as siammask
from systems.stcn import system as stcn
from systems.vita_tcovis.start import start
from systems.xmem import system as xmem
from tools.shown import showing_tracks
from tracking.arrays import ArrayTracker, tracker_options
from tracking.assignment import Detections, TrackRecord, assign, assign_prompt, bi_softmax, give_id
from tracking.batch import settings_of, track_all
from tracking.config import RunConfig
from tracking.detections import FrameDetections
from tracking.discovery import DiscoveringTracker, is_propagator
from tracking.sparse_prompts.cutting import Cutter, DiscoveryCutter
from training.heartbeat import joined
from training.system import System
from utils import TCOVISCriterion
from video.masks import above, full_size_probs, labels_from_masks, pad_to_stride
from video.overlaps import Overlaps, suppress
from video.reader import find_videos
from video.transforms import LONGEST, fit_short_side, normalise, resize_frames


class GlobalTracker:
    """Keeps identities: every detection of a frame continues a track, revives a dormant one, or is born.

    `bank` is {track id: embedding (E,) of unit length on the CPU} of the active tracks. A track unseen for
    `max_age` frames is dormant: it leaves the bank for a store of bounded size, from which a stricter cosine
    brings it back. Ids are never reused. Everything is causal: an assignment is final.
    """

    Config = GlobalTrackerConfig

    def __init__(self, config: Config | None = None):
        self.config = config or self.Config()
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; ids start at 1 again."""
        self.bank: dict[int, Tensor] = {}
        self.records: dict[int, TrackRecord] = {}
        self.dormant: dict[int, Tensor] = {}  # in the order in which they fell asleep
        self.frame = 0
        self.next_id = 1

    @torch.autocast("cpu", enabled=False)  # who is who is decided in float32
    def update(
        self,
        embeddings: Tensor,
        scores: Tensor,
        masks: Tensor | None = None,
        class_probs: Tensor | None = None,
        prompted_ids: Tensor | None = None,
        overlaps: Overlaps | None = None,
    ) -> Tensor:
        """Take the detections of the next frame and say who each is: (K,) int64 ids, 0 for nobody yet.

        embeddings (K, E) of any length; scores (K,); masks (K, h, w) bool or None; class_probs (K, C) or
        None; prompted_ids (K,) int64: ids that a prompt gives to some detections, 0 where it gives none.
        overlaps: what `overlaps` says of the masks, for who has asked it already
        """
        if overlaps is None and masks is not None:
            overlaps = self.overlaps(masks)
        K = len(embeddings)
        detections = Detections(
            embeddings=F.normalize(embeddings.float(), dim=-1).cpu(),
            scores=scores.float().cpu(),
            masks=masks,
            overlaps=overlaps,
            class_probs=torch.ones(K, 1) if class_probs is None else class_probs.float().cpu(),
            prompted_ids=torch.zeros(K, dtype=torch.int64) if prompted_ids is None else prompted_ids.cpu(),
        )
        recent, ids = self._recent(), detections.prompted_ids.clone()
        self.next_id = max([self.next_id, *(ids + 1).tolist()])  # no birth takes an id that a prompt gives
        self._retire()
        self._continue(ids, detections, recent)
        for index in ((ids == 0) & (detections.scores >= self.config.birth_score)).nonzero()[:, 0].tolist():
            ids[index], self.next_id = give_id(self.next_id)
        self._remember(ids, detections)
        self.frame += 1
        return ids

    def overlaps(self, masks: Tensor) -> Overlaps:
        """Of (K, h, w) bool masks of the next frame, with one another and with the last masks of tracks."""
        last = [self.records[track].mask for track in self._recent()]
        return Overlaps.of(masks, torch.stack(last) if last else masks[:0])

    def _recent(self) -> list[int]:
        """The tracks whose last masks count: those that were seen of late."""
        oldest = self.frame - self.config.iou_age
        records = self.records.items()
        return [track for track, r in records if r.last_seen >= oldest and r.mask is not None]

    def _continue(self, ids: Tensor, detections: Detections, recent: list[int]) -> None:
        """Write into `ids` which detections without one continue tracks, active or dormant, that nobody has.

        One assignment for all, so that a track that is missing for a moment takes no dormant track's object.
        """
        memory, taken = self.bank | self.dormant, set(ids.tolist())
        tracks = [track for track in memory if track not in taken]
        free = (ids == 0).nonzero()[:, 0]
        if not tracks or not len(free):
            return
        cosine = detections.embeddings[free] @ torch.stack([memory[track] for track in tracks]).T
        # Who stayed in place may look somewhat different.
        bonus = torch.zeros(())
        if detections.overlaps:
            place_of = {track: place for place, track in enumerate(recent)}
            places = [place_of.get(track) for track in tracks]
            bonus = self.config.iou_weight * detections.overlaps.ious_with(free, places)
        # The active tracks come first, then the dormant ones.
        thresholds = torch.full((len(tracks),), self.config.revive_threshold)
        thresholds[: sum(track in self.bank for track in tracks)] = self.config.match_threshold
        similarity = (1 + cosine) / 2
        if self.config.similarity == "bi_softmax":
            similarity = bi_softmax(cosine, self.config.similarity_temperature)
        pairs = assign(similarity + bonus, cosine + bonus >= thresholds)
        rows, columns = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).unbind(1)
        ids[free[rows]] = torch.tensor(tracks)[columns]

    def _retire(self) -> None:
        """Move tracks that are unseen for too long to the store of dormant ones, and bound it."""
        for track in [t for t, r in self.records.items() if self.frame - r.last_seen > self.config.max_age]:
            self.dormant[track] = self.bank.pop(track)
            del self.records[track]
        for track in list(self.dormant)[: max(0, len(self.dormant) - self.config.max_dormant)]:
            del self.dormant[track]

    def _remember(self, ids: Tensor, detections: Detections) -> None:
        """Update bank and records; a detection that is not clear leaves the embedding alone."""
        embeddings, scores, masks, _, class_probs, prompted_ids = detections
        former = [self.bank.get(track, self.dormant.pop(track, None)) for track in ids.tolist()]
        old = [e if mu is None else mu for e, mu in zip(embeddings, former, strict=True)]
        old = torch.cat([embeddings[:0].flatten(), *old]).view_as(embeddings)
        kept = torch.tensor([mu is not None for mu in former], dtype=torch.bool)
        kept &= prompted_ids == 0  # a prompt replaces what was remembered
        clear = detections.are_clear(self.config.update_score, self.config.max_overlap)
        mixed = F.normalize((1 - self.config.beta) * old + self.config.beta * embeddings, dim=-1)
        mixed = torch.where(kept[:, None], torch.where(clear[:, None], mixed, old), embeddings)
        values = zip(ids.tolist(), mixed, scores.tolist(), class_probs, strict=True)
        for index, (track, embedding, score, probs) in enumerate(values):
            if not track:
                continue
            self.bank[track] = embedding.clone()  # not a view, which would hold all detections of the frame
            record = self.records.get(track)
            self.records[track] = TrackRecord(
                last_seen=self.frame,
                hits=record.hits + 1 if record else 1,
                score=score,
                class_probs=record.class_probs + probs if record else probs.clone(),
                mask=None if masks is None else masks[index].clone(),
            )

    def state_dict(self) -> dict[str, Any]:
        return {
            "bank": dict(self.bank),
            "records": {track: dict(vars(record)) for track, record in self.records.items()},
            "dormant": dict(self.dormant),
            "frame": self.frame,
            "next_id": self.next_id,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        former = state["bank"], state["dormant"]
        self.bank, self.dormant = ({track: mu.cpu() for track, mu in bank.items()} for bank in former)
        self.records = {
            track: TrackRecord(**record | {"class_probs": record["class_probs"].cpu()})
            for track, record in state["records"].items()
        }
        self.frame, self.next_id = state["frame"], state["next_id"]


class VITATracker:
    """VITA-TCOVIS on one video: detections of the frame, non-maximum suppression, GlobalTracker.

    A label map in a prompt names the tracks: its ids go to the tokens whose masks overlap it most.
    An id that was given out already moves to the object that the prompt shows.
    """

    needs_prompt = False

    Config = TrackerConfig

    def __init__(self, network: nn.Module, config: Config):
        self.network, self.config = network, config
        self.mask_threshold = config.mask_threshold
        self.global_tracker = GlobalTracker(config)
        self.save_detections: Callable[[FrameDetections], None] | None = None
        self.reset()

    def reset(self) -> None:
        self.global_tracker.reset()
        self.queries: Tensor | None = None  # of the last frame

    @torch.inference_mode()
    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        """Frame uint8 RGB (3, H, W) of any size, on any device; the tracks are where the network is."""
        detections, overlaps = self._detect(frame, prompt)
        if self.save_detections:
            self.save_detections(detections)
        return self.track(detections, overlaps)

    def _detect(self, frame: Tensor, prompt: Prompt | None) -> tuple[FrameDetections, Overlaps]:
        """What is left of a frame's tokens after non-maximum suppression, best first, and their overlaps."""
        config, device = self.config, next(self.network.parameters()).device
        size = fit_short_side(*frame.shape[-2:], config.image_size, LONGEST * config.image_size)
        small = normalise(resize_frames(frame.to(device, non_blocking=True), size))
        padded = pad_to_stride(small, self.network.stride)
        outputs = self.network(padded[None, None], queries=self.queries)
        self.queries = outputs["queries"]
        tokens = FrameDetections.of(outputs, padded.shape[-2:], size, frame.shape[-2:])
        tokens = tokens._replace(prompted_ids=assign_prompt(prompt, tokens.masks))
        good = (tokens.scores > config.score_threshold) | (tokens.prompted_ids > 0)
        tokens = tokens.chosen(good.nonzero()[:, 0])
        overlaps, prompted = self.global_tracker.overlaps(tokens.masks), tokens.prompted_ids > 0
        best = suppress(overlaps, tokens.scores, prompted, config.nms_iou, config.nms_inside)
        return tokens.chosen(best), overlaps.chosen(best)

    @torch.inference_mode()
    def track(self, detections: FrameDetections, overlaps: Overlaps | None = None) -> Tracks:
        """Say who the detections of the next frame are; overlaps: as of `GlobalTracker.update`."""
        embeddings, scores, class_probs, prompted_ids, _, sizes = detections
        masks = detections.masks
        ids = self.global_tracker.update(embeddings, scores, masks, class_probs, prompted_ids, overlaps)
        rows = (ids > 0).nonzero()[:, 0]
        logits = detections.logits[on_device(rows, masks.device)]
        return self._tracks(ids[rows], full_size_probs(logits, *sizes), on_device(scores[rows], masks.device))

    def _tracks(self, ids: Tensor, masks: Tensor, scores: Tensor) -> Tracks:
        """Each pixel goes to the largest score times probability among the tracks above the threshold."""
        records = self.global_tracker.records
        classes = [int(records[track].class_probs.argmax()) for track in ids.tolist()]
        ids, binary_masks = on_device(ids, masks.device), above(masks, self.mask_threshold)
        return Tracks(
            ids=ids,
            labels=labels_from_masks(masks, ids, scores=scores, binary_masks=binary_masks),
            masks=masks,
            scores=scores,
            classes=on_device(classes, masks.device, torch.int64),
            binary_masks=binary_masks,
        )

    def state_dict(self) -> dict[str, Any]:
        return self.global_tracker.state_dict() | {"queries": self.queries}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.global_tracker.load_state_dict(state)
        self.queries = state["queries"]


# ------------------------------------------------------------------------------------------------ the systems

# All that knows the systems: every command and script gets them from here.
SYSTEMS: dict[str, System] = {
    "vita_tcovis": System(VITA_TCOVIS, TCOVISCriterion, VITATracker, YouTubeVOSDataset, start),
    "stcn": stcn.SYSTEM,
    "xmem": xmem.SYSTEM,
    "siammask": siammask.SYSTEM,
    "sam_track": sam_track.SYSTEM,
}


def load_network(path: str | Path, system: str | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a checkpoint, ours or a published one, and its config; UserError where there is none."""
    return checkpoint.load_network(path, SYSTEMS, system)


def load_tracker(
    path: str | Path, *, device: str = "auto", winograd: bool = True, **options: Any
) -> ArrayTracker:
    """The tracker that a checkpoint describes, with its network on the device.

    winograd: as of `for_inference`
    options: of the tracker's `Config`, in place of those that it was trained with
    Raises UserError where there is no such checkpoint, device or option.
    """
    network, config = load_network(path)
    tracker = SYSTEMS[config["system"]].tracker
    chosen = tracker_options(tracker.Config, config["tracker"], options, str(path))
    return ArrayTracker(tracker(for_inference(network, pick_device(device), winograd=winograd), chosen))


# ------------------------------------------------------------------------------------------------ the command


def prepared(network: nn.Module, args: argparse.Namespace) -> nn.Module:
    """The network on the device of --device; Winograd's form is of float32, not of mixed precision."""
    device = pick_device(args.device)
    return for_inference(network, device, winograd=args.winograd and resolve_amp(args.amp, device) == "off")


def tracker_of_run(argv: Sequence[str]) -> tuple[Tracker, argparse.Namespace, list[str], Parser]:
    """Read the flags; returns the checkpoint's tracker, the flags, the names of categories, the parser.

    The tracker's flags default to what it was trained with. Foreign and abbreviated flags are refused.
    """
    known = parse_first(argv)
    if known.checkpoint is None:
        make_parser(known.system or DEFAULT).parse_args(argv)  # shows the help, or says what is missing
    network, config = load_network(known.checkpoint, known.system)
    parser, tracker = make_parser(config["system"]), SYSTEMS[config["system"]].tracker
    parser.set_defaults(**asdict(config_from_dict(tracker.Config, config["tracker"], str(known.checkpoint))))
    args = parser.parse_args(argv)
    run = config_from_args(RunConfig, args)  # with the ranges of its numbers
    built = tracker(prepared(network, args), config_from_args(tracker.Config, args))
    built = discovering(built, args) if args.discover and not run.marks else built
    return built, args, config.get("categories", []), parser


def finder_of(args: argparse.Namespace) -> VITATracker:
    """The VITA-TCOVIS of --discover, which finds objects."""
    network, config = load_network(args.discover)
    if (system := config["system"]) != "vita_tcovis":
        raise UserError(f"--discover {args.discover} is of the system {system}: give one of vita_tcovis")
    options = config_from_dict(VITATracker.Config, config["tracker"], args.discover)
    return VITATracker(network.to(pick_device(args.device)), options)


def discovering(tracker: Tracker, args: argparse.Namespace) -> DiscoveringTracker:
    """The tracker with one that finds all its objects."""
    if not is_propagator(tracker):
        able = " and ".join(name for name, system in SYSTEMS.items() if is_propagator(system.tracker))
        raise UserError(f"--discover finds objects for {able}: --checkpoint is of another system")
    if args.prompt_root:
        raise UserError("--discover takes the place of --prompt_root: give one of them")
    return DiscoveringTracker(tracker, finder_of(args), args.discover_every, args.max_discovered)


def cutter_of_run(args: argparse.Namespace, config: RunConfig) -> Cutter | None:
    """What cuts objects out of boxes and at clicks: SAM of --cut, or, of boxes, VITA-TCOVIS of --discover."""
    if args.cut and args.discover:
        raise UserError("--cut and --discover: give one of the two")
    if args.cut:
        network, options = load_network(args.cut)
        cutter = SYSTEMS[options["system"]].cutter(prepared(network, args))
        if cutter is None:
            raise UserError(f"--cut {args.cut} is no SAM with its prompt encoder: give one, as sam_vit_b")
        return cutter
    return DiscoveryCutter(finder_of(args)) if args.discover and config.marks else None


def run() -> dict[str, str]:
    """Do what the flags say; returns {video: reason} of those that cannot be tracked."""
    tracker, args, categories, parser = tracker_of_run(arguments())
    config = config_from_args(RunConfig, args)
    videos = find_videos(args.video_root, config.fps, config.part, config.raw_size)
    cutter = cutter_of_run(args, config)
    if config.annotate:
        from tools.annotate.server import annotate  # a web server, which no other run needs

        check_page(args)
        annotate(tracker, videos, args.output, config, settings_of(args, tracker), cutter)
        return {}
    return track_all(tracker, videos, args, categories, cutter, showing_tracks(args, parser))


def main() -> None:
    """Track every video of --video_root, shared among processes, or serve the page to paint prompts."""
    warnings.simplefilter("always", UserWarning)  # each video's, though they may say the same
    with joined("the same command goes on from there"):
        failed = run()
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
