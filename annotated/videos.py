"""An annotated VOS folder on disk: videos, frames, palette masks, who is what."""

from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from annotated.mots import MotsFile, by_time, mots_files
from common.errors import UserError
from common.files import read_json
from common.progress import progress, say
from video.images import (
    FRAME_SUFFIXES,
    MOTS_MASKS,
    check_end,
    check_label_mode,
    exif_remedy,
    folder_state,
    list_files,
    list_folders,
    mots_ids,
    mots_sequences,
    read_frame,
    read_frame_size,
    read_header,
    read_label_map,
    shows_one_object,
    smoothed_edges_line,
)
from video.label_maps import has_smoothed_edges, objects_in


@dataclass
class AnnotatedVideo:
    """One annotated video; frames go by their file name without the suffix.

    frames, annotated: all frames, and those that have a mask, in order
    size: (H, W) of all frames, where they were checked; otherwise None
    is_mots: whether the id 10000 stands for pixels to ignore
    asked: whether its masks `shows_one_object`, and of what state of its folder that is
    categories: those of its objects by id, None where `meta`, the file that would tell, does not
    """

    name: str
    frame_folder: Path
    mask_folder: Path
    suffix: str
    frames: list[str]
    annotated: list[str]
    size: tuple[int, int] | None = None
    is_mots: bool = False
    categories: dict[int, str] | None = None
    meta: Path = Path("meta.json")
    asked: tuple[Any, bool] | None = field(default=None, init=False, compare=False, repr=False)

    def frame_path(self, frame: str) -> Path:
        return self.frame_folder / f"{frame}{self.suffix}"

    def mask_path(self, frame: str) -> Path:
        return self.mask_folder / f"{frame}.png"

    def read_frame(self, frame: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_frame(self.frame_path(frame))

    def read_labels(self, frame: str) -> np.ndarray:
        """The (H, W) label map of an annotated frame; UserError where its size is not the frame's."""
        labels = self.read_mask(frame)
        self._check_mask_size(frame, labels.shape, self.size or read_frame_size(self.frame_path(frame)))
        return labels

    def read_mask(self, frame: str) -> np.ndarray:
        """As `read_labels`, whatever its size."""
        labels = read_label_map(self.mask_path(frame), self._shows_one_object)
        return mots_ids(labels) if self.is_mots else labels

    def _shows_one_object(self) -> bool:
        state = folder_state(self.mask_folder), len(self.frames), len(self.annotated)
        if self.asked is None or self.asked[0] != state:
            self.asked = state, shows_one_object(self._masks_of_frames())
        return self.asked[1]

    def _masks_of_frames(self) -> Iterator[Path]:
        frames = set(self.frames)
        yield from (self.mask_path(frame) for frame in self.annotated if frame in frames)

    def find_bad(self) -> dict[Path, str]:
        """Path and trouble of every bad frame and mask, from headers and file ends.

        Bad is what cannot be read, a frame of another size than those before it, a colour mask, a mask
        without a frame or of another size than its frame. Remembers the size of the good frames.
        """
        bad: dict[Path, str] = {}
        self.size = None
        for frame in self.frames:
            try:
                self.size = self._check_frame(frame, self.size)
            except (UserError, OSError) as error:
                bad[self.frame_path(frame)] = str(error)
        frames = set(self.frames)
        for frame in self.annotated:
            if self.frame_path(frame) in bad:
                continue
            try:
                self._check_mask(frame, self.size if frame in frames else None)
            except (UserError, OSError) as error:
                bad[self.mask_path(frame)] = str(error)
        return bad

    def has_smoothed_edges(self) -> bool:
        """Whether the first mask shows the edges of a paint program; False where it cannot be read."""
        try:
            return has_smoothed_edges(self.read_mask(self.annotated[0]))
        except (UserError, OSError):
            return False

    def drop(self, bad: Container[Path]) -> None:
        """Take bad files out of the lists; the frame of a bad mask stays, as one that has no mask."""
        self.frames = [frame for frame in self.frames if self.frame_path(frame) not in bad]
        frames = set(self.frames)
        self.annotated = [f for f in self.annotated if f in frames and self.mask_path(f) not in bad]

    def _check_frame(self, frame: str, expected: tuple[int, int] | None) -> tuple[int, int]:
        path = self.frame_path(frame)
        size = read_frame_size(path)
        if expected and size != expected:
            sizes = f"{size[1]}x{size[0]} but frames before it are {expected[1]}x{expected[0]}"
            raise UserError(f"frame {path} is {sizes}: all frames of a video have one size")
        check_end(path)
        return size

    def _check_mask(self, frame: str, frame_size: tuple[int, int] | None) -> None:
        path = self.mask_path(frame)
        if frame_size is None:
            raise UserError(f"mask {path} has no frame: {self.frame_path(frame)} is missing")
        mode, size = read_header(path)
        check_label_mode(path, mode)
        self._check_mask_size(frame, size, frame_size)
        check_end(path)

    def _check_mask_size(self, frame: str, mask_size: tuple[int, int], frame_size: tuple[int, int]) -> None:
        if mask_size != frame_size:
            (H, W), (frame_H, frame_W) = mask_size, frame_size
            trouble = f"mask {self.mask_path(frame)} is {W}x{H} but its frame is {frame_W}x{frame_H}"
            raise UserError(trouble + exif_remedy(self.frame_path(frame), mask_size))


@dataclass(kw_only=True)
class MotsVideo(AnnotatedVideo):
    """A sequence of MOTS whose masks are in a text file; the names of frames are times, all are annotated."""

    masks: MotsFile

    def mask_path(self, frame: str) -> Path:
        return self.masks.path

    def read_mask(self, frame: str) -> np.ndarray:
        size = self.masks.size or self.size or read_frame_size(self.frame_path(frame))
        return mots_ids(self.masks.label_map(int(frame), size))

    def _check_mask(self, frame: str, frame_size: tuple[int, int] | None) -> None:
        self._check_mask_size(frame, self.masks.size or frame_size, frame_size)


def list_mots_video(name: str, frames: list[Path], path: Path) -> MotsVideo:
    """A sequence whose masks are in the text file `path`; UserError where one is of no frame."""
    masks = MotsFile(path)
    masks.check_times(by_time(frames))
    folder, suffix, stems = frames[0].parent, frames[0].suffix, [image.stem for image in frames]
    drawn = folder.parents[1] / MOTS_MASKS / name  # where tools.convert puts them as label maps
    return MotsVideo(name, folder, drawn, suffix, stems, [*stems], is_mots=True, masks=masks)


def list_video(name: str, frame_folder: Path, mask_folder: Path, *, is_mots: bool = False) -> AnnotatedVideo:
    """List one video; UserError where it has no frames, no masks, or frames of several formats.

    mask_folder: of its label maps, or the text file of a sequence of MOTS
    """
    frames, masks = list_files(frame_folder, FRAME_SUFFIXES), list_files(mask_folder, {".png"})
    suffixes = sorted({path.suffix for path in frames})
    if len(suffixes) != 1:
        content = f"frames of several formats, {' '.join(suffixes)}" if frames else "no .jpg or .png files"
        raise UserError(f"{frame_folder} holds {content}: put the frames of {name} there, in one format")
    if mask_folder.is_file():
        return list_mots_video(name, frames, mask_folder)
    if not masks:
        raise UserError(f"{mask_folder} holds no .png masks: add them, or remove the video {frame_folder}")
    stems = ([path.stem for path in paths] for paths in (frames, masks))
    return AnnotatedVideo(name, frame_folder, mask_folder, suffixes[0], *stems, is_mots=is_mots)


def read_objects(path: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """{video: {id: what is said of the object}} of a meta.json in the YouTube-VOS form.

    Empty where there is no such file. Raises UserError where it has another form, or a category is no text.
    """
    if not path.exists():
        return {}
    content = read_json(path)
    try:
        videos = {
            video: {int(i): about for i, about in entry["objects"].items()}
            for video, entry in content["videos"].items()
        }
        categories = [about.get("category", "") for objects in videos.values() for about in objects.values()]
        if not all(isinstance(category, str) for category in categories):
            raise TypeError("a category is no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        form = '{"videos": {video: {"objects": {id: {"category": ...}}}}}'
        raise UserError(f"{path} has not the form {form} ({error!r:.80}): mend it, or remove it") from error
    return videos


def read_categories(path: Path) -> dict[str, dict[int, str]]:
    """{video: {id: category}} of a meta.json, as `read_objects` takes it."""
    return {
        video: {i: about["category"] for i, about in objects.items() if "category" in about}
        for video, objects in read_objects(path).items()
    }


def read_category_names(path: Path) -> dict[int, str]:
    """{number: category} of the categories.json of inference.py; empty where there is no such file."""
    content = read_json(path) if path.exists() else {}
    try:
        names = {int(number): name for number, name in content.items()}
        if not all(isinstance(name, str) for name in names.values()):
            raise TypeError("a name is no text")
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f'{path} has not the form {{"1": "cat", ...}} ({error!s:.80}): write it anew'
        ) from error
    return names


def vos_folder(root: Path, kind: str) -> Path:
    """The folder of the videos in JPEGImages or Annotations, the `kind`; UserError where it is absent."""
    folder = root / kind
    if not folder.is_dir():
        remedy = "point --dataset_root to the data, or try without any by --synthetic easy"
        raise UserError(f"there is no folder {folder}: {remedy}")
    return folder / "480p" if (folder / "480p").is_dir() else folder


def video_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """{video: the folders of its frames and of its masks} in any layout that `VOSFolder` takes, by name.

    Of a sequence of MOTS without label maps the second is its text file.
    """
    if sequences := mots_sequences(root):
        masks = root / MOTS_MASKS
        texts = {} if masks.is_dir() else mots_files(root)
        if not masks.is_dir() and not texts:
            remedy = "or text files instances_txt/<sequence>.txt or <sequence>/gt/gt.txt: add them"
            raise UserError(f"there are no label maps {masks}/<sequence>/<frame>.png, {remedy}")
        return {name: (frames, texts.get(name, masks / name)) for name, frames in sequences.items()}
    frames, masks = (vos_folder(root, kind) for kind in ("JPEGImages", "Annotations"))
    names = sorted({*list_folders(frames), *list_folders(masks)})
    if not names:
        raise UserError(f"{frames} holds no videos: put the frames of each into a folder of its own")
    return {name: (frames / name, masks / name) for name in names}


def has_annotations(root: Path) -> bool:
    """Whether a folder has label maps where `VOSFolder` looks for them."""
    is_mots = bool(mots_sequences(root)) and ((root / MOTS_MASKS).is_dir() or bool(mots_files(root)))
    return (root / "Annotations").is_dir() or is_mots


class VideoSet:
    """The annotated videos of a data set, or of several, whose categories are joined by name.

    root: the folder that they lie in, the first of several
    videos: by name; categories: the sorted names of the categories, empty where there are none
    left_out: what is wrong with the videos that were left out
    """

    def __init__(self, root: Path, videos: Sequence[AnnotatedVideo], categories: Iterable[str] = ()):
        self.root, self.videos = root, list(videos)
        self.categories = sorted(set(categories))
        self.left_out: list[str] = []

    @property
    def is_still(self) -> bool:
        """Whether these are still images, each a video of one frame."""
        return all(len(video.frames) == 1 for video in self.videos)

    @property
    def digest(self) -> str:
        """8 hex digits of the names, first frames and lengths, by which other videos are recognised."""
        videos = (f"{Path(video.name).name} {video.frames[0]} {len(video.frames)}" for video in self.videos)
        return f"{crc32(chr(10).join(videos).encode(errors='surrogateescape')):08x}"

    @property
    def video_root(self) -> Path:
        """What inference.py takes as `--video_root` to track the videos; of still images the first one."""
        video = self.videos[0]
        return video.frame_path(video.frames[0]) if self.is_still else self.root

    def classes_of(self, video: AnnotatedVideo) -> dict[int, int]:
        """{object id: index of its category} of a video.

        Raises UserError where nothing gives the video categories, or one that is not in `categories`.
        """
        if video.categories is None:
            raise UserError(f"{video.meta} lacks the categories of video {video.name}: add them")
        unknown = sorted(set(video.categories.values()) - set(self.categories))
        if unknown:
            trouble = f"{video.meta}: video {video.name} has categories that training lacks"
            raise UserError(f"{trouble} ({', '.join(unknown)}): leave it out, or use --num_classes 1")
        places = {name: place for place, name in enumerate(self.categories)}
        return {i: places[name] for i, name in video.categories.items()}


class VOSFolder(VideoSet):
    """An annotated folder in the layout of YouTube-VOS, DAVIS or MOTS.

    `root` holds JPEGImages/<video>/<frame>.jpg and Annotations/<video>/<frame>.png, or the same below
    a folder "480p" in each, and optionally meta.json with the categories of the objects. Or it holds the
    sequences of MOTS, <video>/img1/<frame>.jpg or image_02/<video>/<frame>.png, and
    instances/<video>/<frame>.png or the text files of `mots_files`.
    Raises UserError where a folder is absent; where a video has no frames or no masks, unless `skip_bad`.
    """

    def __init__(self, root: Path, *, skip_bad: bool = False):
        meta = root / "meta.json"
        categories = read_categories(meta)
        super().__init__(root, [], (name for objects in categories.values() for name in objects.values()))
        is_mots = bool(mots_sequences(root))
        for name, folders in video_folders(root).items():
            try:
                video = list_video(name, *folders, is_mots=is_mots)
            except UserError as error:
                if not skip_bad:
                    raise
                self.left_out.append(str(error))
                continue
            video.categories, video.meta = categories.get(name), meta
            self.videos.append(video)


def check_objects(root: Path, videos: Sequence[AnnotatedVideo]) -> None:
    """Raise UserError where no mask of the videos shows an object; they are read up to the first one."""
    troubles: list[str] = []
    for video, frame in ((one, frame) for one in videos for frame in one.annotated):
        try:
            if objects_in(video.read_mask(frame)):
                return
        except (UserError, OSError) as error:
            troubles = troubles or [str(error)]  # it is reported when a clip needs it, if others have objects
    if troubles:
        raise UserError(f"{root} has no mask with an object that can be read; the first error: {troubles[0]}")
    remedy = "give each object a pixel value from 1 to 254, or 1 to 65535 in 16 bits"
    raise UserError(f"{root} has masks without any object in {len(videos)} videos: {remedy}")


def tell_smoothed_edges(videos: Sequence[AnnotatedVideo], executor: Executor) -> None:
    """Say on stderr which video is the first whose mask has smoothed edges, and how many there are."""
    found = executor.map(lambda video: video.has_smoothed_edges(), videos)
    smoothed = [video for video, is_smoothed in zip(videos, found, strict=True) if is_smoothed]
    if smoothed:
        others = f"; so do {len(smoothed) - 1} more videos" if len(smoothed) > 1 else ""
        say(smoothed_edges_line(smoothed[0].mask_path(smoothed[0].annotated[0])) + others, error=True)


def check(folder: VideoSet, *, skip_bad: bool, workers: int = 4) -> list[str]:
    """Look at every file before a run, without decoding it; returns what is wrong with bad ones, in order.

    Of each video the first mask is decoded: smoothed edges are reported.

    With `skip_bad` bad files leave the lists of their videos, and videos without any mask left the folder.
    Raises UserError at the first bad file otherwise, or where no video is left.
    """
    with ThreadPoolExecutor(max(1, workers)) as executor:
        checks = executor.map(AnnotatedVideo.find_bad, folder.videos)
        bad_files = list(progress(checks, f"checking {folder.root}", len(folder.videos)))
    troubles = [trouble for bad in bad_files for trouble in bad.values()]
    if troubles and not skip_bad:
        others = f"; {len(troubles) - 1} more files are bad" if len(troubles) > 1 else ""
        raise UserError(f"{troubles[0]}{others} (--skip_bad leaves bad files out)")
    for video, bad in zip(folder.videos, bad_files, strict=True):
        video.drop(bad)
    troubles = folder.left_out + troubles
    folder.videos = [video for video in folder.videos if video.annotated]
    if not folder.videos:
        raise UserError(f"{folder.root} has no good annotated frame; the first bad file: {troubles[0]}")
    with ThreadPoolExecutor(max(1, workers)) as executor:
        tell_smoothed_edges(folder.videos, executor)
    return troubles
