"""Id switches: where an object was last matched, what overlaps it there and at the switch, and why so."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scoring.clear import IdSwitch
from scoring.counts import EPS, MATCH_THRESHOLD
from scoring.tracking_scores import TrackingAccumulator
from tools.evidence.overlaps import FrameOverlaps

TOUCH = 0.05  # the IoU from which an overlap is worth a word


class Switch(NamedTuple):
    """An object that is matched to another track than before, by the definition of CLEAR.

    frame, last_frame: 0-based numbers of annotated frames: of the switch, and of the last one before it in
    which the object was matched to the old id
    old_iou, new_iou: IoU of the object with the old and the new id, each (in last_frame, in frame); None
    where the id is not in the frame
    causes: what the overlaps say of the reason, a clause each, the most telling first
    """

    frame: int
    last_frame: int
    object_id: int
    old_id: int
    new_id: int
    old_iou: tuple[float | None, float | None]
    new_iou: tuple[float | None, float | None]
    causes: list[str]


def _is_match(iou: float | None) -> bool:
    """Whether CLEAR may match a pair; the masks of a label map part, so no other pair can claim either."""
    return iou is not None and iou >= MATCH_THRESHOLD - EPS


def _other_object(frame: FrameOverlaps, track: int, object_id: int) -> tuple[int, float]:
    """(id, IoU) of the object that a track, which is in the frame, overlaps most, one aside; IoU 0: none."""
    others = frame.objects != object_id
    if not others.any():
        return 0, 0.0
    overlaps = frame.J[others][:, frame.tracks == track][:, 0]
    return int(frame.objects[others][overlaps.argmax()]), float(overlaps.max())


def _times(count: int, thing: str = "annotated frame") -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _gap(frames: Sequence[FrameOverlaps], switch: IdSwitch, last_frame: int) -> Iterator[str]:
    """What happened to the object between the last match and the switch."""
    between = frames[last_frame + 1 : switch.frame]
    hidden = sum(switch.truth_id not in frame.objects for frame in between)
    if hidden and hidden == len(between):
        yield f"the object was out of sight for {_times(hidden)} before"
    elif between:
        yield (
            f"the object was matched to no id for {_times(len(between))} before"
            + f", out of sight in {hidden} of them" * (hidden > 0)
        )


def _old_id(now: FrameOverlaps, switch: IdSwitch) -> str:
    """What became of the old id."""
    old = f"old id {switch.old_id}"
    iou = now.iou(switch.truth_id, switch.old_id)
    if iou is None:
        return f"{old} is gone from the frame"
    other, overlap = _other_object(now, switch.old_id, switch.truth_id)
    if _is_match(overlap):
        return f"{old} now lies on true object {other} (IoU {overlap:.2f})"
    if iou >= max(TOUCH, overlap):
        return f"{old} still covers part of it (IoU {iou:.2f})"
    if overlap >= TOUCH:
        return f"{old} now covers part of true object {other} (IoU {overlap:.2f})"
    return f"{old} is still in the frame, but on no true object"


def _new_id(frames: Sequence[FrameOverlaps], names: Sequence[str], switch: IdSwitch) -> str:
    """Where the new id comes from."""
    new = f"new id {switch.new_id}"
    earlier = [t for t in range(switch.frame) if switch.new_id in frames[t].tracks]
    if not earlier:
        return f"{new} appears for the first time"
    before, name = frames[earlier[-1]], names[earlier[-1]]
    iou = before.iou(switch.truth_id, switch.new_id)
    other, overlap = _other_object(before, switch.new_id, switch.truth_id)
    if _is_match(iou):
        return f"{new} was on it before, last in frame {name} (IoU {iou:.2f})"
    if _is_match(overlap):
        return f"{new} was on true object {other} before, last in frame {name} (IoU {overlap:.2f})"
    if iou >= max(TOUCH, overlap):
        return f"{new} covered part of it in frame {name} (IoU {iou:.2f})"
    if overlap >= TOUCH:
        return f"{new} covered part of true object {other} in frame {name} (IoU {overlap:.2f})"
    return f"{new} was on no true object in frame {name}"


def _swap(frames: Sequence[FrameOverlaps], switch: IdSwitch, last_frame: int) -> Iterator[str]:
    """Whether the old id now lies on the object on which the new id lay when the old one was on this one."""
    now, then = frames[switch.frame], frames[last_frame]
    if switch.old_id in now.tracks and switch.new_id in then.tracks:
        other, overlap = _other_object(now, switch.old_id, switch.truth_id)
        if _is_match(overlap) and _is_match(then.iou(other, switch.new_id)):
            one, other = sorted((switch.truth_id, other))
            yield f"true objects {one} and {other} exchanged their ids"


def _explain(frames: Sequence[FrameOverlaps], names: Sequence[str], switch: IdSwitch) -> Switch:
    number, object_id, old_id, new_id = switch
    last_frame = max(t for t in range(number) if _is_match(frames[t].iou(object_id, old_id)))
    old_iou, new_iou = (
        tuple(frames[t].iou(object_id, track) for t in (last_frame, number)) for track in (old_id, new_id)
    )
    causes = [
        *_swap(frames, switch, last_frame),
        *_gap(frames, switch, last_frame),
        _old_id(frames[number], switch),
        _new_id(frames, names, switch),
    ]
    return Switch(number, last_frame, object_id, old_id, new_id, old_iou, new_iou, causes)


def find_switches(frames: Sequence[FrameOverlaps], names: Sequence[str]) -> list[Switch]:
    """Every id switch of a video from its annotated frames and their names, in order."""
    accumulator = TrackingAccumulator()
    for frame in frames:
        accumulator.add(frame.objects, frame.tracks[frame.counted], frame.J[:, frame.counted])
    return [_explain(frames, names, switch) for switch in accumulator.score().clear.switches]
