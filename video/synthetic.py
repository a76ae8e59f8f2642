"""A seeded generator that writes videos of moving shapes in the YouTube-VOS layout.

    python -m video.synthetic --out D --profile easy|hard|twins --seed N --train_videos N --valid_videos N

Lengths are pixels at a picture size of 64 and scale with the picture; times are frames.
"""

import colorsys
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from common.config import Parser
from common.errors import UserError, run_command
from common.files import atomic_folder, naming
from common.progress import progress
from video.pictures import PALETTE

SPLITS = ("train", "valid")  # the index of a split enters the seeds of its videos
MOST_OCCLUDERS = 6  # with which a video is still quickly found
UNIT = 64.0  # the picture size at which lengths are stated


@dataclass(frozen=True)
class Profile:
    """What the videos of a profile hold; pairs are inclusive ranges."""

    objects: tuple[int, int]
    radius: tuple[float, float]
    speed: tuple[float, float]  # pixels a frame
    vivid: bool  # saturated colours with hues well apart, on grey; otherwise any colours
    twin: float = 0.0  # probability that an object after the first copies the look of an earlier one
    pairs: bool = False  # every object has a twin, which crosses its path; `objects` counts the pairs
    leave: float = 0.0  # probability that an object's path leads out of the picture and back
    spin: float = 0.0  # greatest turn, radians a frame
    pulse: float = 0.0  # greatest relative change of the radius
    clutter: tuple[int, int] = (0, 0)  # still shapes of the ground, of other kinds than the objects
    occluders: tuple[int, int] = (0, 0)  # still bars before everything
    all_at_start: bool = True  # every object is seen in the first frame, otherwise at least one
    noise: float = 0.03  # standard deviation, of a full scale of 1


# Copying 0.112 of the objects after the first makes 15 % of all objects one of identical twins.
PROFILES = {
    "easy": Profile(objects=(1, 3), radius=(7, 13), speed=(0.3, 1.6), vivid=True),
    "hard": Profile(
        objects=(2, 4),
        radius=(6, 12),
        speed=(1.0, 3.2),
        vivid=False,
        twin=0.112,
        leave=0.35,
        spin=0.15,
        pulse=0.2,
        clutter=(2, 5),
        occluders=(0, 1),
        all_at_start=False,
    ),
    "twins": Profile(
        objects=(1, 2),
        radius=(6, 10),
        speed=(1.0, 2.5),
        vivid=False,
        pairs=True,
        spin=0.15,
        clutter=(1, 3),
        occluders=(1, 1),
        all_at_start=False,
    ),
}


@dataclass(frozen=True)
class Look:
    """What an object is: identical twins share it."""

    shape: str
    colour: np.ndarray  # (3,) RGB in [0, 1]
    radius: float
    pulse: float
    period: float  # frames of one pulse
    phase: float


def polygon(u: np.ndarray, v: np.ndarray, sides: int, inradius: np.ndarray) -> np.ndarray:
    turns = (2 * np.pi * np.arange(sides) / sides + np.pi / 2).astype(np.float32)
    return inradius - np.max([u * np.cos(turn) + v * np.sin(turn) for turn in turns], axis=0)


def ring(u: np.ndarray, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    return 0.25 * r - np.abs(np.hypot(u, v) - r)


def bar(u: np.ndarray, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    return np.minimum(0.25 * r - np.abs(u), 2 * r - np.abs(v))


# Signed distances to the outlines, positive inside, of shapes with radius r at the origin.
OBJECTS: dict[str, Callable[..., np.ndarray]] = {
    "circle": lambda u, v, r: r - np.hypot(u, v),
    "square": lambda u, v, r: polygon(u, v, 4, 0.9 * r),
    "triangle": lambda u, v, r: polygon(u, v, 3, 0.7 * r),
}
CLUTTER: dict[str, Callable[..., np.ndarray]] = {
    "bar": bar,
    "ring": ring,
    "cross": lambda u, v, r: np.maximum(bar(u, v, r / 2), bar(v, u, r / 2)),
}
DISTANCES = OBJECTS | CLUTTER
REACH = 1.4  # no object extends farther from its centre than this many radii


def rasterise(
    shape: str, centres: np.ndarray, angles: np.ndarray, radii: np.ndarray, size: int
) -> np.ndarray:
    """Draw a moving shape; the (T, H, W) float32 share of each pixel that it covers.

    centres: (T, 2) as (x, y); angles: (T,) radians; radii: (T,)
    """
    scale = size / UNIT
    centres, radii = (scale * lengths.astype(np.float32) for lengths in (centres, radii))
    cos, sin = (f(angles).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    grid = np.arange(size, dtype=np.float32) + 0.5
    x = grid[None, None, :] - centres[:, 0, None, None]  # (T, 1, W)
    y = grid[None, :, None] - centres[:, 1, None, None]  # (T, H, 1)
    distance = DISTANCES[shape](cos * x + sin * y, cos * y - sin * x, radii[:, None, None])
    return np.clip(distance + 0.5, 0, 1)


def rasterise_still(rng: np.random.Generator, shape: str, radius: float, size: int) -> np.ndarray:
    """The (1, H, W) coverage of a shape anywhere in the picture, turned at random."""
    return rasterise(shape, rng.uniform(0, UNIT, (1, 2)), rng.uniform(0, np.pi, 1), np.array([radius]), size)


def paint(frames: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> None:
    """Lay a colour over (T, H, W, 3) frames, in place, as far as the (T, H, W) coverage goes."""
    frames += coverage[..., None] * (colour.astype(np.float32) - frames)


def smooth_noise(rng: np.random.Generator, cells: int, size: int) -> np.ndarray:
    """(H, W) float32 values of about -1..1 that vary smoothly over a grid of cells x cells."""
    knots = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.array(Image.fromarray(knots).resize((size, size), Image.Resampling.BICUBIC))


def draw_ground(rng: np.random.Generator, profile: Profile, size: int) -> np.ndarray:
    """The still ground, (H, W, 3) float32 in about [0, 1]: smooth grey, or texture and clutter."""
    if profile.vivid:
        grey = rng.uniform(0.3, 0.6) + 0.12 * smooth_noise(rng, 4, size)
        return np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    channels = [0.15 * smooth_noise(rng, 4, size) + 0.08 * smooth_noise(rng, 24, size) for _ in range(3)]
    ground = (rng.uniform(0.25, 0.75, 3) + np.stack(channels, axis=2)).astype(np.float32)
    for _ in range(rng.integers(profile.clutter[0], profile.clutter[1], endpoint=True)):
        shape, radius = str(rng.choice(list(CLUTTER))), rng.uniform(*profile.radius)
        paint(ground[None], rasterise_still(rng, shape, radius, size), rng.uniform(0, 1, 3))
    return ground


def draw_colours(rng: np.random.Generator, profile: Profile, count: int) -> np.ndarray:
    """(count, 3) RGB colours in [0, 1]."""
    if not profile.vivid:
        return rng.uniform(0, 1, (count, 3))
    hues = rng.uniform() + (np.arange(count) + rng.uniform(-0.1, 0.1, count)) / count
    return np.array([colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.8, 1), rng.uniform(0.8, 1)) for hue in hues])


def draw_looks(rng: np.random.Generator, profile: Profile) -> list[Look]:
    """The looks of a video's objects, from the back to the front."""
    count = rng.integers(profile.objects[0], profile.objects[1], endpoint=True)
    looks: list[Look] = []
    for colour in draw_colours(rng, profile, count):
        if looks and rng.uniform() < profile.twin:
            looks.append(looks[rng.integers(len(looks))])
            continue
        shape, radius = str(rng.choice(list(OBJECTS))), rng.uniform(*profile.radius)
        pulse, period, phase = rng.uniform(0, profile.pulse), rng.uniform(15, 40), rng.uniform(0, 2 * np.pi)
        looks += [Look(shape, colour, radius, pulse, period, phase)] * (2 if profile.pairs else 1)
    return looks


def bounce(position: np.ndarray, low: float, high: float) -> np.ndarray:
    """Fold positions on a line into [low, high], as by reflection at both ends."""
    span = high - low
    return high - np.abs((position - low) % (2 * span) - span)


def draw_centres(
    rng: np.random.Generator, profile: Profile, radius: float, num_frames: int, twin: np.ndarray | None
) -> np.ndarray:
    """(T, 2) centres (x, y) of a path that bounces within the picture, or leads out on one side and back.

    twin: (T, 2) the path that this one crosses, at a time in its middle half; None for none
    """
    times = np.arange(num_frames)
    low, high = radius, UNIT - radius
    speed, heading = rng.uniform(*profile.speed), rng.uniform(0, 2 * np.pi)
    step = speed * np.array([np.cos(heading), np.sin(heading)])
    if twin is not None:
        meeting = rng.integers(num_frames // 4, num_frames - num_frames // 4)
        return bounce(twin[meeting] + (times - meeting)[:, None] * step, low, high)
    centres = bounce(rng.uniform(low, high, 2) + times[:, None] * step, low, high)
    if rng.uniform() < profile.leave:
        # farthest out, and wholly hidden, at frame `turn`; an early one makes an object that enters
        turn, far = rng.uniform(0, 14), -REACH * (1 + profile.pulse) * radius - rng.uniform(1, 6)
        inward = bounce(far + speed * np.abs(times - turn), far, high)
        axis, from_end = rng.integers(2), rng.integers(2)
        centres[:, axis] = UNIT - inward if from_end else inward
    return centres


def draw_objects(
    rng: np.random.Generator, profile: Profile, looks: list[Look], num_frames: int, size: int
) -> list[np.ndarray]:
    """Send every object on a path of its own; the (T, H, W) coverage of each."""
    paths: list[np.ndarray] = []
    coverages = []
    for index, look in enumerate(looks):
        twin = paths[-1] if profile.pairs and index % 2 else None
        paths.append(draw_centres(rng, profile, look.radius, num_frames, twin))
        coverages.append(draw_object(rng, profile, look, paths[-1], size))
    return coverages


def draw_object(
    rng: np.random.Generator, profile: Profile, look: Look, centres: np.ndarray, size: int
) -> np.ndarray:
    """The (T, H, W) coverage of an object on its path, (T, 2)."""
    times = np.arange(len(centres))
    start = rng.uniform(0, 2 * np.pi) if profile.spin else 0.0
    angles = start + rng.uniform(-profile.spin, profile.spin) * times
    radii = look.radius * (1 + look.pulse * np.sin(2 * np.pi * times / look.period + look.phase))
    return rasterise(look.shape, centres, angles, radii, size)


def label(objects: list[np.ndarray], occluders: list[np.ndarray]) -> np.ndarray:
    """Coverages from the back to the front to (T, H, W) uint8 label maps: who owns most of each pixel."""
    labels = np.zeros(objects[0].shape, np.uint8)
    for number, coverage in enumerate(objects, start=1):
        labels[coverage > 0.5] = number
    for coverage in occluders:
        labels[:, coverage[0] > 0.5] = 0
    return labels


def is_fit(profile: Profile, looks: list[Look], labels: np.ndarray) -> bool:
    """Whether every object is well in view at some time, and all or one of them in the first frame.

    Well in view: as many pixels as a quarter of a disc of its radius.
    """
    scale = labels.shape[-1] / UNIT
    least = [0.25 * np.pi * (scale * look.radius) ** 2 for look in looks]
    areas = np.stack([(labels == k).sum((1, 2)) for k in range(1, len(looks) + 1)], axis=1)  # (T, K)
    visible = areas >= least
    return bool(visible.any(0).all() and (visible[0].all() if profile.all_at_start else visible[0].any()))


def make_video(
    rng: np.random.Generator, profile: Profile, *, frames: int, size: int
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Draw one video: (T, H, W, 3) uint8 RGB frames, (T, H, W) uint8 label maps, and {id: category}.

    Every id of 1..K is seen in at least one frame.
    """
    picture = np.repeat(draw_ground(rng, profile, size)[None], frames, axis=0)  # (T, H, W, 3)
    looks = draw_looks(rng, profile)
    num_bars = rng.integers(profile.occluders[0], profile.occluders[1], endpoint=True)
    fit = False
    while not fit:  # easily met: a few tries at most
        bars = [rasterise_still(rng, "bar", rng.uniform(9, 14), size) for _ in range(num_bars)]
        objects = draw_objects(rng, profile, looks, frames, size)
        labels = label(objects, bars)
        fit = is_fit(profile, looks, labels)
    for coverage, look in zip(objects, looks, strict=True):
        paint(picture, coverage, look.colour)
    for coverage in bars:
        paint(picture, coverage, rng.uniform(0, 1, 3))
    picture += profile.noise * rng.standard_normal(picture.shape, dtype=np.float32)
    pixels = np.rint(255 * picture.clip(0, 1)).astype(np.uint8)
    return pixels, labels, {k: look.shape for k, look in enumerate(looks, start=1)}


def video_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The source of video `index` of a split: it depends on nothing else, and no two videos share one."""
    return np.random.default_rng([seed, SPLITS.index(split), index])


def write_video(folder: Path, name: str, frames: np.ndarray, labels: np.ndarray) -> None:
    """Write frames and palette masks as folder/{JPEGImages,Annotations}/name/00000.{jpg,png}, ..."""
    pictures, masks = folder / "JPEGImages" / name, folder / "Annotations" / name
    pictures.mkdir(parents=True)
    masks.mkdir(parents=True)
    for t, (frame, label_map) in enumerate(zip(frames, labels, strict=True)):
        # full colour resolution: shapes of a few pixels would bleed at the usual half
        jpeg = io.BytesIO()  # into a file on a full disk Pillow writes a part of it, without an error
        Image.fromarray(frame).save(jpeg, format="JPEG", quality=95, subsampling=0)
        with naming(pictures / f"{t:05d}.jpg") as path:
            path.write_bytes(jpeg.getvalue())
        mask = Image.fromarray(label_map)
        mask.putpalette(PALETTE.tobytes())
        with naming(masks / f"{t:05d}.png") as path:
            mask.save(path)


def describe(labels: np.ndarray, categories: dict[int, str]) -> dict:
    """A video's entry of meta.json: the category of each object and the frames in which it is seen."""
    frames = {k: [f"{t:05d}" for t in np.flatnonzero((labels == k).any((1, 2)))] for k in categories}
    return {"objects": {str(k): {"category": categories[k], "frames": frames[k]} for k in categories}}


def write_split(
    folder: Path, split: str, profile: Profile, *, seed: int, videos: int, frames: int, size: int
) -> None:
    """Write one split of a data set: pictures, masks and meta.json."""
    folder.mkdir(parents=True)
    entries = {}
    for index in progress(range(videos), split):
        name = f"{split}_{index:05d}"
        rng = video_rng(seed, split, index)
        pixels, labels, categories = make_video(rng, profile, frames=frames, size=size)
        write_video(folder, name, pixels, labels)
        entries[name] = describe(labels, categories)
    with naming(folder / "meta.json") as path:
        path.write_text(json.dumps({"videos": entries}))


def generate(
    out: Path,
    profile: str,
    *,
    seed: int,
    train_videos: int,
    valid_videos: int,
    frames: int,
    size: int,
    occluders: int | None = None,
) -> None:
    """Write a data set as out/train and out/valid; the same arguments write the same files.

    occluders: still bars before everything in each video; None: as the profile has it

    The folder appears under its name only when it is whole.
    Raises UserError where `out` exists or a number is out of range.
    """
    least = {"seed": 0, "train_videos": 0, "valid_videos": 0, "frames": 1, "size": 16, "occluders": 0}
    ranges = PROFILES[profile]
    numbers = {"seed": seed, "train_videos": train_videos, "valid_videos": valid_videos}
    if occluders is not None:
        ranges = replace(ranges, occluders=(occluders, occluders))
        numbers["occluders"] = occluders
    for name, value in (numbers | {"frames": frames, "size": size}).items():
        if value < least[name]:
            raise UserError(f"--{name} {value} is too small: at least {least[name]}")
    if occluders is not None and occluders > MOST_OCCLUDERS:
        raise UserError(f"--occluders {occluders} would hide every object: at most {MOST_OCCLUDERS}")
    if out.exists():
        raise UserError(f"{out} already exists: remove it, or choose another folder with --out")
    settings = {"seed": seed, "frames": frames, "size": size}
    with atomic_folder(out) as folder:
        write_split(folder / "train", "train", ranges, videos=train_videos, **settings)
        write_split(folder / "valid", "valid", ranges, videos=valid_videos, **settings)


def main() -> None:
    parser = Parser(
        prog="python -m video.synthetic",
        description="Writes synthetic videos of moving shapes with their masks, in the YouTube-VOS layout.",
        epilog="example:\n  python -m video.synthetic --out data --profile hard --train_videos 100\n",
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder to write")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="easy", help="difficulty")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness")
    parser.add_argument("--train_videos", type=int, default=250, help="training videos")
    parser.add_argument("--valid_videos", type=int, default=25, help="validation videos")
    parser.add_argument("--frames", type=int, default=20, help="frames of each video")
    parser.add_argument("--size", type=int, default=64, help="height and width of frames, in pixels")
    parser.add_argument(
        "--occluders",
        type=int,
        help="static bars that occlude objects, in each video (default: of --profile)",
    )
    generate(**vars(parser.parse_args()))


if __name__ == "__main__":
    run_command(main)
