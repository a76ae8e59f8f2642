"""Objects cut out of their videos by label maps, and a table of where they are in each frame.

python -m tools.cutout RESULTS --output O [--only 3,5] [--contours]
    [--video_root V [--start T --end T --every N --fps X] [--cutout rgba|green|alpha|vp9 [--crops]]]

RESULTS is an output of inference.py, or a folder <video>/<frame>.png.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from common.config import Parser, add_config_flags, config_from_args
from common.errors import UserError, require, run_command
from common.files import atomic_folder, below
from common.progress import progress, say
from scoring.label_folders import mask_root
from video.images import list_files, list_folders, read_label_map
from video.label_maps import objects_in, span
from video.reader import Video, find_videos
from video.streams.parts import Part, PartFlags

GREEN = (0, 177, 64)  # of a green screen
# Of each video with alpha: the ending, the encoder, its pixel format, its options.
ALPHA = {
    "alpha": (".mov", "prores_ks", "yuva444p10le", {"profile": "4444"}),
    "vp9": (".webm", "libvpx-vp9", "yuva420p", {"crf": "18", "b": "0", "row-mt": "1", "cpu-used": "4"}),
}
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


def measure(mask: np.ndarray) -> list[float]:
    """[area, centre_x, centre_y, left, top, width, height] of an (H, W) bool mask that is not empty.

    In pixels; a centre is the mean of its pixels, that of the top left pixel of a frame being (0, 0).
    """
    rows, columns = window_of(mask)
    y, x = (side.mean() for side in np.nonzero(mask))
    box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
    return [int(mask.sum()), round(float(x), 2), round(float(y), 2), *box]


def corners_of(contour: np.ndarray) -> list[list[int]]:
    """The corners [x, y] of a contour (N, 1, 2) of a mask of twice the size, in pixels of the mask.

    The pixels 2x and 2x + 1 become the left and the right edge, x and x + 1, of pixel x; likewise y. Steps
    across a corner lead to one point twice, and points between two corners are on a straight line: both go.
    """
    points = (contour[:, 0] + 1) // 2
    points = points[(points != np.roll(points, 1, 0)).any(1)]
    turns = (points - np.roll(points, 1, 0)) * np.roll(np.roll(points, -1, 0) - points, 1, 1)
    return points[turns[:, 0] != turns[:, 1]].tolist()


def polygons_of(mask: np.ndarray) -> list[dict[str, Any]]:
    """The parts of an (H, W) bool mask: [{"outline": [[x, y], ...], "holes": [[[x, y], ...], ...]}].

    The corners are those of pixels, (0, 0) the top left one of the frame, so that the area inside is the
    number of pixels. Pixels that touch at a corner alone are of one part.
    """
    cv2 = require("cv2", "--contours")
    rows, columns = window_of(mask)
    twice = mask[rows, columns].astype(np.uint8).repeat(2, 0).repeat(2, 1)
    offset = (2 * columns.start, 2 * rows.start)
    contours, tree = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=offset)
    parts = {k: {"outline": corners_of(contours[k]), "holes": []} for k in np.flatnonzero(tree[0, :, 3] < 0)}
    for contour, (*_, parent) in zip(contours, tree[0], strict=True):
        if parent >= 0:
            parts[parent]["holes"].append(corners_of(contour))
    return list(parts.values())


def cut_out(frame: np.ndarray, mask: np.ndarray, form: str) -> np.ndarray:
    """What a mask (H, W) shows of a frame (H, W, 3) uint8: with alpha (H, W, 4), or on green (H, W, 3)."""
    if form == "green":
        return np.where(mask[..., None], frame, np.array(GREEN, dtype=np.uint8))
    return np.dstack([frame * mask[..., None], np.where(mask, 255, 0).astype(np.uint8)])


def save(picture: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=1)


@contextmanager
def alpha_video(path: Path, video: Video, form: str) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that adds a picture (H, W, 4) to a video with alpha, of a form in `ALPHA`."""
    av = require("av", f"--cutout {form}")
    _, encoder, pixels, options = ALPHA[form]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        rate = Fraction(video.fps).limit_denominator(1001)
        stream = container.add_stream(encoder, rate=rate, options=options)
        stream.pix_fmt, (stream.height, stream.width) = pixels, video.size

        def add(picture: np.ndarray) -> None:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgba")
            container.mux(stream.encode(frame.reformat(format=pixels)))

        yield add
        container.mux(stream.encode(None))


@contextmanager
def frame_writer(output: Path, video: Video, form: str) -> Iterator[Callable[[np.ndarray, str], None]]:
    """Yield a function of a cut-out and its file name that writes those of a video, in order."""
    if form in ALPHA:
        with alpha_video(below(output / "cutouts", video.name, ALPHA[form][0]), video, form) as add:
            yield lambda picture, _: add(picture)
    else:
        yield lambda picture, name: save(picture, below(output / "cutouts", video.name) / name)


class Frame(NamedTuple):
    """A frame of a video whose objects are asked for.

    pixels: (H, W, 3) uint8, None where there is no video to cut; labels: its map (H, W)
    masks: {id: (H, W) bool}
    """

    name: str
    pixels: np.ndarray | None
    labels: np.ndarray
    masks: dict[int, np.ndarray]


def read_frame(path: Path, pixels: np.ndarray | None, only: set[int] | None) -> Frame:
    """The frame of a label map; UserError where its picture has another size."""
    labels = read_label_map(path)
    if pixels is not None and labels.shape != pixels.shape[:2]:
        (h, w), (H, W) = labels.shape, pixels.shape[:2]
        raise UserError(f"{path} is {w}x{h} but its frame is {W}x{H}: give the video that was tracked")
    ids = [i for i in objects_in(labels) if only is None or i in only]
    return Frame(path.stem, pixels, labels, {i: labels == i for i in ids})


def frames_of(folder: Path, video: Video | None, only: set[int] | None) -> Iterator[Frame]:
    """The frames that have a label map in a folder, in order, of a video those that are read of it.

    Raises UserError where the video has none of them.
    """
    paths = {path.stem: path for path in list_files(folder, {".png"})}
    if video is None:
        yield from (read_frame(path, None, only) for path in paths.values())
        return
    count = 0
    for name, frame in video.frames():
        if name in paths:
            count += 1
            yield read_frame(paths[name], frame.permute(1, 2, 0).numpy(), only)
    if not count:
        raise UserError(f"{folder} has no map of a frame of {video.path}: give the video that was tracked")


def write_crops(frame: Frame, path: Path, form: str) -> None:
    """Write each object of a frame alone, cut to its box, into a folder <id> beside `path`."""
    for track, mask in frame.masks.items():
        window = window_of(mask)
        save(cut_out(frame.pixels[window], mask[window], form), path.parent / str(track) / path.name)


def cutting(frames: Iterable[Frame], video: Video, output: Path, args: argparse.Namespace) -> Iterator[Frame]:
    """The same frames, whose cut-outs, and the crops of whose objects, are written."""
    with frame_writer(output, video, args.cutout) as write:
        for frame in frames:
            shown = np.isin(frame.labels, list(frame.masks))
            write(cut_out(frame.pixels, shown, args.cutout), f"{frame.name}.png")
            if args.crops:
                path = below(output / "crops", video.name) / f"{frame.name}.png"
                write_crops(frame, path, args.cutout)
            yield frame


@contextmanager
def tables(output: Path, *, contours: bool) -> Iterator[Callable[[str, Frame], None]]:
    """Yield a function of a video's name and a frame that adds its objects to measurements.csv.

    contours: whether to contours.json, too
    """
    with ExitStack() as files:
        table = files.enter_context(open(output / "measurements.csv", "w", encoding="utf-8", newline=""))
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(COLUMNS)
        entries = files.enter_context(open(output / "contours.json", "w")) if contours else None
        separators = chain("[", repeat(","))

        def add(video: str, frame: Frame) -> None:
            for track, mask in frame.masks.items():
                rows.writerow([video, frame.name, track, *measure(mask)])
                if entries:
                    entry = {"video": video, "frame": frame.name, "id": track, "parts": polygons_of(mask)}
                    entries.write(f"{next(separators)}\n{json.dumps(entry)}")

        yield add
        if entries:
            entries.write("\n]\n" if next(separators) == "," else "[]\n")


def check(args: argparse.Namespace) -> tuple[Path, list[str], dict[str, Video]]:
    """The folder of label maps, the names of its videos, and these where they are given; UserError."""
    flags = config_from_args(PartFlags, args)
    part = Part.of_flags(flags.start, flags.end, flags.every, flags.fps)
    if bool(args.cutout or part) != bool(args.video_root) or (args.crops and not args.cutout):
        cutting = "--cutout and --crops cut frames, --start, --end and --every choose them"
        raise UserError(f"{cutting}: give --video_root and --cutout, or a part, together")
    root = mask_root(args.results)
    names = list_folders(root)
    if not names:
        raise UserError(f"{args.results} holds no folder of label maps: give an output of inference.py")
    found = find_videos(args.video_root, flags.fps, part) if args.video_root else []
    videos = {video.name: video for video in found}
    if args.video_root and (absent := [name for name in names if name not in videos]):
        raise UserError(f"--video_root {args.video_root} has no video {absent[0]}, which {root} has")
    return root, names, videos


def make(args: argparse.Namespace) -> str:
    """Do what the flags say; returns a summary. UserError where results or videos are absent or differ."""
    root, names, videos = check(args)
    count = 0
    with atomic_folder(args.output) as output, tables(output, contours=args.contours) as add:
        for name in progress(names, "videos"):
            video = videos.get(name)
            frames = frames_of(root / name, video, args.only)
            if args.cutout:
                frames = cutting(frames, video, output, args)
            for frame in frames:
                add(name, frame)
                count += 1
    done = f", {count} frames cut out" if args.cutout else ""
    return f"{args.output}: measurements of {len(names)} videos{done}"


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
        choices=("rgba", "green", *ALPHA),
        help="cut objects out: PNG with alpha, PNG on green, or a video with alpha (ProRes: alpha, or VP9)",
    )
    parser.add_argument("--crops", action="store_true", help="write a crop of each object to its box, too")
    parser.add_argument("--contours", action="store_true", help="write the objects as polygons, too")
    add_config_flags(parser, PartFlags, "part of the videos, as in inference.py")
    say(make(parser.parse_args()))


if __name__ == "__main__":
    run_command(main)
