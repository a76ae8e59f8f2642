"""What a report shows in pictures: each id switch, the worst objects, where two results differ most."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from tools.compare import Comparison, plain, signed
from tools.evidence.explain import ObjectEvidence, VideoEvidence
from tools.evidence.strips import Row, StripPlan
from tools.evidence.switches import Switch
from tools.pages import table, video_link

NUM_FRAMES = 4  # of a strip at the worst frames
FOUND_J = 0.5  # from which an object is found


class Exhibit(NamedTuple):
    """A strip to draw, and the HTML that stands above it."""

    plan: StripPlan
    caption: str


def pick_frames(badness: np.ndarray, allowed: np.ndarray, number: int = NUM_FRAMES) -> list[int]:
    """Up to `number` of T frames, in order: the worst allowed one, then the worst some way off."""
    T, free = len(badness), allowed.copy()
    distance, chosen = max(1, T // (3 * number)), []
    while free.any() and len(chosen) < number:
        t = int(np.where(free, badness, -np.inf).argmax())
        chosen.append(t)
        free[max(0, t - distance + 1) : t + distance] = False
    return sorted(chosen)


def _plan(
    video: VideoEvidence,
    frames: list[int],
    rows: list[Row],
    objects: Sequence[int] = (),
    tracks: Sequence[int] = (),
) -> StripPlan:
    masks = [video.masks[t] for t in frames]
    return StripPlan(video.pair.name, rows, video.rules, masks, objects, tracks)


def _row(title: str, video: VideoEvidence, notes: list[str]) -> Row:
    return Row(title, video.pair, notes, video.object_of)


def _iou(value: float | None) -> str:
    return "not in the frame" if value is None else f"{value:.2f}"


def _switch_caption(video: VideoEvidence, switch: Switch) -> str:
    frames = [f"frame {escape(video.frames[t])}" for t in (switch.last_frame, switch.frame)]
    overlaps = [
        ["IoU with the object", f"{frames[0]} (last match of the old id)", f"{frames[1]} (switch)"],
        [f"old id {switch.old_id}", *map(_iou, switch.old_iou)],
        [f"new id {switch.new_id}", *map(_iou, switch.new_iou)],
    ]
    title = f"true object {switch.object_id} goes from id {switch.old_id} to id {switch.new_id}"
    causes = escape("; ".join(switch.causes))
    return (
        f"<strong>{video_link(video.pair.name)}, {frames[1]}: {title}</strong>"
        f"{table(overlaps)}What the overlaps say: {causes}."
    )


def switch_exhibits(videos: list[VideoEvidence]) -> Iterator[Exhibit]:
    """The last frame with the old id, and those just before, at and after each switch."""
    for video in videos:
        for switch in video.switches:
            notes = {switch.frame - 1: "just before", switch.frame + 1: "after"}
            notes |= {switch.last_frame: f"last with id {switch.old_id}"}
            notes |= {switch.frame: f"switch to id {switch.new_id}"}
            frames = [t for t in sorted(notes) if t < len(video.masks)]
            rows = [_row("result", video, [notes[t] for t in frames])]
            plan = _plan(video, frames, rows, [switch.object_id], [switch.old_id, switch.new_id])
            yield Exhibit(plan, _switch_caption(video, switch))


def num_found(one: ObjectEvidence) -> int:
    """In how many of the frames where the object is in sight it is found."""
    return int((one.J[one.visible] >= FOUND_J).sum())


def track_name(one: ObjectEvidence) -> str:
    """The id of an object's result as text."""
    return "none" if one.track is None else str(one.track)


def _worst_exhibit(video: VideoEvidence, one: ObjectEvidence) -> Exhibit:
    frames = pick_frames(-one.J, one.active)
    rows = [_row("result", video, [f"J {one.J[t]:.2f}" for t in frames])]
    tracks = [] if one.track is None else [one.track]
    switches = sum(switch.object_id == one.id for switch in video.switches)
    caption = (
        f"<strong>{video_link(video.pair.name)}, true object {one.id}: J&amp;F {one.jf:.3f}</strong><br>"
        f"Result id: {track_name(one)}. In sight in {one.visible.sum()} of {len(one.J)} frames, "
        f"found (J of {FOUND_J} or more) in {num_found(one)} of them. ID switches: {switches}."
    )
    return Exhibit(_plan(video, frames, rows, [one.id], tracks), caption)


def worst_exhibits(videos: list[VideoEvidence], number: int) -> list[Exhibit]:
    """The objects with the lowest J&F, each at its worst frames."""
    scored = [(video, one) for video in videos for one in video.objects if one.jf is not None]
    worst = sorted(scored, key=lambda pair: pair[1].jf)[:number]
    return [_worst_exhibit(video, one) for video, one in worst]


def _mean_J(video: VideoEvidence, objects: list[int]) -> np.ndarray:
    """(T,) mean J of some objects in each frame."""
    return np.mean([one.J for one in video.objects if one.id in objects], axis=0)


def comparison_exhibit(first: VideoEvidence, second: VideoEvidence, comparison: Comparison) -> Exhibit:
    """The frames of a video in which the J of the results, a mean over the objects, differs most."""
    objects = [one.id for one in first.objects if one.jf is not None]
    J = [_mean_J(video, objects) for video in (first, second)]
    active = np.any([one.active for video in (first, second) for one in video.objects], axis=0)
    frames = pick_frames(np.abs(J[0] - J[1]), active)
    name = comparison.names[0]
    leading = comparison.videos[first.pair.name][name]
    caption = (
        f"<strong>{video_link(first.pair.name)}: {escape(name)} {plain(leading.first)} against "
        f"{plain(leading.second)} ({signed(leading.difference)})</strong>"
    )
    rows = [
        _row(title, video, [f"mean J {values[t]:.2f}" for t in frames])
        for title, video, values in zip(("result", "against"), (first, second), J, strict=True)
    ]
    return Exhibit(_plan(first, frames, rows), caption)
