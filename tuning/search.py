"""The flags of GlobalTracker that score best on annotated videos, by a grid over saved detections.

python -m tuning.search OUTPUT/detections --annotations dataset/valid --output O [--beta 0.1 0.3 ...]
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from common.errors import run_check, run_command
from configs.tuning import FILES, FLAGS, GRID, SHOWN, parse_search

if __name__ == "__main__":  # help and mistakes come before torch is loaded, which takes seconds
    run_check(parse_search)

from annotated.videos import AnnotatedVideo, VOSFolder
from common.config import checked
from common.errors import UserError
from common.files import atomic_write, lock_of, sole_writer
from common.parallel import process_map
from common.progress import check_shown, say
from common.types import BinaryTracks, Prompt
from inference import VITATracker
from scoring.tracker_scores import VideoScore, VideoScorer, summarise
from tools.compare import align, plain
from tracking.detections import FrameDetections, SavedVideo, saved_videos
from tracking.loop import record_video
from tracking.spool import ResultsSpool
from tuning.replay import ReplayTracker, saved_options

NUM_LISTED = 10  # combinations that the table shows

Numbers = dict[str, float | int | None]
Pair = tuple[SavedVideo, AnnotatedVideo]


@dataclass
class Trial:
    """A combination of flags, and its numbers as in metrics.json; the first one is the saved run's own."""

    flags: dict[str, Any]
    numbers: Numbers

    def rank(self, by: str) -> tuple[float, float]:
        """A sorting key: the larger number first, of equals the fewer id switches."""
        value = self.numbers[by]
        return (-value if value is not None else float("inf")), self.numbers["id_switches"]


def score_video(tracker: ReplayTracker, pair: Pair, place: int, spool: ResultsSpool) -> VideoScore:
    """Track one saved video, and score it by its annotated frames."""
    video, truth = pair
    scorer, annotated = VideoScorer(False, place), set(truth.annotated)
    places = {name: number for number, name in enumerate(truth.frames)}

    def record(name: str, frame: FrameDetections, tracks: BinaryTracks, prompt: Prompt | None) -> None:
        spool.add_tracks(name, tracks)
        if name in annotated:
            scorer.add(truth.read_labels(name), tracks.labels.cpu().numpy(), frame=places[name])

    spool.start_video(video.name)
    record_video(tracker, video.name, video.frames(), None, record)
    return scorer.result()


def score(pairs: Sequence[Pair], options: VITATracker.Config) -> Numbers:
    """The numbers of metrics.json of some options over all videos."""
    tracker = ReplayTracker(options)
    with ResultsSpool() as spool:
        scores = [score_video(tracker, pair, place, spool) for place, pair in enumerate(pairs, start=1)]
        return summarise(scores, spool.results())


def pairs_of(videos: Sequence[SavedVideo], root: Path) -> list[Pair]:
    """Each saved video with its annotations; UserError where one has none, or other frames."""
    annotated = {video.name: video for video in VOSFolder(root).videos}
    for video in videos:
        if video.name not in annotated:
            raise UserError(
                f"{root} has no video {video.name}, of which {video.path} is: give its annotations"
            )
        if annotated[video.name].frames != video.frame_names:
            remedy = "track the frames in JPEGImages"
            raise UserError(
                f"{video.path} has other frames than {annotated[video.name].frame_folder}: {remedy}"
            )
    return [(video, annotated[video.name]) for video in videos]


def search(pairs: Sequence[Pair], grid: dict[str, list[Any]], num_workers: int = 0) -> list[Trial]:
    """Score the saved run's own flags, then all combinations of the values in the grid.

    Raises UserError where a value is out of its range.
    """
    given = VITATracker.Config(**saved_options([video for video, _ in pairs]))
    own = {name: getattr(given, name) for name in grid}
    every = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    flags = [own, *(one for one in every if one != own)]
    options = [checked(replace(given, **one)) for one in flags]
    numbers = process_map(partial(score, pairs), options, num_workers=num_workers, title="tuning")
    return [Trial(*both) for both in zip(flags, numbers, strict=True)]


def table(trials: Sequence[Trial], by: str, own: Trial | None = None) -> list[str]:
    """The best combinations as lines, best first, and the saved run's own, where there is one."""
    listed = sorted(trials, key=lambda trial: trial.rank(by))[:NUM_LISTED]
    listed += [] if own is None or own in listed else [own]
    rows = [["flags", *SHOWN]]
    for trial in listed:
        name = " ".join(f"--{flag} {value}" for flag, value in trial.flags.items())
        name += "  (saved run)" if trial is own else ""
        rows.append([name, *(plain(trial.numbers[number]) for number in SHOWN)])
    return align(rows)


def write_csv(path: Path, trials: Sequence[Trial]) -> None:
    """Write a row for each combination: its flags, then all its numbers."""
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*trials[0].flags, *trials[0].numbers])
        writer.writeheader()
        writer.writerows(trial.flags | trial.numbers for trial in trials)


def plot(path: Path, trials: Sequence[Trial], best: Trial) -> None:
    """Draw HOTA and AP of each combination against its id switches; the best and the saved run are marked."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("HOTA", "AP"), strict=True):
        for marker, size, label, group in (
            ("o", 20, "grid", trials),
            ("s", 90, "saved run", trials[:1]),
            ("*", 120, "best", [best]),
        ):
            points = [(one.numbers["id_switches"], one.numbers[name]) for one in group]
            points = [point for point in points if point[1] is not None]  # AP needs pycocotools
            axes.scatter(*zip(*points, strict=True) if points else ((), ()), size, marker=marker, label=label)
        axes.set(xlabel="ID switches", ylabel=f"{name}, percent")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def preset_lines(best: Trial, by: str, saved: dict[str, Any]) -> Iterator[str]:
    """A preset of the best combination, with all other options of the saved run's tracker."""
    numbers = ", ".join(f"{name} {plain(best.numbers[name])}" for name in SHOWN)
    yield f"# The best {by} of a grid, on {best.numbers['videos']} videos: {numbers}."
    yield from (f"--{flag} {value}" for flag, value in (saved | best.flags).items())


def main() -> None:
    """Search, print the best combinations, and write all of them, a plot, and the best one as a preset."""
    args = parse_search()
    pairs = pairs_of(saved_videos(args.detections), args.annotations)
    grid = {name: values for name in FLAGS if (values := getattr(args, name))} or GRID
    trials = search(pairs, grid, args.num_workers)
    if all(trial.numbers[args.by] is None for trial in trials):
        raise UserError(f"--by {args.by} is undefined for these videos: give another number")
    best = min(trials, key=lambda trial: trial.rank(args.by))
    for line in table(trials, args.by, trials[0]):
        say(line)
    with sole_writer(lock_of(args.output)):
        args.output.mkdir(parents=True)
        write_csv(args.output / FILES[0], trials)
        plot(args.output / FILES[1], trials, best)
        with atomic_write(args.output / FILES[2]) as temporary:
            lines = preset_lines(best, args.by, saved_options([video for video, _ in pairs]))
            temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
    say(f"next: python inference.py --checkpoint C --video_root V --output O @{args.output / FILES[2]}")
    say(str(args.output))
    check_shown()


if __name__ == "__main__":
    run_command(main)
