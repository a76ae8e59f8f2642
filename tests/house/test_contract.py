"""What every system must do, and a fake prompted one with them, which is added by a row in the table alone.

A new system joins by its row in SYSTEMS, and by flags in tests/support/commands.py that make it small.
"""

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import inference
import main
from annotated.videos import VOSFolder
from common.backbone import for_inference
from common.checkpoint import save_checkpoint
from common.errors import UserError
from common.types import Clip, ClipDataset, Criterion, Network, Prompt, Tracker, Tracks
from configs.systems import CONFIGS
from inference import SYSTEMS, load_network
from tests.support.commands import SMALL, files_in, run_here
from tracking.loop import track_video
from tracking.states import States
from training.config import TrainConfig
from training.loader import make_loader
from training.memory import trace_step
from training.recompute import checkpoint_activations
from video.images import read_label_map
from video.transforms import upload

# Forms of systems. Narrower values would have a gate of one unit, which may be dead. SiamMask's backbone is
# frozen: through the batch norms of a deep one of random weights, ResNet-50 too, bf16 has other gradients.
LIGHT = [
    "stcn --backbone mobilenet_v2 --value_dim 64",
    "xmem --backbone mobilenet_v2 --value_dim 64 --decoder_dim 64",
    "siammask --backbone mobilenet_v2 --backbone_weights imagenet --thaw_at 2",
]
PROMPTED = [*(name for name, parts in SYSTEMS.items() if parts.tracker.needs_prompt), "fake"]


class Built(NamedTuple):
    """A system with random weights, and a function that makes its clips."""

    name: str
    configs: dict[str, Any]
    network: nn.Module
    criterion: nn.Module
    tracker: Tracker
    clips: Callable[[], Clip]


@pytest.fixture(params=[*SYSTEMS, "fake", *LIGHT])
def system(request, fake_system, small_data) -> Built:
    name, *flags = request.param.split()
    parts = SYSTEMS[name]
    args, _ = main.parse_args(["--system", name, *SMALL.get(name, []), *flags])
    configs = CONFIGS[name].read(args)
    torch.manual_seed(0)
    network, criterion = parts.network(configs["network"]), parts.criterion(configs["criterion"])
    tracker = parts.tracker(network.eval(), configs["tracker"])

    def clips() -> Clip:
        data = parts.dataset(VOSFolder(small_data / "train"), configs["data"], training=True)
        loader = make_loader(data, [[(0, 0), (0, 1)]], num_workers=0, pin_memory=False)
        return upload(next(iter(loader)), "cpu")

    return Built(name, configs, network, criterion, tracker, clips)


def without_objects(clip: Clip) -> Clip:
    none = clip.ids[:, :0]
    return dataclasses.replace(clip, labels=torch.zeros_like(clip.labels), ids=none, classes=none)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested dicts, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)


def make_video(height: int, width: int, count: int = 4) -> list[tuple[str, Tensor]]:
    """Noise with a bright square that moves to the right."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 90, (count, 3, height, width), generator=generator, dtype=torch.uint8)
    for t in range(count):
        frames[t, 0, 4:20, 2 + t : 18 + t] = 250
    return [(f"{t:05d}", frame) for t, frame in enumerate(frames)]


def prompt_at(frame: str, ids: dict[int, slice], size: tuple[int, int]) -> Callable:
    """A prompt on one frame only: a label map with a band of rows for each id."""
    labels = torch.zeros(size, dtype=torch.int64)
    for track, rows in ids.items():
        labels[rows] = track
    return lambda name, _: Prompt(labels.clone()) if name == frame else None


def run(tracker: Tracker, video: list, prompt_of: Callable | None = None) -> list[Tracks]:
    return [tracks for _, _, tracks, _ in track_video(tracker, "video", video, prompt_of)]


def first_frame(size: tuple[int, int]) -> Callable:
    return prompt_at("00000", {5: slice(4, 20)}, size)


def assert_same(left: list[Tracks], right: list[Tracks]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        for item in dataclasses.fields(Tracks):
            mine, its = getattr(one, item.name), getattr(other, item.name)
            assert (mine is None and its is None) or torch.equal(mine, its), item.name


def assert_legal(tracks: Tracks, height: int, width: int) -> None:
    K = len(tracks.ids)
    assert tracks.ids.dtype == tracks.labels.dtype == torch.int64
    assert (tracks.ids > 0).all() and len(tracks.ids.unique()) == K
    assert tracks.labels.shape == (height, width)
    assert set(tracks.labels.unique().tolist()) <= {0, *tracks.ids.tolist()}
    assert tracks.masks.shape == (K, height, width) and tracks.masks.dtype == torch.float32
    assert ((tracks.masks >= 0) & (tracks.masks <= 1)).all()
    assert tracks.scores.shape == (K,) and ((tracks.scores >= 0) & (tracks.scores <= 1)).all()
    assert tracks.classes is None or tracks.classes.shape == (K,)
    assert tracks.boxes is None or tracks.boxes.shape == (K, 4, 2)


@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_losses_are_finite(system, training):
    clip = system.clips()
    outputs = system.network.train(training)(clip.frames, clip.prompt)
    losses = system.criterion(outputs, clip)
    assert isinstance(outputs, dict) and len(list(tensors_in(outputs)))
    assert all(tensor.isfinite().all() for tensor in tensors_in(outputs))
    assert losses and all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    assert all(not stat.requires_grad for stat in system.criterion.stats.values())


def test_every_trainable_parameter_gets_a_gradient(system):
    clip = system.clips()
    objective = main.Objective(system.network, system.criterion).train()
    sum(objective(clip).values()).backward()
    lacking = [
        name
        for name, parameter in objective.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert lacking == []
    assert all(p.grad.isfinite().all() for p in objective.parameters() if p.requires_grad)


def gradients_of(system: Built, clip: Clip, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The gradients of one step, by the names of their parameters; those without any are left out."""
    torch.manual_seed(0)
    objective = main.Objective(system.network, system.criterion).train()
    objective.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        losses = objective(clip)
    sum(losses.values()).backward()
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}


def test_under_autocast_every_trainable_parameter_gets_a_gradient_like_that_of_float32(system):
    clip = system.clips()
    exact, mixed = (gradients_of(system, clip, dtype) for dtype in (None, torch.bfloat16))
    assert mixed.keys() == exact.keys()
    assert all(gradient.isfinite().all() for gradient in mixed.values())
    both = (torch.cat([x.flatten() for x in gradients.values()]) for gradients in (exact, mixed))
    assert torch.cosine_similarity(*both, dim=0) > 0.97  # bf16 has 8 bits, of which a deep network leaves few


def test_the_loss_falls_on_one_repeated_clip(system):
    clip = system.clips()
    objective = main.Objective(system.network, system.criterion).train()
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    totals = []
    for _ in range(15):
        loss = sum(objective(clip).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.8 * totals[0]


def test_the_dataset_repeats_itself_and_its_batches_keep_their_size(system):
    one, other = system.clips(), system.clips()
    assert one.frames.equal(other.frames) and one.labels.equal(other.labels) and one.names == other.names
    assert one.labels.shape == (one.frames.shape[0], *one.frames.shape[1:2], *one.frames.shape[3:])
    assert one.ids.shape == one.classes.shape and (one.ids >= 0).all()
    if system.name == "fake":
        assert one.frames.shape == (2, 2, 3, 25, 25)


def test_a_saved_network_is_loaded_with_the_same_outputs(system, tmp_path):
    plain = {role: dataclasses.asdict(config) for role, config in system.configs.items()}
    weights = system.network.state_dict()
    checkpoint = {"format": 1, "system": system.name, "config": plain, "model": weights, "ema": None}
    save_checkpoint(tmp_path / "last.pth", checkpoint)
    network, config = load_network(tmp_path / "last.pth")
    assert config == {"system": system.name, **plain}
    clip = system.clips()
    with torch.no_grad():
        pairs = zip(
            tensors_in(system.network.eval()(clip.frames, clip.prompt)),
            tensors_in(network(clip.frames, clip.prompt)),
            strict=True,
        )
        assert all(torch.equal(mine, its) for mine, its in pairs)


def test_zero_objects_are_legal_in_training(system):
    clip = without_objects(system.clips())
    losses = main.Objective(system.network, system.criterion).train()(clip)
    total = sum(losses.values())
    total.backward()
    assert total.isfinite()
    gradients = [p.grad for p in system.network.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_all_doors_keep_their_protocols(system, small_data):
    data = SYSTEMS[system.name].dataset(
        VOSFolder(small_data / "train"), system.configs["data"], training=True
    )
    doors = {Network: system.network, Criterion: system.criterion, ClipDataset: data, Tracker: system.tracker}
    assert [door.__name__ for door, part in doors.items() if not isinstance(part, door)] == []
    assert system.network.stride >= 1 and isinstance(system.network.takes_prompt, bool)
    modules = dict(system.network.named_modules())
    parts = system.network.backbone_parts + system.network.recomputed_parts
    assert all(name in modules for name in parts)


# Of the light forms one: a trace takes seconds, and the layers of MobileNetV2 are in all of them.
@pytest.mark.parametrize("system", [*SYSTEMS, "fake", LIGHT[-1]], indirect=True)
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_training_step_can_be_traced_without_data(system, amp):
    objective = main.Objective(system.network, system.criterion)
    traced = trace_step(objective, system.clips(), TrainConfig(), amp)
    assert traced.peak > traced.between > sum(p.nbytes for p in objective.parameters() if p.requires_grad)


def test_activations_that_are_computed_anew_give_the_same_gradients(system):
    objective, clip = main.Objective(system.network, system.criterion).train(), system.clips()
    twin = copy.deepcopy(objective)
    if not twin.network.recomputed_parts:
        with pytest.raises(UserError, match="--checkpoint_activations"):
            checkpoint_activations(twin.network)
        return
    checkpoint_activations(twin.network)
    for one in (objective, twin):
        torch.manual_seed(1)
        sum(one(clip).values()).backward()
    for (name, kept), anew in zip(objective.named_parameters(), twin.parameters(), strict=True):
        assert (kept.grad is None) == (anew.grad is None), name
        assert kept.grad is None or torch.equal(kept.grad, anew.grad), name


def test_a_network_that_takes_no_prompt_says_the_same_without_one(system):
    clip = system.clips()
    network = system.network.eval()
    if not network.takes_prompt:
        with torch.no_grad():
            outputs = network(clip.frames), network(clip.frames, clip.prompt)
        pairs = zip(*map(tensors_in, outputs), strict=True)
        assert all(torch.equal(without, given) for without, given in pairs)


def test_an_epoch_says_whether_other_parameters_are_trained(system):
    before = [parameter.requires_grad for parameter in system.network.parameters()]
    changed = system.network.set_epoch(0, 4)
    assert changed == (before != [parameter.requires_grad for parameter in system.network.parameters()])


def test_the_tracker_says_whether_it_needs_a_prompt_and_from_where_on_masks_count(system):
    assert isinstance(system.tracker.needs_prompt, bool) and 0 <= system.tracker.mask_threshold <= 1


@pytest.mark.parametrize("size", [(37, 53), (33, 21), (64, 64)])
def test_frames_of_odd_sizes_give_tracks_of_those_sizes(system, size):
    for tracks in run(system.tracker, make_video(*size), first_frame(size)):
        assert_legal(tracks, *size)


def test_a_prompted_id_is_kept_and_a_new_one_may_come_in_mid_video(system):
    size = (37, 53)
    first, later = first_frame(size), prompt_at("00002", {9: slice(22, 37)}, size)
    seen = run(system.tracker, make_video(*size), lambda *at: first(*at) or later(*at))
    assert 5 in seen[0].ids and 9 in seen[2].ids
    assert all(9 not in tracks.ids for tracks in seen[:2])
    if system.tracker.needs_prompt:
        assert [tracks.ids.tolist() for tracks in seen] == [[5], [5], [5, 9], [5, 9]]


@pytest.mark.parametrize("system", PROMPTED, indirect=True)
def test_an_id_of_boxes_is_as_good_as_one_of_a_mask(system):
    labels = torch.zeros(37, 53, dtype=torch.int64)
    labels[4:20, 2:18] = 5
    by_mask = run(
        system.tracker, make_video(37, 53), lambda name, _: Prompt(labels) if name[-1] == "0" else None
    )
    box = Prompt(boxes={5: (2, 4, 16, 16)})
    by_box = run(system.tracker, make_video(37, 53), lambda name, _: box if name[-1] == "0" else None)
    assert by_box[-1].ids.tolist() == by_mask[-1].ids.tolist() == [5]
    assert all(tracks.labels.any() for tracks in by_box)


def test_a_reset_tracker_gives_the_same_result(system):
    size = (37, 53)
    video, prompt = make_video(*size), first_frame(size)
    first = run(system.tracker, video, prompt)
    assert any(len(tracks.ids) for tracks in first)
    assert_same(first, run(system.tracker, video, prompt))


def test_a_step_leaves_the_network_as_it_was(system):
    before = {name: value.clone() for name, value in system.network.state_dict().items()}
    run(system.tracker, make_video(37, 53), first_frame((37, 53)))
    after = system.network.state_dict()
    assert before.keys() == after.keys()
    assert all(value.equal(after[name]) for name, value in before.items())


def test_a_network_made_fast_for_inference_gives_the_same_tracks_up_to_rounding(system):
    video, prompt = make_video(64, 96), first_frame((64, 96))
    fast = SYSTEMS[system.name].tracker(
        for_inference(copy.deepcopy(system.network)), system.configs["tracker"]
    )
    for plain, folded in zip(run(system.tracker, video, prompt), run(fast, video, prompt), strict=True):
        assert folded.ids.tolist() == plain.ids.tolist()
        torch.testing.assert_close(folded.scores, plain.scores, rtol=0, atol=1e-4)
        assert (folded.labels == plain.labels).float().mean() >= 0.999


def test_a_tracker_goes_on_from_a_stored_state(system, tmp_path):
    size = (37, 53)
    video, prompt = make_video(*size, count=6), first_frame(size)
    whole = run(system.tracker, video, prompt)
    parts = run(system.tracker, video[:3], prompt)
    States(tmp_path).keep(3, system.tracker)
    other = SYSTEMS[system.name].tracker(system.network, system.configs["tracker"])
    taken = States(tmp_path).restore(other, 5, torch.device("cpu"))
    rest = track_video(other, "video", video, prompt, taken)
    assert taken == 3
    assert_same(whole, parts + [tracks for _, _, tracks, _ in rest])


def test_a_video_without_any_prompt_is_refused_where_one_is_needed(system):
    if system.tracker.needs_prompt:
        with pytest.raises(ValueError, match="video has no prompt"):
            run(system.tracker, make_video(32, 32))
    else:
        assert len(run(system.tracker, make_video(32, 32))) == 4


@pytest.mark.parametrize("system", PROMPTED, indirect=True)
def test_before_its_first_prompt_a_prompted_tracker_sees_background(system):
    size = (37, 53)
    nobody = Prompt(torch.zeros(size, dtype=torch.int64))
    late = prompt_at("00002", {5: slice(4, 20)}, size)
    seen = run(
        system.tracker, make_video(*size), lambda *at: late(*at) or (nobody if at[0] == "00000" else None)
    )
    for tracks in seen[:2]:
        assert_legal(tracks, *size)
        assert len(tracks.ids) == 0 and not tracks.labels.any()
    assert seen[2].ids.tolist() == [5]


def test_a_prompted_system_trains_scores_and_runs_by_its_row_alone(
    undrawn, fake_system, small_data, tmp_path
):
    flags = ["--system", fake_system, "--dataset_root", small_data, "--run_dir", tmp_path / "runs"]
    flags += ["--epochs", 2, "--batch_size", 2, "--num_workers", 0, "--device", "cpu", "--width", 4]
    trained = run_here(main.main, *flags)
    metrics = json.loads((trained.run / "metrics.json").read_text())
    assert metrics["J&F"] > 0 and metrics["cosine_margin"] is None and metrics["videos"] == 2
    resumed = run_here(main.main, *flags, "--resume", "auto", "--epochs", 3)
    assert resumed.run == trained.run

    output, valid = tmp_path / "output", small_data / "valid"
    flags = ["--checkpoint", trained.run / "best.pth", "--video_root", valid, "--output", output]
    refused = run_here(inference.main, *flags)
    assert refused.status == 2 and "--prompt_root" in refused.err[0] and not output.exists()
    assert run_here(inference.main, *flags, "--prompt_root", valid / "Annotations").run == output
    for mask in files_in(valid / "Annotations"):
        assert read_label_map(output / "Annotations" / mask).shape == (32, 32)


def test_a_network_of_the_fake_system_has_nothing_of_vita_tcovis(fake_system):
    args, parser = main.parse_args(["--system", fake_system])
    assert args.width == 8 and args.w_pixel == 1.0 and not hasattr(args, "num_tokens")
    with pytest.raises(SystemExit):
        parser.parse_args(["--num_tokens", "3"])
