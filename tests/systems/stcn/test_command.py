"""The commands with STCN: what is trained, read, written and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import inference
import main
from common.checkpoint import read_checkpoint
from tests.support.commands import Outcome, assert_refused, files_in, run_here, tracking_in, train_here
from tests.support.stcn_networks import FLAGS
from tests.support.vos_folders import write_frames, write_prompt, written_ids
from tests.support.vos_videos import SIZE
from video.images import read_label_map

pytestmark = pytest.mark.usefixtures("undrawn")  # but for `stcn_run`


@pytest.fixture(scope="module")
def stcn_run(small_data, tmp_path_factory) -> Outcome:
    """A finished run of two epochs; nobody may change it."""
    return train_here(FLAGS, small_data, tmp_path_factory.mktemp("stcn"), epochs=2)


@pytest.fixture
def infer(stcn_run, tmp_path):
    """A function of further flags that runs the trained network over tmp_path/videos into tmp_path/output."""
    return tracking_in(tmp_path, stcn_run.run / "best.pth")


@pytest.fixture
def video(tmp_path) -> Path:
    """Five frames of a video named walk; the folder of its prompts."""
    write_frames(tmp_path / "videos" / "walk", 5)
    return tmp_path / "prompts" / "walk"


def test_a_run_is_scored_and_names_the_next_command(stcn_run, tmp_path):
    metrics = json.loads((stcn_run.run / "metrics.json").read_text())
    assert metrics["videos"] == 2 and metrics["J&F"] is not None and metrics["cosine_margin"] is None
    state = read_checkpoint(stcn_run.run / "last.pth")
    assert state["criterion"]["iteration"] == 4
    command = stcn_run.out[-2].removeprefix("next: python inference.py ").split()
    output = str(tmp_path / "next")
    command[command.index("--output") + 1] = output
    assert str(run_here(inference.main, *command).run) == output


def test_a_run_goes_on_as_if_it_had_not_stopped(stcn_run, small_data, tmp_path):
    flags = [*FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path / "runs"]
    first = run_here(main.main, *flags, "--epochs", 1)
    assert first.status == 0
    assert_refused(
        run_here(main.main, *flags, "--epochs", 2, "--resume", "auto", "--schedule", "drop"), "schedule"
    )
    resumed = run_here(main.main, *flags, "--epochs", 2, "--resume", "auto")
    assert resumed.run == first.run and read_checkpoint(first.run / "last.pth")["epoch"] == 2


def test_adam_and_a_dropping_rate_are_the_published_recipe(small_data, tmp_path):
    flags = [*FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path / "runs", "--epochs", 4]
    flags += ["--optimizer", "adam", "--schedule", "drop", "--drop_at", 0.5, "--warmup_steps", 0]
    rows = (run_here(main.main, *flags).run / "results.csv").read_text().splitlines()
    column = rows[0].split(",").index("lr/heads")
    assert [float(row.split(",")[column]) for row in rows[1:]] == pytest.approx([1e-4, 1e-5, 1e-5, 1e-5])


def test_still_images_are_trained_on_and_videos_scored(small_data, tmp_path):
    for name in ("a", "b"):
        y, x = np.mgrid[:50, :40]
        disc = (((y - 25) ** 2 + (x - 20) ** 2 < 150) * 255).astype(np.uint8)
        (tmp_path / "stills").mkdir(exist_ok=True)
        Image.fromarray(disc).convert("RGB").save(tmp_path / "stills" / f"{name}.jpg")
        Image.fromarray(disc).save(tmp_path / "stills" / f"{name}.png")
    flags = [*FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path / "runs", "--epochs", 1]
    outcome = run_here(main.main, *flags, "--static_root", tmp_path / "stills", "--single_object")
    assert json.loads((outcome.run / "metrics.json").read_text())["videos"] == 2
    further = ["--load_network", outcome.run / "best.pth", "--run_dir", tmp_path / "further"]
    assert run_here(main.main, *flags, *further).status == 0
    absent = run_here(main.main, *flags, "--static_root", tmp_path / "nowhere")
    assert_refused(absent, "--static_root", "no such folder")


def test_the_largest_objects_can_be_chosen(small_data, tmp_path):
    flags = [*FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path / "runs", "--epochs", 1]
    assert run_here(main.main, *flags, "--instance", "largest").status == 0
    assert_refused(run_here(main.main, *flags, "--instance", "smallest"), "--instance")


# ------------------------------------------------------------------------------------------------ prompts


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_frames_of_both_formats_are_followed_from_the_first_prompt(suffix, infer, tmp_path):
    write_frames(tmp_path / "videos" / "walk", 3, suffix)
    write_prompt(tmp_path / "prompts" / "walk" / "00000.png", {7: slice(3, 20), 300: slice(25, 30)})
    output = infer().run
    assert written_ids(output)[0] == {0, 7, 300} and all(ids <= {0, 7, 300} for ids in written_ids(output))
    assert Image.open(output / "Annotations" / "walk" / "00000.png").size == SIZE[::-1]


def test_frames_before_a_late_first_prompt_are_background_and_later_ids_join(infer, video, tmp_path):
    write_prompt(video / "00002.png", {7: slice(3, 20)})
    write_prompt(video / "00004.png", {7: slice(3, 20), 9: slice(22, 35)})
    output = infer().run
    ids = written_ids(output)
    assert ids[:2] == [{0}, {0}] and 7 in ids[2] and ids[3] <= {0, 7} and 9 in ids[4]
    tracks = json.loads((output / "tracks.json").read_text())["walk"]["tracks"]
    assert tracks["7"]["first"] == "00002" and tracks["9"]["first"] == "00004"


@pytest.mark.parametrize("frames", ["first", "all"])
def test_an_id_that_vanishes_from_the_prompts_is_followed_on(frames, infer, video):
    write_prompt(video / "00000.png", {7: slice(3, 20), 9: slice(22, 35)})
    write_prompt(video / "00002.png", {9: slice(22, 35)})
    assert infer("--prompt_frames", frames).status == 0


def test_a_mask_of_0_and_255_is_one_object(infer, video, tmp_path):
    video.mkdir(parents=True)
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[5:20, 5:20] = 255
    Image.fromarray(mask).save(video / "00000.png")
    output = infer().run
    first = read_label_map(output / "Annotations" / "walk" / "00000.png")
    assert np.array_equal(first, mask // 255)
    Image.new("L", SIZE[::-1], 255).save(video / "00000.png")  # it fills the frame
    assert written_ids(infer("--overwrite").run)[0] == {1}


def test_a_box_is_followed_as_the_mask_that_fills_it(stcn_run, video, tmp_path):
    flags = [
        "--checkpoint",
        stcn_run.run / "best.pth",
        "--video_root",
        tmp_path / "videos",
        "--device",
        "cpu",
    ]
    output = run_here(inference.main, *flags, "--output", tmp_path / "output", "--box", "7,5,20,18").run
    first = read_label_map(output / "Annotations" / "walk" / "00000.png")
    assert first[5:23, 7:27].all() and first.sum() == 18 * 20


def refused_without_a_trace(outcome: Outcome, output: Path, *parts: object) -> None:
    assert_refused(outcome, *parts)
    assert files_in(output) == []


def test_a_prompt_of_another_size_is_refused(infer, video, tmp_path):
    write_prompt(video / "00003.png", {7: slice(0, 5)}, size=(10, 12))
    refused_without_a_trace(infer(), tmp_path / "output", video / "00003.png", "12x10", "53x37")


def test_a_colour_prompt_without_background_is_refused(infer, video, tmp_path):
    video.mkdir(parents=True)
    Image.new("RGB", SIZE[::-1], (9, 9, 9)).save(video / "00000.png")
    refused_without_a_trace(infer(), tmp_path / "output", video / "00000.png", "no background")


def test_a_corrupt_prompt_is_refused(infer, video, tmp_path):
    video.mkdir(parents=True)
    (video / "00000.png").write_bytes(b"junk")
    refused_without_a_trace(infer(), tmp_path / "output", video / "00000.png")


def told_and_left_out(outcome: Outcome, output: Path, video: str, *parts: str) -> None:
    """Assert that a video was told in one line and left out, while the others were tracked."""
    (line,) = [line for line in outcome.err if line.startswith(f"{video}: ")]
    assert outcome.status == 1 and all(part in line for part in parts)
    assert list(json.loads((output / "failed.json").read_text())) == [video]
    assert [path.name for path in (output / "Annotations").iterdir()] == ["walk"]


def test_a_video_without_a_prompt_is_left_out_and_told(infer, video, tmp_path):
    write_prompt(video / "00000.png", {7: slice(3, 20)})
    write_frames(tmp_path / "videos" / "zebra", 2)
    told_and_left_out(infer(), tmp_path / "output", "zebra", "no prompt")


def test_a_video_whose_prompt_is_named_as_no_frame_is_left_out_and_told(infer, video, tmp_path):
    write_prompt(video / "00000.png", {7: slice(3, 20)})
    write_frames(tmp_path / "videos" / "zebra", 2)
    write_prompt(tmp_path / "prompts" / "zebra" / "no_frame.png", {7: slice(3, 20)})
    told_and_left_out(infer(), tmp_path / "output", "zebra", "no prompt")


def test_a_prompt_without_any_id_is_refused(infer, video, tmp_path):
    write_prompt(video / "00000.png", {})
    refused_without_a_trace(infer(), tmp_path / "output", "walk", "no prompt")
    write_prompt(video / "00000.png", {7: slice(3, 20)})
    write_frames(tmp_path / "videos" / "zebra", 2)
    write_prompt(tmp_path / "prompts" / "zebra" / "00000.png", {})
    told_and_left_out(infer(), tmp_path / "output", "zebra", "no prompt")


@pytest.mark.parametrize("flag", ["--top_k 0", "--mem_every 0", "--max_memory_frames -1", "--short_side 0"])
def test_a_number_out_of_range_is_refused(flag, infer, video, tmp_path):
    write_prompt(video / "00000.png", {7: slice(3, 20)})
    refused_without_a_trace(infer(*flag.split()), tmp_path / "output", flag.split()[0])


def test_the_published_flags_change_the_tracker(stcn_run):
    flags = ["--checkpoint", str(stcn_run.run / "best.pth"), "--video_root", "x", "--output", "y"]
    given = "--top_k 50 --mem_every 3 --include_last --max_memory_frames 9 --short_side 600 --flip".split()
    config = inference.tracker_of_run([*flags, *given])[0].config
    assert (config.top_k, config.mem_every, config.include_last) == (50, 3, True)
    assert (config.max_memory_frames, config.short_side, config.flip) == (9, 600, True)
    assert inference.tracker_of_run(flags)[0].config.short_side == -1  # that of training
    assert torch.is_tensor(next(inference.tracker_of_run(flags)[0].network.parameters()))
