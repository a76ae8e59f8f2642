"""The folder of a run's results: whose files may go, and which names may come."""

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inference
from common.files import LOCK
from tests.support.commands import Outcome, assert_refused, files_in, held_elsewhere, run_apart, run_here
from tests.support.forks import Forked, end_of, script
from tests.support.vos_folders import write_frames, write_prompt
from tracking.output import VideoOutput
from tracking.work import FINISHED, WORK
from video.writer import OverlayWriter


@pytest.fixture
def infer(trained, tmp_path) -> Callable[..., Outcome]:
    """A function of further flags that tracks tmp_path/videos into tmp_path/output, without overlays."""
    flags = ["--checkpoint", trained.run / "best.pth", "--video_root", tmp_path / "videos", "--device", "cpu"]
    flags += ["--output", tmp_path / "output", "--overlays", "off"]
    return lambda *further: run_here(inference.main, *flags, *further)


RECORD = f"{WORK}/run.json"
ENTRY = {"video_id": 1, "frames": 1, "tracks": {}}  # what tracks.json says of a video


def write_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with OverlayWriter(path.with_name("x.mp4"), 10) as writer:
        writer.add(np.zeros((32, 32, 3), dtype=np.uint8))
    path.with_name("x.mp4").rename(path)


def maps_in(output: Path) -> list[str]:
    return [name for name in files_in(output) if name.endswith(".png")]


@pytest.mark.parametrize("name", ["...mp4", "..mp4", "a\\b.mp4", "C:x.mp4"])
def test_a_video_file_whose_name_leads_elsewhere_harms_nobody(tmp_path, infer, name):
    write_file(tmp_path / "videos" / name)
    (tmp_path / "output" / "precious").mkdir(parents=True)
    (tmp_path / "output" / "precious" / "thesis.tex").write_text("")
    for root in (tmp_path / "videos", tmp_path / "videos" / name):
        outcome = infer("--video_root", root, "--overlays", "on")
        assert outcome.status == 2 and len(outcome.err) == 1, outcome
    assert files_in(tmp_path / "output") == ["precious/thesis.tex"]


def test_a_name_that_is_too_long_is_refused_and_that_of_a_frame_costs_its_video_alone(tmp_path, infer):
    write_frames(tmp_path / "videos" / "a", 2)
    write_frames(tmp_path / "videos" / ("b" * 250), 2)
    assert_refused(infer(), "bbb", "longer than 246 bytes")
    (tmp_path / "videos" / ("b" * 250)).rename(tmp_path / "videos" / "b")
    (tmp_path / "videos" / "b" / "00001.jpg").rename(tmp_path / "videos" / "b" / f"{'c' * 250}.jpg")
    assert not (tmp_path / "output").exists()
    outcome = infer()
    assert outcome.status == 1 and "ccc" in outcome.err[0] and "longer than 246 bytes" in outcome.err[0]
    assert [path.name for path in (tmp_path / "output" / "Annotations").iterdir()] == ["a"]


def test_maps_that_no_run_wrote_are_not_replaced(tmp_path, infer):
    write_frames(tmp_path / "videos" / "a", 2)
    drawn = tmp_path / "output" / "Annotations" / "a" / "00000.png"
    drawn.parent.mkdir(parents=True)
    Image.new("P", (8, 8)).save(drawn)
    assert_refused(infer("--overwrite"), drawn.parent, "move it")
    assert files_in(tmp_path / "output") == ["Annotations/a/00000.png"]


def test_what_somebody_put_beside_the_maps_of_a_run_is_not_removed(tmp_path, infer):
    write_frames(tmp_path / "videos" / "a", 2)
    output = infer().run
    (output / "Annotations" / "a" / "notes.txt").write_text("")
    before = files_in(output)
    for videos in ("a", "b"):  # to be replaced, and to be removed
        if not (tmp_path / "videos" / videos).exists():
            (tmp_path / "videos" / "a").rename(tmp_path / "videos" / "b")
        assert_refused(infer("--overwrite"), "notes.txt", "move it")
        assert files_in(output) == before


@pytest.mark.parametrize("name", ["../..", "/tmp", "../../precious", ".."])
def test_a_tracks_json_that_names_other_places_removes_nothing(tmp_path, infer, name):
    write_frames(tmp_path / "videos" / "a", 2)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "00000.png").write_text("")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "tracks.json").write_text(json.dumps({name: ENTRY}))
    assert_refused(infer("--overwrite"), name, "cannot be a name")
    assert files_in(tmp_path / "precious") == ["00000.png"]


@pytest.mark.parametrize(
    "entry", [{}, None, 1, {"tracks": {}}, ENTRY | {"frames": "1"}, ENTRY | {"tracks": []}]
)
def test_a_tracks_json_that_no_run_wrote_gives_no_right_to_its_folders(tmp_path, infer, entry):
    write_frames(tmp_path / "videos" / "a", 2)
    drawn = tmp_path / "output" / "Annotations" / "a" / "00000.png"
    drawn.parent.mkdir(parents=True)
    drawn.write_text("drawn by hand")
    (tmp_path / "output" / "tracks.json").write_text(json.dumps({"a": entry}))
    assert_refused(infer("--overwrite"), tmp_path / "output" / "tracks.json", "no file of inference.py")
    assert drawn.read_text() == "drawn by hand"


@pytest.mark.parametrize("name", ["tracks.json", RECORD])
def test_a_pipe_in_the_place_of_a_file_of_a_run_is_refused(tmp_path, infer, name):
    write_frames(tmp_path / "videos" / "a", 2)
    (tmp_path / "output" / name).parent.mkdir(parents=True)
    os.mkfifo(tmp_path / "output" / name)
    assert_refused(infer("--overwrite"), tmp_path / "output" / name, "pipe")


@pytest.mark.parametrize("flag", ["--output", "--video_root", "--checkpoint", "--prompt_root", "--boxes"])
def test_an_empty_path_is_refused_and_not_taken_for_this_folder(tmp_path, infer, monkeypatch, flag):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "videos" / "a", 2)
    assert_refused(infer(flag, ""), flag, "no value")
    assert_refused(infer(f"{flag}="), flag, "no value")
    assert not (tmp_path / "Annotations").exists()


def test_what_systems_put_beside_prompts_and_results_is_neither(tmp_path, infer):
    write_frames(tmp_path / "videos" / "a", 2)
    write_prompt(tmp_path / "prompts" / "a" / "00000.png", {7: slice(0, 9)})
    (tmp_path / "output" / "Annotations" / "@eaDir").mkdir(parents=True)
    for name in ("._00000.png", ".00001.png", "Thumbs.db"):
        (tmp_path / "prompts" / "a" / name).write_bytes(b"junk")
    outcome = infer("--prompt_root", tmp_path / "prompts")
    assert outcome.status == 0 and outcome.err == []


# ---- runs that do not come to their end


def test_overwriting_leaves_nothing_of_videos_that_the_new_results_lack(tmp_path, infer):
    for name in ("a", "b"):
        write_frames(tmp_path / "videos" / name, 2)
    output = infer("--overlays", "on").run
    (tmp_path / "videos" / "b").rename(tmp_path / "c")
    (output / "Annotations" / "mine").mkdir()
    (output / "overlays" / "mine.mp4").write_text("")
    assert infer("--overwrite", "--overlays", "on").status == 0
    assert files_in(output / "overlays") == ["a.mp4", "mine.mp4"] and not (output / WORK).exists()
    assert sorted(path.name for path in (output / "Annotations").iterdir()) == ["a", "mine"]


def test_after_a_failed_run_no_file_speaks_of_other_results(tmp_path, infer):
    for name in ("a", "b", "c"):
        write_frames(tmp_path / "videos" / name, 2)
    output = infer().run
    bad = tmp_path / "videos" / "b" / "00001.jpg"
    content = bad.read_bytes()
    bad.write_bytes(content[:300])
    failed = infer("--overwrite")
    assert failed.status == 1 and json.loads((output / "failed.json").read_text()).keys() == {"b"}
    assert json.loads((output / "tracks.json").read_text()).keys() == {"a", "c"}
    assert not (output / "Annotations" / "b").exists()
    bad.write_bytes(content)
    for name in ("a", "c"):
        (tmp_path / "videos" / name).rename(tmp_path / name)
    assert infer("--overwrite").status == 0
    assert maps_in(output) == ["Annotations/b/00000.png", "Annotations/b/00001.png"]
    assert json.loads((output / "tracks.json").read_text()).keys() == {"b"}


LEFT = ["rows.sqlite", "rows.sqlite-journal", "reverse/frames", "reverse/00000.npz", ".overlay.mp4.tmp"]
LEFT += ["maps/00000.png", "maps/.1.png.tmp", "states/.8.pt.tmp", ".source.json.tmp", ".detections.npz.tmp"]
LEFT = [f"{WORK}/videos/b/{name}" for name in LEFT]


def write_left(output: Path, names: list[str]) -> None:
    for name in names:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text("half")


def test_a_run_cleans_up_after_one_that_was_killed(tmp_path, infer):
    write_frames(tmp_path / "videos" / "a", 2)
    write_left(tmp_path / "output", [LOCK, *LEFT])
    record = {"settings": None, "overwrite": False, "former": []}
    (tmp_path / "output" / RECORD).write_text(json.dumps(record))
    assert_refused(infer(), "another command", "--overwrite")
    output = infer("--overwrite").run
    assert files_in(output) == sorted([*maps_in(output), "results.json", "tracks.json"])
    assert len(maps_in(output)) == 2


def test_what_a_run_killed_at_its_very_end_left_goes_though_the_next_is_refused(tmp_path, infer):
    write_frames(tmp_path / "videos" / "a", 2)
    complete = files_in(infer().run)
    write_left(tmp_path / "output", [f"{FINISHED}/run.json", f"{FINISHED}/videos/a/done.json"])
    assert_refused(infer(), "holds results already", "--overwrite")
    assert files_in(tmp_path / "output") == complete


@pytest.mark.parametrize("name", [*LEFT, f"{WORK}/thesis.tex"])
def test_what_only_looks_like_a_killed_runs_is_not_removed(tmp_path, infer, name):
    write_frames(tmp_path / "videos" / "a", 2)
    write_left(tmp_path / "output", [name])
    for flags in ([], ["--overwrite"]):
        assert_refused(infer(*flags), tmp_path / "output" / WORK, "move it")
    assert (tmp_path / "output" / name).read_text() == "half" and files_in(tmp_path / "output") == [name]


def track_until_killed(flags: list[object]) -> None:
    """Track in this process, which dies while it writes the first map."""

    def fatal(output: VideoOutput, *_: object) -> None:
        output.paths.maps.mkdir(parents=True)
        (output.paths.maps / "00000.png").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    VideoOutput.record = fatal
    run_here(inference.main, *flags)


def test_what_a_run_leaves_that_is_killed_in_its_first_video_is_known_as_its_own(tmp_path, infer, trained):
    write_frames(tmp_path / "videos" / "a", 2)
    flags = ["--checkpoint", trained.run / "best.pth", "--video_root", tmp_path / "videos", "--device", "cpu"]
    flags += ["--output", tmp_path / "output", "--overlays", "off"]
    killed = end_of(partial(track_until_killed, flags))
    assert killed.status == -signal.SIGKILL, killed.err
    place = f"{WORK}/videos/a"
    left = [LOCK, RECORD, f"{place}/maps/00000.png", f"{place}/rows.sqlite", f"{place}/source.json"]
    assert sorted({*files_in(tmp_path / "output")} - {f"{place}/rows.sqlite-journal"}) == sorted(left)
    assert infer().status == 0
    assert [name for name in files_in(tmp_path / "output") if "json" not in name] == maps_in(
        tmp_path / "output"
    )


def test_two_runs_do_not_write_into_one_folder(tmp_path, infer):
    write_frames(tmp_path / "videos" / "a", 2)
    (tmp_path / "output").mkdir()
    with held_elsewhere(tmp_path / "output" / LOCK):
        assert_refused(infer(), "process 7 on a node", "write elsewhere")
        assert files_in(tmp_path / "output") == [LOCK]
    assert infer().status == 0 and LOCK not in files_in(tmp_path / "output")


def wait_for(path: Path, process: Forked) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
def test_a_signal_that_ends_a_run_is_heeded_as_ctrl_c_is(tmp_path, trained, number):
    write_frames(tmp_path / "videos" / "a", 1)
    for t in range(1, 3000):  # longer than this test takes
        os.link(tmp_path / "videos" / "a" / "00000.jpg", tmp_path / "videos" / "a" / f"{t:05d}.jpg")
    flags = ["--checkpoint", trained.run / "best.pth", "--device", "cpu"]
    flags += ["--video_root", tmp_path / "videos", "--output", tmp_path / "output"]
    with Forked(script("inference.py", *flags)) as process:
        wait_for(tmp_path / "output" / WORK / "videos" / "a" / "maps", process)
        process.send_signal(number)
        process.send_signal(signal.SIGTERM)  # a second one does not stop the cleaning up
        assert process.wait() == 130 and process.stderr.read() == ""
    assert files_in(tmp_path / "output") == []


@pytest.mark.parametrize("stdout", [">/dev/full", "| true", ">&-"])
def test_lines_that_nobody_takes_cost_no_results(tmp_path, trained, stdout, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    for name in ("кот", "пёс"):
        write_frames(tmp_path / "videos" / name, 2)
    flags = ["--checkpoint", trained.run / "best.pth", "--device", "cpu", "--overlays", "off"]
    flags += ["--video_root", tmp_path / "videos", "--output", tmp_path / "output"]
    shell = f'{{ "$@"; echo $? >&9; }} 9>&2 {stdout}'
    outcome = run_apart("inference.py", *flags, through=["bash", "-c", shell, "bash"])
    assert outcome.err[-1] == "0" and len(outcome.err) == 1 + (stdout != "| true")
    assert json.loads((tmp_path / "output" / "tracks.json").read_text()).keys() == {"кот", "пёс"}
    assert not (tmp_path / "output" / WORK).exists() and len(maps_in(tmp_path / "output")) == 4
