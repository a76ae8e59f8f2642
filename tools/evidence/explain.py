"""Why a score is what it is: J and F of each object in every frame, its track, and the id switches."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from common.parallel import process_map
from scoring.label_folders import VideoPair, true_masks
from scoring.report import Report, Scores
from tools.evidence.measured import Measured, Rules, measure, read_maps, rules_of
from tools.evidence.switches import Switch, find_switches

TrackOf = dict[int, int | None]  # {object: its track}
IN_PERCENT = {"tcovis", "sav"}  # the protocols whose reports are


@dataclass(frozen=True)
class ObjectEvidence:
    """One true object over the T annotated frames of its video.

    track: the id of the result it is scored against, None where there is none
    jf: its mean J&F in [0, 1], the protocol's own where it scores objects; None where it has none
    J, F: (T,) against the track in each frame: 0 throughout without a track, 1 where neither is in the frame
    seen: (T,) bool, frames in which the object is
    shown: (T,) bool, frames in which the object or its track is
    """

    id: int
    track: int | None
    jf: float | None
    J: np.ndarray
    F: np.ndarray
    seen: np.ndarray
    shown: np.ndarray


@dataclass(frozen=True)
class VideoEvidence:
    """What was measured of one video.

    pair, rules: where its label maps are and how they are read
    masks: the paths of its T true label maps, in order; their stems name the frames
    """

    pair: VideoPair
    rules: Rules
    masks: list[Path]
    objects: list[ObjectEvidence]
    switches: list[Switch]

    @property
    def frames(self) -> list[str]:
        """The names of the annotated frames."""
        return [mask.stem for mask in self.masks]


def _all_pairs(frame: Measured, objects: np.ndarray, tracks: np.ndarray) -> np.ndarray:
    """(2, K, N) J and F of all objects and tracks of a video in one frame: 1 where neither is there."""
    absent = ~np.isin(objects, frame.objects)[:, None] & ~np.isin(tracks, frame.tracks)[None]
    pairs = np.stack([absent, absent]).astype(np.float64)
    rows, columns = np.searchsorted(objects, frame.objects), np.searchsorted(tracks, frame.tracks)
    pairs[:, rows[:, None], columns[None]] = frame.J, frame.F
    return pairs


def _matches(
    frames: list[Measured], objects: np.ndarray, tracks: np.ndarray, counted: np.ndarray
) -> dict[int, int]:
    """{object: track} for the most J&F, each object's a mean over its frames that count: (T, K) bool."""
    total = np.zeros((len(objects), len(tracks)))
    for frame, rows in zip(frames, counted, strict=True):
        total += _all_pairs(frame, objects, tracks).mean(0) * rows[:, None]
    rows, columns = linear_sum_assignment(-total / np.maximum(counted.sum(0), 1)[:, None])
    return dict(zip(objects[rows].tolist(), tracks[columns].tolist(), strict=True))


def _pair(frame: Measured, object_id: int, track: int | None) -> tuple[float, float]:
    """J and F of an object with its track; an object without one has 0."""
    row, column = np.flatnonzero(frame.objects == object_id), np.flatnonzero(frame.tracks == track)
    if len(row) and len(column):
        return float(frame.J[row[0], column[0]]), float(frame.F[row[0], column[0]])
    alike = float(track is not None and len(row) == len(column))
    return alike, alike


def _object(frames: list[Measured], object_id: int, track: int | None, counted: np.ndarray) -> ObjectEvidence:
    """One object against its track; counted: (T,) bool, the frames of which its J&F is the mean."""
    J, F = np.array([_pair(frame, object_id, track) for frame in frames]).T
    seen = np.array([object_id in frame.objects for frame in frames])
    shown = seen | np.array([track in frame.tracks for frame in frames])
    jf = float((J[counted].mean() + F[counted].mean()) / 2) if counted.any() else None
    return ObjectEvidence(object_id, track, jf, J, F, seen, shown)


def _ids(groups: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *groups]))


def _objects(frames: list[Measured], rules: Rules, track_of: TrackOf | None) -> list[ObjectEvidence]:
    """All objects of a video; one counts from its first frame on, or after it where its id is given there.

    track_of: the track of each object, where it is known; by default the rules decide
    """
    objects, tracks = _ids([frame.objects for frame in frames]), _ids([frame.tracks for frame in frames])
    seen = np.array([np.isin(objects, frame.objects) for frame in frames])  # (T, K)
    counted = np.logical_or.accumulate(seen)
    if rules.by_id:
        counted = np.concatenate([np.zeros_like(seen[:1]), counted[:-1]])
        track_of = {i: i for i in objects.tolist()}
    elif track_of is None:
        track_of = _matches(frames, objects, tracks, counted)
    there = {i: track for i, track in track_of.items() if track in tracks}
    return [_object(frames, i, there.get(i), counted[:, k]) for k, i in enumerate(objects.tolist())]


def explain_video(pair: VideoPair, track_of: TrackOf | None = None, *, rules: Rules) -> VideoEvidence:
    """Measure one video frame by frame; no pixels are kept.

    track_of: the track of each object, where it is known; by default objects are matched by id, or for the
    most J&F over the video, as the rules say
    """
    masks, rules = true_masks(pair.truth), rules_of(pair, rules)
    frames = [measure(read_maps(pair, mask, rules), rules) for mask in masks]
    switches = find_switches(frames, [mask.stem for mask in masks])
    return VideoEvidence(pair, rules, masks, _objects(frames, rules, track_of), switches)


def _as_scored(video: VideoEvidence, entry: Scores) -> VideoEvidence:
    """The evidence with the J&F that the protocol's report gives its objects; it may leave some out."""
    if "objects" not in entry:
        return video
    objects = []
    for one in video.objects:
        scores = entry["objects"].get(str(one.id), {})
        parts = (scores.get(name) for name in (("J&F",) if "J&F" in scores else ("J-Mean", "F-Mean")))
        known = [part for part in parts if part is not None]
        unit = 100 if video.rules.protocol in IN_PERCENT else 1
        objects.append(replace(one, jf=sum(known) / len(known) / unit if known else None))
    return replace(video, objects=objects)


def _proposals(entry: Scores) -> TrackOf | None:
    """The track of each object, where a report names it; None where it names none."""
    objects = entry.get("objects", {})
    named = {int(i): one["proposal"] for i, one in objects.items() if "proposal" in one}
    return named or None


def explain(
    report: Report,
    pairs: list[VideoPair],
    *,
    by_id: bool,
    single_object: bool = False,
    num_workers: int = 0,
) -> list[VideoEvidence]:
    """The evidence behind a report of one of PROTOCOLS, for some of its videos.

    pairs: their label maps, of `label_folders`
    by_id: whether the protocol scores an object against the result of the same id
    single_object: whether every label above 0 is the one object, as in DAVIS 2016
    """
    entries = [report["videos"][pair.name] for pair in pairs]
    score = partial(explain_video, rules=Rules(report["protocol"], by_id, single_object))
    tracks = map(_proposals, entries)
    videos = process_map(score, pairs, tracks, num_workers=num_workers, title="explaining")
    return [_as_scored(video, entry) for video, entry in zip(videos, entries, strict=True)]
