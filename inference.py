"""GlobalTracker, the tracker of VITA-TCOVIS, and the command that tracks objects through videos.

python inference.py --checkpoint C --video_root V [--prompt_root P] --output O
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from common import checkpoint
from common.config import Parser, add_config_flags, checked, config_from_args, config_from_dict, option
from common.device import AMP, pick_device
from common.errors import UserError, available, run_command
from common.files import write_json
from common.types import IGNORE, Prompt, Tracker, Tracks
from dataset import YouTubeVOSDataset
from modules import VITA_TCOVIS, start
from systems.sam_track import system as sam_track
from systems.siammask import system as siammask
from systems.stcn import system as stcn
from systems.xmem import system as xmem
from tracking.discovery import DiscoveringTracker, is_propagator
from tracking.output import check_output, remove_video, videos_of
from tracking.process import process_video
from tracking.prompts import check_videos, prompts_of_run
from tracking.spool import ResultsSpool
from training.system import System
from utils import TCOVISCriterion
from video.allocate import empty
from video.masks import (
    labels_from_masks,
    mask_intersections,
    mask_ious,
    masks_from_labels,
    pad_to_stride,
    suppress,
)
from video.reader import DEFAULT_FPS, find_videos
from video.transforms import LONGEST, fit_short_side, normalise, resize_frames


def bi_softmax(cosine: Tensor, temperature: float) -> Tensor:
    """(K, R) cosines to the mean of the softmax over rows and over columns (QDTrack, Pang et al. 2021)."""
    logits = cosine / temperature
    return (logits.softmax(0) + logits.softmax(1)) / 2


def assign(similarity: Tensor, allowed: Tensor) -> list[tuple[int, int]]:
    """Pairs (detection, track) of the largest sum of (K, R) positive similarities among the allowed ones.

    Every detection has a dummy column of its own that costs nothing: where all its pairs are forbidden, it
    takes that.
    """
    K, R = similarity.shape
    cost = np.zeros((K, R + K))
    cost[:, :R] = torch.where(allowed, -similarity, 1.0).numpy()
    rows, columns = linear_sum_assignment(cost)
    taken = cost[rows, columns] < 0
    return list(zip(rows[taken].tolist(), columns[taken].tolist(), strict=True))


def mask_confidence(logits: Tensor) -> Tensor:
    """(N, h, w) mask logits to (N,): the mean probability inside each mask, 0 where it is empty.

    Times the probability of an object it ranks detections (Cheng et al. 2021, MaskFormer).
    """
    inside = logits > 0
    return (logits.sigmoid() * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


@dataclass
class Record:
    """What is known of an active track beside its embedding: the bank's parallel record."""

    last_seen: int  # frame
    hits: int  # frames in which it was seen
    score: float  # of the last detection
    class_probs: Tensor  # (C,) sum over the frames in which it was seen
    mask: Tensor | None  # (h, w) bool, the last one


class GlobalTracker:
    """Keeps identities: every detection of a frame continues a track, revives a dormant one, or is born.

    `bank` is {track id: embedding (E,) of unit length on the CPU} of the active tracks. A track unseen for
    `max_age` frames is dormant: it leaves the bank for a store of bounded size, from which a stricter cosine
    brings it back. Ids are never reused. Everything is causal: an assignment is final.
    """

    @dataclass(kw_only=True)
    class Config:
        beta: float = option(0.2, "momentum of the memory bank: mu = (1 - beta) mu + beta e", least=0, most=1)
        match_threshold: float = option(0.5, "least cosine, plus weighted mask IoU, that continues a track")
        revive_threshold: float = option(0.6, "least cosine that brings a dormant track back")
        birth_score: float = option(0.5, "least score that starts a track; above 1 only prompts start any")
        update_score: float = option(0.5, "least detection score that updates the memory bank")
        max_overlap: float = option(
            0.5, "share of a detection under another above which the bank is not updated"
        )
        iou_weight: float = option(0.5, "weight of the mask IoU with the track's last mask")
        iou_age: int = option(3, "frames since a track was seen up to which its last mask counts", least=0)
        max_age: int = option(30, "frames unseen after which a track is dormant", least=0)
        max_dormant: int = option(256, "dormant tracks that are kept; the oldest leave first", least=0)
        similarity: str = option("bi_softmax", "what pairs are chosen by", ("bi_softmax", "cosine"))
        similarity_temperature: float = option(0.1, "temperature of the bi-softmax of cosines", least=0.001)

    def __init__(self, config: Config | None = None):
        self.config = config or self.Config()
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; ids start at 1 again."""
        self.bank: dict[int, Tensor] = {}
        self.records: dict[int, Record] = {}
        self.dormant: dict[int, Tensor] = {}  # in the order in which they fell asleep
        self.frame = 0
        self.next_id = 1

    def update(
        self,
        embeddings: Tensor,
        scores: Tensor,
        masks: Tensor | None = None,
        class_probs: Tensor | None = None,
        names: Tensor | None = None,
    ) -> Tensor:
        """Take the detections of the next frame and say who each is: (K,) int64 ids, 0 for nobody yet.

        embeddings (K, E) of any length; scores (K,); masks (K, h, w) bool or None; class_probs (K, C) or
        None; names (K,) int64: ids that a person gave to some detections, 0 where there is none.
        """
        K = len(embeddings)
        embeddings = F.normalize(embeddings.float(), dim=-1).cpu()
        scores = scores.float().cpu()
        names = torch.zeros(K, dtype=torch.int64) if names is None else names.cpu()
        ids = names.clone()
        self.next_id = max([self.next_id, *(ids + 1).tolist()])  # no birth takes an id that a person gave
        self._retire()
        self._continue(ids, embeddings, masks)
        for index in ((ids == 0) & (scores >= self.config.birth_score)).nonzero()[:, 0].tolist():
            self.next_id += self.next_id == IGNORE  # in a label map it would be ignored
            ids[index] = self.next_id
            self.next_id += 1
        self._remember(ids, names, embeddings, scores, masks, class_probs)
        self.frame += 1
        return ids

    def _continue(self, ids: Tensor, embeddings: Tensor, masks: Tensor | None) -> None:
        """Write into `ids` which detections without one continue tracks, active or dormant, that nobody has.

        One assignment for all, so that a track that is missing for a moment takes no dormant track's object.
        """
        known, named = self.bank | self.dormant, set(ids.tolist())
        tracks = [track for track in known if track not in named]
        detections = (ids == 0).nonzero()[:, 0]
        if not tracks or not len(detections):
            return
        cosine = embeddings[detections] @ torch.stack([known[track] for track in tracks]).T
        # Who stayed in place may look somewhat different.
        bonus = self.config.iou_weight * self._recent_ious(masks, detections, tracks)
        least = {True: self.config.match_threshold, False: self.config.revive_threshold}
        thresholds = torch.tensor([least[track in self.bank] for track in tracks])
        similarity = (1 + cosine) / 2
        if self.config.similarity == "bi_softmax":
            similarity = bi_softmax(cosine, self.config.similarity_temperature)
        for row, column in assign(similarity + bonus, cosine + bonus >= thresholds):
            ids[detections[row]] = tracks[column]

    def _recent_ious(self, masks: Tensor | None, detections: Tensor, tracks: list[int]) -> Tensor:
        """(K, R) IoU of the detections with the last masks of tracks seen a moment ago; 0 for others."""
        ious = torch.zeros(len(detections), len(tracks))
        oldest = self.frame - self.config.iou_age
        records = [self.records.get(track) for track in tracks]
        recent = [i for i, r in enumerate(records) if r and r.last_seen >= oldest and r.mask is not None]
        if recent and masks is not None:
            last = torch.stack([records[column].mask for column in recent])
            ious[:, recent] = mask_ious(masks[detections.to(masks.device)], last).cpu()
        return ious

    def _retire(self) -> None:
        """Move tracks that are unseen for too long to the store of dormant ones, and bound it."""
        for track in [t for t, r in self.records.items() if self.frame - r.last_seen > self.config.max_age]:
            self.dormant[track] = self.bank.pop(track)
            del self.records[track]
        for track in list(self.dormant)[: max(0, len(self.dormant) - self.config.max_dormant)]:
            del self.dormant[track]

    def _remember(
        self,
        ids: Tensor,
        names: Tensor,
        embeddings: Tensor,
        scores: Tensor,
        masks: Tensor | None,
        class_probs: Tensor | None,
    ) -> None:
        """Update bank and records; a weak detection, or one behind another, leaves the embedding alone."""
        clear = scores >= self.config.update_score
        class_probs = torch.ones(len(ids), 1) if class_probs is None else class_probs.float().cpu()
        if masks is not None:
            common = (
                mask_intersections(masks, masks).fill_diagonal_(0) if len(masks) else masks.new_zeros(0, 1)
            )
            share = common.amax(1) / masks.flatten(1).sum(1).clamp(min=1)
            clear &= (share <= self.config.max_overlap).cpu()
        formers = [self.bank.get(track, self.dormant.pop(track, None)) for track in ids.tolist()]
        known = [index for index, mu in enumerate(formers) if mu is not None]
        old = embeddings.clone()
        for index in known:
            old[index] = formers[index]
        kept = torch.zeros(len(ids), dtype=torch.bool)
        kept[known] = names[known] == 0  # a person's word replaces what was remembered
        mixed = F.normalize((1 - self.config.beta) * old + self.config.beta * embeddings, dim=-1)
        mixed = torch.where(kept[:, None], torch.where(clear[:, None], mixed, old), embeddings)
        values = zip(ids.tolist(), mixed, scores.tolist(), class_probs, strict=True)
        for index, (track, embedding, score, probs) in enumerate(values):
            if not track:
                continue
            self.bank[track] = embedding.clone()  # not a view, which would hold all detections of the frame
            record = self.records.get(track)
            self.records[track] = Record(
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
        self.bank, self.dormant = dict(state["bank"]), dict(state["dormant"])
        self.records = {track: Record(**record) for track, record in state["records"].items()}
        self.frame, self.next_id = state["frame"], state["next_id"]


class VITATracker:
    """VITA-TCOVIS on one video: detections of the frame, non-maximum suppression, GlobalTracker.

    A label map in a prompt names the tracks: its ids go to the tokens whose masks overlap it most.
    An id that was given out already moves to the object that the prompt shows.
    """

    needs_prompt = False

    @dataclass(kw_only=True)
    class Config(GlobalTracker.Config):
        image_size: int = option(
            384, "short side of the frames in evaluation and inference, pixels", least=16
        )
        score_threshold: float = option(0.3, "least score of a detection")
        nms_iou: float = option(0.6, "mask IoU with a better detection above which one is dropped")
        nms_inside: float = option(0.8, "share inside a better detection above which one is dropped")
        mask_threshold: float = option(0.5, "probability above which a pixel belongs to an object")

    def __init__(self, network: nn.Module, config: Config):
        self.network, self.config = network, config
        self.mask_threshold = config.mask_threshold
        self.global_tracker = GlobalTracker(config)

    def reset(self) -> None:
        self.global_tracker.reset()

    @torch.inference_mode()
    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        """Frame uint8 RGB (3, H, W) of any size, on any device; the tracks are where the network is."""
        H, W = frame.shape[-2:]
        device = next(self.network.parameters()).device
        size = fit_short_side(H, W, self.config.image_size, LONGEST * self.config.image_size)
        small = normalise(resize_frames(frame.to(device), size))
        padded = pad_to_stride(small, self.network.stride)
        outputs = self.network(padded[None, None])
        probs = outputs["class_logits"][0, 0].float().softmax(-1)  # (N, C + 1)
        logits = outputs["mask_logits"][0, 0].float()  # (N, h, w)
        stride = padded.shape[-1] // logits.shape[-1]
        seen = logits[:, : -(-size[0] // stride), : -(-size[1] // stride)]
        inside = seen > 0
        scores = (1 - probs[:, -1]) * mask_confidence(seen)
        names = self._names(prompt, inside)
        candidates = ((scores > self.config.score_threshold) | (names > 0)).nonzero()[:, 0]
        named, config = names[candidates] > 0, self.config
        best = suppress(inside[candidates], scores[candidates], named, config.nms_iou, config.nms_inside)
        kept = candidates[best]
        ids = self.global_tracker.update(
            outputs["embeddings"][0, 0][kept], scores[kept], inside[kept], probs[kept, :-1], names[kept]
        ).to(device)
        known = ids > 0
        masks = self._full_size(logits[kept[known]], padded.shape[-2:], size, (H, W))
        return self._tracks(ids[known], masks, scores[kept[known]])

    def _names(self, prompt: Prompt | None, inside: Tensor) -> Tensor:
        """(N,) the prompt's id of each token, 0 for none: Hungarian on the IoU with the (N, h, w) masks."""
        names = torch.zeros(len(inside), dtype=torch.int64, device=inside.device)
        if prompt is not None and prompt.boxes:
            raise UserError("VITA-TCOVIS takes label maps as prompts, no boxes")
        if prompt is None or prompt.labels is None:
            return names
        ids = torch.tensor(prompt.ids)
        wanted = masks_from_labels(prompt.labels.to(inside.device), ids.to(inside.device)).float()
        wanted = F.adaptive_avg_pool2d(
            wanted, inside.shape[-2:]
        )  # shares of a cell, so that none is too small
        common = torch.einsum("khw,nhw->kn", wanted, inside.float())
        union = wanted.sum((1, 2))[:, None] + inside.sum((1, 2)) - common
        iou = (common / union.clamp(min=1e-6)).cpu()
        pairs = assign(iou, iou > 0)
        for row, token in pairs:
            names[token] = ids[row]
        lost = sorted(set(ids.tolist()) - {int(ids[row]) for row, _ in pairs})
        if lost:
            warnings.warn(f"no token lies on the prompted objects {lost}: they are not tracked", stacklevel=2)
        return names

    def _full_size(
        self, logits: Tensor, padded: tuple[int, int], size: tuple[int, int], full: tuple[int, int]
    ) -> Tensor:
        """(K, h, w) mask logits to (K, H, W) probabilities: undo stride, padding and resizing."""
        probs = empty(len(logits), *full, device=logits.device)
        together = 1 if logits.device.type == "cpu" else max(1, len(logits))  # a CPU's caches are small
        for part, large in zip(logits.split(together), probs.split(together), strict=True):
            part = part[:, None]  # K is the batch: there may be none
            part = F.interpolate(part, padded, mode="bilinear")[..., : size[0], : size[1]]
            if size != full:
                part = F.interpolate(part, full, mode="bilinear")
            torch.sigmoid(part[:, 0], out=large)
        return probs

    def _tracks(self, ids: Tensor, masks: Tensor, scores: Tensor) -> Tracks:
        """Each pixel goes to the largest score times probability among the tracks above the threshold."""
        records = self.global_tracker.records
        classes = [int(records[track].class_probs.argmax()) for track in ids.tolist()]
        return Tracks(
            ids=ids,
            labels=labels_from_masks(masks, ids, self.mask_threshold, scores),
            masks=masks,
            scores=scores,
            classes=torch.tensor(classes, dtype=torch.int64, device=ids.device),
        )

    def state_dict(self) -> dict[str, Any]:
        return self.global_tracker.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.global_tracker.load_state_dict(state)


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
    """The network of a checkpoint, ours or a published one, and its config: see `checkpoint.load_network`.

    Raises UserError where it cannot be had, or is not of the `system` that is asked for.
    """
    return checkpoint.load_network(path, SYSTEMS, system)


def load_tracker(path: str | Path, *, device: str = "auto", **options: Any) -> Tracker:
    """The tracker that a checkpoint describes, with its network on the device.

    options: of the tracker's `Config`, in place of those that it was trained with
    Raises UserError where the checkpoint or the device cannot be had.
    """
    network, config = load_network(path)
    tracker = SYSTEMS[config["system"]].tracker
    chosen = config_from_dict(tracker.Config, {**config["tracker"], **options}, str(path))
    return tracker(network.to(pick_device(device)), checked(chosen))


# ------------------------------------------------------------------------------------------------ the command


@dataclass
class RunConfig:
    """The flags of the command that are not a tracker's."""

    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
    amp: str = option("off", "mixed precision of the network", tuple(AMP))
    prompt_frames: str = option(
        "first", "take each id's first map in --prompt_root, or all", ("first", "all")
    )
    box: str | None = option(
        None, "x,y,width,height of an object on the first frame, in place of a label map"
    )
    boxes: str | None = option(None, "JSON file with such boxes, {video: {id: [x, y, width, height]}}")
    max_discovered: int = option(
        20, "most objects followed with --discover; of more, the one lost for longest is let go", least=1
    )
    overlays: bool = option(True, "write overlays/<video>.mp4")
    fps: float = option(DEFAULT_FPS, "frames per second of the overlays of image folders", least=0.1)
    reverse: bool = option(False, "follow objects backwards too, from the prompts that start them")
    discover: str | None = option(None, "a checkpoint of VITA-TCOVIS that finds objects, in place of prompts")
    discover_every: int = option(10, "frames from one look for newcomers to the next; 0: first only", least=0)
    overwrite: bool = option(False, "replace the results that --output holds already")


def add_paths(parser: Parser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .pth file that main.py wrote")
    parser.add_argument("--video_root", type=Path, required=True, help="folder of videos, or one video")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--prompt_root", type=Path, help="label maps <video>/<frame>.png that name objects")
    parser.add_argument("--system", choices=sorted(SYSTEMS), help="refuse a checkpoint of another system")


def tracker_of_run(argv: Sequence[str]) -> tuple[Tracker, argparse.Namespace, list[str]]:
    """Read the flags; returns the tracker that the checkpoint describes, the flags, the names of categories.

    The defaults of the tracker's flags are those it was trained with. Foreign and abbreviated flags are
    refused.
    """
    parser = Parser(prog="inference.py", description=__doc__.splitlines()[0])
    add_paths(parser)
    add_config_flags(parser, RunConfig, "run")
    first = Parser(add_help=False)
    first.add_argument("--checkpoint", type=Path)
    first.add_argument("--system", choices=sorted(SYSTEMS))
    known = first.parse_known_args(argv)[0]
    if known.checkpoint is None:
        shown = known.system or "vita_tcovis"
        add_config_flags(parser, SYSTEMS[shown].tracker.Config, shown)
        parser.parse_args(argv)  # shows the help, or says what is missing
    network, config = load_network(known.checkpoint, known.system)
    tracker = SYSTEMS[config["system"]].tracker
    add_config_flags(parser, tracker.Config, config["system"])
    parser.set_defaults(**asdict(config_from_dict(tracker.Config, config["tracker"], str(known.checkpoint))))
    args = parser.parse_args(argv)
    config_from_args(RunConfig, args)  # the ranges of its numbers
    built = tracker(network.to(pick_device(args.device)), config_from_args(tracker.Config, args))
    return discovering(built, args) if args.discover else built, args, config.get("categories", [])


def discovering(tracker: Tracker, args: argparse.Namespace) -> DiscoveringTracker:
    """The tracker with the VITA-TCOVIS of --discover, which finds its objects."""
    if not is_propagator(tracker):
        able = [name for name, system in SYSTEMS.items() if is_propagator(system.tracker)]
        raise UserError(
            f"--discover finds objects for {' and '.join(able)}: --checkpoint is of another system"
        )
    if args.prompt_root or args.box or args.boxes:
        raise UserError("--discover takes the place of --prompt_root and of boxes: give one of them")
    network, config = load_network(args.discover)
    if config["system"] != "vita_tcovis":
        raise UserError(
            f"--discover {args.discover} is of the system {config['system']}: give one of vita_tcovis"
        )
    options = config_from_dict(VITATracker.Config, config["tracker"], args.discover)
    finder = VITATracker(network.to(pick_device(args.device)), options)
    return DiscoveringTracker(tracker, finder, args.discover_every, args.max_discovered)


def main() -> None:
    """Track every video of --video_root; on a mistake nothing is left half-written."""
    warnings.simplefilter("always", UserWarning)  # each video's, though they may say the same
    tracker, args, categories = tracker_of_run(sys.argv[1:])
    videos = find_videos(args.video_root, args.fps)
    prompts = prompts_of_run(args, videos, needed=tracker.needs_prompt)
    check_output(args.output, overwrite=args.overwrite)
    if args.overlays and not available("av"):
        print("overlays are skipped: writing video files needs av: pip install av", file=sys.stderr)
        args.overlays = False
    check_videos(videos, prompts, needed=tracker.needs_prompt)
    former = set(videos_of(args.output))
    with ResultsSpool(args.output) as spool:
        for video in videos:
            process_video(tracker, video, prompts, spool, args)
        spool.write_tracks(args.output / "tracks.json")
        if available("pycocotools.mask"):
            spool.write_results(args.output / "results.json")
        else:
            print("results.json is skipped: it needs pycocotools: pip install pycocotools", file=sys.stderr)
    for name in former - {video.name for video in videos}:
        remove_video(args.output, name)
    if categories:
        write_json(args.output / "categories.json", dict(enumerate(categories, start=1)))
    print(args.output)


if __name__ == "__main__":
    run_command(main)
