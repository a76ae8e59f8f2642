"""One HTML file that says why scores are what they are: id switches, worst objects, J over time, two runs."""

from collections.abc import Iterable, Iterator
from html import escape
from itertools import islice
from pathlib import Path

from common.files import atomic_write
from scoring.report import Report, numbers_of
from tools.compare import Comparison, compare, comparison_table, one_sided, overall_table, plain
from tools.evidence.exhibits import (
    Exhibit,
    comparison_exhibit,
    num_found,
    switch_exhibits,
    track_name,
    worst_exhibits,
)
from tools.evidence.explain import VideoEvidence, explain
from tools.evidence.label_maps import ScoredResults, label_map_pairs
from tools.evidence.plots import plot_J, swatch
from tools.evidence.strips import Strips, draw_strips, find_frames
from tools.pages import figure, page, section, table, text_table, video_heading, video_link

MAX_SWITCHES = 200  # that are shown with a picture
NUM_WORST = 10  # objects
NUM_COMPARED = 5  # videos that are shown with the pictures of both results
NOTES = """An ID switch is a true object that is matched (IoU of 0.5 or more) to another id than when it was
matched last, as CLEAR counts them. Frames are annotated frames. J, F and IoU run from 0 to 1; the numbers of
the protocol are in its own units. The J of an object is that of one result id, to which it is matched over
the whole video; its J&amp;F is the protocol's own, or the mean from its first frame on where the protocol
scores no single objects. Pictures are cut to the objects in question where these are small; a result id has
the colour of the object to which it is matched, and is white where there is none."""


def _figure(exhibit: Exhibit, uri: str) -> str:
    """An exhibit with its picture."""
    frames, titles = (", ".join(names) for names in (exhibit.plan.frames, exhibit.plan.titles))
    alt = f"Label maps of video {exhibit.plan.video} in frames {frames}; rows: {titles}"
    return figure(exhibit.caption, uri, alt)


def _overall(report: Report, comparison: Comparison | None) -> str:
    """The table of the numbers over all videos, of both results where there are two."""
    if comparison:
        return text_table(overall_table(comparison))
    numbers = report["overall"]
    rows = [[name, plain(numbers[name])] for name in numbers_of([numbers])]
    return text_table([["overall", "results"], *rows])


def _all_videos(report: Report, videos: list[VideoEvidence]) -> str:
    """The table of the videos; their numbers are the protocol's."""
    names = numbers_of(report["videos"].values())
    rows = [["video", *map(escape, names), "objects", "frames", "ID switches"]]
    for video in videos:
        entry = report["videos"][video.pair.name]
        counts = (len(video.objects), len(video.masks), len(video.switches))
        numbers = (plain(entry.get(name)) for name in names)
        rows.append([video_link(video.pair.name), *numbers, *map(str, counts)])
    return table(rows)


def _one_video(video: VideoEvidence) -> str:
    """The plot of a video and the table of its objects."""
    rows = [["object", "result id", "J&amp;F", "frames in sight", "of these found", "ID switches"]]
    for one in video.objects:
        switches = sum(switch.object_id == one.id for switch in video.switches)
        counts = (int(one.visible.sum()), num_found(one), switches)
        name = f"{swatch(one.id)} {one.id}"
        rows.append([name, track_name(one), plain(one.jf), *map(str, counts)])
    return f"{video_heading(video.pair.name)}\n{plot_J(video)}\n{table(rows)}"


def _videos(report: Report, videos: list[VideoEvidence]) -> list[str]:
    legend = "<p>J of each object over the annotated frames; a ring marks an ID switch.</p>"
    return [_all_videos(report, videos), legend, *map(_one_video, videos)]


def _comparison_exhibits(
    comparison: Comparison, videos: list[VideoEvidence], against: ScoredResults, num_workers: int
) -> list[Exhibit]:
    """The videos that differ most, of which the other results are measured too."""
    first = {video.pair.name: video for video in videos if any(one.jf is not None for one in video.objects)}
    differing = (name for name, pairs in comparison.videos.items() if next(iter(pairs.values())).difference)
    names = [name for name in differing if name in first][:NUM_COMPARED] if comparison.names else []
    if not names:
        return []
    others = explain(against, label_map_pairs(against, names), num_workers)
    return [comparison_exhibit(first[other.pair.name], other, comparison) for other in others]


def _comparison(comparison: Comparison, against: Path, figures: list[str]) -> Iterator[str]:
    """HTML of the comparison by video; "against" is the second."""
    sense = "a difference above 0 says that the results have the larger one"
    yield f"<p>Against the numbers of {escape(str(against))}; {sense}.</p>"
    if comparison.names:
        head, *rows = comparison_table(comparison)
        cells = [[video_link(video), *map(escape, numbers)] for video, *numbers in rows]
        yield "<p>The largest difference comes first.</p>"
        yield table([[escape(name) for name in head], *cells])
    else:
        yield "<p>The protocol gives no scores of single videos.</p>"
    yield from (f"<p>{escape(sentence)}</p>" for sentence in one_sided(comparison))
    yield from figures


def _switches(figures: list[str], videos: list[VideoEvidence]) -> list[str]:
    total = sum(len(video.switches) for video in videos)
    if not total:
        return ["<p>There are no ID switches.</p>"]
    cut = f"; the first {len(figures)} are shown, the plots below mark all" if total > len(figures) else ""
    return [f"<p>ID switches: {total}{cut}.</p>", *figures]


def _about(scored: ScoredResults, strips: Strips, video_root: Path | None) -> Iterator[str]:
    """What was scored, how to read it, which frames were not found, and the warnings of the report."""
    results, annotations = escape(str(scored.results)), escape(str(scored.annotations))
    yield f"<p>Results: {results}<br>Truth: {annotations}</p><p>{NOTES}</p>"
    if strips.num_missing:
        place = f"in {video_root}" if video_root else "in a folder JPEGImages beside the annotations"
        yield (
            f"<p>{strips.num_missing} of the {strips.num_frames} frames shown were not found "
            f"{escape(place)}: their label maps are drawn on grey.</p>"
        )
    yield from (f"<p>Warning: {escape(line)}</p>" for line in scored.report["warnings"])


def _page(title: str, about: Iterable[str], sections: dict[str, tuple[str, Iterable[str]]]) -> str:
    """The page of sections {anchor: (heading, parts)}, with links to them."""
    links = (f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, (heading, _) in sections.items())
    body = [f"<h1>{escape(title)}</h1>", *about, f"<nav>{''.join(links)}</nav>", "<main>"]
    body += [section(anchor, heading, parts) for anchor, (heading, parts) in sections.items()]
    return page(title, [*body, "</main>"])


def write_report(
    path: Path,
    scored: ScoredResults,
    *,
    against: ScoredResults | None = None,
    video_root: Path | None = None,
    num_workers: int = 0,
) -> None:
    """Write one HTML file with the evidence behind the report on some results, pictures inside.

    against: other results, scored by the same protocol on the same annotations
    video_root: where the frames are; by default JPEGImages or <sequence>/img1 beside the annotations
    num_workers: processes to share the work
    Raises UserError where there are no label maps, and where a file cannot be read.
    """
    report, comparison = scored.report, compare(scored.report, against.report) if against else None
    pairs = label_map_pairs(scored, list(report["videos"]))
    frames = find_frames(pairs[0].truth.parent, video_root)
    videos = explain(scored, pairs, num_workers)
    exhibits = {
        "comparison": _comparison_exhibits(comparison, videos, against, num_workers) if comparison else [],
        "switches": list(islice(switch_exhibits(videos), MAX_SWITCHES)),
        "worst": worst_exhibits(videos, NUM_WORST),
    }
    strips = draw_strips([one.plan for group in exhibits.values() for one in group], frames, num_workers)
    uris = iter(strips.uris)
    figures = {anchor: [_figure(one, next(uris)) for one in group] for anchor, group in exhibits.items()}

    sections = {"overall": ("Overall", [_overall(report, comparison)])}
    if comparison:
        sections["comparison"] = (
            "Comparison",
            _comparison(comparison, against.results, figures["comparison"]),
        )
    sections["switches"] = ("ID switches", _switches(figures["switches"], videos))
    sections["worst"] = ("Worst objects by J&F", figures["worst"])
    sections["videos"] = ("Videos", _videos(report, videos))
    html = _page(f"Evidence: {report['protocol']}", _about(scored, strips, video_root), sections)
    with atomic_write(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
