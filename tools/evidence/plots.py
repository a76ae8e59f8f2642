"""J over time as an inline SVG: a line for each object of a video, a ring at each id switch."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from tools.evidence.explain import ObjectEvidence, VideoEvidence
from video.pictures import OUTLINES, colour_indices

WIDTH, HEIGHT = 900, 240  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 34, 12, 10, 24  # of the margins
DASHES = ("", "7 3", "2 3")  # which tell apart the objects whose hues repeat, after every seventh
LUMINANCE = 0.18  # relative to white; it can be read on white and on black


def line_colour(track: int) -> str:
    """A CSS colour with the hue that an id has in the pictures, and of one luminance."""
    linear = (OUTLINES[colour_indices(np.asarray(track))] / 255.0) ** 2.2
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    if luminance > LUMINANCE:
        linear = linear * LUMINANCE / luminance
    else:
        linear = linear + (1 - linear) * (LUMINANCE - luminance) / (1 - luminance)
    red, green, blue = (255 * linear ** (1 / 2.2)).round().astype(int).tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def _dash(track: int) -> str:
    return DASHES[(track - 1) // 7 % len(DASHES)]


def swatch(track: int) -> str:
    """A short piece of an object's line, for a legend."""
    line = f'<path d="M1 6H29" stroke="{line_colour(track)}" stroke-dasharray="{_dash(track)}"/>'
    return f'<svg class="swatch" viewBox="0 0 30 12" aria-hidden="true">{line}</svg>'


def _x(frame: int, num_frames: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * frame / max(1, num_frames - 1)


def _y(J: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - J)


def _spells(active: np.ndarray) -> Iterator[range]:
    """The stretches of True in (T,) bool."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(int)))
    for start, stop in changes.reshape(-1, 2).tolist():
        yield range(start, stop)


def _line(one: ObjectEvidence) -> str:
    """The line of an object, broken where neither it nor its track is in the frame."""
    T, path = len(one.J), ""
    for spell in _spells(one.active):
        points = " ".join(f"{_x(t, T):.1f} {_y(one.J[t]):.1f}" for t in spell)
        path += f"M{points}" + "h.1" * (len(spell) == 1)  # a lone point shows by its round cap
    style = f'stroke="{line_colour(one.id)}" stroke-dasharray="{_dash(one.id)}"'
    return f'<path d="{path}" {style}><title>object {one.id}</title></path>'


def _rings(video: VideoEvidence) -> Iterator[str]:
    objects = {one.id: one for one in video.objects}
    for switch in video.switches:
        x, y = _x(switch.frame, len(video.masks)), _y(objects[switch.object_id].J[switch.frame])
        ids = f"object {switch.object_id}: id {switch.old_id} to {switch.new_id}"
        title = f"<title>{ids}, frame {escape(video.frames[switch.frame])}</title>"
        colour = line_colour(switch.object_id)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" stroke="{colour}">{title}</circle>'


def _axes(names: Sequence[str]) -> Iterator[str]:
    for J in (0, 0.5, 1):
        yield f'<path class="grid" d="M{LEFT} {_y(J):.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 6}" y="{_y(J) + 4:.1f}" text-anchor="end">{J:g}</text>'
    places = sorted({0, len(names) // 2, len(names) - 1})
    for place in places:
        anchor = "start" if place == 0 else "end" if place == places[-1] else "middle"
        text = f'x="{_x(place, len(names)):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}"'
        yield f"<text {text}>{escape(names[place])}</text>"


def plot_J(video: VideoEvidence) -> str:
    """An <svg> of J against the annotated frames of a video."""
    label = (
        f"J over the {len(video.masks)} annotated frames of {video.pair.name}, "
        f"{len(video.objects)} objects, {len(video.switches)} id switches"
    )
    drawing = [*_axes(video.frames), *map(_line, video.objects), *_rings(video)]
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
    return f"{head}{''.join(drawing)}</svg>"
