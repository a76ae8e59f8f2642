"""Everything that is known of one video after a look at each of its masks."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from annotated.json_videos import JsonVideo
from annotated.videos import AnnotatedVideo
from common.errors import UserError
from tools.doctor.duplicates import thumbnail
from tools.doctor.findings import Finding
from tools.doctor.identities import changed_ids, sampled
from tools.doctor.sequence import MIN_LENGTH, frame_gaps, gaps, strays
from video.images import holds_255_only, read_header, read_pixels
from video.label_maps import has_smoothed_edges, void_in

MIN_PIXELS, MIN_SHARE = 25, 0.0002  # of an object's largest mask; below either it is tiny
GIANT_SHARE = 0.8  # of the frame, above which a mask is giant
MANY_IDS = 3  # up to which no mask has smoothed edges

Objects = dict[int, dict[str, Any]]  # what meta.json says of the objects of a video, by id


@dataclass
class Appearance:
    """Where an object is: places in the list of annotated frames, and pixels."""

    first: int
    last: int = 0
    num_masks: int = 0
    largest: int = 0  # pixels of its largest mask
    total: int = 0  # pixels of all its masks

    def add(self, place: int, pixels: int) -> None:
        self.last, self.num_masks = place, self.num_masks + 1
        self.largest, self.total = max(self.largest, pixels), self.total + pixels


@dataclass
class Examined:
    """What is kept of a video: findings, counts, and a few small pictures.

    size: (H, W); modes: Pillow's, of the first frame and the first mask
    shares: of each object, the mean part of the frame that its masks cover
    thumbnails: (3, 16, 16) uint8 of the first, the middle and the last frame; None where one is bad
    """

    findings: list[Finding] = field(default_factory=list)
    num_frames: int = 0
    num_masks: int = 0
    size: tuple[int, int] | None = None
    modes: tuple[str, str] = ("", "")
    shares: list[float] = field(default_factory=list)
    thumbnails: np.ndarray | None = None


class _Examination:
    """One video's masks, taken in turn."""

    def __init__(self, split: str, video: AnnotatedVideo):
        self.split, self.video = split, video
        self.findings: list[Finding] = []
        self.objects: dict[int, Appearance] = {}
        self.giant: list[str] = []  # annotated frames, as in the next two
        self.void_only: list[str] = []
        self.smoothed: list[str] = []
        self.changes: list[tuple[int, int, int]] = []  # place of the second mask, old id, new id
        self._previous: tuple[np.ndarray, set[int]] | None = None

    def find(self, kind: str, path: Path, detail: str, count: int = 1, frames: tuple[str, ...] = ()) -> None:
        self.findings.append(Finding(kind, self.split, self.video.name, path, detail, count, frames))

    def path_of(self, frame: str) -> Path:
        """The file of a frame's mask; of masks that share a file, the frame's."""
        mask = self.video.mask_path(frame)
        return mask if mask.suffix == ".png" else self.video.frame_path(frame)

    def find_in(self, kind: str, frames: list[str], detail: str) -> None:
        """Note what is in each of these annotated frames; nothing where there is none."""
        if frames:
            path = self.path_of(frames[0])
            self.find(
                kind,
                path,
                f"{detail} in {len(frames)} of {len(self.video.annotated)} masks",
                len(frames),
                (frames[0],),
            )

    def frame_of(self, appearance: Appearance) -> str:
        return self.video.annotated[appearance.first]

    def look_at_files(self) -> None:
        bad = self.video.find_bad()
        for path, trouble in bad.items():
            self.find("bad_file", path, trouble)
        self.video.drop(bad)

    def look_at_names(self) -> None:
        frames, annotated = self.video.frames, self.video.annotated
        if odd := strays(frames):
            self.find("extra_frames", self.video.frame_path(odd[0]), f"{len(odd)} frames", len(odd))
        elif missing := frame_gaps(frames):
            count, after = sum(number for _, number in missing), frames[missing[0][0]]
            self.find("missing_frames", self.video.frame_path(after), f"{count} missing, from here", count)
        place = {frame: number for number, frame in enumerate(frames)}
        annotated = [frame for frame in annotated if frame in place]
        if missing := gaps([place[frame] for frame in annotated]):
            count, after = sum(number for _, number in missing), annotated[missing[0][0]]
            self.find("missing_masks", self.path_of(after), f"{count} missing after it", count)

    def look_at_masks(self) -> None:
        for place, frame in enumerate(self.video.annotated):
            try:
                labels = self.video.read_mask(frame)
            except (UserError, OSError) as error:
                self.find("bad_file", self.video.mask_path(frame), str(error))
                self._previous = None
                continue
            self._look_at(place, frame, labels)

    def _look_at(self, place: int, frame: str, labels: np.ndarray) -> None:
        counts = np.bincount((labels if labels.dtype.kind == "u" else np.maximum(labels, 0)).ravel())
        ids = [i for i in np.flatnonzero(counts).tolist() if i and (i != 255 or labels.itemsize > 1)]
        drawn = not isinstance(self.video, JsonVideo)  # not made of whole masks, which have no such edges
        if drawn and len(ids) > MANY_IDS and has_smoothed_edges(labels):
            self.smoothed.append(frame)
            self._previous = None
            return
        if not ids and void_in(labels).any():
            self.void_only.append(frame)
        if ids and counts[ids].max() > GIANT_SHARE * labels.size:
            self.giant.append(frame)
        for i in ids:
            self.objects.setdefault(i, Appearance(place)).add(place, int(counts[i]))
        small = sampled(labels)
        if self._previous:
            both = sorted(self._previous[1].union(ids))
            pairs = changed_ids(self._previous[0], small, both)
            self.changes += [(place, old, new) for old, new in pairs]
        self._previous = small, set(ids)

    def judge_masks(self) -> None:
        video = self.video
        self.find_in("smoothed_edges", self.smoothed, "edges between the ids")
        self.find_in(
            "giant_object", self.giant, f"one object covers more than {GIANT_SHARE:.0%} of the frame"
        )
        if not self.objects:
            if video.annotated and not self.smoothed:
                self.find(
                    "empty_video", self.path_of(video.annotated[0]).parent, f"{len(video.annotated)} masks", 1
                )
            return
        self.find_in("void_only", self.void_only, "void and background alone")
        if len(video.annotated) == 1 < len(video.frames):
            self.find(
                "single_mask", self.path_of(video.annotated[0]).parent, f"of {len(video.frames)} frames"
            )
        first = video.mask_path(self.frame_of(next(iter(self.objects.values()))))
        if set(self.objects) == {1} and first.suffix == ".png" and holds_255_only(read_pixels(first)):
            self.find("one_object", first, f"{len(video.annotated)} masks")

    def judge_objects(self) -> None:
        for place, old, new in self.changes:
            before, after = self.video.annotated[place - 1], self.video.annotated[place]
            is_renamed = self.objects[old].last < place <= self.objects[new].first
            detail = f"id {old} of {before} is id {new} here"
            kind = "renamed_id" if is_renamed else "exchanged_ids"
            self.find(kind, self.path_of(after), detail, 1, (before, after))
        if len(self.video.annotated) >= MIN_LENGTH:
            self._find_objects("single_appearance", lambda one: one.num_masks == 1, "once among the masks")
        least = max(MIN_PIXELS, MIN_SHARE * np.prod(self.video.size or (0, 0)))
        self._find_objects("tiny_object", lambda one: one.largest < least, f"never {least:.0f} pixels")

    def _find_objects(self, kind: str, condition: Callable[[Appearance], bool], detail: str) -> None:
        ids = [i for i, one in self.objects.items() if condition(one)]
        if ids:
            frame = self.frame_of(self.objects[ids[0]])
            detail = f"id {' '.join(map(str, ids[:8]))}{' ...' if len(ids) > 8 else ''}: {detail}"
            self.find(kind, self.path_of(frame), detail, len(ids), (frame,))

    def judge_meta(self, about: Objects | None) -> None:
        """Compare with what meta.json says of the video; None where it does not name it."""
        if about is None:
            self.find("meta_lacks", self.video.meta, f"video {self.video.name} is not in it")
            return
        for kind, ids in (
            ("meta_lacks", sorted(self.objects.keys() - about.keys())),
            ("meta_extra", sorted(about.keys() - self.objects.keys())),
        ):
            if ids:
                detail = f"video {self.video.name}, id {' '.join(map(str, ids[:8]))}"
                self.find(kind, self.video.meta, detail, len(ids))
        frames = sorted(set(_frames_said(about)) - set(self.video.frames))
        if frames:
            detail = f"video {self.video.name} has no frame {frames[0]}"
            self.find("meta_extra", self.video.meta, detail, len(frames))


def _frames_said(about: Objects) -> Iterator[str]:
    """The names of frames in which meta.json says that there are objects."""
    for entry in about.values():
        frames = entry.get("frames", [])
        yield from (frame for frame in frames if isinstance(frame, str)) if isinstance(frames, list) else ()


def _modes(video: AnnotatedVideo) -> tuple[str, str]:
    mask = video.mask_path(video.annotated[0])
    of_mask = read_header(mask)[0] if mask.suffix == ".png" else mask.suffix
    return read_header(video.frame_path(video.frames[0]))[0], of_mask


def _thumbnails(seen: _Examination) -> np.ndarray | None:
    video, pictures = seen.video, []
    for frame in (video.frames[0], video.frames[len(video.frames) // 2], video.frames[-1]):
        try:
            pictures.append(thumbnail(video.read_frame(frame)))
        except (UserError, OSError) as error:
            seen.find("bad_file", video.frame_path(frame), str(error))
            return None
    return np.stack(pictures)


def examine(split: str, about: Objects | None, has_meta: bool, video: AnnotatedVideo) -> Examined:
    """Look at all files of a video, decode all its masks and three of its frames.

    split: "train" or "valid"; about: what meta.json says of its objects, where the data set has one
    """
    seen = _Examination(split, copy.copy(video))
    seen.look_at_names()
    seen.look_at_files()
    video = seen.video
    if not video.annotated:
        return Examined(seen.findings, len(video.frames))
    seen.look_at_masks()
    seen.judge_masks()
    if not seen.smoothed:
        seen.judge_objects()
        if has_meta:
            seen.judge_meta(about)
    H, W = video.size or (1, 1)
    shares = [one.total / one.num_masks / (H * W) for one in seen.objects.values()]
    thumbnails = _thumbnails(seen)
    counts = len(video.frames), len(video.annotated)
    return Examined(seen.findings, *counts, video.size, _modes(video), shares, thumbnails)
