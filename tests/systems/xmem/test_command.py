"""The commands with XMem: what is trained, what flags change, what tracks.json says, what is refused."""

import json
from pathlib import Path

import pytest
from PIL import Image

import inference
import main
from common.checkpoint import read_checkpoint
from tests.support.commands import Outcome, assert_refused, files_in, run_here, tracking_in, train_here
from tests.support.vos_folders import write_frames, write_prompt, written_ids
from tests.support.xmem_networks import FLAGS

pytestmark = pytest.mark.usefixtures("undrawn")  # but for `xmem_run`


@pytest.fixture(scope="module")
def xmem_run(small_data, tmp_path_factory) -> Outcome:
    """A finished run of two epochs; nobody may change it."""
    return train_here(FLAGS, small_data, tmp_path_factory.mktemp("xmem"), epochs=2)


@pytest.fixture
def infer(xmem_run, tmp_path):
    """A function of further flags that runs the trained network over tmp_path/videos into tmp_path/output."""
    return tracking_in(tmp_path, xmem_run.run / "best.pth")


@pytest.fixture
def video(tmp_path) -> Path:
    """Twelve frames of a video named walk; the folder of its prompts, on frames 0 and 5."""
    write_frames(tmp_path / "videos" / "walk", 12)
    write_prompt(tmp_path / "prompts" / "walk" / "00000.png", {7: slice(3, 20)})
    write_prompt(tmp_path / "prompts" / "walk" / "00005.png", {300: slice(22, 35)})
    return tmp_path / "prompts" / "walk"


LONG_TERM = """--mem_every 1 --min_mid_term_frames 2 --max_mid_term_frames 3 --num_prototypes 6
--max_long_term_elements 20""".split()


def test_a_run_is_scored_and_names_the_next_command(xmem_run, tmp_path):
    metrics = json.loads((xmem_run.run / "metrics.json").read_text())
    assert metrics["videos"] == 2 and metrics["J&F"] is not None and metrics["cosine_margin"] is None
    assert read_checkpoint(xmem_run.run / "last.pth")["criterion"]["iteration"] == 4
    columns = (xmem_run.run / "results.csv").read_text().splitlines()[0].split(",")
    assert {"loss/ce", "loss/dice"} <= {column.replace("train_", "") for column in columns}
    command = xmem_run.out[-2].removeprefix("next: python inference.py ").split()
    output = str(tmp_path / "next")
    command[command.index("--output") + 1] = output
    assert str(run_here(inference.main, *command).run) == output


def test_a_run_goes_on_as_if_it_had_not_stopped(xmem_run, small_data, tmp_path):
    flags = [*FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path / "runs"]
    run_here(main.main, *flags, "--epochs", 1)
    assert_refused(
        run_here(main.main, *flags, "--epochs", 2, "--resume", "auto", "--deep_update_prob", 0.5),
        "deep_update_prob",
    )
    assert run_here(main.main, *flags, "--epochs", 2, "--resume", "auto").status == 0


def test_a_stage_starts_from_the_one_before(xmem_run, small_data, tmp_path):
    flags = [*FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path / "runs", "--epochs", 1]
    assert run_here(main.main, *flags, "--load_network", xmem_run.run / "best.pth").status == 0
    other = run_here(main.main, *flags, "--load_network", xmem_run.run / "best.pth", "--hidden_dim", 4)
    assert_refused(other, "--load_network", "other options")


def test_late_objects_and_long_term_memory_go_together(infer, video):
    output = infer(*LONG_TERM).run
    ids = written_ids(output)
    assert ids[0] == {0, 7} and 300 in ids[5] and all(early <= {0, 7} for early in ids[:5])


def test_every_frame_of_an_object_has_a_confidence(infer, video):
    output = infer(*LONG_TERM).run
    tracks = json.loads((output / "tracks.json").read_text())["walk"]["tracks"]
    for track in ("7", "300"):
        frames = [f"{t:05d}" for t, labels in enumerate(written_ids(output)) if int(track) in labels]
        assert frames == list(tracks[track]["scores"])
        assert all(1 / 3 < score <= 1 for score in tracks[track]["scores"].values())  # the largest of three


@pytest.mark.parametrize("flags", ["--deep_update_every 3", "--no_long_term", "--flip", "--reverse"])
def test_the_flags_run_together_with_long_term_memory(flags, infer, video):
    output = infer(*LONG_TERM, *flags.split()).run
    assert len(written_ids(output)) == 12 and (300 in written_ids(output)[0]) <= (flags == "--reverse")


def test_the_published_flags_change_the_tracker(xmem_run):
    flags = ["--checkpoint", str(xmem_run.run / "best.pth"), "--video_root", "x", "--output", "y"]
    given = """--top_k 50 --mem_every 3 --deep_update_every 4 --min_mid_term_frames 6 --max_mid_term_frames 12
    --num_prototypes 64 --max_long_term_elements 5000 --enable_long_term_count_usage off --no_long_term
    --short_side 600 --flip""".split()
    config = vars(inference.tracker_of_run([*flags, *given])[0].config)
    assert config == {
        "top_k": 50,
        "mem_every": 3,
        "deep_update_every": 4,
        "min_mid_term_frames": 6,
        "max_mid_term_frames": 12,
        "num_prototypes": 64,
        "max_long_term_elements": 5000,
        "enable_long_term_count_usage": False,
        "no_long_term": True,
        "short_side": 600,
        "flip": True,
    }


@pytest.mark.parametrize(
    "flags",
    [
        "--top_k 0",
        "--mem_every 0",
        "--num_prototypes 0",
        "--min_mid_term_frames 10 --max_mid_term_frames 10",
        "--max_long_term_elements 3",
        "--short_side 0",
        "--include_last",
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(flags, infer, video, tmp_path):
    outcome = infer(*flags.split())
    assert_refused(outcome, flags.split()[0])
    assert files_in(tmp_path / "output") == []


def test_a_prompt_of_another_size_and_a_broken_one_are_refused(infer, video, tmp_path):
    write_prompt(video / "00003.png", {7: slice(0, 5)}, size=(10, 12))
    assert_refused(infer(), video / "00003.png", "12x10", "53x37")
    Image.new("RGB", (53, 37)).save(video / "00003.png")
    assert_refused(infer(), video / "00003.png", "has colours")
    assert files_in(tmp_path / "output") == []


def test_an_output_that_is_a_file_is_refused(infer, video, tmp_path):
    (tmp_path / "output").write_text("mine")
    assert_refused(infer(), tmp_path / "output", "is a file")
    assert (tmp_path / "output").read_text() == "mine"
