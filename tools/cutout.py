"""Objects cut out of their videos by label maps, and a table of where they are in each frame.

python -m tools.cutout RESULTS --output O [--only 3,5] [--video_root V --cutout rgba|green|alpha [--crops]]

RESULTS is an output of inference.py, or a folder <video>/<frame>.png.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image

from common.config import Parser
from common.errors import UserError, require, run_command
from common.files import atomic_folder, below
from common.progress import progress, say
from scoring.label_folders import mask_root
from video.images import list_files, list_folders, read_label_map
from video.label_maps import objects_in, span
from video.reader import Video, find_videos

GREEN = (0, 177, 64)  # of a green screen
COLUMNS = "video frame id area centre_x centre_y left top width height".split()

EXAMPLES = """examples:
  python -m tools.cutout out --output objects                    measurements.csv alone
  python -m tools.cutout out --output objects --video_root videos --cutout rgba --only 3,5
"""


def ids_of(text: str) -> set[int]:
    """The ids of a flag such as 3,5."""
    ids = {int(word) for word in text.split(",") if word.strip().isdecimal()}
    if len(ids) != len(text.split(",")) or 0 in ids:
        raise argparse.ArgumentTypeError(f"{text!r}: give ids above 0, as 3,5")
    return ids


def window_of(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of an (H, W) bool mask."""
    return span(mask.any(1)), span(mask.any(0))


def measure(labels: np.ndarray, only: set[int] | None = None) -> Iterator[tuple[int, list[float]]]:
    """Of each object in an (H, W) label map its id, and [area, centre_x, centre_y, left, top, width, height].

    In pixels; a centre is the mean of its pixels, that of the top left pixel of a frame being (0, 0).
    """
    for track in objects_in(labels):
        if only is None or track in only:
            mask = labels == track
            rows, columns = window_of(mask)
            y, x = (side.mean() for side in np.nonzero(mask))
            box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
            yield track, [int(mask.sum()), round(float(x), 2), round(float(y), 2), *box]


def cut_out(frame: np.ndarray, mask: np.ndarray, form: str) -> np.ndarray:
    """What a mask (H, W) shows of a frame (H, W, 3) uint8: with alpha (H, W, 4), or on green (H, W, 3)."""
    if form == "green":
        return np.where(mask[..., None], frame, np.array(GREEN, dtype=np.uint8))
    return np.dstack([frame * mask[..., None], np.where(mask, 255, 0).astype(np.uint8)])


def save(picture: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=1)


@contextmanager
def alpha_video(path: Path, fps: float, size: tuple[int, int]) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that adds a picture (H, W, 4) to a video with alpha, ProRes 4444 in a .mov file."""
    av = require("av", "--cutout alpha")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("prores_ks", rate=rate, options={"profile": "4444"})
        stream.pix_fmt, (stream.height, stream.width) = "yuva444p10le", size

        def add(picture: np.ndarray) -> None:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgba")
            container.mux(stream.encode(frame.reformat(format="yuva444p10le")))

        yield add
        container.mux(stream.encode(None))


@contextmanager
def frame_writer(output: Path, video: Video, form: str) -> Iterator[Callable[[np.ndarray, str], None]]:
    """Yield a function of a cut-out and its file name that writes those of a video, in order."""
    if form == "alpha":
        with alpha_video(below(output / "cutouts", video.name, ".mov"), video.fps, video.size) as add:
            yield lambda picture, _: add(picture)
    else:
        yield lambda picture, name: save(picture, below(output / "cutouts", video.name) / name)


def measure_video(folder: Path, only: set[int] | None, file: TextIO) -> None:
    """Add the rows of a video's label maps to a table."""
    writer = csv.writer(file, lineterminator="\n")
    for path in list_files(folder, {".png"}):
        for track, numbers in measure(read_label_map(path), only):
            writer.writerow([folder.name, path.stem, track, *numbers])


def write_crops(pixels: np.ndarray, labels: np.ndarray, ids: list[int], path: Path, form: str) -> None:
    """Write each object of a frame alone, cut to its box, into a folder <id> beside `path`."""
    for track in ids:
        mask = labels == track
        window = window_of(mask)
        save(cut_out(pixels[window], mask[window], form), path.parent / str(track) / path.name)


def cut_video(video: Video, folder: Path, output: Path, args: argparse.Namespace) -> int:
    """Write the cut-outs of a video, and the crops of its objects; returns the number of frames."""
    paths = {path.stem: path for path in list_files(folder, {".png"})}
    count = 0
    with frame_writer(output, video, args.cutout) as write:
        for name, frame in video.frames():
            if name not in paths:
                continue
            labels, pixels = read_label_map(paths[name]), frame.permute(1, 2, 0).numpy()
            if labels.shape != pixels.shape[:2]:
                (h, w), (H, W) = labels.shape, pixels.shape[:2]
                remedy = "give the video that was tracked"
                raise UserError(f"{paths[name]} is {w}x{h} but its frame is {W}x{H}: {remedy}")
            ids = [i for i in objects_in(labels) if args.only is None or i in args.only]
            write(cut_out(pixels, np.isin(labels, ids), args.cutout), f"{name}.png")
            if args.crops:
                write_crops(
                    pixels, labels, ids, below(output / "crops", video.name) / f"{name}.png", args.cutout
                )
            count += 1
        if not count:
            raise UserError(
                f"{folder} has no map of a frame of {video.path}: give the video that was tracked"
            )
    return count


def make(args: argparse.Namespace) -> str:
    """Do what the flags say; returns a summary. UserError where results or videos are absent or differ."""
    if bool(args.cutout) != bool(args.video_root) or (args.crops and not args.cutout):
        raise UserError("--cutout and --crops cut frames: give --cutout and --video_root together")
    root = mask_root(args.results)
    names = list_folders(root)
    if not names:
        raise UserError(f"{args.results} holds no folder of label maps: give an output of inference.py")
    videos = {video.name: video for video in find_videos(args.video_root)} if args.video_root else {}
    if args.video_root and (absent := [name for name in names if name not in videos]):
        raise UserError(f"--video_root {args.video_root} has no video {absent[0]}, which {root} has")
    frames = 0
    with atomic_folder(args.output) as output:
        with open(output / "measurements.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(COLUMNS)
            for name in progress(names, "videos"):
                measure_video(root / name, args.only, file)
                if args.cutout:
                    frames += cut_video(videos[name], root / name, output, args)
    return f"{args.output}: measurements of {len(names)} videos" + f", {frames} frames cut out" * (frames > 0)


def main() -> None:
    parser = Parser(
        prog="python -m tools.cutout",
        usage="%(prog)s RESULTS --output O [flags]",
        description="Measures the objects of label maps in each frame, and cuts them out of their videos.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "results", type=Path, help="output of inference.py, or folder of label maps <video>/<frame>.png"
    )
    parser.add_argument("--output", type=Path, required=True, help="new folder to write")
    parser.add_argument(
        "--only", type=ids_of, metavar="IDS", help="ids of the objects to cut out, as 3,5 (default: all)"
    )
    parser.add_argument(
        "--video_root", type=Path, help="the videos that were tracked, for --cutout and --crops"
    )
    parser.add_argument(
        "--cutout",
        choices=("rgba", "green", "alpha"),
        help="cut objects out into PNG with alpha, PNG on green, or a video of alpha",
    )
    parser.add_argument("--crops", action="store_true", help="write a crop of each object to its box, too")
    say(make(parser.parse_args()))


if __name__ == "__main__":
    run_command(main)
