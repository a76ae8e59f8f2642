"""The commands with SiamMask: two steps of training, boxes and masks, what is written and refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import inference
import main
from common.checkpoint import read_checkpoint
from tests.support.commands import Outcome, assert_refused, files_in, run_here, train_here
from tests.support.siammask_networks import FLAGS
from tests.support.vos_folders import write_frames, write_prompt
from video.images import read_label_map

pytestmark = pytest.mark.usefixtures("undrawn")  # but for `base_run`


@pytest.fixture(scope="module")
def base_run(small_data, tmp_path_factory) -> Outcome:
    """A finished run of step one, two epochs; nobody may change it."""
    return train_here(FLAGS, small_data, tmp_path_factory.mktemp("siammask"), epochs=2)


@pytest.fixture
def videos(tmp_path) -> Path:
    write_frames(tmp_path / "videos" / "walk", 3, ".png")
    return tmp_path / "videos"


@pytest.fixture
def infer(base_run, videos, tmp_path):
    """A function of further flags that runs the trained network over the video walk."""
    flags = ["--checkpoint", base_run.run / "best.pth", "--video_root", videos, "--device", "cpu"]
    return lambda *further: run_here(inference.main, *flags, "--output", tmp_path / "output", *further)


def test_the_first_step_is_scored_and_the_second_starts_from_it(base_run, small_data, tmp_path):
    metrics = json.loads((base_run.run / "metrics.json").read_text())
    assert metrics["videos"] == 2 and metrics["J&F"] is not None
    header = (base_run.run / "results.csv").read_text().splitlines()[0]
    assert all(name in header for name in ("loss/cls", "loss/loc", "loss/mask", "mask_iou/val_above_50"))
    second = [*FLAGS, "--refine", "--load_network", base_run.run / "best.pth"]
    outcome = train_here(second, small_data, tmp_path / "runs", epochs=1)
    first, later = (read_checkpoint(one.run / "best.pth") for one in (base_run, outcome))
    kept = "rpn_model.cls.head.3.weight"
    started = first["ema"] or first["model"]
    assert later["model"][kept].equal(started[kept]) and later["config"]["network"]["refine"]
    assert not later["model"]["mask_model.mask.conv_search.0.weight"].equal(
        started["mask_model.mask.conv_search.0.weight"]
    )


def test_the_second_step_without_the_first_is_refused(small_data, tmp_path):
    flags = [*FLAGS, "--refine", "--dataset_root", small_data, "--run_dir", tmp_path / "runs"]
    assert_refused(run_here(main.main, *flags), "--refine", "--load_network")
    assert not (tmp_path / "runs").exists()


def test_a_backbone_with_weights_is_trained_from_half_of_the_epochs_on(base_run, small_data, tmp_path):
    start = ["--load_network", base_run.run / "best.pth", "--backbone_weights", "imagenet", "--eval_every", 0]
    outcome = train_here([*FLAGS, *start, "--ema", "0"], small_data, tmp_path, epochs=2)
    state = read_checkpoint(base_run.run / "best.pth")
    first, last = (read_checkpoint(outcome.run / f"model_epoch_{epoch}.pth")["model"] for epoch in (1, 2))
    before = state["ema"] or state["model"]
    changed = [
        {name for name, value in weights.items() if not value.equal(former[name])}
        for weights, former in ((first, before), (last, first))
    ]
    layers = ("layer1", "layer2", "layer3")
    deep = [{layer for layer in layers if any(layer in name for name in names)} for names in changed]
    assert deep == [set(), {"layer2", "layer3"}]
    assert all("rpn_model.cls.head.3.weight" in names for names in changed)


def test_the_published_recipe_trains(small_data, tmp_path):
    flags = [*FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path / "runs", "--epochs", 4]
    flags += ["--optimizer", "sgd", "--schedule", "log", "--warmup_epochs", 2, "--final_lr", 0.5, "--ema", 0]
    outcome = run_here(main.main, *flags, "--lr_head", 5e-3, "--eval_every", 0)
    rows = (outcome.run / "results.csv").read_text().splitlines()
    column = rows[0].split(",").index("lr/heads")
    # The row of an epoch has the rate with which the next one begins.
    expected = [5e-3 * 0.2**0.5, 5e-3, 2.5e-3, 2.5e-3]
    assert [float(row.split(",")[column]) for row in rows[1:]] == pytest.approx(expected)


def test_a_run_goes_on_as_if_it_had_not_stopped(small_data, tmp_path):
    flags = [*FLAGS, "--dataset_root", small_data, "--eval_every", 0]
    whole = run_here(main.main, *flags, "--run_dir", tmp_path / "whole", "--epochs", 2, "--schedule", "log")
    parts = [*flags, "--run_dir", tmp_path / "parts", "--schedule", "log"]
    assert run_here(main.main, *parts, "--epochs", 1).status == 0
    resumed = run_here(main.main, *parts, "--epochs", 2, "--resume", "auto")
    mine, its = (read_checkpoint(one.run / "last.pth")["model"] for one in (whole, resumed))
    same = [name for name, value in mine.items() if value.equal(its[name])]
    assert len(same) == len(mine)


def test_boxes_and_masks_are_followed_and_told_in_full(infer, tmp_path):
    output = infer("--box", "7,5,20,18").run
    assert set(np.unique(read_label_map(output / "Annotations" / "walk" / "00000.png"))) == {0, 1}
    track = json.loads((output / "tracks.json").read_text())["walk"]["tracks"]["1"]
    frames = [f"{t:05d}" for t in range(3)]
    assert list(track["scores"]) == list(track["boxes"]) == frames
    assert np.array(track["boxes"]["00000"]).tolist() == [[7, 5], [27, 5], [27, 23], [7, 23]]
    left, top, right, bottom = track["extreme_points"]["00000"]
    assert (left[0], top[1], right[0], bottom[1]) == (7, 5, 26, 22)

    (tmp_path / "b.json").write_text(json.dumps({"walk": {"4": [7, 5, 20, 18], "9": [30, 10, 15, 20]}}))
    output = infer("--boxes", tmp_path / "b.json", "--overwrite").run
    assert set(json.loads((output / "tracks.json").read_text())["walk"]["tracks"]) == {"4", "9"}

    write_prompt(tmp_path / "prompts" / "walk" / "00001.png", {7: slice(3, 20), 300: slice(25, 30)})
    for further in ((), ("--reverse",)):
        output = infer("--prompt_root", tmp_path / "prompts", "--overwrite", *further).run
        track = json.loads((output / "tracks.json").read_text())["walk"]["tracks"]["300"]
        assert list(track["boxes"]) == frames[0 if further else 1 :]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--prompt_root"),
        (("--box", "60,5,10,10"), "outside of the frame of 53x37"),
        (("--box", "5,5,0,10"), "no area"),
        (("--box", "5,5,10"), "--box"),
        (("--box", "5.1,5.1,0.2,10"), "no pixel"),
        (("--box", "-5,5,10,10"), "--flag=VALUE"),
        (("--boxes", "nowhere.json"), "nowhere.json"),
        (("--box", "5,5,10,10", "--reverse"), "--reverse"),
        (("--box", "5,5,10,10", "--prompt_root", "."), "one of the two"),
        (("--box", "5,5,10,10", "--discover", "x.pth"), "x.pth does not exist"),
        (("--box", "5,5,10,10", "--window_influence", "1.5"), "--window_influence"),
        (("--box", "5,5,10,10", "--update_every", "0"), "--update_every"),
        (("--box", "5,5,10,10", "--update_template", "sometimes"), "--update_template"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_written(flags, words, infer, tmp_path):
    assert_refused(infer(*flags), words)
    assert not (tmp_path / "output").exists()


def test_without_opencv_the_remedy_is_told_before_anything_is_written(infer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert_refused(infer("--box", "5,5,10,10"), "SiamMask needs cv2", "opencv-python-headless")
    assert not (tmp_path / "output").exists()


def test_the_published_sets_are_presets(base_run):
    folder = Path(inference.__file__).parent / "presets"
    flags = ["--checkpoint", str(base_run.run / "best.pth"), "--video_root", "x", "--output", "y"]
    options = {}
    for name in ("davis", "vot", "vot18"):
        config = inference.tracker_of_run([f"@{folder / f'siammask_{name}.txt'}", *flags])[0].config
        options[name] = (config.penalty_k, config.window_influence, config.size_lr, config.seg_thr)
    assert options == {
        "davis": (0.04, 0.4, 1.0, 0.35),
        "vot": (0.04, 0.42, 0.25, 0.3),
        "vot18": (0.1, 0.41, 0.32, 0.15),
    }


@pytest.mark.parametrize("name", ["base", "refine", "narrow", "narrow_refine"])
def test_the_presets_of_training_are_read(name):
    folder = Path(inference.__file__).parent / "presets"
    args, _ = main.parse_args([f"@{folder / f'siammask_{name}.txt'}"])
    assert args.system == "siammask" and args.refine == name.endswith("refine")


def test_vita_tcovis_takes_no_boxes(trained, videos, tmp_path):
    flags = [
        "--checkpoint",
        trained.run / "best.pth",
        "--video_root",
        videos,
        "--output",
        tmp_path / "output",
    ]
    assert_refused(run_here(inference.main, *flags, "--box", "5,5,10,10"), "no boxes")
    assert files_in(tmp_path / "output") == []
