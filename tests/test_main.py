"""The training command: what a run writes, what it refuses, and that it repeats itself."""

import csv
import json
import math
import shutil
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

import inference
import main
from annotated.videos import VOSFolder
from common.checkpoint import read_checkpoint
from tests.support.commands import TINY, assert_refused, files_in, run_apart, run_here
from tests.support.fake_system import FakeCriterion
from tests.support.json_sets import write_coco, write_vis
from tests.support.vos_folders import maps_of
from video import synthetic

METRICS = set(
    """J F J&F J_tube AP AP50 AP75 AR10 HOTA DetA AssA IDF1 id_switches id_switches_per_100_frames
    cosine_positive cosine_negative cosine_margin videos frames seconds""".split()
)
HIDE = "import sys, runpy; [sys.modules.__setitem__(name, None) for name in ({names})]; "
AS_SCRIPT = "sys.argv[0] = 'main.py'; runpy.run_path('main.py', run_name='__main__')"


def metrics_of(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def without_seconds(run: Path) -> dict:
    return {name: value for name, value in metrics_of(run).items() if name != "seconds"}


@pytest.fixture
def data(small_data, tmp_path) -> Path:
    """A copy of the small data set that a test may spoil."""
    return Path(shutil.copytree(small_data, tmp_path / "data"))


@pytest.fixture
def unscored(undrawn, monkeypatch):
    """Leave the slow part out where a test is about training: nothing is tracked, J&F is 0."""
    monkeypatch.setattr(main, "evaluate_tracker", lambda *_, **__: {"J&F": 0.0})
    monkeypatch.setattr(main.Gallery, "picture", lambda _: np.zeros((4, 4, 3), dtype=np.uint8))


# ----------------------------------------------------------------------------------------------------
# what a run writes


def test_a_run_writes_everything_into_a_fresh_numbered_folder(trained):
    assert trained.run.name == "1"
    written = set(files_in(trained.run))
    expected = {"args.json", "results.csv", "results.png", "metrics.json", "last.pth", "best.pth"}
    expected |= {"run.json", "report.html", "overlays/frames.json"}
    expected |= {f"model_epoch_{epoch}.pth" for epoch in (1, 2)}
    expected |= {f"overlays/{name}.png" for name in ("epoch_001", "epoch_002", "final")}
    expected |= {f"overlays/final/valid_0000{number}.mp4" for number in (0, 1)}
    assert written == expected
    for picture in ("results.png", "overlays/epoch_002.png"):
        with Image.open(trained.run / picture) as image:
            assert min(image.size) > 100
    assert json.loads((trained.run / "args.json").read_text())["num_tokens"] == 4


def test_metrics_json_has_exactly_the_keys_that_are_promised(trained):
    metrics = metrics_of(trained.run)
    assert metrics.keys() == METRICS
    assert metrics["videos"] == 2 and metrics["frames"] == 10 and metrics["seconds"] > 0
    numbers = [value for value in metrics.values() if value is not None]
    assert len(numbers) >= 16 and all(isinstance(value, int | float) for value in numbers)
    difference = metrics["cosine_positive"] - metrics["cosine_negative"]
    assert metrics["cosine_margin"] == pytest.approx(difference)


def test_the_last_lines_are_the_next_command_and_the_run_folder(trained, tmp_path):
    command, folder = trained.out[-2:]
    assert folder == str(trained.run) and trained.run.is_dir()
    head = f"next: python inference.py --checkpoint {trained.run / 'best.pth'} --video_root "
    assert command.startswith(head) and command.endswith(f" --output {trained.run / 'inference'}")
    assert trained.err == []


def test_results_csv_has_a_row_for_every_epoch(trained):
    with open(trained.run / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["epoch"]) for row in rows] == [1, 2]
    assert [float(row["step"]) for row in rows] == [2, 4]
    losses = [f"loss/{name}" for name in ("class", "mask", "dice", "foreground", "match", "contrastive")]
    others = ["loss/total", "val_loss/total", "lr/backbone", "lr/heads", "val/J&F", "cosine/train_positive"]
    assert all(math.isfinite(float(row[name])) for row in rows for name in losses + others)
    total = sum(float(rows[0][name]) for name in losses)
    assert float(rows[0]["loss/total"]) == pytest.approx(total, rel=1e-4)


def test_checkpoints_hold_what_the_design_says(trained):
    last = read_checkpoint(trained.run / "last.pth")
    keys = "format system config model ema criterion optimizer scheduler scaler epoch step best history args"
    assert list(last) == keys.split()
    assert (last["system"], last["epoch"], last["step"]) == ("vita_tcovis", 2, 4)
    assert set(last["config"]) == {"network", "criterion", "tracker", "data", "categories"}
    assert read_checkpoint(trained.run / "model_epoch_1.pth")["optimizer"] is None


def test_a_second_run_takes_the_next_number_and_writes_the_same_metrics(trained, small_data):
    flags = ["--dataset_root", small_data, "--run_dir", trained.run.parent, "--epochs", 2]
    again = run_here(main.main, *TINY, *flags)
    assert again.run == trained.run.parent / "2"
    assert without_seconds(again.run) == without_seconds(trained.run)
    shutil.rmtree(again.run)


def test_weights_depend_on_the_seed_and_not_on_the_workers(train, unscored):
    runs = [train(*flags).run for flags in ((), ("--num_workers", 2), ("--seed", 1))]
    first, same, other = (read_checkpoint(run / "last.pth")["model"] for run in runs)
    assert all(value.equal(same[name]) for name, value in first.items())
    assert not other["tokens"].equal(first["tokens"])


def test_synthetic_videos_are_written_into_the_run_folder_and_trained_on(train, unscored, monkeypatch):
    generate, asked = synthetic.generate, []

    def few(out, profile, **counts):
        asked.append(counts)
        generate(out, profile, **counts | {"train_videos": 2, "valid_videos": 1, "frames": 3, "size": 32})

    monkeypatch.setattr(synthetic, "generate", few)
    outcome = train("--synthetic", "hard", "--synthetic_videos", 7, "--seed", 3, "--epochs", 1)
    expected = {"seed": 3, "train_videos": 7, "valid_videos": 25, "frames": 20, "size": 64}
    assert asked == [expected]
    assert (outcome.run / "data" / "train" / "meta.json").is_file()
    assert str(outcome.run / "data" / "valid") in outcome.out[-2]


# ----------------------------------------------------------------------------------------------------
# training


def test_averaged_weights_are_what_is_evaluated(train, unscored, monkeypatch):
    seen = []

    def look(tracker, *_, **__):
        seen.append({name: value.clone() for name, value in tracker.network.state_dict().items()})
        return {"J&F": 1.0}

    monkeypatch.setattr(main, "evaluate_tracker", look)
    run = train("--epochs", 1, "--ema", 0.9).run
    saved = read_checkpoint(run / "best.pth")
    for weights in seen:  # at the end of the epoch, and at the end
        assert all(weights[name].equal(value) for name, value in saved["ema"].items())
    assert len(seen) == 2 and not saved["model"]["tokens"].equal(saved["ema"]["tokens"])


def test_two_batches_of_one_clip_are_one_of_two_where_the_loss_is_a_mean_over_clips(
    fake_system, small_data, tmp_path, unscored
):
    # VITA-TCOVIS divides by the number of masks of the batch, so its clips do not weigh alike.
    flags = ["--system", "fake", "--dataset_root", small_data, "--run_dir", tmp_path, "--device", "cpu"]
    flags += ["--epochs", 2, "--num_workers", 0, "--warmup_steps", 0]
    whole = run_here(main.main, *flags, "--batch_size", 2).run
    halves = run_here(main.main, *flags, "--batch_size", 1, "--accumulate", 2).run
    one, other = (read_checkpoint(run / "last.pth") for run in (whole, halves))
    assert one["step"] == other["step"] == 4
    for name, value in one["model"].items():
        torch.testing.assert_close(value, other["model"][name], rtol=0, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_before_the_optimizer_step(
    fake_system, small_data, tmp_path, unscored, monkeypatch
):
    forward, calls, steps = FakeCriterion.forward, [], []
    step = torch.optim.AdamW.step

    def poisoned(self, outputs, clip):
        calls.append(1)
        losses = forward(self, outputs, clip)
        return losses | {"extra": losses["pixel"] * (math.nan if len(calls) == 2 else 0.5)}

    monkeypatch.setattr(FakeCriterion, "forward", poisoned)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *a, **k: (steps.append(1), step(*a, **k))[1])
    flags = ["--system", "fake", "--dataset_root", small_data, "--run_dir", tmp_path, "--device", "cpu"]
    outcome = run_here(main.main, *flags, "--batch_size", 2, "--num_workers", 0)
    assert_refused(outcome, "step 1", "pixel 1.", "extra nan", "--lr_head", tmp_path / "1" / "last.pth")
    assert len(steps) == 1
    saved = read_checkpoint(tmp_path / "1" / "last.pth")["model"]
    assert all(value.isfinite().all() for value in saved.values())


def test_a_gradient_that_is_not_finite_stops_before_the_optimizer_step(
    fake_system, small_data, tmp_path, unscored, monkeypatch
):
    forward = FakeCriterion.forward

    def steep(self, outputs, clip):
        flat = (outputs["logits"] - outputs["logits"].detach()).square().sum()
        return forward(self, outputs, clip) | {"steep": flat.sqrt()}  # 0, but its slope is infinite

    monkeypatch.setattr(FakeCriterion, "forward", steep)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: pytest.fail("the step was taken"))
    flags = ["--system", "fake", "--dataset_root", small_data, "--run_dir", tmp_path, "--device", "cpu"]
    assert_refused(run_here(main.main, *flags, "--num_workers", 0), "step 0", "gradient", "--lr_head")


def test_classes_are_those_of_training_though_validation_shows_fewer(data, train):
    counts = [len(VOSFolder(data / split).categories) for split in ("train", "valid")]
    assert counts == [3, 2]
    trained = train("--dataset_root", data, "--num_classes", 3)
    assert metrics_of(trained.run)["AP"] is not None
    out = data.parent / "out"
    flags = ["--checkpoint", trained.run / "last.pth", "--video_root", data / "valid", "--output", out]
    assert run_here(inference.main, *flags, "--overlays", "false").status == 0
    assert json.loads((out / "categories.json").read_text()) == {
        "1": "circle",
        "2": "square",
        "3": "triangle",
    }
    meta = data / "valid" / "meta.json"
    meta.write_text(meta.read_text().replace("square", "heptagon"))
    refused = train("--dataset_root", data, "--num_classes", 3)
    assert_refused(refused, meta, "heptagon", "--num_classes 1")


def test_classes_of_several_data_sets_in_json_are_trained_and_scored(tmp_path, train):
    maps = {"a": maps_of([1, 2], frames=4), "b": maps_of([2, 1], frames=4)}
    one, two = tmp_path / "one", tmp_path / "two"
    write_vis(one / "train.json", one / "train/JPEGImages", maps, {1: "ape", 2: "bee"})
    write_coco(two / "instances.json", two / "images", {"c": maps["a"]}, {1: "bee", 2: "cat"})
    flags = ["--dataset_root", one, two, "--dataset_weights", 2, 1]
    trained = train(*flags, "--num_classes", 3)
    assert trained.status == 0 and metrics_of(trained.run)["videos"] == 1
    checkpoint = read_checkpoint(trained.run / "last.pth")
    assert checkpoint["config"]["categories"] == ["ape", "bee", "cat"]
    assert checkpoint["step"] == 3  # six clips in batches of two: one video twice, four images once
    refused = train(*flags, "--num_classes", 5)
    assert_refused(refused, "3 categories in", one / "train.json", two / "instances.json")


def test_fine_tuning_to_other_classes_and_more_tokens_starts_from_a_run(trained, train, unscored):
    first = trained.run / "last.pth"
    flags = ["--load_network", first, "--num_classes", 3, "--num_tokens", 6]
    tuned = train(*flags, "--lr_head", 0, "--lr_backbone", 0)
    told = [line for line in tuned.out if line.startswith("--load_network")]
    assert len(told) == 2 and "class head" in told[0] and "the first 4 of 4 object tokens" in told[1]
    before, after = read_checkpoint(first), read_checkpoint(tuned.run / "last.pth")["model"]
    weights = before["ema"] or before["model"]
    assert after["mask_head.0.weight"].equal(weights["mask_head.0.weight"])
    assert after["class_head.weight"].shape[0] == 4 and after["tokens"].shape[0] == 6


def test_what_training_cannot_start_from_is_refused_and_leaves_no_folder(trained, train, tmp_path):
    first = trained.run / "last.pth"
    assert_refused(train("--load_network", first, "--hidden_dim", 32), "--load_network", first, "options")
    assert_refused(train("--load_network", tmp_path / "gone.pth"), tmp_path / "gone.pth", "does not exist")
    torch.save({"model": {"conv1.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    other = train("--load_network", tmp_path / "other.pth")
    assert_refused(other, f"{tmp_path / 'other.pth'} is not a checkpoint of this project; pass another")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_trains(train, unscored, amp):
    run = train("--epochs", 1, "--amp", amp).run
    weights = read_checkpoint(run / "last.pth")["model"]
    assert all(value.isfinite().all() for value in weights.values())


# ----------------------------------------------------------------------------------------------------
# bad input: one line with the path, exit status 2, and no run folder


def spoil(data: Path, what: str, video: int = 1) -> Path:
    """Make one bad file in a training video; returns the path that a complaint must name."""
    masks = sorted((data / "train" / "Annotations").iterdir())[video]
    mask = masks / "00002.png"
    if what == "no masks":
        shutil.rmtree(masks)
        return masks
    if what == "another size":
        Image.fromarray(np.zeros((16, 32), dtype=np.uint8)).save(mask)
    if what == "colours":
        Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(mask)
    if what == "cut short":
        mask = data / "train" / "JPEGImages" / masks.name / "00002.jpg"
        mask.write_bytes(mask.read_bytes()[:300])
    return mask


@pytest.mark.parametrize("what", ["no masks", "another size", "colours", "cut short"])
def test_a_bad_data_set_is_refused_and_nothing_is_written(data, train, tmp_path, what):
    path = spoil(data, what)
    assert_refused(train("--dataset_root", data), path)
    assert not (tmp_path / "runs").exists()


def test_without_a_data_set_the_way_to_one_is_told(train, tmp_path):
    assert_refused(train("--dataset_root", tmp_path / "absent"), tmp_path / "absent", "--synthetic")
    assert not (tmp_path / "runs").exists()


def test_a_data_set_that_is_absent_is_told_before_any_weights_are_fetched(train, tmp_path, monkeypatch):
    def fetch(*_: object) -> None:
        raise AssertionError("weights are fetched")

    monkeypatch.setattr("common.backbone.published_weights", fetch)
    flags = ["--backbone", "resnet50", "--backbone_weights", "imagenet"]
    assert_refused(train("--dataset_root", tmp_path / "absent", *flags), tmp_path / "absent")


def test_the_last_epoch_is_a_candidate_for_the_best(train, unscored):
    run = train("--epochs", 3, "--eval_every", 2).run
    scored = [row["epoch"] for row in csv.DictReader(open(run / "results.csv")) if row["val/J&F"]]
    assert scored == ["2", "3"]


def test_a_video_without_masks_is_skipped_on_demand(data, train, unscored):
    shutil.rmtree(data / "train" / "Annotations" / "train_00001")
    outcome = train("--dataset_root", data, "--skip_bad", "--epochs", 1)
    assert [line for line in outcome.out if line.startswith("skipped") and "train_00001" in line]


def test_bad_files_are_skipped_counted_and_listed_on_demand(data, train, unscored):
    paths = [spoil(data, "another size", video=0), spoil(data, "cut short", video=2)]
    outcome = train("--dataset_root", data, "--skip_bad", "--epochs", 1)
    told = [line for line in outcome.out if line.startswith("skipped")]
    assert len(told) == 2 and all("of 2" in line for line in told)
    assert all(any(str(path) in line for line in told) for path in paths)
    assert outcome.run.is_dir()


def test_a_run_dir_below_a_file_is_refused(train, tmp_path):
    (tmp_path / "file").write_text("")
    assert_refused(train("--run_dir", tmp_path / "file" / "runs"), tmp_path / "file")


def test_imagenet_weights_without_a_network_are_an_error_that_names_the_flag(train, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    flags = ["--backbone", "resnet50", "--backbone_weights", "imagenet"]
    assert_refused(train(*flags), "no route to host", "--backbone_weights")
    assert not (tmp_path / "runs").exists()


OUT_OF_RANGE = """batch_size 0|log_steps 0|checkpoint_steps 0|seed -1|threads -1|num_workers -1|ema 2|beta 7
holdout 1|clip_length 0|clip_length 9999999|crop_probability 1.5|num_points 0|hidden_dim 20
image_size 1000000|hidden_dim 9999999|clips_per_video 99999999""".replace("\n", "|").split("|")


@pytest.mark.parametrize("flag", [f"--{flag}" for flag in OUT_OF_RANGE])
def test_numbers_out_of_range_are_refused(train, tmp_path, flag):
    assert_refused(train(*flag.split()), flag)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flag", ["--device quantum", "--backbone_weights imagenet", "--num_classes 4"])
def test_flags_that_do_not_fit_leave_no_folder(train, tmp_path, flag):
    assert_refused(train(*flag.split()), flag.split()[0])
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


# ----------------------------------------------------------------------------------------------------
# other surroundings


def test_it_trains_without_the_optional_packages(small_data, tmp_path):
    names = ("cv2", "av", "pycocotools", "tqdm", "clearml")
    code = HIDE.format(names=", ".join(map(repr, names))) + AS_SCRIPT
    flags = ["--dataset_root", small_data, "--run_dir", tmp_path, "--epochs", 1]
    outcome = run_apart("-c", code, *TINY, *flags)
    metrics = metrics_of(outcome.run)
    assert metrics["AP"] is None and metrics["J&F"] is not None
    assert outcome.err and all("AP is skipped" in line and "pycocotools" in line for line in outcome.err)


def test_clearml_that_is_asked_for_and_absent_is_an_error_with_its_remedy(train, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "clearml", None)
    assert_refused(train("--enable_clearml"), "--enable_clearml", "pip install clearml")
    assert not (tmp_path / "runs").exists()


def test_a_queue_without_clearml_is_refused(train, tmp_path):
    assert_refused(train("--queue", "default"), "--queue", "--enable_clearml")
    assert not (tmp_path / "runs").exists()
