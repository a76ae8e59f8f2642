"""Label maps as paint programs save them: objects in colours, edges that are smoothed."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from common.errors import UserError
from video.images import opened, read_header
from video.label_maps import edge_ids, ids_in
from video.pictures import PALETTE

COLOUR_MODES = {"RGB", "RGBA"}
MOST_COLOURS = 4096  # of a picture with smoothed edges; beyond, it is a photo
MOST_OBJECTS = 254  # of a palette PNG
MOST_JOINED = 0.8  # share of the painted pixels that edges may be
TRANSPARENT = 128  # alpha below which a pixel is background


def is_painted(path: Path) -> bool:
    """Whether an image has colours in place of numbers; UserError where it cannot be opened."""
    return read_header(path)[0] in COLOUR_MODES


def hex_colour(colour: int) -> str:
    return f"#{colour:06x}"


def read_colours(path: Path) -> np.ndarray:
    """(H, W) int64 of a colour image: 0xRRGGBB, 0 where it is black or transparent, which is background.

    Raises UserError at a JPEG, whose colours are no longer those that were painted.
    """
    with opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise UserError(f"{path} is a JPEG, which changes colours: save it as PNG")
        pixels = np.array(image.convert("RGBA")).astype(np.int64)
    colours = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    return np.where(pixels[..., 3] < TRANSPARENT, 0, colours)


def join_edges(path: Path, labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Give the pixels of `edge_ids` to the nearest other value; returns the map, and how many they were.

    labels: (H, W) of a file, 0 background
    Raises UserError where hardly a pixel is of another value.
    """
    edges = np.isin(labels, edge_ids(labels))
    joined = int(edges.sum())
    if joined > MOST_JOINED * (labels > 0).sum():
        raise UserError(f"{path} has more smoothed than flat pixels: paint without soft brushes")
    if not joined:
        return labels, 0
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(edges, return_distances=False, return_indices=True)
    return labels[tuple(nearest)], joined


def smoothed_line(path: Path, joined: int) -> str:
    return f"{path} has smoothed edges: {joined} pixels joined the nearest object or the background"


def read_flat_colours(path: Path) -> tuple[np.ndarray, int]:
    """The colours of a picture without its smoothed edges, as of `read_colours` and `join_edges`.

    Raises UserError where it is no painted map: without background, or with hardly a flat colour.
    """
    colours = read_colours(path)
    if (colours > 0).all():
        raise UserError(f"{path} has no background: leave it black or transparent")
    if (count := len(np.unique(colours))) > MOST_COLOURS:
        raise UserError(f"{path} has {count} colours, as a photo: paint each object in one flat colour")
    return join_edges(path, colours)


def first_rows(colours: np.ndarray) -> list[int]:
    """The colours of a map, in the order of their first pixels, row by row."""
    values, first = np.unique(colours, return_index=True)
    return [int(value) for _, value in sorted(zip(first.tolist(), values.tolist(), strict=True)) if value]


class ColourIds:
    """The ids of the colours in all painted maps of a video, the same in each.

    Colours of the DAVIS palette, in which this program and others draw ids, are these ids. Where any colour
    is none of it, they are numbered from 1 as they appear, frame by frame and from the top.
    paths: of the painted maps, in the order of the frames
    joined: {path: pixels of smoothed edges that went to a neighbour}
    """

    def __init__(self, paths: Iterable[Path]):
        self.joined: dict[Path, int] = {}
        colours: dict[int, None] = {}
        for path in paths:
            flat, joined = read_flat_colours(path)
            colours |= dict.fromkeys(first_rows(flat))
            if joined:
                self.joined[path] = joined
            if len(colours) > MOST_OBJECTS:
                raise UserError(
                    f"{path} and those before it have more than {MOST_OBJECTS} colours: paint flat"
                )
        davis = {red << 16 | green << 8 | blue: k for k, (red, green, blue) in enumerate(PALETTE.tolist())}
        numbered = {colour: k for k, colour in enumerate(colours, start=1)}
        self.ids = {c: davis[c] for c in colours} if colours.keys() <= davis.keys() else numbered

    def read(self, path: Path) -> np.ndarray:
        """The (H, W) uint8 map of ids of one of the pictures."""
        flat, _ = read_flat_colours(path)
        labels = np.zeros(flat.shape, dtype=np.uint8)
        for colour in ids_in(flat):
            labels[flat == colour] = self.ids[colour]
        return labels

    def lines(self, folder: Path) -> Iterator[str]:
        """The lines that are printed of them."""
        if self.ids:
            pairs = ", ".join(f"{k} {hex_colour(c)}" for c, k in sorted(self.ids.items(), key=lambda x: x[1]))
            yield f"{folder} is painted in colours; they are the objects {pairs}"
        for path, joined in self.joined.items():
            yield smoothed_line(path, joined)
