"""What the servers of DAVIS, YouTube-VOS and MOTS take: which frames of which videos, with which ids.

DAVIS takes <sequence>/<frame>.png at the top of the zip, for every frame of the sequences of a set.
YouTube-VOS takes Annotations/<video>/<frame>.png, for the frames that meta.json lists for any object: 6 a
second, from the first object's first frame on.
MOTS takes a text file <sequence>.txt at the top of the zip, made from a map of every frame.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from common.files import below, read_json
from scoring.label_folders import MASK_FOLDERS, mask_root
from scoring.protocols.davis import (
    MAX_PROPOSALS,
    list_folders_of,
    listed_sequences,
    num_objects,
)
from video.images import (
    FRAME_SUFFIXES,
    MAX_LABEL,
    MOTS_MASKS,
    list_files,
    list_folders,
    mots_sequences,
    read_label_map,
)
from video.label_maps import IGNORE

IMAGE_FOLDERS = ("JPEGImages/480p", "JPEGImages")
PROPOSALS = range(1, MAX_PROPOSALS + 1)
ANY_ID = range(1, IGNORE)  # what a palette PNG holds: 255 is no object
META_FORM = '{"videos": {video: {"objects": {id: {"frames": [...]}}}}}'


class VideoRequest(NamedTuple):
    """What a server takes of one video.

    frames: {name: the image whose size the map must have}, in order
    ids: the legal ids, 0 aside
    ids_of: what has these ids
    """

    name: str
    frames: dict[str, Path]
    ids: Collection[int]
    ids_of: str


class Server(NamedTuple):
    """What a server takes.

    requests: what it takes of a data set, by its root and the name of the set
    folder: where the videos are in a zip
    as_text: whether a video is a MOTS file, not a folder of label maps
    """

    requests: Callable[[Path, str], Iterable[VideoRequest]]
    folder: str = ""
    as_text: bool = False


def _image_root(root: Path) -> Path:
    """The folder <video>/<frame>.jpg of a data set; UserError where there is none."""
    images = mask_root(root, IMAGE_FOLDERS)
    if images == root:
        needed = root / IMAGE_FOLDERS[-1]
        raise UserError(f"there is no folder {needed}, which says what frames are needed: add it")
    return images


def _images_of(folder: Path) -> dict[str, Path]:
    """{frame name: image} of one video in order; UserError where there are none."""
    images = {path.stem: path for path in list_files(folder, FRAME_SUFFIXES)}
    if not images:
        raise UserError(f"{folder} holds no images: it says what frames are needed, so add them")
    return images


def _davis_sequences(root: Path, image_set: str, unsupervised: bool) -> list[str]:
    """The names of a set of the DAVIS root; all sequences where there is no folder ImageSets."""
    names = listed_sequences(root, image_set, list_folders_of(image_set, unsupervised))
    return list_folders(_image_root(root)) if names is None else names


def _davis_ids(masks: Path, frames: Collection[str]) -> tuple[Collection[int], str]:
    """The ids of the objects of a sequence and the path of its first mask; any ids where there is none."""
    path = masks / f"{next(iter(frames))}.png"
    if not path.is_file():
        return ANY_ID, "a palette PNG"
    return range(1, 1 + num_objects(read_label_map(path))), str(path)


def _davis_requests(root: Path, image_set: str) -> Iterator[VideoRequest]:
    """Every frame of the sequences of a set; the official program stops at an id above the objects."""
    images, masks = _image_root(root), mask_root(root)
    for name in _davis_sequences(root, image_set, unsupervised=False):
        frames = _images_of(below(images, name))
        yield VideoRequest(name, frames, *_davis_ids(below(masks, name), frames))


def _davis_unsupervised_requests(root: Path, image_set: str) -> Iterator[VideoRequest]:
    """Every frame of the sequences of a set, at most 20 proposals in each."""
    images = _image_root(root)
    for name in _davis_sequences(root, image_set, unsupervised=True):
        yield VideoRequest(name, _images_of(below(images, name)), PROPOSALS, "unsupervised DAVIS")


def _youtube_vos_objects(path: Path) -> dict[str, dict[int, set[str]]]:
    """{video: {object id: names of its frames}} of a meta.json of YouTube-VOS; UserError where it is none."""
    if not path.exists():
        raise UserError(f"there is no {path}, which says what frames are needed: add that of YouTube-VOS")
    meta = read_json(path)
    try:
        return {
            video: {int(i): set(entry["frames"]) for i, entry in about["objects"].items()}
            for video, about in meta["videos"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} has not the form {META_FORM} ({error!r}): mend it") from error


def _youtube_vos_requests(root: Path, image_set: str) -> Iterator[VideoRequest]:
    """The frames that meta.json lists for the objects of each video; such a root is one set."""
    path, images = root / "meta.json", _image_root(root)
    for name, objects in _youtube_vos_objects(path).items():
        listed_frames, video_images = set().union(*objects.values()), _images_of(below(images, name))
        missing = sorted(listed_frames - video_images.keys())
        if missing:
            raise UserError(f"{images / name} lacks frame {missing[0]}, which {path} lists: add it")
        frames = {frame: image for frame, image in video_images.items() if frame in listed_frames}
        yield VideoRequest(name, frames, objects.keys(), str(path))


def _mots_requests(root: Path, image_set: str) -> Iterator[VideoRequest]:
    """Every frame of all sequences of MOTS; of other data sets their frames, or else label maps."""
    folders = mots_sequences(root)
    images = mask_root(root, (*IMAGE_FOLDERS, *MASK_FOLDERS, MOTS_MASKS))
    for name, folder in (folders or {name: images / name for name in list_folders(images)}).items():
        yield VideoRequest(name, _images_of(folder), range(1, MAX_LABEL + 1), "a MOTS file")


DAVIS_SERVER = Server(_davis_requests)
DAVIS_UNSUPERVISED_SERVER = Server(_davis_unsupervised_requests)
YOUTUBE_VOS_SERVER = Server(_youtube_vos_requests, folder="Annotations/")
MOTS_SERVER = Server(_mots_requests, as_text=True)
