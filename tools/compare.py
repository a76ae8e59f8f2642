"""Two reports of a protocol side by side: what differs over all, and in each video, largest first."""

from dataclasses import dataclass
from typing import NamedTuple

from common.errors import UserError
from scoring.protocols.table import PROTOCOLS
from scoring.report import Report, Scores, numbers_of


class Pair(NamedTuple):
    """A number of both reports, None where it is undefined."""

    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """By how much the first is above the second; None where either is undefined."""
        if self.first is None or self.second is None:
            return None
        return self.first - self.second


@dataclass(frozen=True)
class Comparison:
    """What two reports say.

    overall: {name: pair} of the numbers over all videos
    names: the numbers of single videos; the first is the leading one, by which the videos are ordered; none
    where the protocol scores only all videos together
    videos: {video: {name: pair}} of the videos in both, the largest difference first
    only_first, only_second: videos that one report lacks
    """

    overall: dict[str, Pair]
    names: list[str]
    videos: dict[str, dict[str, Pair]]
    only_first: list[str]
    only_second: list[str]


def _pairs(first: Scores, second: Scores, names: list[str]) -> dict[str, Pair]:
    return {name: Pair(first.get(name), second.get(name)) for name in names}


def _columns(first: Report, second: Report, videos: list[str]) -> list[str]:
    """The numbers of single videos, the leading one first; none where no score is given for single videos."""
    names = numbers_of(report["videos"][video] for video in videos for report in (first, second))
    candidates = [PROTOCOLS[first["protocol"]].leading, *numbers_of([first["overall"]])]
    leading = [name for name in candidates if name in names][:1]
    return leading + [name for name in names if name not in leading] if leading else []


def compare(first: Report, second: Report) -> Comparison:
    """Compare two reports, {"protocol", "overall", "videos"}; UserError where they are of two protocols."""
    if first["protocol"] != second["protocol"]:
        raise UserError(
            f"a report of {first['protocol']} cannot be compared with one of {second['protocol']}: "
            "score both by one protocol"
        )
    common = [name for name in first["videos"] if name in second["videos"]]
    names = _columns(first, second, common)
    videos = {video: _pairs(first["videos"][video], second["videos"][video], names) for video in common}

    def size(video: str) -> float:
        differences = (pair.difference for pair in videos[video].values())
        leading = next(differences, None)
        return -1.0 if leading is None else abs(leading)

    return Comparison(
        _pairs(first["overall"], second["overall"], numbers_of([first["overall"], second["overall"]])),
        names,
        {video: videos[video] for video in sorted(common, key=size, reverse=True)},
        [name for name in first["videos"] if name not in second["videos"]],
        [name for name in second["videos"] if name not in first["videos"]],
    )


def plain(value: float | None) -> str:
    """A number as text: counts whole, scores to four decimals; "-" where it is undefined."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def signed(value: float | None) -> str:
    """A difference as text, with its sign; "-" where it is undefined."""
    if value is None:
        return "-"
    if not value:
        return "0"
    return f"{value:+}" if isinstance(value, int) else f"{value:+.4f}"


def comparison_table(comparison: Comparison) -> list[list[str]]:
    """The videos as rows of text: the leading number of both, its difference, those of the other numbers.

    The first row are the headings; there is none where single videos have no score.
    """
    if not comparison.names:
        return []
    heads = [comparison.names[0], "against", "difference", *(f"{name} diff" for name in comparison.names[1:])]
    rows = [["", *heads]]
    for video, pairs in comparison.videos.items():
        leading, *others = (pairs[name] for name in comparison.names)
        differences = [signed(pair.difference) for pair in (leading, *others)]
        rows.append([video, plain(leading.first), plain(leading.second), *differences])
    return rows


def overall_table(comparison: Comparison) -> list[list[str]]:
    """The numbers over all videos as rows of text: name, both numbers, the difference; headings first."""
    rows = [["overall", "results", "against", "difference"]]
    for name, pair in comparison.overall.items():
        rows.append([name, plain(pair.first), plain(pair.second), signed(pair.difference)])
    return rows


def one_sided(comparison: Comparison) -> list[str]:
    """A sentence for each report that has videos which the other lacks."""
    sides = (("results", comparison.only_first), ("results compared against", comparison.only_second))
    return [f"Only in the {side}: {', '.join(names)}" for side, names in sides if names]


def align(rows: list[list[str]]) -> list[str]:
    """The rows of a table as lines to print: names at the left, numbers at the right of their columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " ".join([f"{name:{widths[0]}}", *map(str.rjust, cells, (max(10, w) for w in widths[1:]))])
        for name, *cells in rows
    ]


def comparison_lines(comparison: Comparison) -> list[str]:
    """The comparison as lines to print: single videos, all videos together, videos of one side only."""
    videos, overall = comparison_table(comparison), overall_table(comparison)
    return [*align(videos), *([""] if videos else []), *align(overall), *one_sided(comparison)]
