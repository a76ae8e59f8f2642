"""Scores: a tracker run over annotated videos, or a folder of results by a named protocol.

python evaluate.py --results R --annotations A --protocol P [--json FILE] [--csv FILE] [--explain FILE]
"""

import argparse
import csv
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from annotated.videos import AnnotatedVideo, VideoSet
from common.config import MAX_WORKERS, Parser, boolean, within
from common.errors import UserError, run_command
from common.files import atomic_write, lock_of, sole_writer, write_json
from common.parallel import prefetch
from common.progress import check_shown, progress, say
from common.types import BinaryTracks, Prompt, Tracker
from scoring.protocols.table import PROTOCOLS
from scoring.report import Report
from scoring.tracker_scores import VideoScore, VideoScorer, summarise
from tools.compare import align, compare, comparison_lines, numbers_of, plain
from tools.evidence.label_maps import ScoredResults, rules_of
from tools.evidence.report import write_report
from tools.submission import write_submission
from tracking.loop import record_video
from tracking.spool import ResultsSpool
from video.masks import prompt_from_labels, void_in
from video.pictures import overlay, strip

REPORT_HEADS = (b'{\n  "protocol": ', b"video,object,", b"<!doctype html>")  # of what a report's file holds


class Example(NamedTuple):
    """A frame to look at, uint8 RGB (3, H, W), its true label map and the tracker's, both (H, W)."""

    frame: Tensor
    truth: np.ndarray
    tracked: np.ndarray


def to_show(image: np.ndarray, least: int = 128, most: int = 320) -> np.ndarray:
    """An (H, W, ...) picture by whole numbers larger or smaller, so that its short side is within bounds."""
    short_side = min(image.shape[:2])
    step, times = max(1, -(-short_side // most)), max(1, -(-least // short_side))
    return image[::step, ::step].repeat(times, 0).repeat(times, 1)


class Gallery:
    """Pictures of some frames of the first videos: the truth above, what the tracker says below."""

    def __init__(self, num_videos: int = 4, num_frames: int = 6):
        self.num_videos, self.num_frames = num_videos, num_frames
        self.pictures: list[np.ndarray] = []
        self.captions: list[str] = []

    def frames_of(self, place: int, video: AnnotatedVideo) -> set[str]:
        """The names of the frames that are shown of a video, the `place`-th."""
        if place >= self.num_videos:
            return set()
        chosen = np.linspace(0, len(video.annotated) - 1, self.num_frames).round().astype(int)
        return {video.annotated[index] for index in chosen}

    def show(self, video: AnnotatedVideo, examples: dict[str, Example]) -> None:
        """Add the frames of a video by name: a row of the truth, a row of what the tracker says."""
        for title in ("truth", "tracked"):
            for place, (name, example) in enumerate(examples.items()):
                labels = getattr(example, title)
                labels = to_show(np.where(void_in(labels), 0, labels))
                self.pictures.append(overlay(to_show(example.frame.permute(1, 2, 0).numpy()), labels))
                self.captions.append(name if place else f"{video.name} {title}")
            for _ in range(self.num_frames - len(examples) if examples else 0):  # a short video fills its row
                self.pictures.append(np.full((1, 1, 3), 255, dtype=np.uint8))
                self.captions.append("")

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB contact sheet."""
        return strip(self.pictures, self.captions, self.num_frames)


class Truth:
    """The frames and label maps of one video as they are read; a prompted system sees each object's first."""

    def __init__(self, video: AnnotatedVideo, prompted: bool):
        self.video, self.prompted = video, prompted
        self.labels: dict[str, np.ndarray] = {}  # of the annotated frames that were read and not yet scored
        self.prompted_ids: set[int] = set()

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """(name, uint8 RGB (3, H, W)) of every frame, annotated or not."""
        annotated = set(self.video.annotated)
        for name in self.video.frames:
            frame = torch.from_numpy(self.video.read_frame(name)).permute(2, 0, 1)
            if name in annotated:
                self.labels[name] = self.video.read_labels(name)
            yield name, frame

    def prompt_of(self, name: str, frame: Tensor) -> Prompt | None:
        """The objects that appear for the first time; None where there are none, or the system asks for none.

        Until there is one, an annotated frame says so by an empty prompt: a video may be without objects.
        """
        if name not in self.labels or not self.prompted:
            return None
        prompt = prompt_from_labels(self.labels[name])
        new = [i for i in prompt.ids if i not in self.prompted_ids]
        prompt.labels[~torch.isin(prompt.labels, torch.tensor(new, dtype=torch.int64))] = 0
        self.prompted_ids |= set(new)
        return prompt if new or not self.prompted_ids else None


def evaluate_video(
    tracker: Tracker, video: AnnotatedVideo, scorer: VideoScorer, spool: ResultsSpool, chosen: set[str]
) -> tuple[VideoScore, dict[str, Example]]:
    """Run the tracker over a video as in inference; returns its score, and the chosen frames as examples."""
    truth = Truth(video, tracker.needs_prompt)
    places = {name: place for place, name in enumerate(video.frames)}
    examples: dict[str, Example] = {}

    def record(name: str, frame: Tensor, tracks: BinaryTracks, prompt: Prompt | None) -> None:
        spool.add_tracks(name, tracks)
        true_labels = truth.labels.pop(name, None)
        if true_labels is None:
            return
        labels = tracks.labels.cpu().numpy()
        prompted_ids = set(prompt.ids) if prompt else set()
        scorer.add(true_labels, labels, prompted_ids, frame=places[name])
        if name in chosen:
            examples[name] = Example(frame, true_labels, labels)

    spool.start_video(video.name)
    record_video(tracker, video.name, prefetch(truth.frames()), truth.prompt_of, record)
    return scorer.result(), examples


def evaluate_tracker(
    tracker: Tracker,
    folder: VideoSet,
    *,
    num_videos: int = 0,
    use_classes: bool = False,
    gallery: Gallery | None = None,
) -> dict[str, float | int | None]:
    """Run a tracker over annotated videos and score it: the flat numbers of metrics.json, in percent.

    num_videos: how many of the videos, evenly chosen; 0: all
    use_classes: whether AP tells the categories of meta.json apart
    gallery: takes pictures of the first videos
    """
    videos = sorted(folder.videos, key=lambda video: video.name)  # so results.json numbers them
    if 0 < num_videos < len(videos):
        videos = [videos[round(place)] for place in np.linspace(0, len(videos) - 1, num_videos)]
    gallery = gallery or Gallery(num_videos=0)
    scores = []
    with ResultsSpool() as spool:
        for place, video in enumerate(progress(videos, "evaluation")):
            categories = {i: c + 1 for i, c in folder.classes_of(video).items()} if use_classes else None
            scorer = VideoScorer(tracker.needs_prompt, place + 1, categories)
            chosen = gallery.frames_of(place, video)
            score, examples = evaluate_video(tracker, video, scorer, spool, chosen)
            scores.append(score)
            gallery.show(video, examples)
        return summarise(scores, spool.results())


def add_protocol_flags(parser: Parser, protocol: str) -> None:
    """The keyword options of a protocol as flags; its docstring, shown above them, says what they mean."""
    score = PROTOCOLS[protocol].score
    group = parser.add_argument_group(protocol, inspect.getdoc(score))
    for item in inspect.signature(score).parameters.values():
        if item.kind is item.KEYWORD_ONLY and item.name != "num_workers":
            kind = boolean if isinstance(item.default, bool) else type(item.default or "")
            group.add_argument(
                f"--{item.name}",
                type=kind,
                default=item.default,
                help=" " if item.default is None else "(default: %(default)s)",
            )


def make_parser(protocol: str) -> Parser:
    parser = Parser(prog="evaluate.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results", type=Path, required=True, help="folder of inference.py, or of label maps"
    )
    parser.add_argument("--annotations", type=Path, required=True, help="folder with the true label maps")
    parser.add_argument(
        "--protocol",
        default=protocol,
        choices=list(PROTOCOLS),
        help="whose definitions hold; tcovis unless given",
    )
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--csv", type=Path, help="write a row for each object, each video and all here")
    parser.add_argument("--explain", type=Path, help="write an HTML page here: id switches, worst objects")
    parser.add_argument("--against", type=Path, help="other results, to be compared with --results")
    parser.add_argument(
        "--submission",
        type=Path,
        help="pack the results for a server, as a folder or .zip; then they are scored only where "
        "--json, --csv, --explain or --against asks for it",
    )
    parser.add_argument("--video_root", type=Path, help="frames for --explain; by default JPEGImages")
    parser.add_argument(
        "--num_workers",
        type=within(0, MAX_WORKERS),
        default=min(os.cpu_count() or 1, MAX_WORKERS),
        help="processes",
    )
    add_protocol_flags(parser, protocol)
    return parser


def print_table(report: Report) -> None:
    """A row for every video and one for all; numbers only."""
    rows = {**report["videos"], "overall": report["overall"]}
    names = numbers_of([report["overall"], *report["videos"].values()])
    cells = [[plain(row.get(name)) for name in names] for row in rows.values()]
    for line in align([["", *names], *([row, *line] for row, line in zip(rows, cells, strict=True))]):
        say(line)


def write_csv(path: Path, report: Report) -> None:
    """A row for every object, every video and all; a cell is empty where a number is undefined or absent."""
    rows = []
    for video, entry in report["videos"].items():
        rows.append(({"video": video}, entry))
        objects = entry.get("objects")
        for name, one in objects.items() if isinstance(objects, dict) else ():
            rows.append(({"video": video, "object": name}, one))
    rows.append(({"video": "overall"}, report["overall"]))
    names = numbers_of(numbers for _, numbers in rows)
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["video", "object", *names], extrasaction="ignore")
        writer.writeheader()
        for place, numbers in rows:
            writer.writerow({**numbers, **place})


def is_report(path: Path) -> bool:
    """Whether a file begins as those that --json, --csv and --explain write."""
    with open(path, "rb") as file:
        return file.read(len(max(REPORT_HEADS, key=len))).startswith(REPORT_HEADS)


def check_paths(args: argparse.Namespace) -> None:
    """Raise UserError, before hours of scoring, where what is asked for cannot be read or written.

    Nothing is written over results or annotations: below them only an earlier report is replaced.
    """
    if args.explain and not PROTOCOLS[args.protocol].label_maps:
        raise UserError(
            "--explain needs label maps: make them by python -m tools.convert, and choose another --protocol"
        )
    outputs = [path.resolve() for path in (args.json, args.csv, args.explain) if path]
    inputs = [path.resolve() for path in (args.results, args.annotations, args.against) if path]
    for path in outputs:
        is_odd = path.exists() and not path.is_file()
        if is_odd or any(parent.is_file() for parent in path.parents) or outputs.count(path) > 1:
            raise UserError(
                f"{path} cannot be written: give each of --json, --csv, --explain a file of its own"
            )
        if path.exists() and any(map(path.is_relative_to, inputs)) and not is_report(path):
            raise UserError(f"{path} is one of the files to score, and no report: give another file")
    for path in (args.against, args.video_root):
        if path and not path.exists():
            raise UserError(f"there is no {path}: give results with --against, frames with --video_root")


@contextmanager
def sole_writer_of_all(args: argparse.Namespace) -> Iterator[None]:
    """Inside, no other process writes what is asked for; UserError where one does."""
    locks = {lock_of(path) for path in (args.json, args.csv, args.explain, args.submission) if path}
    with ExitStack() as held:
        for lock in sorted(locks):
            held.enter_context(sole_writer(lock))
        yield


def score(args: argparse.Namespace, options: dict[str, Any]) -> None:
    """Score the results, print them and write what was asked for, which a lost line does not keep from it."""
    protocol = PROTOCOLS[args.protocol]
    report = protocol.score(args.results, args.annotations, **options)
    print_table(report)
    for name in ("rule", "definition"):
        if name in report:
            say(f"{name}: {report[name]}")
    against = protocol.score(args.against, args.annotations, **options) if args.against else None
    for line in dict.fromkeys([*report["warnings"], *(against["warnings"] if against else [])]):
        say(f"warning: {line}", error=True)
    if against:
        say("\n".join(["", *comparison_lines(compare(report, against))]))
    if args.csv:
        write_csv(args.csv, report)
    if args.json:
        write_json(args.json, report | ({"against": against} if against else {}))
    if args.explain:
        scored = ScoredResults(report, args.results, args.annotations, rules_of(protocol, options))
        write_report(
            args.explain,
            scored,
            against=scored._replace(report=against, results=args.against) if against else None,
            video_root=args.video_root,
            num_workers=args.num_workers,
        )
    check_shown()


def main() -> None:
    """Score a folder of results, or pack it for a server."""
    first = Parser(add_help=False)
    first.add_argument("--protocol", default="tcovis", choices=list(PROTOCOLS))
    protocol = first.parse_known_args(sys.argv[1:])[0].protocol
    args = make_parser(protocol).parse_args()
    names = inspect.signature(PROTOCOLS[protocol].score).parameters.keys() - {"results", "annotations"}
    options = {name: value for name, value in vars(args).items() if name in names}
    check_paths(args)
    with sole_writer_of_all(args):
        if args.submission:
            image_set = {"image_set": args.image_set} if "image_set" in options else {}
            say(write_submission(args.submission, args.results, args.annotations, protocol, **image_set))
        if not args.submission or args.json or args.csv or args.explain or args.against:
            score(args, options)


if __name__ == "__main__":
    run_command(main)
