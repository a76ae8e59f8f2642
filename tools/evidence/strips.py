"""Strips of pictures for a report, as data: URIs: the truth of some frames above, the results below."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.parallel import process_map
from scoring.label_folders import VideoPair
from tools.evidence.label_maps import Rules, read_maps
from tools.pages import to_uri
from video.images import mots_sequences, read_frame
from video.pictures import draw_overlay, strip
from video.reader import Video, VideoFile, find_videos

CELL = 320  # pixels of a picture's long side
LEAST_WINDOW = 0.3  # the smallest part of a frame's sides that is cut out
GREY = 128  # the ground of label maps whose frame was not found


class Row(NamedTuple):
    """A row of results.

    pair: its label maps
    notes: what stands behind the name of each frame
    object_of: {track: the true object that it is matched with}, whose colour it has
    """

    title: str
    pair: VideoPair
    notes: Sequence[str]
    object_of: Mapping[int, int]


class StripPlan(NamedTuple):
    """A strip to draw: a column for each frame, a row for the truth and one for each folder of results.

    video: its name
    rows: the truth above them is that of the first
    masks: the paths of the true label maps of its frames, in order
    objects, tracks: the ids that the pictures are cut to, in the truth and in the first results; none: whole
    """

    video: str
    rows: Sequence[Row]
    rules: Rules
    masks: Sequence[Path]
    objects: Sequence[int] = ()
    tracks: Sequence[int] = ()

    @property
    def frames(self) -> list[str]:
        """The names of its frames."""
        return [mask.stem for mask in self.masks]

    @property
    def titles(self) -> list[str]:
        """The titles of its rows, from above."""
        return ["truth", *(row.title for row in self.rows)]


class Window(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Strips(NamedTuple):
    """Strips as data: URIs; how many frames they show, and how many of these have no picture."""

    uris: list[str]
    num_frames: int
    num_missing: int


def find_frames(masks: Path, video_root: Path | None) -> dict[str, Video]:
    """The videos by name: in `video_root`, or in the data set that holds the label maps.

    Empty where there is neither; UserError where a `video_root` that is given holds no video.
    """
    root = masks.parent.parent if masks.name == "480p" else masks.parent
    if video_root is None and not (root / "JPEGImages").is_dir() and not mots_sequences(root):
        return {}
    return {video.name: video for video in find_videos(video_root or root)}


def frame_paths(video: Video | None, names: set[str], folder: Path) -> dict[str, Path]:
    """Image files of the named frames that there are, by name; `folder` takes those of a video file."""
    if not isinstance(video, VideoFile):
        return {image.stem: image for image in (video.images if video else ()) if image.stem in names}
    paths: dict[str, Path] = {}
    for name, frame in video.frames():
        if name in names:
            paths[name] = folder / f"{name}.png"
            Image.fromarray(frame.permute(1, 2, 0).numpy()).save(paths[name], compress_level=1)
        if len(paths) == len(names):
            break
    return paths


def window_around(inside: np.ndarray) -> Window:
    """The part, in the proportions of the (H, W) picture, that shows its true pixels with some ground."""
    H, W = inside.shape
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return Window(0, 0, H, W)
    spans = [(side[0] + side[-1] + 1, side[-1] + 1 - side[0]) for side in (rows, columns)]
    scale = max(LEAST_WINDOW, *(1.4 * span / size for (_, span), size in zip(spans, (H, W), strict=True)))
    if scale > 0.8:
        return Window(0, 0, H, W)
    height, width = max(1, round(H * scale)), max(1, round(W * scale))
    top, left = (
        int(np.clip(middle // 2 - part // 2, 0, size - part))
        for (middle, _), part, size in zip(spans, (height, width), (H, W), strict=True)
    )
    return Window(top, left, height, width)


def ground(path: Path | None, window: Window, size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8: the window of a frame, brought to the size of a cell; grey where `path` is None.

    size: (H, W) of the label map, in whose pixels the window is; the frame may have another size
    """
    scale = CELL / max(window.height, window.width)
    h, w = max(1, round(window.height * scale)), max(1, round(window.width * scale))
    if path is None:
        return np.full((h, w, 3), GREY, dtype=np.uint8)
    frame = Image.fromarray(read_frame(path))
    down, across = frame.height / size[0], frame.width / size[1]
    right, bottom = window.left + window.width, window.top + window.height
    box = (window.left * across, window.top * down, right * across, bottom * down)
    return np.array(frame.resize((w, h), Image.Resampling.BILINEAR, box=box))


def cell(
    picture: np.ndarray, labels: np.ndarray, window: Window, object_of: Mapping[int, int] | None = None
) -> np.ndarray:
    """(h, w, 3) uint8: the window of a label map over its picture of that window."""
    h, w = picture.shape[:2]
    rows = window.top + np.arange(h) * window.height // h
    columns = window.left + np.arange(w) * window.width // w
    return draw_overlay(picture, labels[rows][:, columns], object_of=object_of)


def _shortened(text: str, most: int = 44) -> str:
    return text if len(text) <= most else f"{text[: most - 21]}...{text[-18:]}"


def _draw(plan: StripPlan, paths: dict[str, Path]) -> str:
    """Draw one strip; `paths` has the frames by name."""
    maps = [[read_maps(row.pair, mask, plan.rules) for mask in plan.masks] for row in plan.rows]
    truth = [one.truth for one in maps[0]]
    inside = np.zeros(truth[0].shape, dtype=bool)
    for one in maps[0]:
        inside |= np.isin(one.truth, plan.objects) | np.isin(one.result, plan.tracks)
    window, names = window_around(inside), plan.frames
    captions = [f"truth {name}" for name in names]
    for row in plan.rows:
        captions += [f"{row.title} {name}: {note}" for name, note in zip(names, row.notes, strict=True)]
    frames = [ground(paths.get(name), window, inside.shape) for name in names]
    cells = [cell(frame, labels, window) for frame, labels in zip(frames, truth, strict=True)]
    for row, its_maps in zip(plan.rows, maps, strict=True):
        pairs = zip(frames, its_maps, strict=True)
        cells += [cell(frame, one.result, window, row.object_of) for frame, one in pairs]
    return to_uri(strip(cells, [_shortened(caption) for caption in captions], len(names)))


def _draw_video(plans: list[StripPlan], video: Video | None) -> Strips:
    """Draw all strips of a video, for which a video file is read but once."""
    names = {name for plan in plans for name in plan.frames}
    with TemporaryDirectory() as folder:
        paths = frame_paths(video, names, Path(folder))
        return Strips([_draw(plan, paths) for plan in plans], len(names), len(names) - len(paths))


def draw_strips(plans: Sequence[StripPlan], videos: dict[str, Video], num_workers: int = 0) -> Strips:
    """Draw strips in their order; a video without frames is drawn on grey.

    videos: where the frames are, by the names of the videos
    """
    groups: dict[str, list[int]] = {}
    for number, plan in enumerate(plans):
        groups.setdefault(plan.video, []).append(number)
    strips_of_videos = process_map(
        _draw_video,
        [[plans[number] for number in numbers] for numbers in groups.values()],
        [videos.get(name) for name in groups],
        num_workers=num_workers,
        title="drawing",
    )
    uris = [""] * len(plans)
    for numbers, strips in zip(groups.values(), strips_of_videos, strict=True):
        for number, uri in zip(numbers, strips.uris, strict=True):
            uris[number] = uri
    num_frames, num_missing = (
        sum(getattr(strips, name) for strips in strips_of_videos) for name in ("num_frames", "num_missing")
    )
    return Strips(uris, num_frames, num_missing)
