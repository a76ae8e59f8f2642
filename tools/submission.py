"""Submissions to the servers of DAVIS, YouTube-VOS and MOTS: a folder or a zip of checked results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from annotated.mots import MotsMask, by_time
from common.errors import UserError
from common.files import atomic_folder, atomic_write, below
from common.progress import progress
from scoring.label_folders import mask_root
from scoring.mots_files import mots_text
from scoring.protocols.servers import Server, VideoRequest
from scoring.protocols.table import PROTOCOLS
from video.images import (
    list_files,
    list_folders,
    read_frame_size,
    read_header,
    read_label_map,
    read_pixels,
    write_label_map,
)
from video.label_maps import ids_in
from video.rle import encode_rle

EARLIEST = (1980, 1, 1, 0, 0, 0)  # the date of every file in a zip, so that equal files make equal bytes


def server_of(protocol: str) -> Server:
    """The server of a protocol; UserError where there is none."""
    server = PROTOCOLS[protocol].server
    if server is None:
        choices = ", ".join(name for name, row in PROTOCOLS.items() if row.server)
        raise UserError(f"no server takes results of the protocol {protocol}: choose {choices}")
    return server


def palette_png(path: Path, labels: np.ndarray) -> bytes:
    """The bytes of a label map as a palette PNG: its file's where that has them, else written anew."""
    if read_header(path)[0] == "P" and np.array_equal(read_pixels(path), labels):
        return path.read_bytes()
    with TemporaryDirectory() as folder:
        write_label_map(Path(folder) / path.name, labels)
        return (Path(folder) / path.name).read_bytes()


def checked_map(path: Path, image: Path, video: VideoRequest) -> np.ndarray:
    """The label map of a frame; UserError where it is missing, of another size, or has an unknown id."""
    if not path.is_file():
        raise UserError(f"{path} is missing: a submission needs a map of every frame of {video.name}")
    labels, size = read_label_map(path), read_frame_size(image)
    if labels.shape != size:
        (H, W), (frame_H, frame_W) = labels.shape, size
        raise UserError(f"{path} is {W}x{H}, but {image} is {frame_W}x{frame_H}: write it at that size")
    unknown = [i for i in ids_in(labels) if i not in video.ids]
    if unknown:
        legal = ", ".join(map(str, video.ids)) if len(video.ids) < 10 else f"1 to {max(video.ids)}"
        raise UserError(f"{path} has the id {unknown[0]}, but {video.ids_of} has {legal or 'none'}: renumber")
    return labels


def png_files(folder: Path, video: VideoRequest) -> Iterator[tuple[str, bytes]]:
    """Name and content of the palette PNG of each frame; `folder` holds the label maps of the video."""
    for frame, image in video.frames.items():
        path = below(folder, frame, ".png")
        yield f"{video.name}/{path.name}", palette_png(path, checked_map(path, image, video))


def mots_file(folder: Path, video: VideoRequest) -> Iterator[tuple[str, bytes]]:
    """Name and content of the one MOTS file of a video; `folder` holds its label maps."""
    masks: list[MotsMask] = []
    paths = by_time(below(folder, frame, ".png") for frame in video.frames)
    for (time, path), image in zip(paths.items(), video.frames.values(), strict=True):
        labels = checked_map(path, image, video)
        masks += (MotsMask(time, i, labels.shape, encode_rle(labels == i)) for i in ids_in(labels))
    yield f"{video.name}.txt", mots_text(masks, str(folder)).encode()


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
    target: Path, results: Path, annotations: Path, protocol: str, *, image_set: str = "val"
) -> str:
    """Write what the server of a protocol takes, checked, into a .zip or a new folder; returns a summary.

    results: label maps <video>/<frame>.png, or a folder with Annotations; grey maps become palette PNGs, and
    those of a sequence of MOTS a text file
    annotations: the data set, which says what frames are needed, their sizes and the legal ids: a DAVIS root,
    or a YouTube-VOS set with meta.json, each with JPEGImages, or the sequences of MOTS
    protocol: one whose row of PROTOCOLS has a server
    image_set: the set of a DAVIS root
    Raises UserError that names the file where one is missing or illegal; nothing is left then.
    """
    server, masks = server_of(protocol), mask_root(results)
    videos = sorted(server.requests(annotations, image_set), key=lambda video: video.name)
    num_frames = sum(len(video.frames) for video in videos)
    if not num_frames:
        raise UserError(f"{annotations} names no frames: there is nothing to submit")
    with packed(target) as add:
        for video in progress(videos, f"writing {target.name}"):
            files = (mots_file if server.as_text else png_files)(below(masks, video.name), video)
            for name, content in files:
                add(f"{server.folder}{name}", content)
    others = sum(len(list_files(masks / name, {".png"})) for name in list_folders(masks)) - num_frames
    left_out = f" ({others} other label maps are left out)" if others else ""
    return f"{target}: {len(videos)} videos, {num_frames} frames for {protocol}{left_out}"
