"""Clips for training, masks and augmentation included, against bare decoding of the same JPEG files.

python -m benchmarks.loader
python -m benchmarks.loader --dataset_root dataset --image_size 384 --clips 50

All flags of VITA-TCOVIS's data set count, with its defaults; the other systems have theirs. Without
--dataset_root, videos of 1280x720 are generated: smooth texture and grain, with palette masks of moving
objects. Batches of one clip are made in this process, by one thread; bare decoding follows each, from the
same files into arrays. The sums over all clips count, because the clips are not alike. The program ends with
exit status 1 where a loader takes more time than its aim, or VITA-TCOVIS's reaches less than 0.6 of the speed
of bare decoding.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

import dataset
from annotated.videos import AnnotatedVideo, VOSFolder, check
from benchmarks.measuring import Aim, Phases, counted, judge, print_parts, set_up
from benchmarks.metrics import blob, draw
from common.config import Parser, add_config_flags, config_from_args
from common.errors import UserError, run_command
from configs.systems import CONFIGS
from dataset import VOSDataset, YouTubeVOSDataset
from inference import SYSTEMS
from modules import VITA_TCOVIS
from training.config import make_parser
from training.loader import make_loader, use_one_thread
from video import transforms
from video.images import write_label_map

DECODING, LOADER = "bare JPEG decoding", "loader"
AIM = 0.6
MILLISECONDS = {"vita_tcovis": 60, "stcn": 100, "xmem": 150, "siammask": 45}  # of a core a clip, at most
HEIGHT, WIDTH, FRAMES, OBJECTS, QUALITY = 720, 1280, 16, 3, 90
PARTS = (
    (AnnotatedVideo, "read_frame", "frames: read, decode"),
    (AnnotatedVideo, "read_labels", "masks: read, decode, check"),
    (transforms, "resize_frames", "resize frames"),
    (transforms, "resize_labels", "resize masks"),
    (dataset, "augment", "crop, flip"),
    (transforms, "jitter", "colours"),
    (dataset, "paste", "paste objects of other videos"),
    (dataset, "select_objects", "choose objects"),
    (dataset, "keep_objects", "leave out the others"),
)


def texture(rng: np.random.Generator) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: smooth colours with as much grain as a camera leaves."""
    knots = Image.fromarray(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8))
    smooth = np.array(knots.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
    grain = rng.normal(0, 6, (HEIGHT, WIDTH, 1)).astype(np.float32)
    return (smooth + grain).clip(0, 255).astype(np.uint8)


def write_video(root: Path, name: str, frames: int) -> None:
    """Write the frames and label maps of objects, cut out of other textures, that move to the right."""
    rng = np.random.default_rng(int(name))
    colours = np.stack([texture(rng) for _ in range(1 + OBJECTS)])
    outlines = [blob(rng, 0.05 * HEIGHT * WIDTH) + rng.uniform(0, (WIDTH, HEIGHT)) for _ in range(OBJECTS)]
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    folder = root / "JPEGImages" / name
    folder.mkdir(parents=True)
    for frame in range(frames):
        labels = draw([outline + np.array([5 * frame, 0]) for outline in outlines], HEIGHT, WIDTH)
        picture = Image.fromarray(colours[labels, rows, columns])
        picture.save(folder / f"{frame:05}.jpg", quality=QUALITY)
        write_label_map(root / "Annotations" / name / f"{frame:05}.png", labels)


def decode(paths: list[Path]) -> list[np.ndarray]:
    """The files as (H, W, 3) uint8 arrays, by the shortest way that Pillow has."""
    return [np.asarray(Image.open(path)) for path in paths]


@contextmanager
def parts_of(clips: VOSDataset, phases: Phases) -> Iterator[None]:
    """Within the block, the parts of loading are told apart."""
    with ExitStack() as stack:
        for owner, attribute, name in (*PARTS, (clips, "collate", "collate")):
            stack.enter_context(phases.inside(owner, attribute, name))
        yield


def measure(clips: VOSDataset, number: int, phases: Phases) -> int:
    """Time that many clips after one to warm up, a round each; returns the number of their frames."""
    batches = [[divmod(place, len(clips))] for place in range(number + 1)]  # of (epoch, index)
    videos = {video.name: video for video in clips.videos}
    counts = []
    with parts_of(clips, phases):
        loader = iter(make_loader(clips, batches, num_workers=0, pin_memory=False))
        for _ in batches:
            phases.begin()
            with phases.part("besides"):
                clip = next(loader)
            paths = [videos[video].frame_path(frame) for video, frame in clip.names[0] if video]
            with phases.part(DECODING):
                decode(paths)
            counts.append(len(paths))
    del phases.rounds[0]
    return sum(counts[1:])


def report(phases: Phases, frames: int) -> Aim:
    """Print the parts of VITA-TCOVIS's loader in milliseconds a frame; returns its aim."""
    names = dict.fromkeys(name for parts in phases.rounds for name in parts)
    times = {name: sum(parts[name] for parts in phases.rounds if name in parts) / frames for name in names}
    bare = times.pop(DECODING)
    whole = sum(times.values())
    order = [name for *_, name in PARTS] + ["collate", "besides"]
    parts = {f"  {name}": times[name] for name in order if name in times}
    print_parts({f"{DECODING}, a frame": bare, f"{LOADER}, a frame": whole} | parts, whole)
    return Aim("speed of the loader / bare decoding", counted(bare) / counted(whole), AIM, at_least=True)


def make_clips(name: str, folder: VOSFolder) -> VOSDataset:
    """The training clips of a system, by its default flags."""
    configs = CONFIGS[name].read(make_parser(name).parse_args([]))
    return SYSTEMS[name].dataset(folder, configs["data"], training=True)


def compare(root: Path, clips: int, device: torch.device) -> list[Aim]:
    """Print the milliseconds of a clip of every system, from the same files; returns the systems' aims."""
    print(f"\n{'a clip, CPU ms':20}{'frames':>8}{'loader':>10}{'decoding':>10}{'ratio':>8}")
    aims = []
    for name in SYSTEMS:
        folder = VOSFolder(root)
        check(folder, skip_bad=False)
        phases = Phases(device)
        try:
            frames = measure(make_clips(name, folder), clips, phases)
        except UserError as error:  # videos may be too short for a system
            print(f"{name:20}not measured: {error}")
            continue
        bare = sum(counted(parts.pop(DECODING)) for parts in phases.rounds) / clips
        whole = sum(counted(time) for parts in phases.rounds for time in parts.values()) / clips
        print(f"{name:20}{frames / clips:8.1f}{whole:10.1f}{bare:10.1f}{whole / bare:8.2f}")
        if name in MILLISECONDS:
            aims.append(Aim(f"milliseconds of a clip of {name}", whole, MILLISECONDS[name]))
    return aims


def main() -> None:
    parser = Parser(prog="benchmarks.loader", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset_root", type=Path, help="folder with train/ (default: made)")
    parser.add_argument("--image_size", type=int, default=384, help="short side of the frames, pixels")
    parser.add_argument("--clips", type=int, default=20, help="that are timed, after one to warm up")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    add_config_flags(parser, VITA_TCOVIS.Config, "network")
    add_config_flags(parser, YouTubeVOSDataset.Config, "data set")
    args = parser.parse_args()
    if args.clips < 1:
        raise UserError(f"--clips {args.clips} is too small: at least 1")
    phases = Phases(set_up("cpu", args.threads))
    use_one_thread()
    with TemporaryDirectory() as made:
        root = args.dataset_root / "train" if args.dataset_root else Path(made)
        if not args.dataset_root:
            for number in range(4):
                write_video(root, str(number), FRAMES)
        config = config_from_args(YouTubeVOSDataset.Config, args)
        clips = YouTubeVOSDataset(VOSFolder(root), config, training=True)
        title = f"{len(clips.folder.videos)} videos, {args.clips} clips of {args.clip_length} frames"
        print(f"{root if args.dataset_root else f'generated, {WIDTH}x{HEIGHT}'}: {title}\n")
        aim = report(phases, measure(clips, args.clips, phases))
        aims = [aim, *compare(root, args.clips, phases.device)]
    print()
    judge(aims)


if __name__ == "__main__":
    run_command(main)
