"""report.html of one run: scores, curves, videos, frames, commands, arguments, environment."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

from common.files import atomic_write
from tools.pages import page, section, text_table
from tools.run_report.charts import Chart, charts, number
from tools.run_report.commands import commands_of
from tools.run_report.folder import PICTURES, Run, number_or_none, read_run

HERE = Path(__file__).parent
REPORT = "report.html"
ABOUT = {  # the numbers of metrics.json
    "J&F": "mean of J and F, percent",
    "J": "region similarity: mean IoU of masks, percent",
    "F": "contour accuracy, percent",
    "J_tube": "IoU over whole tracks, percent",
    "AP": "average precision of tracks, over IoU 0.5 to 0.95, percent",
    "AP50": "average precision at IoU 0.5, percent",
    "AP75": "average precision at IoU 0.75, percent",
    "AR10": "average recall of 10 tracks a video, percent",
    "HOTA": "detection and association in balance, percent",
    "DetA": "detection part of HOTA, percent",
    "AssA": "association part of HOTA, percent",
    "IDF1": "F1 of identities, percent",
    "id_switches": "changes of an object's track id (CLEAR)",
    "id_switches_per_100_frames": "the same in 100 frames",
    "cosine_positive": "cosine of embeddings of the same object",
    "cosine_negative": "cosine of embeddings of different objects",
    "cosine_margin": "the first less the second",
    "videos": "held-out videos scored",
    "frames": "their annotated frames",
    "seconds": "of the whole run",
}
HOVER = "Point at a chart for its values; a name in its legend hides its curve."
PLACES = {"val": "validation scores, percent", "lr": "learning rate", "cosine": "cosine of embeddings"}
PLACES |= {"id_switches": "ID switches", "val_loss": "validation loss", "loss": "training loss"}


def text_of(value: Any) -> str:
    """A value as text: numbers short, what is undefined as a dash, lists as on a command line."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool | str):
        return str(value).lower() if isinstance(value, bool) else value
    if isinstance(value, int | float):
        return number(value)
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def exact(value: Any) -> str:
    """A flag's value as text, with all digits."""
    return repr(value) if isinstance(value, float) else text_of(value)


def badge(run: Run) -> str:
    """How the run has ended, as HTML."""
    known = run.status if run.status in ("completed", "interrupted", "failed") else "open"
    text = {"running": "running, or killed"}.get(run.status, run.status)
    return f'<span class="badge {known}">{escape(text)}</span>'


def _cards(run: Run) -> str:
    """The numbers to see first."""
    cards = {}
    if run.scores.get("J&F") is not None:
        cards["J&F, " + ("final" if run.metrics else "last evaluation")] = text_of(run.scores["J&F"])
    if run.best:
        cards["best epoch"] = f"{run.best[0]}"
        cards["J&F of the best epoch"] = text_of(run.best[1])
    cards["epochs done"] = f"{run.num_epochs} of {run.flags.get('epochs', '?')}"
    if (seconds := number_or_none(run.metrics.get("seconds"))) is not None:
        cards["time"] = str(timedelta(seconds=round(seconds)))
    if (parameters := number_or_none(run.record.get("facts", {}).get("parameters"))) is not None:
        cards["parameters"] = f"{parameters / 1e6:.2f} M"
    items = (f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in cards.items())
    return f'<dl class="cards">{"".join(items)}</dl>'


def _when(run: Run) -> str:
    times = [number_or_none(run.record.get(name)) for name in ("begun", "ended")]
    texts = [f"{datetime.fromtimestamp(time):%Y-%m-%d %H:%M}" for time in times if time is not None]
    return " to ".join(texts)


def _about(run: Run) -> Iterator[str]:
    system = text_of(run.flags.get("system"))
    yield f"<h1>Run {escape(run.folder.resolve().name)} <small>{escape(system)}</small> {badge(run)}</h1>"
    reason = run.record.get("reason")
    if reason:
        yield f'<p class="reason">{escape(str(reason))}</p>'
    yield f'<p class="quiet">{escape(" · ".join(filter(None, [str(run.folder), _when(run)])))}</p>'
    yield _cards(run)


def _scores(run: Run) -> Iterator[str]:
    if not run.scores:
        yield "<p>There was no evaluation.</p>"
        return
    if run.metrics:
        of = f"the best weights, of epoch {run.best[0]}" if run.best else "the last weights"
        yield f"<p>The final evaluation on whole held-out videos, by {of}.</p>"
    else:
        yield "<p>There was no final evaluation: these are the scores of the last one, of --eval_videos.</p>"
    rows = [["score", "value", "what it is"]]
    rows += [[name, text_of(value), ABOUT.get(name, "")] for name, value in run.scores.items()]
    yield text_table(rows, "scores")
    facts = {name: text_of(value) for name, value in run.record.get("facts", {}).items()}
    facts = {name: value for name, value in facts.items() if name not in run.scores}
    if facts:
        yield text_table([["fact", "value"], *map(list, facts.items())], "scores")


def _curves(run: Run) -> Iterator[str]:
    if not run.curves:
        yield "<p>No epoch was finished.</p>"
        return
    best = run.best[0] if run.best else None
    yield f'<p class="quiet">{HOVER}{" The dashed line is the best epoch." if run.best else ""}</p>'
    yield charts(
        [
            Chart(PLACES.get(group, group), {name.partition("/")[2]: c for name, c in curves.items()}, best)
            for group, curves in run.groups.items()
        ]
    )


def _videos(run: Run) -> Iterator[str]:
    rows = run.record.get("videos", [])
    if len(rows) < 2:
        yield "<p>No video was scored.</p>"
        return
    yield '<p class="quiet">Of the last evaluation. A heading sorts.</p>'
    yield text_table([[text_of(cell) for cell in row] for row in rows], "sortable")


def _player(video: str, frames: list[dict[str, str]]) -> str:
    """The frames of a video behind a slider, as HTML; without a script the first one."""
    data = json.dumps([[frame[name] for name in ("frame", *PICTURES)] for frame in frames])
    data = data.replace("<", "\\u003c")  # no name ends the script
    pictures = "".join(
        f'<div><span>{title}</span><img src="{frames[0][title]}" alt="{title}, first frame"></div>'
        for title in PICTURES
    )
    name, first = escape(video), escape(frames[0]["frame"])
    return (
        f'<figure class="slides"><figcaption>{name}</figcaption><div class="pair">{pictures}</div>'
        '<div class="player"><button type="button" aria-label="play">▶</button>'
        f'<input type="range" min="0" max="{len(frames) - 1}" value="0" aria-label="frame of {name}">'
        f'<output>{first}</output></div><script type="application/json">{data}</script></figure>'
    )


def _slides(run: Run) -> Iterator[str]:
    if not run.slides:
        yield "<p>No frames were kept.</p>"
        return
    yield (
        '<p class="quiet">Of the last evaluation: truth at the left, tracks at the right. A track has the '
        "colour of the object that it is matched with, and is white where there is none.</p>"
    )
    videos = dict.fromkeys(slide["video"] for slide in run.slides)
    players = (_player(video, [one for one in run.slides if one["video"] == video]) for video in videos)
    yield f'<div class="videos">{"".join(players)}</div>'


def _commands(run: Run) -> Iterator[str]:
    yield '<p class="quiet">In the folder of the program; presets are written out.</p>'
    for title, command in commands_of(run).items():
        copy = '<button type="button" class="copy">copy</button>'
        yield f'<div class="command"><h3>{escape(title)}{copy}</h3><pre>{escape(command)}</pre></div>'


def _arguments(run: Run) -> Iterator[str]:
    rows = [[name, exact(value), exact(run.defaults.get(name))] for name, value in run.flags.items()]
    heads = ["argument", "value", "default"]
    if not run.defaults:
        yield text_table([heads[:2], *(row[:2] for row in rows)], "flags")
        return
    others = [row for row in rows if row[0] not in run.changed]
    yield text_table([heads, *(row for row in rows if row[0] in run.changed)], "flags")
    yield f"<details><summary>{len(others)} arguments at their defaults</summary>"
    yield text_table([heads[:2], *(row[:2] for row in others)], "flags")
    yield "</details>"


def _environment(run: Run) -> Iterator[str]:
    rows = [[name, text_of(value)] for name, value in run.environment.items()]
    yield text_table([["part", "value"], *rows], "flags") if rows else "<p>It was not noted.</p>"


def page_of(title: str, about: Iterator[str], sections: dict[str, Iterator[str]]) -> str:
    """The page of sections {heading: parts}, with links to them."""
    anchors = {heading: heading.lower().replace(" ", "-") for heading in sections}
    links = (f'<a href="#{anchor}">{escape(heading)}</a>' for heading, anchor in anchors.items())
    body = [*about, f"<nav>{''.join(links)}</nav>", "<main>"]
    body += [section(anchors[heading], heading, parts) for heading, parts in sections.items()]
    style, script = (Path(HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return page(title, [*body, "</main>"], style=style, script=script)


def write_page(path: Path, html: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def write_report(folder: Path) -> Path:
    """Make report.html in the folder of a run of what lies there; returns its path.

    Raises UserError where the folder is none of a run, or a file of it cannot be read.
    """
    run = read_run(folder)
    sections = {
        "Scores": _scores(run),
        "Curves": _curves(run),
        "Frames": _slides(run),
        "Videos": _videos(run),
        "Commands": _commands(run),
        "Arguments": _arguments(run),
        "Environment": _environment(run),
    }
    title = f"Run {folder.resolve().name}: {run.flags.get('system', '')}"
    write_page(folder / REPORT, page_of(title, _about(run), sections))
    return folder / REPORT
