"""Several processes, as torchrun starts them, share the videos of a run, as if they were one."""

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import inference
from tests.support.commands import files_in, run_apart, run_here
from tests.support.forks import Forked, script
from tests.support.processes import free_port, place_of
from tests.support.vos_folders import write_frames
from tracking.work import WORK

LENGTHS = {"a": 3, "b": 30, "c": 2, "d": 5, "e": 4}  # frames of each video
Start = Callable[[int], list[Forked]]


@pytest.fixture
def flags(trained, tmp_path) -> list[object]:
    """Those of inference.py, of videos in tmp_path/videos and an output in tmp_path/output."""
    for name, count in LENGTHS.items():
        write_frames(tmp_path / "videos" / name, count)
    flags = ["--checkpoint", trained.run / "best.pth", "--video_root", tmp_path / "videos"]
    flags += ["--output", tmp_path / "output", "--device", "cpu"]
    return [*flags, "--birth_score", 0.2, "--score_threshold", 0.2]


@pytest.fixture
def start(flags) -> Iterator[Start]:
    """A function that starts the command in so many processes; those that are left are killed at the end."""
    with ExitStack() as processes:

        def begin(number: int) -> list[Forked]:
            work, port = script("inference.py", *flags), free_port()
            places = [place_of(rank, number, port) for rank in range(number)]
            return [processes.enter_context(Forked(work, place)) for place in places]

        yield begin


def content_of(output: Path) -> dict[str, bytes]:
    """The files of an output but for those at work."""
    return {name: (output / name).read_bytes() for name in files_in(output) if WORK not in name}


def videos_begun(lines: list[str]) -> list[str]:
    """The videos of lines "[rank] video: 5 frames of ..."."""
    return [line.split(":")[0].split()[1] for line in lines if " frames of " in line]


@pytest.mark.parametrize("launcher", ["fork", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_two_processes_make_the_output_of_one(flags, start, tmp_path, launcher):
    expected = content_of(run_here(inference.main, *flags, "--output", tmp_path / "alone").run)
    if launcher == "fork":
        ends = [process.outcome() for process in start(2)]
    else:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
        ends = [run_apart(*torchrun, "inference.py", *flags)]
    assert [end.status for end in ends] == [0] * len(ends) and ends[0].run == tmp_path / "output"
    assert content_of(tmp_path / "output") == expected
    assert sorted(video for end in ends for video in videos_begun(end.out)) == list(LENGTHS)


def test_a_bad_video_fails_alone_and_every_process_ends_with_status_1(flags, start, tmp_path):
    (tmp_path / "videos" / "d" / "00000.jpg").write_bytes(b"junk")  # met by the first process, which checks
    bad = tmp_path / "videos" / "b" / "00003.jpg"
    bad.write_bytes(bad.read_bytes()[:300])
    assert run_here(inference.main, *flags, "--output", tmp_path / "alone").status == 1
    ends = [process.outcome() for process in start(3)]
    assert [end.status for end in ends] == [1, 1, 1]
    assert content_of(tmp_path / "output") == content_of(tmp_path / "alone")
    assert list(json.loads((tmp_path / "output" / "failed.json").read_text())) == ["b", "d"]
    told = [line for end in ends for line in end.err if line.startswith("[") and str(bad) in line]
    assert len(told) == 1 and "] b: " in told[0]
    assert ends[0].err[-1].startswith("2 of 5 videos failed: see ")
    assert [str(tmp_path / "output") in end.out for end in ends] == [True, False, False]
    (of_b,) = [begun for end in ends if "b" in (begun := videos_begun(end.out))]
    assert of_b[0] == "b", "the longest is the first"


def test_what_comes_once_is_not_shared(flags, start, tmp_path):
    flags += ["--video_root", "-"]
    ends = [process.outcome() for process in start(2)]
    assert 2 in (statuses := {end.status for end in ends}) and statuses <= {1, 2}
    reason = "error: --video_root - is one video: track it without torchrun"
    assert {line for end in ends for line in end.err if "error" in line} == {reason}
    assert not (tmp_path / "output").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "signals",
    [
        [(1, signal.SIGKILL), (0, signal.SIGTERM)],  # torchrun ends the others where one has died
        [(0, signal.SIGINT), (1, signal.SIGINT), (0, signal.SIGINT), (1, signal.SIGINT)],  # Ctrl-C there
    ],
    ids=["kill", "ctrl_c"],
)
def test_what_is_done_when_processes_are_ended_stays_done(flags, start, tmp_path, signals):
    shutil.rmtree(tmp_path / "videos" / "b")
    write_frames(tmp_path / "videos" / "b", 400)  # longer than it takes to see that another one is done
    expected = content_of(run_here(inference.main, *flags, "--output", tmp_path / "alone").run)
    processes = start(2)
    while not list((tmp_path / "output").glob(f"{WORK}/videos/*/done.json")):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.002)
    for rank, number in signals:
        processes[rank].send_signal(number)
    end = processes[0].outcome()
    assert end.status in (1, 130)
    assert any("of 5 videos are done: the same command goes on" in line for line in end.err), end.err
    processes[1].wait()
    ends = [process.outcome() for process in start(2)]
    assert [end.status for end in ends] == [0, 0]
    assert sum(len(videos_begun(end.out)) for end in ends) < len(LENGTHS)
    assert content_of(tmp_path / "output") == expected
    assert not (tmp_path / "output" / WORK).exists()
