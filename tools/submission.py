"""Submissions to the servers of DAVIS and YouTube-VOS: a folder or a zip of checked palette PNGs.

DAVIS takes <sequence>/<frame>.png at the top of the zip, for every frame of the sequences of a set.
YouTube-VOS takes Annotations/<video>/<frame>.png, for the frames that meta.json lists for any object: 6 a
second, from the first object's first frame on.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from common.errors import UserError
from common.files import atomic_folder, atomic_write, read_json
from common.progress import progress
from common.types import IGNORE
from scoring.label_folders import mask_root
from scoring.protocols.davis import MAX_PROPOSALS, list_folders_of, listed_sequences
from video.images import (
    FRAME_SUFFIXES,
    list_files,
    list_folders,
    read_header,
    read_label_map,
    write_label_map,
)
from video.masks import ids_in

IMAGES = ("JPEGImages/480p", "JPEGImages")
PROPOSALS = range(1, MAX_PROPOSALS + 1)
ANY_ID = range(1, IGNORE)  # what a palette PNG holds: 255 is no object
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the date of every file in a zip, so that equal files make equal bytes
YOUTUBE_VOS_FORM = '{"videos": {video: {"objects": {id: {"frames": [...]}}}}}'


class Wanted(NamedTuple):
    """What a server wants of one video.

    frames: {name: the image whose size the map must have, None where it is unknown}, in order
    ids: the legal ids, 0 aside
    ids_of: what has these ids
    """

    name: str
    frames: dict[str, Path | None]
    ids: Collection[int]
    ids_of: str


def image_root(root: Path) -> Path:
    """The folder <video>/<frame>.jpg of a data set; UserError where there is none."""
    found = mask_root(root, IMAGES)
    if found == root:
        raise UserError(f"there is no folder {root / IMAGES[-1]}, which says what frames are needed: add it")
    return found


def images_of(folder: Path) -> dict[str, Path | None]:
    """{frame name: image} of one video in order; UserError where there are none."""
    images = {path.stem: path for path in list_files(folder, FRAME_SUFFIXES)}
    if not images:
        raise UserError(f"{folder} holds no images: it says what frames are needed, so add them")
    return images


def davis_sequences(root: Path, image_set: str, unsupervised: bool) -> list[str]:
    """The names of a set of the DAVIS root; all sequences where there is no folder ImageSets."""
    names = listed_sequences(root, image_set, list_folders_of(image_set, unsupervised))
    return list_folders(image_root(root)) if names is None else names


def davis_ids(masks: Path, frames: Collection[str]) -> tuple[Collection[int], str]:
    """The ids 1..N of a sequence, N the largest of its first mask, and the path of that; any without one."""
    first = masks / f"{next(iter(frames))}.png"
    if not first.is_file():
        return ANY_ID, "a palette PNG"
    labels = read_label_map(first)
    ids = ids_in(labels)
    num_objects = 1 if ids == [IGNORE] else max({*ids} - {IGNORE}, default=0)  # DAVIS 2016 has one of 255
    return range(1, num_objects + 1), str(first)


def davis_wanted(root: Path, image_set: str) -> Iterator[Wanted]:
    """Every frame of the sequences of a set; the official program stops at an id above the objects."""
    images, masks = image_root(root), mask_root(root)
    for name in davis_sequences(root, image_set, unsupervised=False):
        frames = images_of(images / name)
        yield Wanted(name, frames, *davis_ids(masks / name, frames))


def davis_unsupervised_wanted(root: Path, image_set: str) -> Iterator[Wanted]:
    """Every frame of the sequences of a set, at most 20 proposals in each."""
    images = image_root(root)
    for name in davis_sequences(root, image_set, unsupervised=True):
        yield Wanted(name, images_of(images / name), PROPOSALS, "unsupervised DAVIS")


def youtube_vos_objects(path: Path) -> dict[str, dict[int, set[str]]]:
    """{video: {object id: names of its frames}} of a meta.json of YouTube-VOS; UserError where it is none."""
    if not path.is_file():
        raise UserError(f"there is no {path}, which says what frames are needed: add that of YouTube-VOS")
    meta = read_json(path)
    try:
        return {
            video: {int(i): set(entry["frames"]) for i, entry in about["objects"].items()}
            for video, about in meta["videos"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} has not the form {YOUTUBE_VOS_FORM} ({error!r}): mend it") from error


def youtube_vos_wanted(root: Path, image_set: str) -> Iterator[Wanted]:
    """The frames that meta.json lists for the objects of each video; such a root is one set."""
    path, images = root / "meta.json", image_root(root)
    for name, objects in youtube_vos_objects(path).items():
        listed, there = set().union(*objects.values()), images_of(images / name)
        missing = sorted(listed - there.keys())
        if missing:
            raise UserError(f"{images / name} lacks frame {missing[0]}, which {path} lists: add it")
        frames = {frame: image for frame, image in there.items() if frame in listed}
        yield Wanted(name, frames, objects.keys(), str(path))


class Layout(NamedTuple):
    """What a server takes.

    wanted: what it wants of a data set, by its root and the name of the set
    folder: where the videos are in a zip
    ids: the legal ids where no data set says which
    """

    wanted: Callable[[Path, str], Iterable[Wanted]]
    folder: str = ""
    ids: Collection[int] = ANY_ID


LAYOUTS = {
    "davis": Layout(davis_wanted),
    "davis_unsupervised": Layout(davis_unsupervised_wanted, ids=PROPOSALS),
    "youtube_vos": Layout(youtube_vos_wanted, folder="Annotations/"),
}


def everything(masks: Path, layout: Layout) -> Iterator[Wanted]:
    """All that a folder of results holds, where no data set says what is needed."""
    for name in list_folders(masks):
        frames = [path.stem for path in list_files(masks / name, {".png"})]
        yield Wanted(name, dict.fromkeys(frames), layout.ids, "a submission")


def palette_png(path: Path, labels: np.ndarray) -> bytes:
    """The bytes of a label map as a palette PNG: those of the file where it is one, else written anew."""
    if read_header(path)[0] == "P":
        return path.read_bytes()
    with TemporaryDirectory() as folder:
        write_label_map(Path(folder) / path.name, labels)
        return (Path(folder) / path.name).read_bytes()


def checked_png(path: Path, image: Path | None, wanted: Wanted) -> bytes:
    """The palette PNG of one frame; UserError where it is missing, of another size, or has an unknown id."""
    if not path.is_file():
        raise UserError(f"{path} is missing: a submission needs a map of every frame of {wanted.name}")
    labels = read_label_map(path)
    size = labels.shape if image is None else read_header(image)[1]
    if labels.shape != size:
        (H, W), (frame_H, frame_W) = labels.shape, size
        raise UserError(f"{path} is {W}x{H}, but {image} is {frame_W}x{frame_H}: write it at that size")
    unknown = [i for i in ids_in(labels) if i not in wanted.ids]
    if unknown:
        legal = ", ".join(map(str, wanted.ids)) if len(wanted.ids) < 10 else f"1 to {max(wanted.ids)}"
        raise UserError(
            f"{path} has the id {unknown[0]}, but {wanted.ids_of} has {legal or 'none'}: renumber"
        )
    return palette_png(path, labels)


def add_to_folder(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def add_to_zip(archive: ZipFile, name: str, content: bytes) -> None:
    entry = ZipInfo(name, EARLIEST)
    entry.create_system, entry.external_attr = 3, 0o644 << 16  # as of Unix, on any system
    archive.writestr(entry, content, compress_type=ZIP_STORED)  # a PNG is compressed already


@contextmanager
def packed(target: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Yield a function that adds a file to a .zip, or else to a folder; all appears when the block ends."""
    if target.suffix.lower() == ".zip":
        with atomic_write(target) as temporary, ZipFile(temporary, "w") as archive:
            yield partial(add_to_zip, archive)
    else:
        with atomic_folder(target) as folder:
            yield partial(add_to_folder, folder)


def write_submission(
    target: Path, results: Path, annotations: Path | None, protocol: str, *, image_set: str = "val"
) -> str:
    """Write what the server of a protocol takes, checked, into a .zip or a new folder; returns a summary.

    results: label maps <video>/<frame>.png, or a folder with Annotations; grey maps become palette PNGs
    annotations: the data set, which says what frames are needed, their sizes and the legal ids: a DAVIS root,
    or a YouTube-VOS set with meta.json, each with JPEGImages; where it is None all results are taken
    protocol: davis, davis_unsupervised or youtube_vos
    image_set: the set of a DAVIS root
    Raises UserError that names the file where one is missing or illegal; nothing is left then.
    """
    if protocol not in LAYOUTS:
        raise UserError(f"no server takes results of the protocol {protocol}: choose {', '.join(LAYOUTS)}")
    layout, masks = LAYOUTS[protocol], mask_root(results)
    wanted = layout.wanted(annotations, image_set) if annotations else everything(masks, layout)
    videos = sorted(wanted, key=lambda video: video.name)
    num_frames = sum(len(video.frames) for video in videos)
    if not num_frames:
        raise UserError(f"{annotations or masks} names no frames: there is nothing to submit")
    with packed(target) as add:
        for video in progress(videos, f"writing {target.name}"):
            for frame, image in video.frames.items():
                path = masks / video.name / f"{frame}.png"
                add(f"{layout.folder}{video.name}/{path.name}", checked_png(path, image, video))
    others = sum(len(list_files(masks / name, {".png"})) for name in list_folders(masks)) - num_frames
    left_out = f" ({others} other label maps are left out)" if others else ""
    return f"{target}: {len(videos)} videos, {num_frames} frames for {protocol}{left_out}"
