"""ClearML's own optimizer trains copies of a task by its agents; the (fake) server keeps their numbers."""

import csv
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from common.config import preset_args
from tests.support.clearml_runs import Runner, own_lines
from tests.support.clearml_stub import ClearMLStub
from tests.support.commands import assert_refused, run_here
from tuning import hpo
from tuning.clearml_search import parameter_of
from tuning.space import parse_space

SEARCH = """
from common.errors import run_command
from tuning import clearml_search, hpo

clearml_search.POLL_MINUTES = 0.01
run_command(hpo.main)
"""


@pytest.fixture
def stub(tmp_path) -> Iterator[ClearMLStub]:
    pytest.importorskip("clearml")
    with ClearMLStub() as stub:
        yield stub


def runner(stub: ClearMLStub, folder, *script: str) -> Runner:
    folder.mkdir()
    run = Runner(folder, *script)
    run.environment |= stub.environment
    return run


@pytest.fixture
def agent(stub, tmp_path) -> Iterator[None]:
    """An agent, which does what is enqueued, one task after the other, as a process of its own."""
    run, ended = runner(stub, tmp_path / "agent"), Event()

    def work() -> None:
        while not ended.wait(0.1):
            for task in [task for task in stub.tasks.values() if task["status"] == "queued"]:
                task["status"] = "in_progress"
                run.environment["CLEARML_TASK_ID"] = task["id"]
                run()
                # What an agent says of a process that has ended.
                times = dict.fromkeys(("started", "completed"), "2026-01-01T00:00:00.0+00:00")
                task.update(status="completed", **times)

    thread = Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture
def template(stub, tmp_path) -> str:
    """The id of a task that a run has left on the server."""
    runner(stub, tmp_path / "first")("--enable_clearml")
    return next(iter(stub.tasks))


@pytest.mark.slow
def test_agents_train_copies_with_edited_arguments_and_the_best_is_told(stub, template, agent, tmp_path):
    run, output = runner(stub, tmp_path / "search", SEARCH), tmp_path / "o"
    flags = ["--output", output, "--vary", "score=81,81.25,79.5", "--clearml_template", template]
    done = run(*flags, "--queue", "default")
    copies = {
        task["hyperparams"]["Args"]["score"]["value"]: task
        for task in stub.tasks.values()
        if "parent" in task
    }
    assert list(copies) == ["81.0", "81.25", "79.5"]
    assert {task["status"] for task in copies.values()} == {"completed"}
    assert {task["queue"] for task in copies.values()} == {"q"}
    with open(output / "trials.csv", newline="") as file:
        assert {row["score"]: row["J&F"] for row in csv.DictReader(file)} == {
            "81.0": "81.0",
            "81.25": "81.25",
            "79.5": "79.5",
        }
    assert preset_args(output / "best.txt") == ["--score", "81.25"]
    assert f"the best is the task {copies['81.25']['id']}" in done.stdout
    assert done.stdout.splitlines()[-1] == str(output)


@pytest.mark.slow
def test_a_template_that_is_none_is_refused_in_one_line(stub, template, tmp_path):
    run = runner(stub, tmp_path / "search", SEARCH)
    flags = ["--output", tmp_path / "o", "--queue", "default", "--vary", "width=1,2", "--clearml_template"]
    (line,) = own_lines(run(*flags, template, status=2).stderr)
    assert f"--clearml_template {template} has no Args/width" in line
    (line,) = own_lines(run(*flags, "nothing", status=2).stderr)
    assert "--clearml_template nothing cannot be fetched" in line
    assert not (tmp_path / "o").exists() and len(stub.tasks) == 1


@pytest.mark.parametrize(
    "flags",
    [
        ["--clearml_template", "1"],
        ["--queue", "q"],
        ["--queue", "q", "--clearml_template", "1", "--", "--lr_head", "1"],
    ],
)
def test_a_template_needs_a_queue_and_has_its_own_flags(tmp_path, flags):
    outcome = run_here(hpo.main, "--output", tmp_path / "o", "--vary", "lr_head=1,2", *flags)
    assert_refused(outcome, "--clearml_template", "--queue", "give both, and no flags after --")


def test_every_form_of_values_has_its_parameter():
    automation = pytest.importorskip("clearml.automation")
    space = parse_space(["a=1,x", "b=0.5..2", "c=3..9", "d=1e-5..1e-3:log", "e=1..100:log"])
    made = {name: parameter_of(automation, name, values) for name, values in space.items()}
    assert [type(one).__name__ for one in made.values()] == [
        "DiscreteParameterRange",
        "UniformParameterRange",
        "UniformIntegerParameterRange",
        "LogUniformParameterRange",
        "DiscreteParameterRange",
    ]
    assert [one.name for one in made.values()] == [f"Args/{name}" for name in space]
    drawn = [float(made["d"].get_value()["Args/d"]) for _ in range(50)]
    assert all(1e-5 <= value <= 1e-3 for value in drawn) and min(drawn) < 1e-4 < max(drawn)
    assert made["e"].values[0] == "1" and made["e"].values[-1] == "100" and len(made["e"].values) > 8
