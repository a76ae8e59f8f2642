"""Why a score is what it is: J and F of each object in every frame, its track, and the id switches."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from common.parallel import process_map
from scoring.counts import best_pairs
from scoring.label_folders import VideoPair, true_masks
from scoring.report import Scores
from tools.evidence.label_maps import Rules, ScoredResults, read_maps, rules_of_video
from tools.evidence.overlaps import FrameOverlaps, measure
from tools.evidence.switches import Switch, find_switches

TrackOf = dict[int, int | None]  # {object: its track}
NO_TRACK = 0  # background, which is no id


@dataclass(frozen=True)
class ObjectEvidence:
    """One true object over the T annotated frames of its video.

    track: the id of the result it is scored against, None where there is none
    jf: its mean J&F in [0, 1], the protocol's own where it scores objects; None where it has none
    J, F: (T,) against the track in each frame: 0 throughout without a track, 1 where neither is in the frame
    visible: (T,) bool, frames in which the object is
    active: (T,) bool, frames in which the object or its track is
    """

    id: int
    track: int | None
    jf: float | None
    J: np.ndarray
    F: np.ndarray
    visible: np.ndarray
    active: np.ndarray


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

    @property
    def object_of(self) -> dict[int, int]:
        """{track: the true object that it is matched with}, of those that overlap or share a given id."""
        matched = [one for one in self.objects if self.rules.by_id or one.J[one.visible].any()]
        return {one.track: one.id for one in matched if one.track is not None}


def _match(
    frames: list[FrameOverlaps], objects: np.ndarray, tracks: np.ndarray, counted: np.ndarray
) -> TrackOf:
    """{object: track} for the most J&F, each object's a mean over its frames that count: (T, K) bool."""
    total = np.zeros((len(objects), len(tracks)))
    for frame, rows in zip(frames, counted, strict=True):
        total += frame.pairs(objects, tracks).mean(0) * rows[:, None]
    rows, columns = best_pairs(total / np.maximum(counted.sum(0), 1)[:, None])
    return dict(zip(objects[rows].tolist(), tracks[columns].tolist(), strict=True))


def _ids(groups: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *groups]))


def _mean_jf(J: np.ndarray, F: np.ndarray) -> float | None:
    return float((J.mean() + F.mean()) / 2) if len(J) else None


def _objects(frames: list[FrameOverlaps], rules: Rules, track_of: TrackOf | None) -> list[ObjectEvidence]:
    """All objects of a video; one counts from its first frame on, or after it where its id is given there.

    track_of: the track of each object, where it is known; by default the rules decide
    """
    objects, tracks = _ids([frame.objects for frame in frames]), _ids([frame.tracks for frame in frames])
    visible = np.array([np.isin(objects, frame.objects) for frame in frames])  # (T, K)
    counted = np.logical_or.accumulate(visible)
    if rules.by_id:
        counted = np.concatenate([np.zeros_like(visible[:1]), counted[:-1]])
        track_of = {i: i for i in objects.tolist()}
    elif track_of is None:
        track_of = _match(frames, objects, tracks, counted)
    matched = np.array(
        [i if i in tracks else NO_TRACK for i in map(track_of.get, objects.tolist())], dtype=np.int64
    )
    J, F = np.array([frame.pairs(objects, matched).diagonal(0, 1, 2) for frame in frames]).swapaxes(0, 1)
    J, F = J * (matched != NO_TRACK), F * (matched != NO_TRACK)  # (T, K)
    active = visible | np.array([np.isin(matched, frame.tracks) for frame in frames])
    return [
        ObjectEvidence(
            object_id,
            track or None,
            _mean_jf(J[counted[:, k], k], F[counted[:, k], k]),
            J[:, k],
            F[:, k],
            visible[:, k],
            active[:, k],
        )
        for k, (object_id, track) in enumerate(zip(objects.tolist(), matched.tolist(), strict=True))
    ]


def explain_video(pair: VideoPair, track_of: TrackOf | None = None, *, rules: Rules) -> VideoEvidence:
    """Measure one video frame by frame; no pixels are kept.

    track_of: the track of each object, where it is known; by default objects are matched by id, or for the
    most J&F over the video, as the rules say
    """
    masks, rules = true_masks(pair.truth), rules_of_video(pair, rules)
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
        defined = [part for part in parts if part is not None]
        unit = 100 if video.rules.protocol.percent else 1
        objects.append(replace(one, jf=sum(defined) / len(defined) / unit if defined else None))
    return replace(video, objects=objects)


def _proposals(entry: Scores) -> TrackOf | None:
    """The track of each object, where a report names it; None where it names none."""
    objects = entry.get("objects", {})
    track_of = {int(i): one["proposal"] for i, one in objects.items() if "proposal" in one}
    return track_of or None


def explain(scored: ScoredResults, pairs: list[VideoPair], num_workers: int = 0) -> list[VideoEvidence]:
    """The evidence behind a report, for some of its videos.

    pairs: their label maps, of `label_map_pairs`
    """
    entries = [scored.report["videos"][pair.name] for pair in pairs]
    explain_one = partial(explain_video, rules=scored.rules)
    tracks = map(_proposals, entries)
    videos = process_map(explain_one, pairs, tracks, num_workers=num_workers, title="explaining")
    return [_as_scored(video, entry) for video, entry in zip(videos, entries, strict=True)]
