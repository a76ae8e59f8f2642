"""The commands show ClearML, on a (fake) server, what they do: a run that goes on stays one task."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from common.checkpoint import read_checkpoint
from tests.support.clearml_runs import Runner, only, own_lines, scalars
from tests.support.clearml_stub import ClearMLStub
from tests.support.commands import ROOT, TINY
from tests.support.waiting import SECONDS, wait_for

ARTIFACTS = {"metrics", "results", "args", "commands"}
Start = Callable[..., tuple]


def flags_of(data: Path) -> list[object]:
    return [*TINY, "--enable_clearml", "--dataset_root", data, "--log_steps", 1, "--epochs", 1]


def points(stub: ClearMLStub, title: str, series: str) -> list[tuple[int, float]]:
    """(step, value) of every point of a curve."""
    return [
        (step, value)
        for metric, name, step, value in scalars(stub.events)
        if (metric, name) == (title, series)
    ]


def single_values(stub: ClearMLStub) -> dict[str, float]:
    return {name: value for metric, name, _, value in scalars(stub.events) if metric == "Summary"}


def plots(stub: ClearMLStub) -> set[str]:
    return {event["metric"] for event in stub.events if event["type"] == "plot"}


def test_a_training_run_is_shown_once_and_whole(run, stub, small_data):
    done = run(*flags_of(small_data), through=[ROOT / "main.py"])
    assert own_lines(done.stderr) == []
    folder, task = run.folder / "runs" / "1", only(stub.tasks)
    assert (task["status"], task["tags"], task["name"]) == ("completed", ["vita_tcovis"], "train-1")
    assert json.loads((folder / "args.json").read_text())["clearml_task"] == task["id"]
    assert read_checkpoint(folder / "last.pth")["args"]["clearml_task"] == task["id"]
    losses = points(stub, "loss", "total")
    assert [step for step, _ in losses] == [1, 2]
    rows = (folder / "results.csv").read_text().splitlines()
    mean = float(rows[1].split(",")[rows[0].split(",").index("loss/total")])
    assert (losses[0][1] + losses[1][1]) / 2 == pytest.approx(mean, rel=1e-4)  # of the epoch; these of steps
    assert [step for step, _ in points(stub, "val", "J&F")] == [2]
    assert [step for step, _ in points(stub, "val_loss", "total")] == [2]
    assert {"parameters", "peak memory, MiB", "clips per second", "best epoch", "J&F"} <= single_values(
        stub
    ).keys()
    assert {"results", "videos", "loss by epoch", "val by epoch"} <= plots(stub)
    assert {artifact["key"] for artifact in task["execution"]["artifacts"]} == ARTIFACTS
    assert {model["name"] for model in stub.models.values()} == {"best", "last"}
    films = [content for path, content in stub.files.items() if path.endswith(".mp4")]
    assert len(films) == 2 and all(b"avc1" in content for content in films)  # H.264


def interrupted(run: Runner, stub: ClearMLStub, data: Path, by: int) -> None:
    """Start a long run, and end it by a signal when a step of it is shown."""
    process = run.start(*flags_of(data), "--epochs", 1000, "--eval_every", 0, through=[ROOT / "main.py"])
    wait_for(lambda: any(metric == "loss" for metric, *_ in scalars(stub.events)))
    process.send_signal(by)
    process.communicate(timeout=SECONDS)


def test_an_interrupted_run_is_stopped_and_goes_on_in_the_same_task(run, stub, small_data):
    interrupted(run, stub, small_data, signal.SIGINT)
    task = only(stub.tasks)
    assert (task["status"], task["status_reason"]) == ("stopped", "interrupted")
    assert only(stub.models)["uri"].endswith("/models/last.pth")
    step = read_checkpoint(run.folder / "runs" / "1" / "last.pth")["step"]
    epochs = -(-step // 2) + 1
    run(*flags_of(small_data), "--epochs", epochs, "--resume", "auto", through=[ROOT / "main.py"])
    assert only(stub.tasks)["status"] == "completed"
    steps = [step for step, _ in points(stub, "loss", "total")]
    assert steps == sorted(set(steps))  # each once; the step that was interrupted may have no point
    assert {*range(1, 2 * epochs + 1)} - {step + 1, step} <= {*steps} <= {*range(1, 2 * epochs + 1)}


@pytest.mark.slow
def test_a_run_may_go_on_in_a_new_task(run, stub, small_data):
    flags = [*flags_of(small_data), "--eval_every", 0, "--resume", "auto", "--clearml_continue", "new"]
    for epochs in (1, 2):
        run(*flags, "--epochs", epochs, through=[ROOT / "main.py"])
    first, second = stub.tasks
    args = json.loads((run.folder / "runs" / "1" / "args.json").read_text())
    assert first != second and args["clearml_task"] == second


def test_the_scores_of_a_folder_and_its_tracks_are_shown(run, stub, small_data, trained):
    flags = ["--checkpoint", trained.run / "best.pth", "--video_root", small_data / "valid"]
    flags += ["--output", run.folder / "out", "--device", "cpu", "--birth_score", 0.3, "--enable_clearml"]
    run(*flags, through=[ROOT / "inference.py"])
    assert only(stub.tasks)["name"] == "inference-out"
    values = single_values(stub)
    assert (values["videos"], values["frames"]) == (2, 10) and values["frames per second"] > 0
    assert sum(path.endswith(".mp4") for path in stub.files) == 2
    stub.tasks.clear()
    flags = ["--results", run.folder / "out", "--annotations", small_data / "valid", "--num_workers", 0]
    run(*flags, "--enable_clearml", through=[ROOT / "evaluate.py"])
    task = only(stub.tasks)
    assert (task["name"], task["tags"]) == ("evaluate-out", ["tcovis"])
    assert "J&F" in single_values(stub) and "videos" in plots(stub)
    assert [artifact["key"] for artifact in task["execution"]["artifacts"]] == ["report"]
