"""Image files: frames and label maps, read and written; files and folders in natural order."""

import os
import re
import struct
import zlib
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from common.config import MAX_PIXELS
from common.errors import UserError, require
from common.files import atomic_write, check_file, is_visible
from video.codecs.jpeg import decode_jpeg
from video.codecs.png import decode_grey_png
from video.label_maps import IGNORE, ids_in
from video.pictures import PALETTE

FRAME_SUFFIXES = {".jpg", ".jpeg", ".png"}
MOTS_FOLDER = "img1"  # in the folder of a sequence of MOTS, which names the video
KITTI_FOLDER = "image_02"  # in the root of KITTI MOTS: the frames of all sequences
MOTS_MASKS = "instances"  # beside the sequences: their label maps, <sequence>/<frame>.png
MOTS_IGNORE = 10_000  # the id of regions to ignore in a 16-bit label map of MOTS
LABEL_MODES = {"1", "L", "P", "I", "I;16", "I;16B"}  # the Pillow modes whose pixel values are integers
DEEP_MODES = {"I", "I;16", "I;16B", "I;16L"}  # grey of more than 8 bits
TURNS = {  # what brings a picture of each EXIF orientation upright; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = {5, 6, 7, 8}  # the EXIF orientations that exchange H and W
GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow stretches 2- and 4-bit grey to 0..255 by these factors
END_MARKERS = (b"\xff\xd9", b"IEND")  # of JPEG and PNG; a file that was cut short lacks them
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # that are read, whatever a file is called
# What Pillow raises at a broken or hostile file.
BROKEN = (OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
BROKEN += (struct.error, zlib.error)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sorting key under which the numbers in a name compare by value: "frame2" before "frame10"."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _is_odd_tiff(path: Path) -> bool:
    """Whether a file that Pillow does not know is a TIFF of pixels that it has no mode for."""
    try:
        TiffImagePlugin.TiffImageFile(path).close()
    except BROKEN as error:
        return "unknown pixel mode" in str(error)
    return False


def bad_file(path: Path, error: Exception) -> Exception:
    """What to raise for an error in reading an image; the file system's own complaints name the path."""
    if isinstance(error, OSError) and error.filename:
        return error
    reason = error
    if isinstance(error, UnidentifiedImageError):
        if _is_odd_tiff(path):
            form = "a TIFF of a form that is not read, as 16-bit grey with alpha"
            return UserError(f"{path} is {form}: save it without alpha, or as PNG")
        reason = "no known image format"
    return UserError(f"{path} is corrupt or cut short ({reason}): replace it, or leave it out")


def check_label_mode(path: Path, mode: str) -> None:
    if mode not in LABEL_MODES:
        remedy = "save it as a palette PNG (mode P) whose pixel values are the object ids"
        raise UserError(f"{path} is an {mode} image, not a label map: {remedy}")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file; UserError where it is corrupt, cut short, enormous, or holds several pictures.

    A photo of a phone may hold a second picture for its own use (MPO), which does not count.
    """
    check_file(path)
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit warns in lines of its own; that below takes its place
    try:
        with Image.open(path, formats=FORMATS) as image:
            if (W := image.width) * (H := image.height) > MAX_PIXELS:
                raise UserError(f"{path} is {W}x{H}: a picture has at most {MAX_PIXELS} pixels; shrink it")
            if (count := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
                raise UserError(f"{path} holds {count} pictures: save each as an image file of its own")
            yield image
    except UserError:
        raise
    except BROKEN as error:
        raise bad_file(path, error) from error


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation by which the pixels of an image are still to be turned, 1 where they are upright.

    EXIF data that cannot be read say nothing. Pillow turns a TIFF when it loads the pixels.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # asked, Pillow would decode the file to look behind the pixels
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except BROKEN:
        return 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, 3) pixels turned as an EXIF orientation says."""
    turn = TURNS.get(orientation)
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def check_frame_mode(path: Path, mode: str) -> None:
    if mode == "F":
        raise UserError(f"{path} holds floating-point numbers: save frames as 8- or 16-bit images")


def is_deep(image: Image.Image) -> bool:
    """Whether an image, not loaded yet, has more than 8 bits a channel, as the header of its file says."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,))) > 8
    return image.format == "PNG" and ";16" in image.tile[0][3]


def deep_values(path: Path, image: Image.Image) -> np.ndarray:
    """The whole numbers of an image that `is_deep`: (H, W) of a grey one, (H, W, 3) RGB, without alpha.

    Pillow has but the upper 8 bits of colours and of grey with alpha, so that OpenCV reads those, and Pillow
    confirms them. UserError where a number is negative or has more than 16 bits, or the two do not agree.
    """
    values = np.array(image)
    if image.mode in DEEP_MODES:
        if not 0 <= values.min(initial=0) <= values.max(initial=0) < 1 << 16:
            raise UserError(f"{path} has negative pixels or 32-bit ones: save frames as 8- or 16-bit images")
        return values
    cv2 = require("cv2", "reading colours of 16 bits")
    try:
        colours = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        colours = None
    fine = colours is not None and colours.dtype == np.uint16 and colours.ndim == values.ndim == 3
    colours = colours[..., 2::-1] if fine else None  # BGR or BGRA
    if not fine or not np.array_equal(colours >> 8, values[..., :3]):
        remedy = "save it as an RGB image of 8 or 16 bits"
        raise UserError(f"{path} has more than 8 bits a channel in a form that is not read: {remedy}")
    return colours


FileState = tuple[Path, int, int]


def state_of(path: Path) -> FileState:
    """A file with the time of its last change and its size, by which a cache tells whether it is the same."""
    try:
        stat = path.stat()
    except OSError:
        return path, 0, 0  # it is refused where it is read
    return path, stat.st_mtime_ns, stat.st_size


@cache
def _bit_depth(files: tuple[FileState, ...]) -> int:
    depth = 8
    for path, _, _ in files:
        try:
            with opened(path) as image:
                if is_deep(image):
                    depth = max(depth, int(deep_values(path, image).max(initial=0)).bit_length())
        except (UserError, OSError):
            continue  # it is refused where it is read as a frame
        if depth >= 16:
            break
    return depth


def bit_depth(folder: Path) -> int:
    """The bits of the highest value in all images of a folder that have more than 8; 8 at least.

    A video is one folder, so that all its frames are scaled alike. They are read once, as long as they stay
    as they are.
    """
    return _bit_depth(tuple(state_of(path) for path in folder.iterdir() if path.is_file()))


def read_frame(path: Path) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB, turned upright as its EXIF orientation says.

    What has more than 8 bits a channel loses its lowest ones, so that the `bit_depth` of its folder fits 8:
    of 12-bit data 4095 becomes 255. Raises UserError where the file is corrupt, cut short, or holds
    floating-point numbers or several pictures.
    """
    with opened(path) as image:
        check_frame_mode(path, image.mode)
        if image.format == "JPEG" and image.mode == "RGB":
            pixels = decode_jpeg(path.read_bytes())
            if pixels is not None:
                return upright(pixels, orientation_of(image))
        deep = is_deep(image)
        image.load()  # a PNG may have its EXIF data after the pixels
        orientation = orientation_of(image)
        if deep:
            values = deep_values(path, image)
            image = Image.fromarray((values >> (bit_depth(path.parent) - 8)).astype(np.uint8))
        image = image if image.mode == "RGB" else image.convert("RGB")
        return upright(np.array(image), orientation)


def read_pixels(path: Path) -> np.ndarray:
    """Read the (H, W) pixel values of a label map: uint16 where the file has 16 bits, otherwise uint8.

    They are taken as they are, whatever the palette; a bilevel image holds 0 and 1.
    Raises UserError where the file is a colour image, corrupt or cut short, or holds what is no id.
    """
    with opened(path) as image:
        mode, layout = image.mode, image.tile[0][3] if image.tile else None
        plain = decode_grey_png(path.read_bytes()) if image.format == "PNG" and mode in ("L", "P") else None
        labels = np.array(image) if plain is None else plain
    check_label_mode(path, mode)
    if labels.itemsize > 1:
        if labels.size and not 0 <= labels.min() <= labels.max() <= MAX_LABEL:
            raise UserError(f"{path} holds values outside of 0 to {MAX_LABEL}: number the objects anew")
        return labels.astype(np.uint16)
    labels = labels.astype(np.uint8, copy=False)  # a bilevel image is bool
    return labels // GREY_STEPS[layout] if layout in GREY_STEPS else labels


def holds_255_only(pixels: np.ndarray) -> bool:
    """Whether 255 is all that an (H, W) map of 8 bits holds beside 0."""
    return pixels.itemsize == 1 and pixels.max(initial=0) == IGNORE and ids_in(pixels) == [IGNORE]


@cache
def _shows_one_object(maps: tuple[FileState, ...]) -> bool:
    known = False
    for path, _, _ in maps:
        try:
            pixels = read_pixels(path)
        except (UserError, OSError):
            continue  # it is refused where it is read for itself
        if pixels.any():
            known = holds_255_only(pixels)
            if not known:
                break
    return known


def shows_one_object(maps: Iterable[Path]) -> bool:
    """Whether the label maps of a video's frames are the masks of one object, by 0 and 255 (DAVIS 2016).

    So they are where no map holds another value; beside other ids 255 is no object in a map of 8 bits. They
    are read up to the first other value, once as long as they stay as they are.
    """
    return _shows_one_object(tuple(map(state_of, maps)))


FolderState = tuple[Path, int, tuple[str, ...]]


def folder_state(folder: Path) -> FolderState:
    """A folder with the time at which an entry last came, left or was replaced, and their names."""
    return folder, folder.stat().st_mtime_ns, tuple(os.listdir(folder))


@lru_cache(256)
def _one_object_in(folder: FolderState) -> bool:
    return shows_one_object(list_files(folder[0], {".png"}))


def read_label_map(path: Path, one_object: Callable[[], bool] | None = None) -> np.ndarray:
    """Read an (H, W) map of object ids, 0 background; dtype and errors as of `read_pixels`.

    one_object: whether the maps of its video `shows_one_object`, whose id is then 1; by default all in its
        folder are asked, once as long as no file joins them, leaves or is replaced
    """
    pixels = read_pixels(path)
    if not holds_255_only(pixels):
        return pixels
    is_one = one_object() if one_object else _one_object_in(folder_state(path.parent))
    return pixels // IGNORE if is_one else pixels


def mots_ids(labels: np.ndarray) -> np.ndarray:
    """A label map of MOTS, (H, W), with the regions to ignore of one of 16 bits as void: -1 in int32."""
    return np.where(labels == MOTS_IGNORE, -1, labels.astype(np.int32)) if labels.itemsize > 1 else labels


def smoothed_edges_line(path: Path) -> str:
    """What is said of a label map that `has_smoothed_edges`."""
    remedy = "draw it without anti-aliasing, so that each object has one pixel value"
    return f"{path} has smoothed edges, whose values are read as objects: {remedy}"


def read_header(path: Path) -> tuple[str, tuple[int, int]]:
    """The Pillow mode and the size (H, W) of an image, not decoded; UserError where it is no image."""
    with opened(path) as image:
        return image.mode, image.size[::-1]


def read_frame_size(path: Path) -> tuple[int, int]:
    """The size (H, W) of the frame that `read_frame` returns, not decoded; raises what that does."""
    with opened(path) as image:
        check_frame_mode(path, image.mode)
        if image.format == "PNG" and b"eXIf" in read_ending(path, 4096):
            image.load()  # it may have its EXIF data after the pixels
        tags = ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength
        W, H = [image.tag_v2[tag] for tag in tags] if image.format == "TIFF" else image.size
        return (W, H) if orientation_of(image) in QUARTER_TURNS else (H, W)


def exif_remedy(frame: Path, size: tuple[int, int]) -> str:
    """What is added to the refusal of a mask of (H, W) `size` that fits its frame as stored, not upright."""
    if size == read_frame_size(frame) or size != read_header(frame)[1]:
        return ""
    return (
        f", which the EXIF orientation of {frame} turns upright: "
        "draw the mask on the upright picture, or remove that tag from the frames"
    )


def read_ending(path: Path, size: int) -> bytes:
    """The last bytes of a file, at most `size`."""
    with open(path, "rb") as file:
        file.seek(-min(size, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return file.read()


def check_end(path: Path) -> None:
    """Raise UserError where an image is cut short; only one without its end marker is decoded to decide."""
    ending = read_ending(path, 32)
    if not any(marker in ending for marker in END_MARKERS):
        read_frame(path)


def list_files(folder: Path, suffixes: Container[str]) -> list[Path]:
    """The files of a folder with these suffixes, in natural order; a folder that is absent has none."""
    paths = folder.iterdir() if folder.is_dir() else []
    chosen = [path for path in paths if path.suffix.lower() in suffixes and is_visible(path.name)]
    return sorted(chosen, key=lambda path: natural_key(path.stem))


def list_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and is_visible(entry.name))


def mots_sequences(root: Path) -> dict[str, Path]:
    """{sequence: the folder of its frames} of a root of MOTS, by name; empty where it is none.

    They are <sequence>/img1, or image_02/<sequence> in KITTI MOTS.
    """
    if not root.is_dir() or (root / "JPEGImages").is_dir():  # a video of others may be called img1
        return {}
    if (root / KITTI_FOLDER).is_dir():
        return {name: root / KITTI_FOLDER / name for name in list_folders(root / KITTI_FOLDER)}
    folders = {name: root / name / MOTS_FOLDER for name in list_folders(root)}
    return {name: folder for name, folder in folders.items() if folder.is_dir()}


def files_below(folder: Path, suffixes: Container[str]) -> Iterator[Path]:
    """The files with these suffixes at any depth of a folder, in no order."""
    for path in folder.rglob("*"):
        if path.suffix.lower() in suffixes and all(map(is_visible, path.relative_to(folder).parts)):
            yield path


MAX_LABEL = 65535  # of a 16-bit PNG


def write_label_map(path: Path, labels: ArrayLike) -> None:
    """Write an (H, W) map of ids as a palette PNG in the DAVIS colours, or 16-bit grey where ids reach 255.

    255 never stands in a palette PNG, because readers of such files take it for "ignore".
    Raises UserError where an id does not fit 16 bits, OSError where the file cannot be written.
    """
    labels = np.asarray(labels)
    highest = int(labels.max(initial=0))
    if highest > MAX_LABEL:
        raise UserError(
            f"{path}: id {highest} does not fit a PNG, which ends at {MAX_LABEL}: split the video"
        )
    if highest < IGNORE:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(PALETTE.tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")
