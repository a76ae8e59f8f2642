"""Many videos in one run: a bad one ends no other, what is done stays done, and nothing is mixed."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import inference
from common.checkpoint import read_checkpoint, save_checkpoint
from common.errors import UserError
from common.files import write_json
from tests.support.commands import Outcome, assert_refused, files_in, run_here
from tests.support.forks import Forked, kill_after, run_forked, script
from tests.support.vos_folders import write_frames, write_prompt
from tracking.batch import FREE_FLAGS, reason_of
from tracking.config import make_parser
from tracking.process import process_video
from tracking.work import WORK, Work

FRAMES = 12


def flags_in(folder: Path, checkpoint: Path) -> list[object]:
    flags = ["--checkpoint", checkpoint, "--video_root", folder / "videos", "--output", folder / "output"]
    return [*flags, "--device", "cpu", "--birth_score", 0.2, "--score_threshold", 0.2]


@pytest.fixture
def infer(trained, tmp_path) -> Callable[..., Outcome]:
    """A function of further flags that tracks tmp_path/videos into tmp_path/output."""
    flags = flags_in(tmp_path, trained.run / "best.pth")
    return lambda *further: run_here(inference.main, *flags, *further)


@pytest.fixture
def videos(tmp_path) -> Path:
    for name in ("a", "b", "c"):
        write_frames(tmp_path / "videos" / name, 2)
    return tmp_path / "videos"


def test_the_flags_that_results_do_not_depend_on_are_flags_of_the_command():
    known = {action.dest for action in make_parser("vita_tcovis")._actions}
    assert known >= FREE_FLAGS and "enable_clearml" in FREE_FLAGS and "image_size" in known - FREE_FLAGS


def damage(path: Path) -> bytes:
    """Cut a file short, and return what was in it."""
    content = path.read_bytes()
    path.write_bytes(content[:300])
    return content


def content_of(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in files_in(output)}


def tracked_in(outcome: Outcome) -> list[str]:
    """The videos that a run has tracked to their end."""
    return [line.partition(":")[0] for line in outcome.out if " frames/s" in line]


# ---- bad videos


def test_a_bad_video_ends_no_other_and_is_told_counted_and_written_down(videos, infer, tmp_path):
    damage(videos / "b" / "00001.jpg")
    outcome = infer()
    assert outcome.status == 1 and tracked_in(outcome) == ["a", "c"]
    assert outcome.out[-1] == str(tmp_path / "output")
    told, counted = outcome.err
    assert told.startswith("b: ") and str(videos / "b" / "00001.jpg") in told
    assert counted.startswith("1 of 3 videos failed: see ")
    failed = json.loads((tmp_path / "output" / "failed.json").read_text())
    assert failed == {"b": told.removeprefix("b: ")}
    assert json.loads((tmp_path / "output" / "tracks.json").read_text()).keys() == {"a", "c"}
    left = {name.split("/")[1] for name in files_in(tmp_path / "output") if "Annotations" in name}
    assert left == {"a", "c"} and not (tmp_path / "output" / WORK / "videos" / "b").exists()


def test_the_same_command_does_what_was_mended_alone_as_if_nothing_had_happened(videos, infer, tmp_path):
    expected = content_of(infer("--output", tmp_path / "unbroken").run)
    content = damage(videos / "b" / "00001.jpg")
    assert infer().status == 1
    again = infer()
    assert again.status == 1 and tracked_in(again) == []
    (videos / "b" / "00001.jpg").write_bytes(content)
    mended = infer()
    assert mended.status == 0 and tracked_in(mended) == ["b"] and mended.err == []
    assert content_of(tmp_path / "output") == expected


def test_a_video_that_ends_before_the_part_is_one_of_them(videos, infer):
    write_frames(videos / "long", 4)
    outcome = infer("--start", 2)
    assert outcome.status == 1 and tracked_in(outcome) == ["long"]
    assert outcome.err[0] == f"a: {videos / 'a'} holds no frame in --start 2: it has 2 frames"


def test_a_video_that_cannot_be_opened_or_has_a_wrong_prompt_is_one_of_them(videos, infer, tmp_path):
    (videos / "b" / "00000.jpg").write_bytes(b"junk")
    write_prompt(tmp_path / "prompts" / "a" / "00000.png", {7: slice(0, 3)}, size=(5, 5))
    outcome = infer("--prompt_root", tmp_path / "prompts")
    assert outcome.status == 1 and tracked_in(outcome) == ["c"]
    assert [line.partition(":")[0] for line in outcome.err[:2]] == ["a", "b"]


def test_only_what_other_videos_need_not_suffer_from_is_survived():
    assert reason_of(UserError("a\nb")) == "a b"
    assert reason_of(FileNotFoundError(2, "No such file", "x")) == "[Errno 2] No such file: 'x'"
    assert "smaller sizes" in reason_of(torch.OutOfMemoryError("CUDA out of memory"))
    assert reason_of(OSError(28, "No space left on device")) is None
    assert reason_of(RuntimeError("a mistake of ours")) is None


# ---- other commands, other sources


def test_results_of_another_command_are_not_mixed(videos, infer, trained, tmp_path):
    damage(videos / "b" / "00001.jpg")
    assert infer().status == 1
    before = content_of(tmp_path / "output")
    contents = read_checkpoint(trained.run / "best.pth")
    for weights in (contents["model"], contents.get("ema") or {}):
        for value in weights.values():
            value.add_(0.5 if value.is_floating_point() else 0)
    save_checkpoint(tmp_path / "other.pth", contents)
    for flags, name in ((["--beta", 0.7], "beta"), (["--checkpoint", tmp_path / "other.pth"], "checkpoint")):
        refused = infer(*flags)
        assert_refused(refused, f"another command ({name})", "--overwrite", "another --output")
    assert content_of(tmp_path / "output") == before
    anew = infer("--beta", 0.7, "--overwrite")
    assert anew.status == 1 and tracked_in(anew) == ["a", "c"]
    assert tracked_in(infer("--beta", 0.7, "--overwrite")) == []  # the same command
    assert tracked_in(infer("--beta", 0.7, "--save_state_every", 3)) == []


def test_a_video_or_a_prompt_that_has_changed_is_tracked_anew(videos, infer, tmp_path):
    prompts = tmp_path / "prompts"
    write_prompt(prompts / "c" / "00000.png", {7: slice(0, 9)})
    damage(videos / "b" / "00001.jpg")
    assert infer("--prompt_root", prompts).status == 1
    write_prompt(prompts / "c" / "00000.png", {8: slice(0, 9)})
    (videos / "a" / "00001.jpg").unlink()
    assert tracked_in(infer("--prompt_root", prompts)) == ["a", "c"]
    tracks = json.loads((tmp_path / "output" / "tracks.json").read_text())
    assert tracks["a"]["frames"] == 1 and "8" in tracks["c"]["tracks"] and "7" not in tracks["c"]["tracks"]


# ---- runs that are ended


def break_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let Ctrl-C be pressed when the video of this name begins."""

    def process(tracker, video, *rest):
        if video.name == name:
            raise KeyboardInterrupt
        process_video(tracker, video, *rest)

    monkeypatch.setattr("tracking.batch.process_video", process)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(videos, infer, tmp_path, monkeypatch):
    expected = content_of(infer("--output", tmp_path / "unbroken").run)
    break_at(monkeypatch, "c")
    broken = infer()
    assert broken.status == 130
    assert broken.err == ["2 of 3 videos are done: the same command goes on from there"]
    assert (tmp_path / "output" / "Annotations" / "b" / "00001.png").exists()
    assert not list((tmp_path / "output").rglob("*.partial"))
    monkeypatch.undo()
    assert tracked_in(infer()) == ["c"] and content_of(tmp_path / "output") == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_long_video_goes_on_from_its_last_state(tmp_path, trained, infer, number):
    write_frames(tmp_path / "videos" / "a", 60)
    flags = [*flags_in(tmp_path, trained.run / "best.pth"), "--save_state_every", 7]
    unbroken = content_of(infer("--save_state_every", 7, "--output", tmp_path / "unbroken").run)
    states = tmp_path / "output" / WORK / "videos" / "a" / "states"
    with Forked(script("inference.py", *flags)) as process:
        while not any(int(path.stem) >= 14 for path in states.glob("[0-9]*.pt")):  # the rows lag behind
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(number)
        assert process.wait() == 130
        assert process.stderr.read().startswith("0 of 1 videos are done: the same command goes on")
    outcome = run_here(inference.main, *flags)
    assert outcome.status == 0 and ", goes on after frame " in outcome.out[0]
    assert content_of(tmp_path / "output") == unbroken


def test_a_run_that_is_killed_once_it_has_written_its_settings_goes_on(videos, infer, tmp_path, monkeypatch):
    def write_once(path: Path, content: Any) -> None:
        write_json(path, content)
        raise SystemExit(9)

    monkeypatch.setattr("tracking.work.write_json", write_once)
    assert infer().status == 9
    monkeypatch.undo()
    assert infer().status == 0
    assert content_of(tmp_path / "output") == content_of(infer("--output", tmp_path / "unbroken").run)


def test_the_names_of_classes_outlive_a_kill_as_soon_as_all_videos_are_done(
    videos, infer, trained, tmp_path, monkeypatch
):
    contents = read_checkpoint(trained.run / "best.pth")
    contents["config"]["categories"] = ["ape"]
    save_checkpoint(tmp_path / "classes.pth", contents)

    def kill(work: Work, names: list[str]) -> None:
        work._drop()
        raise SystemExit(9)

    monkeypatch.setattr(Work, "end", kill)
    assert infer("--checkpoint", tmp_path / "classes.pth").status == 9
    assert json.loads((tmp_path / "output" / "categories.json").read_text()) == {"1": "ape"}


@pytest.fixture(scope="module")
def unbroken(trained, tmp_path_factory) -> tuple[Path, float]:
    """A folder of videos with the results of a run that nothing stops, and the seconds it takes."""
    folder = tmp_path_factory.mktemp("unbroken")
    for name in ("a", "b", "c"):
        write_frames(folder / "videos" / name, FRAMES)
    flags = flags_in(folder, trained.run / "best.pth")
    run_forked("-c", "")  # the imports
    begun = time.monotonic()
    assert run_forked("inference.py", *flags).status == 0
    return folder, time.monotonic() - begun


@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 60))])
def test_a_run_that_is_killed_at_random_ends_like_an_unbroken_one(trained, tmp_path, unbroken, number):
    folder, seconds = unbroken
    flags = [*flags_in(folder, trained.run / "best.pth"), "--output", tmp_path / "output"]
    command = ["inference.py", *flags, "--save_state_every", 3]
    moments = random.Random(number)
    statuses = [kill_after(moments.uniform(0.2, 1) * seconds, *command) for _ in range(moments.randint(2, 5))]
    assert set(statuses) <= {0, -9, 2}  # 2: it was killed when all was done
    last = run_forked(*command)
    assert last.status == 0 or "holds results already" in last.err[0]
    assert content_of(tmp_path / "output") == content_of(folder / "output")
