"""Charts draw each curve where its values are, on axes of round numbers."""

import json
import re
from html import unescape

import pytest

from tools.run_report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, tick_label, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.13, 0.31, [0.15, 0.2, 0.25, 0.3]), (-1, 1, [-1, -0.5, 0, 0.5, 1])],
)
def test_ticks_are_round_numbers_within_the_limits(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_there_is_no_epoch_between_two():
    assert ticks(1, 3, most=8, least_step=1) == [1, 2, 3]
    assert ticks(1, 1000, most=8, least_step=1) == [200, 400, 600, 800, 1000]


def test_labels_of_ticks_are_short():
    assert [tick_label(value) for value in (0.0005, 25, 12_000_000)] == ["5e-4", "25", "1.2e7"]


def test_a_curve_goes_from_corner_to_corner():
    chart = Chart("loss", {"total": ([1, 3], [10.0, 0.0])})
    assert (chart.x(1), chart.x(3)) == (LEFT, WIDTH - RIGHT)
    assert chart.y(0.0) == HEIGHT - BOTTOM and TOP < chart.y(10.0) < TOP + 20
    (line,) = re.findall(r'<g class="curve c1" data-curve="0"><path d="(M[^"]+)"', chart.html())
    assert line == f"M{LEFT:.1f} {chart.y(10):.1f}L{WIDTH - RIGHT:.1f} {HEIGHT - BOTTOM:.1f}"


def test_one_point_and_equal_values_have_a_place():
    chart = Chart("loss", {"a": ([5], [2.0])})
    assert chart.x(5) == pytest.approx((LEFT + WIDTH - RIGHT) / 2)
    assert TOP < chart.y(2.0) < HEIGHT - BOTTOM


def test_every_curve_of_many_has_a_look_of_its_own():
    html = Chart("loss", {str(i): ([1, 2], [i, i]) for i in range(20)}).html()
    looks = re.findall(r'<g class="curve (c\d)" .*?stroke-dasharray="([^"]*)"', html)
    assert len(set(looks)) == 20


def test_names_are_escaped_and_the_script_finds_the_values():
    html = Chart("<loss>", {'a"><i': ([1, 2], [0.5, 0.25])}, marked=2).html()
    assert "<loss>" not in html and "><i" not in html and 'class="best"' in html
    data = json.loads(unescape(re.search('data-chart="([^"]*)"', html)[1]))
    assert data["curves"] == [{"name": 'a"><i', "x": [1, 2], "y": [0.5, 0.25]}]
