"""Scorers in turns: davis2017-evaluation and TrackEval against evaluate.py, on the same files."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.inputs import write_mots, write_results
from benchmarks.peers.turns import Turns, command, run_in_turns


def evaluate(protocol: str, results: Path, annotations: Path, report: Path) -> list[str]:
    """Our command for the same, without processes of its own, as theirs have none."""
    paths = {"results": results, "annotations": annotations, "json": report}
    flags = [str(part) for name, path in paths.items() for part in (f"--{name}", path)]
    return [sys.executable, "evaluate.py", "--protocol", protocol, "--num_workers", "0", *flags]


def first_row(path: Path, delimiter: str) -> dict[str, float]:
    with open(path, newline="") as file:
        return {name: float(value) for name, value in next(csv.DictReader(file, delimiter=delimiter)).items()}


def overall(report: Path, score: str) -> float:
    return json.loads(report.read_text())["overall"][score]


def davis2017(checkout: Path, root: Path, data: Sequence[Path], rounds: int) -> tuple[Turns, float]:
    """The turns, and how far the two values of J&F-Mean are apart."""
    truth, results = data
    report, table = root / "davis.json", results / "global_results-val.csv"
    flags = "--task", "semi-supervised", "--davis_path", truth, "--results_path", results
    turns = run_in_turns(
        evaluate("davis", results, truth, report),
        command("script", checkout, checkout / "evaluation_method.py", *flags),
        checkout,
        rounds,
        stale=[table],  # it would be printed again
    )
    return turns, abs(overall(report, "J&F-Mean") - first_row(table, ",")["J&F-Mean"])


def trackeval(checkout: Path, root: Path, data: Sequence[Path], rounds: int) -> tuple[Turns, float]:
    """The turns, and how far the two values of HOTA are apart."""
    truth, tracked = write_mots(root, *data)
    report, trackers = root / "mots.json", tracked.parents[1]
    flags = "--GT_FOLDER", truth, "--TRACKERS_FOLDER", trackers, "--TRACKERS_TO_EVAL", tracked.parent.name
    flags += "--SKIP_SPLIT_FOL", "True", "--PLOT_CURVES", "False", "--USE_PARALLEL", "False"
    flags += "--SEQ_INFO", *sorted(folder.name for folder in truth.iterdir())
    turns = run_in_turns(
        evaluate("mots", tracked, truth, report),
        command("script", checkout, checkout / "scripts" / "run_mots_challenge.py", *flags),
        checkout,
        rounds,
    )
    summary = first_row(tracked.parent / "pedestrian_summary.txt", " ")
    return turns, abs(overall(report, "HOTA") - summary["HOTA"] / 100)


SCORERS = {"davis2017": davis2017, "trackeval": trackeval}


def score_in_turns(
    name: str, checkout: Path, root: Path, size: tuple[int, int], videos: int, frames: int, rounds: int
) -> tuple[Turns, float]:
    """Both scorers on generated results of so many videos; and how far their main scores are apart."""
    data = write_results(root, size, videos, frames)
    return SCORERS[name](checkout, root, data, rounds)
