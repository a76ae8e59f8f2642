"""Line charts as inline SVG, with a legend and, by the page's script, the values under the pointer."""

import json
import math
from collections.abc import Iterator, Sequence
from html import escape

from training.curves import Curves

WIDTH, HEIGHT = 360, 210  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 26  # of the margins
NUM_COLOURS = 8  # in page.css
DASHES = ("", "6 4", "1.5 4")  # which tell apart the curves whose colours repeat
MAX_DOTS = 40  # points of a curve that are drawn as dots, too


def number(value: float) -> str:
    """A number of a chart or a table as text: four digits, but whole numbers in full."""
    return str(round(value)) if value == round(value) and abs(value) < 1e15 else f"{value:.4g}"


def tick_label(value: float) -> str:
    """A round number as text, with a power of ten where it is longer than the margin is wide."""
    plain = f"{value:g}"
    if len(plain) <= 5:
        return plain
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def ticks(low: float, high: float, most: int = 5, least_step: float = 0.0) -> list[float]:
    """Up to `most` + 1 round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`."""
    rough = max((high - low) / most, least_step, 1e-12)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _limits(curves: Curves) -> tuple[float, float]:
    """The lowest and the highest value to show; zero is among them where it is near."""
    values = [value for _, y in curves.values() for value in y]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 0.5
    bottom = 0.0 if 0 <= low <= 0.4 * high else low - margin
    return bottom, high + margin


class Chart:
    """Some curves over epochs in one picture.

    curves: {name: (epochs, values)}, finite, of at least one point
    marked: an epoch with a line of its own, such as the best
    """

    def __init__(self, title: str, curves: Curves, marked: int | None = None, axis: str = "epoch"):
        self.title, self.curves, self.axis, self.marked = title, curves, axis, marked
        epochs = [epoch for x, _ in curves.values() for epoch in x]
        self.first, self.last = min(epochs), max(epochs)
        if self.first == self.last:
            self.first, self.last = self.first - 1, self.last + 1
        self.low, self.high = _limits(curves)

    def x(self, epoch: float) -> float:
        """The place of an epoch from the left."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        """The place of a value from above."""
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.high - value) / (self.high - self.low)

    def _axes(self) -> Iterator[str]:
        for value in ticks(self.low, self.high):
            y = self.y(value)
            yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            yield f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick_label(value)}</text>'
        for epoch in ticks(self.first, self.last, most=8, least_step=1):
            yield f'<text x="{self.x(epoch):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{epoch:g}</text>'
        if self.marked is not None and self.first <= self.marked <= self.last:
            yield f'<path class="best" d="M{self.x(self.marked):.1f} {TOP}V{HEIGHT - BOTTOM}"/>'

    def _lines(self) -> Iterator[str]:
        for place, (x, y) in enumerate(self.curves.values()):
            points = [f"{self.x(a):.1f} {self.y(b):.1f}" for a, b in zip(x, y, strict=True)]
            dots = "".join(f"M{point}h.01" for point in points) if len(points) <= MAX_DOTS else ""
            dash = DASHES[place // NUM_COLOURS % len(DASHES)]
            line = f'<path d="M{"L".join(points)}" stroke-dasharray="{dash}"/>'
            dotted = f'<path class="dots" d="{dots}"/>' if dots else ""
            yield f'<g class="curve c{place % NUM_COLOURS + 1}" data-curve="{place}">{line}{dotted}</g>'

    def _legend(self) -> Iterator[str]:
        for place, name in enumerate(self.curves):
            dash = DASHES[place // NUM_COLOURS % len(DASHES)]
            line = f'<path d="M1 6H23" stroke-dasharray="{dash}"/>'
            sample = f'<svg class="c{place % NUM_COLOURS + 1}" viewBox="0 0 24 12">{line}</svg>'
            yield f'<button type="button" data-curve="{place}">{sample}{escape(name)}</button>'

    def html(self) -> str:
        """A <figure>; its data-chart has what the script shows under the pointer."""
        data = {
            "area": [LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM],
            "x": [self.first, self.last],
            "y": [self.low, self.high],
            "axis": self.axis,
            "curves": [{"name": name, "x": x, "y": y} for name, (x, y) in self.curves.items()],
        }
        label = escape(f"{self.title} by {self.axis}: {', '.join(self.curves)}")
        drawing = "".join([*self._axes(), *self._lines()])
        return (
            f'<figure class="chart" data-chart="{escape(json.dumps(data))}">'
            f"<figcaption>{escape(self.title)}</figcaption>"
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{drawing}</svg>'
            f'<div class="legend">{"".join(self._legend())}</div></figure>'
        )


def charts(figures: Sequence[Chart]) -> str:
    """Charts beside and below one another."""
    return f'<div class="charts">{"".join(figure.html() for figure in figures)}</div>'
