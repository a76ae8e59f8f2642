"""Pictures of a data set: a sheet of what was found, and histograms."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from annotated.videos import AnnotatedVideo
from common.errors import UserError
from common.files import atomic_write
from tools.doctor.examine import Examined
from tools.doctor.findings import KINDS, Finding, by_kind
from video.pictures import draw_overlay, strip

CELL, COLUMNS, NUM_CELLS = 300, 4, 32  # pixels of a picture's longer side; pictures of a sheet
NUM_OF_KIND = 4  # pictures of one kind of finding

Videos = dict[tuple[str, str], AnnotatedVideo]  # by split and name
Cell = tuple[str, AnnotatedVideo, str]  # caption, video, frame


def _picture(video: AnnotatedVideo, frame: str) -> np.ndarray | None:
    """A frame with its mask in the size of the sheet; None where one of them is bad."""
    try:
        labels, pixels = video.read_labels(frame).astype(np.int32), video.read_frame(frame)
    except (UserError, OSError):
        return None
    H, W = labels.shape
    scale = CELL / max(H, W)
    size = max(1, round(W * scale)), max(1, round(H * scale))
    rows, columns = (np.arange(n) * whole // n for n, whole in zip(size[::-1], (H, W), strict=True))
    pixels = np.array(Image.fromarray(pixels).resize(size))
    return draw_overlay(pixels, labels[rows[:, None], columns])


def _cells_of_findings(findings: Sequence[Finding], videos: Videos) -> Iterator[Cell]:
    for kind, group in by_kind(findings).items():
        cells = ((one, frame) for one in group for frame in one.frames)
        for (finding, frame), _ in zip(cells, range(NUM_OF_KIND), strict=False):
            yield KINDS[kind].title, videos[finding.split, finding.video], frame


def _cells(findings: Sequence[Finding], videos: Videos) -> Iterator[Cell]:
    """What the findings are about, then videos in even steps through the data set."""
    yield from _cells_of_findings(findings, videos)
    good = [key for key, video in videos.items() if video.annotated]
    for split, name in good[:: max(1, len(good) // NUM_CELLS)]:
        video = videos[split, name]
        yield split, video, video.annotated[len(video.annotated) // 2]


def write_sheet(path: Path, findings: Sequence[Finding], videos: Videos) -> None:
    """Write a PNG of frames with their masks; none where no video has both."""
    pictures, captions = [], []
    for title, video, frame in _cells(findings, videos):
        if len(pictures) == NUM_CELLS:
            break
        picture = _picture(video, frame)
        if picture is not None:
            pictures.append(picture)
            captions.append(f"{title[:44]}\n{f'{video.name} {frame}'[-40:]}")
    if pictures:
        with atomic_write(path) as temporary:
            sheet = strip(pictures, captions, COLUMNS)
            Image.fromarray(sheet).save(temporary, format="PNG")


def _bins(low: float, high: float, *, is_log: bool) -> np.ndarray:
    """The edges of about 30 bins: in even ratios, or with one or several whole numbers in each."""
    if is_log:
        return np.geomspace(max(low, 1e-6) / 1.1, max(high, 1e-5) * 1.1, 31)
    step = -(-(high - low + 1) // 30)
    return np.arange(low, high + step + 1, step) - 0.5


def write_histograms(path: Path, examined: dict[str, list[Examined]]) -> None:
    """Write a PNG of how long videos are, how many objects they have, and how large these are.

    examined: the videos of each split
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 3.5), layout="constrained")
    lengths, objects, areas = figure.subplots(1, 3)
    for plot, title, values, is_log in (
        (lengths, "annotated frames of a video", lambda one: [one.num_masks], False),
        (objects, "objects of a video", lambda one: [len(one.shares)], False),
        (areas, "part of the frame that an object covers", lambda one: one.shares, True),
    ):
        groups = {name: [v for one in videos for v in values(one)] for name, videos in examined.items()}
        everything = [value for group in groups.values() for value in group]
        bins = _bins(min(everything, default=0), max(everything, default=1), is_log=is_log)
        plot.set_xscale("log") if is_log else plot.xaxis.set_major_locator(
            MaxNLocator(integer=True, min_n_ticks=1)
        )
        plot.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for name, group in groups.items():
            plot.hist(group, bins, label=f"{name} ({len(group)})", alpha=0.6)
        plot.set(title=title, ylabel="objects" if is_log else "videos")
        plot.legend(fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
