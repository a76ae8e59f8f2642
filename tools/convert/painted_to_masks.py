"""Coloured masks that annotation tools export, with their label map, to label maps.

CVAT's "Segmentation mask 1.1" has labelmap.txt (`name:red,green,blue:parts:actions`) beside the folder
SegmentationClass; labelme's export to VOC has class_names.txt beside it, and palette PNGs in it.
"""

import re
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.files import atomic_folder, below, read_text
from common.progress import progress, say
from video.images import files_below, read_pixels, write_label_map
from video.label_maps import void_in
from video.painted import hex_colour, is_painted, read_colours
from video.pictures import PALETTE

CVAT_LABELS, LABELME_LABELS = "labelmap.txt", "class_names.txt"
MASK_FOLDERS = ("SegmentationClass", "SegmentationClassPNG")
COLOUR = re.compile(r"[0-9]{1,3}(,[0-9]{1,3}){2}")
VIDEO_FRAME = re.compile(r"frame_([0-9]{6,12})")  # what CVAT calls a frame of a video file
GROUND = {"background", "_ignore_", "_background_", "__ignore__"}


def export_labels(source: Path) -> Path | None:
    """The label map of an export; None where a folder is none."""
    return next((source / name for name in (CVAT_LABELS, LABELME_LABELS) if (source / name).is_file()), None)


def _colour(path: Path, line: str, text: str) -> int:
    numbers = [int(number) for number in text.split(",")] if COLOUR.fullmatch(text) else [256]
    if max(numbers) > 255:
        raise UserError(f"{path}: {line[:60]!r} is not name:red,green,blue: export it again")
    red, green, blue = numbers
    return red << 16 | green << 8 | blue


def read_labels(path: Path) -> tuple[dict[int, int], dict[int, str]]:
    """{colour 0xRRGGBB: id} and {id: label} of a label map; ids count from 1 in its order, ground aside.

    Labels of labelme have the colours of the DAVIS palette, which is VOC's, by their place.
    Raises UserError at a line that is of neither form, and where two labels have one colour.
    """
    davis = [red << 16 | green << 8 | blue for red, green, blue in PALETTE.tolist()]
    ids, names = {}, {}
    lines = [line.strip() for line in read_text(path).splitlines()]
    for line in (line for line in lines if line and not line.startswith("#")):
        name, _, rest = line.partition(":")
        if path.name == LABELME_LABELS:
            name, colour = line, davis[(len(names) + 1) % len(davis)]
        else:
            colour = _colour(path, line, rest.partition(":")[0])
        if name in GROUND:
            continue
        if colour in ids or colour == 0:
            raise UserError(f"{path}: {name} has the colour {hex_colour(colour)} of another label: change it")
        ids[colour] = len(names) + 1
        names[len(names) + 1] = name
    return ids, names


def read_mask(path: Path, ids: dict[int, int]) -> np.ndarray:
    """The (H, W) uint8 map of ids of an exported picture; UserError at a colour that is no label's.

    255 in a palette PNG, which is labelme's `__ignore__`, becomes background.
    """
    if not is_painted(path):
        labels = read_pixels(path)
        labels = np.where(void_in(labels), 0, labels)
        if labels.max(initial=0) > len(ids):
            raise UserError(f"{path} has the value {labels.max()}, but there are {len(ids)} labels")
        return labels.astype(np.uint8)
    colours = read_colours(path)
    labels = np.zeros(colours.shape, dtype=np.uint8)
    for colour in np.unique(colours).tolist():
        if colour and colour not in ids:
            raise UserError(
                f"{path} has the colour {hex_colour(colour)}, which is no label's: export it again"
            )
        labels[colours == colour] = ids.get(colour, 0)
    return labels


def target_of(path: Path, folder: Path, video: str) -> tuple[str, str]:
    """The video and the frame of an exported picture: one in a folder is of the video of that name."""
    parts = path.relative_to(folder).parts
    named = VIDEO_FRAME.fullmatch(path.stem)
    return parts[-2] if len(parts) > 1 else video, f"{int(named[1]):05d}" if named else path.stem


def painted_to_masks(source: Path, target: Path) -> str:
    """Write the masks of an export as target/<video>/<frame>.png in a new folder; returns a summary.

    Each label is an object. The frames of a video file have the names that inference.py gives them. Pictures
    that lie in no folder of a video are of one named as `source`.
    Raises UserError where the export has no masks, or one that its label map does not explain.
    """
    ids, names = read_labels(export_labels(source))
    if not ids or len(ids) > 254:
        raise UserError(f"{export_labels(source)} names {len(ids)} objects: 1 to 254 can be in a label map")
    folder = next((source / name for name in MASK_FOLDERS if (source / name).is_dir()), None)
    paths = sorted(files_below(folder, {".png"})) if folder else []
    if not paths:
        raise UserError(f"{source} holds no {MASK_FOLDERS[0]}/*.png: export it as segmentation masks")
    with atomic_folder(target) as written:
        for path in progress(paths, f"writing {target}", len(paths)):
            video, frame = target_of(path, folder, source.resolve().name)
            write_label_map(below(below(written, video), frame, ".png"), read_mask(path, ids))
        videos = len(list(written.iterdir()))
    say("objects: " + ", ".join(f"{k} {name}" for k, name in names.items()))
    return f"{target}: {videos} videos, {len(paths)} label maps"
