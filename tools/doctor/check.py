"""`main.py --check_data`: a look at every mask of data sets, a table of what is wrong, pictures of it."""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotated.json_videos import JsonVideos
from annotated.layouts import has_scores, open_split
from annotated.videos import VideoSet, read_objects
from common.config import MAX_WORKERS
from common.errors import UserError
from common.files import atomic_write
from common.parallel import process_map
from common.progress import check_shown, say
from tools.doctor.duplicates import find_repeated
from tools.doctor.examine import Examined, Objects, examine
from tools.doctor.findings import ERROR, KINDS, SEVERITIES, Finding, by_kind, table
from tools.doctor.pictures import write_histograms, write_sheet
from training.run_folder import new_run_folder

NUM_NAMED = 3  # sizes or modes that are named


@dataclass
class Part:
    """One split of one data set.

    split: its name in the table; objects: what its meta.json says, {video: {id: ...}}, empty without one
    """

    split: str
    is_valid: bool
    videos: VideoSet
    objects: dict[str, Objects]

    @property
    def has_meta(self) -> bool:
        return bool(self.objects)


def open_parts(roots: Sequence[Path]) -> Iterator[Part]:
    """The splits of data sets in any layout; UserError where one holds nothing to train on."""
    for root in roots:
        for split in ("train", "valid"):
            if videos := open_split(root, split, skip_bad=True):
                objects = {} if isinstance(videos, JsonVideos) else read_objects(videos.root / "meta.json")
                name = f"{root} {split}" if len(roots) > 1 else split
                yield Part(name, split == "valid", videos, objects)


def judge_part(part: Part, examined: Sequence[Examined]) -> Iterator[Finding]:
    """What is wrong with a split as a whole."""
    root, videos = part.videos.root, part.videos.videos
    for trouble in part.videos.left_out:
        yield Finding("bad_video", part.split, trouble, root, trouble)
    smoothed = any(one.kind == "smoothed_edges" for video in examined for one in video.findings)
    if not part.is_valid and not smoothed and not any(video.shares for video in examined):
        yield Finding("no_objects", part.split, "", root, f"{len(videos)} videos")
    if part.is_valid and videos and not has_scores(part.videos):
        yield Finding("unscored_valid", part.split, "", root, f"{len(videos)} videos", len(videos))
    left_out = part.videos.left_out
    absent = sorted(part.objects.keys() - {video.name for video in videos})
    if absent and not left_out:
        detail = f"there is no video {absent[0]}"
        yield Finding("meta_extra", part.split, "", root / "meta.json", detail, len(absent))


def judge_repeated(parts: Sequence[Part], examined: Sequence[Sequence[Examined]]) -> Iterator[Finding]:
    """Videos that show the same as another one, of the same split or of training."""
    rows = [
        (part, video, one.thumbnails)
        for part, results in zip(parts, examined, strict=True)
        for video, one in zip(part.videos.videos, results, strict=True)
        if one.thumbnails is not None
    ]
    rows.sort(
        key=lambda row: row[0].is_valid
    )  # training first, so that a repetition of it is one of validation
    pictures = np.stack([pictures for _, _, pictures in rows]) if rows else np.zeros((0, 3, 16, 16))
    for later, earlier in find_repeated(pictures):
        (part, video, _), (other, first, _) = rows[later], rows[earlier]
        kind = "leaked_video" if part.is_valid and not other.is_valid else "repeated_video"
        path, detail = video.frame_path(video.frames[0]), f"as {first.frame_path(first.frames[0])}"
        yield Finding(kind, part.split, video.name, path, detail, 1, tuple(video.annotated[:1]))


def _most(values: Iterable[str]) -> str:
    """The most frequent values with their counts, and how many others there are."""
    counts = Counter(values).most_common()
    names = ", ".join(f"{value} ({count})" for value, count in counts[:NUM_NAMED])
    return names + (f" and {len(counts) - NUM_NAMED} others" if len(counts) > NUM_NAMED else "")


def describe(part: Part, examined: Sequence[Examined]) -> str:
    """Counts, sizes and modes of a split in a line; sizes and modes are of the first frames of videos."""
    frames, masks = (sum(getattr(one, name) for one in examined) for name in ("num_frames", "num_masks"))
    objects = sum(len(one.shares) for one in examined)
    line = f"{part.split}: {len(examined)} videos, {frames} frames, {masks} masks, {objects} objects"
    sizes = _most(f"{one.size[1]}x{one.size[0]}" for one in examined if one.size)
    modes = [_most(one.modes[place] for one in examined if one.modes[place]) for place in (0, 1)]
    return f"{line}; sizes {sizes}; frames {modes[0]}; masks {modes[1]}" if sizes else line


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write a CSV with a row for each finding, the gravest first."""
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["severity", "finding", "split", "video", "path", "count", "detail", "remedy"])
        for kind, group in by_kind(findings).items():
            about = KINDS[kind]
            for one in group:
                row = [about.severity, kind, one.split, one.video, one.path, one.count, one.detail]
                writer.writerow([*row, about.remedy])


def examine_parts(parts: Sequence[Part], num_workers: int) -> list[list[Examined]]:
    """What is in each video of each split, by several processes."""
    columns = [
        (part.split, part.objects.get(video.name), part.has_meta, video)
        for part in parts
        for video in part.videos.videos
    ]
    if not columns:
        return [[] for _ in parts]
    arguments = zip(*columns, strict=True)
    results = iter(process_map(examine, *arguments, num_workers=num_workers, title="checking"))
    return [[next(results) for _ in part.videos.videos] for part in parts]


def check_data(roots: Sequence[str], run_dir: str, *, synthetic: str | None = None) -> int:
    """Check data sets; returns the exit status, 1 where training would stop or learn what is wrong.

    A fresh folder in `run_dir` gets findings.csv, findings.png and histograms.png. Raises UserError where a
    data set cannot be opened, before anything is written.
    """
    if synthetic:
        raise UserError(f"--check_data looks at --dataset_root: leave --synthetic {synthetic} out")
    parts = list(open_parts([Path(root) for root in roots]))
    examined = examine_parts(parts, min(os.cpu_count() or 1, MAX_WORKERS))
    findings = [one for results in examined for video in results for one in video.findings]
    for part, results in zip(parts, examined, strict=True):
        findings += judge_part(part, results)
        say(describe(part, results))
    findings += judge_repeated(parts, examined)
    for line in table(findings):
        say(line)
    folder = new_run_folder(run_dir)
    videos = {(part.split, video.name): video for part in parts for video in part.videos.videos}
    write_findings(folder / "findings.csv", findings)
    write_sheet(folder / "findings.png", findings, videos)
    by_split = {part.split: results for part, results in zip(parts, examined, strict=True)}
    write_histograms(folder / "histograms.png", by_split)
    counts = Counter(one.severity for one in findings)
    verdict = "training would suffer" if counts[ERROR] else "nothing that training would suffer from"
    say(
        ", ".join(f"{counts[name]} {name}{'s' * (counts[name] != 1)}" for name in SEVERITIES) + f": {verdict}"
    )
    say(str(folder))
    check_shown()
    return 1 if counts[ERROR] else 0
