"""A run is shown by ClearML, offline or on a (fake) server, and no trouble with that reaches the training."""

import json

import pytest

from tests.support.clearml_runs import events_in, final, finish, only, own_lines, scalars
from tests.support.waiting import wait_for

EXPECTED_SCALARS = [("loss", "total", 0, 1.5), ("loss", "total", 1, 0.5), ("Summary", "J&F", -(2**31), 80.5)]
PLOTS = {"per video", "results", "loss by epoch"}


def test_an_offline_session_holds_everything(run):
    result = run(
        "--enable_clearml", "--clearml_offline", "--lr", "0.25", "--project_name", "P", "--task_name", "T"
    )
    assert own_lines(result.stderr) == []
    with run.session() as session:
        names, events = session.namelist(), events_in(session)
        task = json.loads(session.read("task.json"))
        metrics = next(name for name in names if name.endswith("artifacts/metrics/metrics.json"))
        weights = next(name for name in names if name.endswith("artifacts/best/best.pth"))
        assert json.loads(session.read(metrics)) == {"J": 1.0}
        assert session.read(weights) == b"weights"
    assert scalars(events) == EXPECTED_SCALARS
    assert any("metrics/overlays/video/" in name for name in names)
    assert any("metrics/film/video/" in name for name in names)
    assert {event["metric"] for event in events if event["type"] == "plot"} == PLOTS
    assert (task["project_name"], task["name"], task["tags"]) == ("P", "T", ["stcn"])
    assert task["comment"].endswith("runs/7")
    values = {name: item["value"] for name, item in task["hyperparams"]["Args"].items()}
    expected = {"lr": "0.25", "run_dir": "runs", "skip_bad": "False", "epochs": ""}
    assert {name: values[name] for name in expected} == expected
    assert len(task["script"]["version_num"]) == 40  # the commit
    assert len(task["execution"]["artifacts"]) == 2  # no checkpoint beside the one that was named


def test_a_server_receives_everything(run, stub):
    result = run("--enable_clearml", "--clearml_tags", "a", "b")
    assert own_lines(result.stderr) == []
    task, model = only(stub.tasks), only(stub.models)
    assert task["status"] == "completed"
    assert (task["name"], sorted(task["tags"])) == ("train-7", ["a", "b", "stcn"])
    assert task["hyperparams"]["properties"]["run_folder"]["value"] == str(run.folder / "runs" / "7")
    assert scalars(stub.events) == EXPECTED_SCALARS
    kinds = {event["metric"]: event["type"] for event in stub.events if "metric" in event}
    assert kinds["overlays"] == kinds["film"] == "training_debug_image"
    assert {name for name, kind in kinds.items() if kind == "plot"} == PLOTS
    assert model["name"] == "best"
    assert stub.files[model["uri"].removeprefix(stub.url)] == b"weights"
    assert any("overlays" in path and len(content) > 100 for path, content in stub.files.items())
    assert [artifact["key"] for artifact in task["execution"]["artifacts"]] == ["metrics"]
    arguments = task["hyperparams"]["Args"]
    assert arguments["sizes"]["value"] == "[1, 2]"
    assert (arguments["lr"]["value"], arguments["lr"]["type"]) == ("1", "float")
    assert arguments["lr"]["description"] == "learning rate"


def test_one_process_alone_uses_the_connections_to_the_server(run, stub):
    begun = run("--enable_clearml", "--trouble", "worker")
    task = final(begun.stdout)["task"]
    continued = run("--enable_clearml", "--trouble", "worker", "--continued", task)
    for done in (begun, continued):
        assert final(done.stdout)["task"] == task and "ClearML:" not in done.stderr
        assert "a worker of 1 threads, fork 1" in done.stdout.splitlines()


def test_the_curves_of_a_plot_are_drawn_together(run, stub):
    run("--enable_clearml")
    (plot,) = [event for event in stub.events if event.get("metric") == "loss by epoch"]
    (curve,) = json.loads(plot["plot_str"])["data"]
    assert (curve["name"], curve["x"], curve["y"]) == ("total", [1, 2], [1.5, 0.5])


def test_without_credentials_the_run_is_recorded_offline(run):
    (line,) = own_lines(run("--enable_clearml").stderr)
    assert line == "ClearML: no credentials (run clearml-init); this run is recorded offline"
    with run.session() as session:
        assert "metrics.jsonl" in session.namelist()


def test_a_server_that_does_not_answer_does_not_hold_the_run(run):
    run.environment |= {"CLEARML_API_HOST": "http://127.0.0.1:9", "CLEARML_WEB_HOST": "http://127.0.0.1:9"}
    run.environment |= {"CLEARML_API_ACCESS_KEY": "access", "CLEARML_API_SECRET_KEY": "secret"}
    (line,) = own_lines(run("--enable_clearml").stderr)
    assert line == "ClearML: no server answers at http://127.0.0.1:9; this run is recorded offline"
    run.environment["CLEARML_TASK_ID"] = "cloned"
    (line,) = own_lines(run("--enable_clearml", status=2).stderr)
    assert "the run of an agent needs the server" in line


def test_refused_credentials_leave_the_run_offline(run, stub):
    stub.refuses_logins = True
    (line,) = own_lines(run("--enable_clearml").stderr)
    assert line.endswith("this run is recorded offline")
    with run.session() as session:
        assert "metrics.jsonl" in session.namelist()


@pytest.mark.parametrize(
    ("end", "status"), [("normally", 0), ("crash", 1), ("bad input", 2), ("interrupted", 130)]
)
def test_what_a_server_that_goes_away_has_not_received_is_in_an_offline_session(run, stub, end, status):
    process = run.waiting("--enable_clearml", "--trouble", f"server goes away, {end}")
    wait_for(lambda: any(event.get("variant") == "early" for event in stub.events))
    wait_for(lambda: stub.calls.count("debug.ping") == 2)  # at the beginning, and once a report was received
    stub.__exit__()
    output, errors = finish(process, "go on\n")
    assert process.returncode == status
    assert ('"args"' in output) == (status == 0)
    (line,) = [line for line in own_lines(errors) if "does not answer" in line]
    with run.session() as session:
        assert session.filename in line and f"previous_task_id='{only(stub.tasks)['id']}'" in line
        assert scalars(events_in(session)) == EXPECTED_SCALARS
        weights = next(name for name in session.namelist() if name.endswith("best.pth"))
        assert session.read(weights) == b"weights"


def test_a_call_that_does_not_end_does_not_hold_the_run(run, stub):
    (line,) = own_lines(run("--enable_clearml", "--trouble", "calls without an end").stderr)
    assert line.startswith("ClearML: not everything was sent in 4 s; ")
    with run.session() as session:
        assert session.filename in line and scalars(events_in(session)) == EXPECTED_SCALARS


def test_failed_reports_are_told_once_and_counted(run):
    errors = run("--enable_clearml", "--clearml_offline", "--trouble", "missing files").stderr
    first, last = own_lines(errors)
    assert "first.pth" in first and first.endswith("the run goes on")
    assert last == "ClearML: 2 reports failed in all"


@pytest.mark.parametrize(
    ("trouble", "exit_status", "status", "reason"),
    [
        ("crash", 1, "failed", "RuntimeError: the loss is not finite"),
        ("bad input", 2, "failed", "UserError: bad input"),
        ("interrupted", 130, "stopped", "interrupted"),
    ],
)
def test_the_task_tells_how_the_run_ended(run, stub, trouble, exit_status, status, reason):
    run("--enable_clearml", "--trouble", trouble, status=exit_status)
    task = only(stub.tasks)
    assert (task["status"], task["status_reason"]) == (status, reason)
    assert scalars(stub.events) == EXPECTED_SCALARS  # what led to it is there


def test_a_killed_run_leaves_its_models_behind(run, stub):
    process = run.waiting("--enable_clearml", "--trouble", "killed")
    wait_for(lambda: any(model.get("uri", "").endswith("/best.pth") for model in stub.models.values()))
    process.kill()
    process.communicate()
    assert stub.files[only(stub.models)["uri"].removeprefix(stub.url)] == b"weights"


def test_nothing_of_clearml_is_imported_when_it_is_not_enabled(run):
    assert final(run("--continued", "abc").stdout)["clearml"] is False
    assert not (run.folder / "cache").exists() and not (run.folder / ".clearml").exists()
