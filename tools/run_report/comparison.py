"""One page of several runs: scores beside one another, arguments that differ, curves in one picture."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from os.path import relpath
from pathlib import Path
from typing import Any

from tools.pages import table, text_table
from tools.run_report.charts import Chart, charts
from tools.run_report.folder import Run, number_or_none, read_run
from tools.run_report.report import HOVER, REPORT, badge, exact, page_of, text_of, write_page

FIRST = ("val/J&F", "loss/total", "val_loss/total", "val/HOTA", "val/AP", "cosine/val_margin")
LOWER_IS_BETTER = {"id_switches", "id_switches_per_100_frames", "cosine_negative", "seconds"}
COUNTS = {"videos", "frames"}  # of which none is better
NOT_SETTINGS = {"clearml_task", "run_dir", "resume"}


def names_of(runs: Sequence[Run]) -> list[str]:
    """A name for each run: that of its folder, or its whole path where several share it."""
    names = [run.folder.resolve().name for run in runs]
    return [
        name if names.count(name) == 1 else str(run.folder) for name, run in zip(names, runs, strict=True)
    ]


def _table_of_runs(runs: Sequence[Run], path: Path) -> str:
    rows = [["run", "state", "system", "epochs", "best epoch", "J&amp;F", "scores of"]]
    for name, run in zip(names_of(runs), runs, strict=True):
        page = run.folder / REPORT
        name = escape(name)
        if page.is_file():
            name = f'<a href="{escape(Path(relpath(page, path.parent)).as_posix())}">{name}</a>'
        cells = [text_of(run.flags.get("system")), f"{run.num_epochs} of {run.flags.get('epochs', '?')}"]
        cells += [str(run.best[0]) if run.best else "-", text_of(run.scores.get("J&F"))]
        cells += ["final evaluation" if run.metrics else "last evaluation" if run.scores else "none"]
        rows.append([name, badge(run), *map(escape, cells)])
    return table(rows)


def _scores(runs: Sequence[Run]) -> Iterator[str]:
    """Every score of every run; the best of a row is marked."""
    if len({bool(run.metrics) for run in runs}) > 1:
        yield "<p>A final evaluation has more videos than one in mid-run: compare with care.</p>"
    rows = []
    for score in dict.fromkeys(name for run in runs for name in run.scores):
        values = [run.scores.get(score) for run in runs]
        numbers = [value for value in map(number_or_none, values) if value is not None]
        best = None
        if len(set(numbers)) > 1 and score not in COUNTS:
            best = min(numbers) if score in LOWER_IS_BETTER else max(numbers)
        marks = (' class="best"' if best is not None and value == best else "" for value in values)
        cells = (f"<td{m}>{escape(text_of(v))}</td>" for m, v in zip(marks, values, strict=True))
        rows.append(f'<tr><th scope="row">{escape(score)}</th>{"".join(cells)}</tr>')
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("score", *names_of(runs)))
    yield f'<div class="scroll"><table><tr>{heads}</tr>{"".join(rows)}</table></div>'


def _differing(runs: Sequence[Run], values_of: Callable[[Run], dict[str, Any]], what: str) -> str:
    """The table of what is not the same in all runs."""
    values = [values_of(run) for run in runs]
    names = [name for name in dict.fromkeys(name for one in values for name in one)]
    rows = [[name, *(exact(one[name]) if name in one else "not there" for one in values)] for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1 and row[0] not in NOT_SETTINGS]
    if not rows:
        return f"<p>The {what} are the same.</p>"
    return text_table([["", *names_of(runs)], *rows], "flags")


def _chart(runs: Sequence[Run], curve: str) -> Chart:
    named = zip(names_of(runs), runs, strict=True)
    return Chart(curve, {name: run.curves[curve] for name, run in named if curve in run.curves})


def _curves(runs: Sequence[Run]) -> Iterator[str]:
    curves = list(dict.fromkeys(curve for run in runs for curve in run.curves))
    first = [curve for curve in FIRST if curve in curves]
    others = [curve for curve in curves if curve not in first]
    yield f'<p class="quiet">{HOVER}</p>'
    yield charts([_chart(runs, curve) for curve in first])
    if others:
        yield f"<details><summary>{len(others)} more curves</summary>"
        yield charts([_chart(runs, curve) for curve in others])
        yield "</details>"


def _videos(runs: Sequence[Run]) -> Iterator[str]:
    """J&F of each video in each run."""
    found = []
    for run in runs:
        head, *rows = run.record.get("videos") or [[]]
        entries = [dict(zip(head, row, strict=True)) for row in rows]
        found.append({str(entry.get("video")): entry.get("J&F") for entry in entries})
    videos = list(dict.fromkeys(video for one in found for video in one))
    if not videos:
        yield "<p>No video was scored.</p>"
        return
    yield '<p class="quiet">J&amp;F of the last evaluation of each run. A heading sorts.</p>'
    rows = [[video, *(text_of(one.get(video)) for one in found)] for video in videos]
    yield text_table([["video", *names_of(runs)], *rows], "sortable")


def write_comparison(folders: Sequence[Path], path: Path) -> None:
    """Write one HTML file on several runs.

    Raises UserError where a folder is none of a run, or a file of it cannot be read.
    """
    runs = [read_run(folder) for folder in folders]
    about = iter([f"<h1>{len(runs)} runs</h1>", _table_of_runs(runs, path)])
    sections = {
        "Scores": _scores(runs),
        "Arguments that differ": iter([_differing(runs, lambda run: run.flags, "arguments")]),
        "Curves": _curves(runs),
        "Videos": _videos(runs),
        "Environments": iter([_differing(runs, lambda run: run.environment, "environments")]),
    }
    write_page(path, page_of(f"Runs {', '.join(names_of(runs))}", about, sections))
