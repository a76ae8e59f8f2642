"""SAM for tracking as a user meets it: training, the cache, resuming, tracking, and mistakes."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import inference
import main
from annotated.videos import VOSFolder
from common.checkpoint import read_checkpoint
from common.errors import UserError
from systems.sam_track import modules
from systems.sam_track.criterion import SAMTrackCriterion
from systems.sam_track.dataset import SAMTrackDataset
from systems.sam_track.modules import SAMTrack
from tests.support.commands import assert_refused, files_in, run_here
from tests.support.sam_networks import FLAGS, SIZES, published, small_network
from video.images import read_label_map, write_label_map
from video.transforms import upload

OVERFIT = {"image_size": 64, "patch_size": 4, "embed_dim": 32, "window_size": 4, "out_dim": 32}


@pytest.fixture
def sam(tmp_path) -> Path:
    """A small published SAM."""
    torch.save(published(small_network(decoder_heads=8, prompt_encoder=True)), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


@pytest.fixture
def flags(sam, small_data, tmp_path) -> list[object]:
    """Of a run that trains the decoder of that file."""
    flags = [*FLAGS, "--decoder_heads", 8, "--load_network", sam, "--dataset_root", small_data]
    return [*flags, "--run_dir", tmp_path / "runs", "--embedding_cache", tmp_path / "cache", "--epochs", 1]


@pytest.fixture
def prepared(monkeypatch) -> list[int]:
    """Grows by one for every frame that training or validation encodes."""
    calls: list[int] = []
    original = modules.prepare_frames

    def counting(*args):
        calls.append(1)
        return original(*args)

    monkeypatch.setattr(modules, "prepare_frames", counting)
    return calls


@pytest.mark.parametrize("trained", [True, False])
def test_one_pair_is_learned_by_heart_within_a_hundred_steps(small_data, trained):
    data = SAMTrackDataset(VOSFolder(small_data / "train"), SAMTrackDataset.Config(), training=True)
    pair = upload(data[0, 0], "cpu")
    options = SIZES | OVERFIT | {"decoder_heads": 4, "embedding_cache": "none", "train_encoder": trained}
    torch.manual_seed(0)
    network = SAMTrack(SAMTrack.Config(**options)).train()
    criterion = SAMTrackCriterion(SAMTrackCriterion.Config(image_size=64)).train()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 3e-3)
    ious = [0.0]
    while ious[-1] <= 0.95 and len(ious) < 100:
        loss = criterion(network(pair.frames, pair.prompt), pair)["ce"]
        ious.append(criterion.stats["pairs/train_iou_sum"].item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ious[1] < 0.5 and ious[-1] > 0.95


def test_without_a_preset_it_is_trained_as_its_author_did(flags):
    args, parser = main.parse_args(["--system", "sam_track"])
    options = {"optimizer": "adam", "lr_head": 1e-4, "weight_decay": 0, "schedule": "constant"}
    options |= {
        "loss": "probs",
        "instance": "largest",
        "max_gap": 1,
        "warmup_steps": 0,
        "clip_grad": 0,
        "ema": 0,
        "train_encoder": False,
    }
    assert {name: getattr(args, name) for name in options} == options
    assert "(default: adam)" in " ".join(parser.format_help().split())
    assert main.parse_args(["--system", "sam_track", "--ema", "0.9"])[0].ema == 0.9
    assert main.parse_args([])[0].optimizer == "adamw"
    outcome = run_here(main.main, *flags, "--epochs", 2, "--eval_every", 0)
    assert outcome.status == 0, outcome.err
    state = read_checkpoint(outcome.run / "last.pth")
    assert state["ema"] is None and state["scheduler"]["last_epoch"] > 1
    rows = csv.DictReader((outcome.run / "results.csv").read_text().splitlines())
    assert [float(row["lr/heads"]) for row in rows] == [1e-4, 1e-4]
    assert [group["weight_decay"] for group in state["optimizer"]["param_groups"]] == [0, 0]


def test_the_frozen_encoder_stays_what_it_was_and_the_rest_is_trained(flags, sam):
    outcome = run_here(main.main, *flags, "--prompt_encoder")
    assert outcome.status == 0, outcome.err
    weights, before = read_checkpoint(outcome.run / "last.pth")["model"], torch.load(sam)
    frozen = [name for name in before if name.startswith(("image_encoder.", "prompt_encoder."))]
    assert frozen and all(weights[name].equal(before[name]) for name in frozen)
    changed = [name for name in before if not weights[name].equal(before[name])]
    assert "mask_decoder.iou_token.weight" in changed
    assert not any("iou_prediction_head" in name for name in changed)
    metrics = json.loads((outcome.run / "metrics.json").read_text())
    assert metrics["videos"] == 2 and metrics["J"] >= 0
    assert any("what tracking adds" in line for line in outcome.out)


@pytest.mark.usefixtures("undrawn")
def test_the_encoder_is_trained_too_where_it_is_asked_for_and_nothing_is_kept(flags, sam, tmp_path):
    outcome = run_here(main.main, *flags, "--train_encoder")
    assert outcome.status == 0, outcome.err
    weights, before = read_checkpoint(outcome.run / "last.pth")["model"], torch.load(sam)
    assert not weights["image_encoder.neck.0.weight"].equal(before["image_encoder.neck.0.weight"])
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("undrawn")
def test_an_epoch_after_the_first_encodes_nothing_and_ends_the_same(flags, prepared, tmp_path):
    first = run_here(main.main, *flags)
    assert first.status == 0 and len(prepared) > 0
    entries = files_in(tmp_path / "cache")
    assert len([name for name in entries if "/" in name]) == len(prepared)
    prepared.clear()
    second = run_here(main.main, *flags)
    assert second.status == 0 and prepared == [] and files_in(tmp_path / "cache") == entries
    one, other = (read_checkpoint(run.run / "last.pth")["model"] for run in (first, second))
    assert all(x.equal(other[name]) for name, x in one.items())


@pytest.mark.usefixtures("undrawn")
def test_a_resumed_run_is_the_unbroken_one(flags, monkeypatch, tmp_path):
    two = [*flags, "--epochs", 2, "--eval_every", 0]
    unbroken = run_here(main.main, *two, "--run_dir", tmp_path / "unbroken")
    assert unbroken.status == 0
    original = main.Trainer.optimise

    def broken(trainer, clips):
        if trainer.state.epoch == 1:
            raise UserError("the power is cut")
        return original(trainer, clips)

    monkeypatch.setattr(main.Trainer, "optimise", broken)
    assert_refused(run_here(main.main, *two), "the power is cut")
    monkeypatch.setattr(main.Trainer, "optimise", original)
    resumed = run_here(main.main, *two, "--resume", "auto")
    one, other = (read_checkpoint(run.run / "last.pth")["model"] for run in (resumed, unbroken))
    assert all(x.equal(other[name]) for name, x in one.items())


SWITCHES = ["--instance random", "--max_gap 3", "--loss logits", "--w_dice 1", "--cache_type float32"]
SWITCHES += ["--template both", "--image_size 40", "--interpolate logits", "--attn_pe"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_trains(switch, flags):
    outcome = run_here(main.main, *flags, "--eval_every", 0, *switch.split())
    assert outcome.status == 0, outcome.err


# ------------------------------------------------------------------------------------------- mistakes


def refused(flags: list[object], runs: Path, *message: object) -> None:
    """One line, and no run folder is left."""
    assert_refused(run_here(main.main, *flags), *message)
    assert not runs.exists() or not any(runs.iterdir())


def test_an_encoder_that_is_neither_given_nor_trained_is_refused(small_data, tmp_path):
    flags = [*FLAGS, "--dataset_root", small_data, "--run_dir", tmp_path / "runs"]
    refused(flags, tmp_path / "runs", "--load_network sam_vit_b,", "--train_encoder")


def test_a_checkpoint_of_another_size_is_refused_with_the_flags_that_it_needs(flags, sam, tmp_path):
    refused([*flags, "--embed_dim", 32, "--depth", 3], tmp_path / "runs", sam, "--embed_dim 16 --depth 2")


def test_a_checkpoint_of_another_system_a_torn_and_an_absent_one_are_refused(flags, trained, sam, tmp_path):
    refused(
        [*flags, "--load_network", trained.run / "best.pth"], tmp_path / "runs", "vita_tcovis", "sam_track"
    )
    sam.write_bytes(sam.read_bytes()[:-5000])
    refused(flags, tmp_path / "runs", sam, "damaged")
    refused(
        [*flags, "--load_network", tmp_path / "none.pth"], tmp_path / "runs", "none.pth", "does not exist"
    )


def test_a_file_in_the_place_of_the_cache_is_refused(flags, tmp_path):
    (tmp_path / "cache").write_text("x")
    refused(flags, tmp_path / "runs", "--embedding_cache", "is a file")


@pytest.mark.parametrize(
    "mistake", ["--instance smallest", "--max_gap 0", "--template last", "--gate 2", "--global_blocks 7"]
)
def test_values_out_of_range_are_refused(mistake, flags, tmp_path):
    refused([*flags, *mistake.split()], tmp_path / "runs", mistake.split()[0])


# ------------------------------------------------------------------------------------------- tracking


@pytest.fixture
def video(tmp_path) -> Path:
    """Three frames of 53x37 and a prompt on the first."""
    (tmp_path / "videos" / "one").mkdir(parents=True)
    (tmp_path / "prompts" / "one").mkdir(parents=True)
    labels = torch.zeros(37, 53, dtype=torch.int64)
    labels[5:20, 7:30] = 6
    write_label_map(tmp_path / "prompts" / "one" / "00000.png", labels)
    for t in range(3):
        Image.new("RGB", (53, 37), (90 * t, 40, 120)).save(tmp_path / "videos" / "one" / f"{t:05d}.png")
    return tmp_path


def track(checkpoint: Path, video: Path, *further: object):
    flags = ["--checkpoint", checkpoint, "--video_root", video / "videos", "--device", "cpu"]
    flags += ["--prompt_root", video / "prompts", "--output", video / "out"]
    return run_here(inference.main, *flags, *further)


@pytest.mark.usefixtures("undrawn")
def test_the_published_file_and_what_was_trained_from_it_track_a_video(sam, flags, video):
    trained = run_here(main.main, *flags)
    for checkpoint, further in ((sam, []), (trained.run / "best.pth", ["--track_size", 48, "--gate", 0])):
        outcome = track(checkpoint, video, "--overwrite", *further)
        assert outcome.status == 0, outcome.err
        maps = [read_label_map(video / "out" / "Annotations" / "one" / f"{t:05d}.png") for t in range(3)]
        assert maps[0][5:20, 7:30].all() and all(x.shape == (37, 53) for x in maps)
        assert set(maps[2].flat) <= {0, 6}


def test_mistakes_of_tracking_are_one_line(sam, video, tmp_path):
    assert_refused(track(sam, video, "--track_size", 20), "--track_size 20", "multiple of the patch, 8")
    assert_refused(track(sam, video, "--template", "last"), "--template")
    write_label_map(video / "prompts" / "one" / "00000.png", torch.zeros(37, 53, dtype=torch.int64))
    assert_refused(track(sam, video), "one", "no prompt")  # an empty template
    assert not (video / "out").exists()
