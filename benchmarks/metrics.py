"""F against its plain definition, and the time of scoring as many videos as DAVIS 2017 has for validation.

python -m benchmarks.metrics
python -m benchmarks.metrics --masks DAVIS/Annotations/480p --results runs/1/Annotations

The first table compares F of one frame with two plain definitions on the full frame, in CPU time of one
thread; the program ends with exit status 1 unless all values are identical. The second table scores generated
videos by the `davis` protocol, in seconds of wall time. The fastest of three rounds counts in both.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import starmap
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw

from common.errors import UserError, run_command
from common.parallel import process_map
from scoring.jf import boundary_radius, pairwise_jf
from scoring.label_folders import VideoPair, mask_root, read_pair, read_pairs, true_masks, video_pairs
from scoring.protocols.table import PROTOCOLS
from video.images import write_label_map

Pair = tuple[np.ndarray, np.ndarray]  # truth and result, (H, W) bool

AREAS = (0.01, 0.03, 0.06, 0.12, 0.2)  # shares of the picture that the objects of DAVIS mostly lie between
GENERATED_PAIRS = 30
MAX_PAIRS = 100  # of a user's own masks, spread over all of them
ROUNDS = 3  # the fastest of which counts
POINTS = 240  # of an outline
ROUGHNESS = 8.0  # pixels by which the parts of an outline are off, and its object as a whole
OBJECTS = 2  # in each video


def plain_boundary(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of the full frame that differ from their right, lower or lower right neighbour."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])


def near_by_distance(boundary: np.ndarray, radius: int) -> np.ndarray:
    """(H, W) bool: pixels whose nearest boundary pixel, of which there is one, is within the radius."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(~boundary) <= radius


def near_by_dilation(boundary: np.ndarray, radius: int) -> np.ndarray:
    """(H, W) bool: the boundary dilated by a disk."""
    from scipy import ndimage

    offsets = np.arange(-radius, radius + 1)
    return ndimage.binary_dilation(boundary, offsets[:, None] ** 2 + offsets**2 <= radius**2)


def plain_measure(
    truth: np.ndarray, prediction: np.ndarray, near: Callable[[np.ndarray, int], np.ndarray]
) -> float:
    """F of two (H, W) bool masks, step by step on the full frame."""
    radius = boundary_radius(*truth.shape)
    truth, prediction = plain_boundary(truth), plain_boundary(prediction)
    if not truth.any() or not prediction.any():
        return float(truth.any() == prediction.any())
    precision = np.count_nonzero(prediction & near(truth, radius)) / np.count_nonzero(prediction)
    recall = np.count_nonzero(truth & near(prediction, radius)) / np.count_nonzero(truth)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def pairwise_measure(truth: np.ndarray, prediction: np.ndarray) -> float:
    """F of two (H, W) bool masks as the protocols measure it, together with J."""
    _, F = pairwise_jf(truth.view(np.uint8), prediction.view(np.uint8), [1], [1])
    return float(F[0, 0])


OURS = "pairwise_jf"
MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    OURS: pairwise_measure,
    "scipy distance transform": partial(plain_measure, near=near_by_distance),
    "scipy binary dilation": partial(plain_measure, near=near_by_dilation),
}


def blob(rng: np.random.Generator, area: float) -> np.ndarray:
    """(POINTS, 2) outline (x, y) of a wavy ellipse around the origin, of about `area` pixels."""
    turns = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    waves = sum(rng.normal(0, 0.3 / k) * np.cos(k * turns + rng.uniform(0, 2 * np.pi)) for k in range(2, 9))
    stretch = rng.uniform(0.7, 1.4)
    radii = np.sqrt(area / np.pi) * np.exp(waves)
    return np.stack([radii * np.cos(turns) * stretch, radii * np.sin(turns) / stretch], axis=1)


def worsen(rng: np.random.Generator, outline: np.ndarray) -> np.ndarray:
    """The (POINTS, 2) outline as a tracker may find it: off by a few pixels, and rough."""
    parts = rng.normal(0, ROUGHNESS, (POINTS // 6, 2))
    return outline + np.repeat(parts, 6, axis=0) + rng.normal(0, ROUGHNESS, 2)


def draw(outlines: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """(H, W) uint8 label map of the objects 1, 2 and so on; later ones cover earlier ones."""
    image = Image.new("L", (width, height))
    for number, outline in enumerate(outlines, start=1):
        ImageDraw.Draw(image).polygon(outline.ravel().tolist(), fill=number)
    return np.array(image)


def generated_pairs(height: int, width: int) -> list[Pair]:
    """Pairs of masks of one object each; some objects are cut off by the edge of the picture."""
    pairs = []
    for seed in range(GENERATED_PAIRS):
        rng = np.random.default_rng(seed)
        outline = blob(rng, AREAS[seed % len(AREAS)] * height * width) + rng.uniform(0, (width, height))
        truth, result = (draw([one], height, width) > 0 for one in (outline, worsen(rng, outline)))
        pairs.append((truth, result))
    return pairs


def own_pairs(masks: Path, results: Path) -> list[Pair]:
    """Pairs of all labels above 0 in two folders of <video>/<frame>.png."""
    videos = video_pairs(mask_root(results), mask_root(masks))
    paths = [(path, video.result / path.name) for video in videos for path in true_masks(video.truth)]
    chosen = paths[:: -(-len(paths) // MAX_PAIRS)]
    return [(truth > 0, result > 0) for truth, result in starmap(read_pair, chosen)]


def measure(pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """Values of F and milliseconds of CPU time, each (measures, pairs); the measures take turns."""
    values = np.zeros((len(MEASURES), len(pairs)))
    times = np.full((ROUNDS, *values.shape), np.inf)
    for turn in range(ROUNDS):
        for column, pair in enumerate(pairs):
            for row, function in enumerate(MEASURES.values()):
                start = time.process_time()
                values[row, column] = function(*pair)
                times[turn, row, column] = 1000 * (time.process_time() - start)
    return values, times.min(0)


def compare_measures(pairs: list[Pair]) -> None:
    """Print the table of F; ends the program with status 1 where it differs from a plain definition."""
    values, times = measure(pairs)
    sizes = sorted({truth.shape for truth, _ in pairs})
    size = ", ".join(f"{width}x{height}" for height, width in sizes)
    print(f"F of {len(pairs)} pairs of masks, {size}, mean {values[0].mean():.3f}")
    print(f"{'':26}{'ms a frame':>12}{'ratio':>8}{'largest difference':>20}")
    differences = np.abs(values - values[0]).max(1)
    for name, ms, difference in zip(MEASURES, times.mean(1), differences, strict=True):
        print(f"{name:26}{ms:12.2f}{ms / times[0].mean():8.1f}{difference:20}")
    if differences.any():
        sys.exit(f"{OURS} differs from the plain definition of F")


def write_video(name: str, truth: Path, results: Path, frames: int, height: int, width: int) -> None:
    """Write the label maps of moving objects, and those of a tracker that finds them roughly."""
    rng = np.random.default_rng(int(name))
    outlines = [blob(rng, area * height * width) for area in rng.choice(AREAS, OBJECTS)]
    starts = rng.uniform(0, (width, height), (OBJECTS, 2))
    travels = rng.normal(0, 0.1 * width, (OBJECTS, 2))
    for frame in range(frames):
        places = starts + travels * np.sin(2 * np.pi * frame / frames)
        moved = [outline + place for outline, place in zip(outlines, places, strict=True)]
        tracked = [worsen(rng, outline) for outline in moved]
        for root, drawn in ((truth, moved), (results, tracked)):
            write_label_map(root / name / f"{frame:05}.png", draw(drawn, height, width))


def read_video(pair: VideoPair) -> int:
    """Read the label maps of the frames that DAVIS scores; returns their number."""
    return sum(1 for _ in read_pairs(true_masks(pair.truth)[1:-1], pair.result))


def seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def time_protocol(videos: int, frames: int, height: int, width: int, workers: int) -> None:
    """Print the table of a generated data set: the time of scoring it, and of merely reading it."""
    with TemporaryDirectory() as folder:
        truth, results = Path(folder) / "truth", Path(folder) / "results"
        write = partial(write_video, truth=truth, results=results, frames=frames, height=height, width=width)
        process_map(write, [str(number) for number in range(videos)], num_workers=workers, title="generating")
        pairs = video_pairs(results, truth)
        score = partial(PROTOCOLS["davis"].score, results, truth, num_workers=workers)
        read = partial(process_map, read_video, pairs, num_workers=workers, title="reading")
        seconds = np.min([[seconds_of(score), seconds_of(read)] for _ in range(ROUNDS)], axis=0)
        load = os.getloadavg()[0]
    size = f"{videos} videos of {frames} frames, {width}x{height}, {OBJECTS} objects"
    print(f"davis on {size}: {workers} workers, load average {load:.1f}")
    print(f"{'':26}{'seconds':>12}{'frames/s':>12}")
    for name, fastest in zip(("scoring", "reading alone"), seconds, strict=True):
        print(f"{name:26}{fastest:12.1f}{videos * (frames - 2) / fastest:12.0f}")
    print(f"{'share of reading':26}{seconds[1] / seconds[0]:12.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--masks",
        type=Path,
        help="a folder of true label maps for the first table; by default generated ones",
    )
    parser.add_argument("--results", type=Path, help="the results for --masks")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(480, 854), help="height and width of generated masks"
    )
    parser.add_argument("--videos", type=int, default=30, help="of the second table")
    parser.add_argument("--frames", type=int, default=70, help="of each of these videos")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    if (args.masks is None) != (args.results is None):
        raise UserError("--masks and --results belong together: give both, or neither")
    compare_measures(own_pairs(args.masks, args.results) if args.masks else generated_pairs(*args.size))
    print()
    time_protocol(args.videos, args.frames, *args.size, args.num_workers)


if __name__ == "__main__":
    run_command(main)
