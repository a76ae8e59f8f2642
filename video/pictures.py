"""Pictures for people: coloured overlays of label maps, contact sheets, training curves."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

LOOKED_AT = 64  # pixels of the longer side of an object, where its middle is looked for
GAP = 4  # pixels between the pictures of a sheet


def _davis_palette() -> np.ndarray:
    """(256, 3) uint8 colours of PASCAL VOC and DAVIS: the bits of an index go to R, G and B in turn."""
    indices = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = indices >> (3 * level + channel) & 1
            palette[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return palette


PALETTE = _davis_palette()
# The same hues at full brightness, which stand out on the fill, on dark and on white ground.
OUTLINES = (PALETTE * (255.0 / PALETTE.max(1, keepdims=True).clip(1))).astype(np.uint8)
NEUTRAL = 256  # the row, after those of the palette, of tracks without a true object
FILLS = np.concatenate([PALETTE, np.full((1, 3), 255, dtype=np.uint8)])
EDGES = np.concatenate([OUTLINES, np.zeros((1, 3), dtype=np.uint8)])


def colour_indices(ids: np.ndarray) -> np.ndarray:
    """Rows of PALETTE of the ids: past 255 they begin again at 1, because 0 is the background's."""
    return np.where(ids > 0, (ids - 1) % 255 + 1, 0)


def _rows(ids: np.ndarray, object_of: Mapping[int, int] | None) -> np.ndarray:
    """Rows of FILLS and EDGES of (M,) ids: their own, or those of the objects that they are matched with."""
    if object_of is None:
        return colour_indices(ids)
    tracks, places = np.unique(ids, return_inverse=True)
    objects = colour_indices(np.array([object_of.get(i, 0) for i in tracks.tolist()], dtype=np.int64))
    return np.where(objects > 0, objects, NEUTRAL)[places]


def colour_of(track: int, object_of: Mapping[int, int] | None = None) -> tuple[int, int, int]:
    """RGB colour of an id; `object_of` as for `draw_overlay`."""
    red, green, blue = FILLS[_rows(np.array([track]), object_of)[0]].tolist()
    return red, green, blue


def _outlines(labels: np.ndarray, thickness: int) -> np.ndarray:
    """(H, W) bool: pixels within `thickness` of another label, up, down, left or right."""
    edges = np.zeros(labels.shape, dtype=bool)
    for step in range(1, thickness + 1):
        across = labels[:, step:] != labels[:, :-step]
        down = labels[step:] != labels[:-step]
        edges[:, step:] |= across
        edges[:, :-step] |= across
        edges[step:] |= down
        edges[:-step] |= down
    return edges


@lru_cache(maxsize=1024)
def _name_plate(text: str, size: int, colour: tuple[int, int, int]) -> np.ndarray:
    """(h, w, 3) uint8: text of a font size on a box of the colour, framed in the colour of the text."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = (round(side) for side in font.getbbox(text))
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = (0, 0, 0) if luminance > 110 else (255, 255, 255)
    plate = Image.new("RGB", (right - left + 6, bottom - top + 5), colour)
    draw = ImageDraw.Draw(plate)
    draw.rectangle((0, 0, plate.width - 1, plate.height - 1), outline=ink)
    draw.text((3 - left, 2 - top), text, font=font, fill=ink)
    return np.asarray(plate)


def middle(mask: np.ndarray) -> tuple[int, int]:
    """(y, x) of the pixel that lies deepest in the largest part of an (H, W) mask, which is not empty.

    Of a mask that is larger than `LOOKED_AT`, every so many pixels are looked at, if one of them is in it.
    """
    from scipy.ndimage import distance_transform_edt, label

    step = max(1, max(mask.shape) // LOOKED_AT)
    step = step if mask[::step, ::step].any() else 1
    parts, _ = label(mask[::step, ::step])
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    depths = distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
    deepest = np.argwhere(depths == depths.max())
    y, x = deepest[np.square(deepest - deepest.mean(0)).sum(1).argmin()]
    return int(y) * step, int(x) * step


def _place(taken: np.ndarray, x: int, y: int, height: int, width: int) -> tuple[int, int]:
    """The (top, left) corner of a plate around the point (x, y), or a step off where one is taken."""
    left = min(max(x - width // 2, 0), max(taken.shape[1] - width, 0))
    for plates in (0, -1, 1, -2, 2, 0):
        top = min(max(y - height // 2 + plates * height, 0), max(taken.shape[0] - height, 0))
        if not taken[top : top + height, left : left + width].any():
            break
    return top, left


def _draw_names(
    picture: np.ndarray,
    labels: np.ndarray,
    text: dict[int, str] | None,
    object_of: Mapping[int, int] | None,
) -> None:
    """Name every object, in place, on the middle of its largest part."""
    from scipy.ndimage import find_objects

    size = max(11, min(labels.shape) // 26)
    taken = np.zeros(labels.shape, dtype=bool)
    for track, box in enumerate(find_objects(labels.astype(np.int32)), start=1):
        name = str(track) if text is None else text.get(track)
        if box is None or not name:
            continue
        y, x = middle(labels[box] == track)
        plate = _name_plate(name, size, colour_of(track, object_of))[: labels.shape[0], : labels.shape[1]]
        height, width = plate.shape[:2]
        top, left = _place(taken, box[1].start + x, box[0].start + y, height, width)
        picture[top : top + height, left : left + width] = plate
        taken[top : top + height, left : left + width] = True


def draw_overlay(
    frame: np.ndarray,
    labels: np.ndarray,
    text: dict[int, str] | None = None,
    object_of: Mapping[int, int] | None = None,
) -> np.ndarray:
    """Draw a label map over its frame: a translucent fill, an outline and a name for each object.

    frame: (H, W, 3) uint8 RGB
    labels: (H, W) ids, 0 background
    text: the name of each id, none for ids that it lacks; the ids themselves where it is None
    object_of: {track: the true object that it is matched with}, whose colour it has; tracks without one are
        white with a black outline. By default each id has its own colour
    Returns a new (H, W, 3) uint8 array.
    """
    picture = frame.copy()
    assert picture.shape[:2] == labels.shape, "the label map has the size of the frame"
    edges = (labels > 0) & _outlines(labels, thickness=max(1, round(min(labels.shape) / 300)))
    pixels, ids = picture.reshape(-1, 3), labels.ravel()
    places = np.flatnonzero(ids)
    pixels[places] = pixels.take(places, 0) // 2 + (FILLS // 2).take(_rows(ids[places], object_of), 0)
    places = np.flatnonzero(edges)
    pixels[places] = EDGES.take(_rows(ids[places], object_of), 0)
    _draw_names(picture, labels, text, object_of)
    return picture


def overlay(frame: ArrayLike, labels: ArrayLike, text: dict[int, str] | None = None) -> Image.Image:
    """The picture of `draw_overlay`, which a notebook shows, `save` writes and `np.asarray` makes an array.

    frame: (H, W, 3) uint8 RGB, or (3, H, W), as trackers take it; labels: (H, W); tensors are on the CPU
    """
    pixels = np.asarray(frame)
    pixels = pixels.transpose(1, 2, 0) if len(pixels) == 3 != pixels.shape[-1] else pixels
    return Image.fromarray(draw_overlay(np.ascontiguousarray(pixels), np.asarray(labels), text))


def strip(
    images: Sequence[np.ndarray], captions: Sequence[str] | None = None, columns: int | None = None
) -> np.ndarray:
    """Arrange pictures in rows, each under its caption, on white.

    images: (H, W, 3) uint8; the cells have the size of the largest
    captions: one for each image, of one line or several
    columns: pictures in a row, all in one row where it is None
    Returns an (H', W', 3) uint8 array.
    """
    captions = captions or [""] * len(images)
    columns = min(columns or len(images), len(images))
    line = 18 * max((caption.count("\n") + 1 for caption in captions if caption), default=0)
    height = max(image.shape[0] for image in images) + line + GAP
    width = max(image.shape[1] for image in images) + GAP
    sheet = Image.new("RGB", (columns * width + GAP, -(-len(images) // columns) * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = index % columns * width + GAP, index // columns * height + GAP
        draw.text((x, y), caption, font=ImageFont.load_default(13), fill="black")
        sheet.paste(Image.fromarray(image), (x, y + line))
    return np.array(sheet)
