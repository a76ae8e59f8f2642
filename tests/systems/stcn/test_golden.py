"""STCN against the official program: names, every tensor, losses, label maps."""

import json

import numpy as np
import pytest
import torch

from common.types import Clip, Prompt
from systems.stcn.affinity import memory_terms, query_terms, read_sparse, similarity, top_k_affinity
from systems.stcn.criterion import STCNCriterion
from systems.stcn.modules import KeyFeatures, others_of
from systems.stcn.tracker import STCNTracker
from tests.support.affinity import dense
from tests.support.stcn_golden import (
    FOLDER,
    NUMBERS,
    assert_official,
    golden,
    hard_masks,
    module_video,
    needs_golden,
    official_network,
)
from video.masks import soft_aggregate

pytestmark = needs_golden
RUNS = ["davis", "davis_last", "davis_pad", "davis_one", "youtube_late"]


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def features() -> KeyFeatures:
    return official_network().encode_key(module_video()[0])


def values_of(features: KeyFeatures, frame: int, masks: torch.Tensor) -> torch.Tensor:
    """(1, K, 512, h, w)."""
    image = module_video()[0][frame : frame + 1]
    return official_network().encode_value(image, features.f16[frame : frame + 1], masks, others_of(masks))


@pytest.fixture(scope="module")
def memory(features) -> tuple[torch.Tensor, torch.Tensor]:
    """Terms (S, 65) of frames 0, 1 and 2, and values (S, 2 * 512) of objects 1 and 2."""
    values = torch.cat([values_of(features, t, hard_masks(t, 2)) for t in range(3)])  # (3, 2, 512, h, w)
    terms = memory_terms(features.k16[:3].transpose(0, 1).flatten(1))
    return terms, values.permute(0, 3, 4, 1, 2).flatten(0, 2).flatten(1)


def test_names_and_shapes_are_the_published_ones():
    wanted = json.loads((FOLDER / "keys_stcn.json").read_text())
    assert {name: list(x.shape) for name, x in official_network().state_dict().items()} == wanted


def test_the_weights_are_those_of_the_golden_set():
    wanted = json.loads((NUMBERS / "weights_stcn.json").read_text())
    for name, value in official_network().state_dict().items():
        if value.is_floating_point():
            norm, first = wanted[name]
            assert value.double().norm().item() == pytest.approx(norm, rel=1e-5)
            assert value.flatten()[0].item() == pytest.approx(first, abs=1e-7)


def test_keys_and_features_are_official(features):
    assert_official({f"encode_key/{name}": x for name, x in features._asdict().items()})


def test_values_are_official(features):
    soft = torch.from_numpy(golden("golden_inputs").soft(hard_masks(0, 3).numpy()))
    arrays = {f"encode_value/k{k}": values_of(features, 0, hard_masks(0, k)) for k in (1, 2, 3)}
    arrays["encode_value/soft_k3"] = values_of(features, 0, soft)
    assert_official({name: x[0].unsqueeze(2) for name, x in arrays.items()})


def test_attention_and_fusion_are_official():
    inputs = {name: torch.from_numpy(x) for name, x in golden("golden_inputs").stcn_blocks().items()}
    fuser = official_network().value_encoder.fuser
    # The official block takes pairs of object and picture: here each picture has one object.
    fused = fuser(inputs["fuser_x"][:, None], inputs["fuser_f16"][:, None])[:, 0]
    assert_official(
        {
            "cbam/channel": fuser.attention.ChannelGate(inputs["cbam"]),
            "cbam/full": fuser.attention(inputs["cbam"]),
            "fuser/out": fused,
        }
    )


def test_affinity_readout_decoder_and_aggregation_are_official(features, memory):
    terms, values = memory
    query = query_terms(features.k16[3].flatten(1))
    at = KeyFeatures(*(x[3:4] for x in features))
    arrays = {"affinity/softmax_all": similarity(query, terms).softmax(1).T[None]}
    for name, top_k in (("top20", 20), ("top50", 50)):
        affinity = top_k_affinity(query, terms, top_k)
        arrays[f"affinity/{name}"] = dense(affinity, len(terms)).T[None]
        readout = read_sparse(values, affinity).T.unflatten(0, (2, 512)).unflatten(-1, at.k16.shape[-2:])
        arrays[f"match_memory/{name}"] = readout
        logits = official_network().decode(readout[None], at)[0]
        arrays[f"segment/{name}"] = logits.sigmoid()[:, None]
    arrays["decoder/logits"] = logits[:, None]
    arrays["aggregate/bg"] = soft_aggregate(logits.sigmoid()[None])[0].softmax(0)[:, None]
    arrays["aggregate/hard"] = soft_aggregate(hard_masks(0, 3))[0].softmax(0)[:, None]
    names = golden("golden_tools").names(np.load(NUMBERS / "stcn_modules.npz"))
    assert_official(arrays)
    print(sorted(set(names) - arrays.keys()))


def play(case: dict, frames: np.ndarray, given: dict[int, np.ndarray], count: int) -> np.ndarray:
    """A run of the golden set by the tracker: (count + 1, T, H, W) probabilities, 0 before a start."""
    options = {name: case[name] for name in ("top_k", "mem_every", "include_last")}
    tracker = STCNTracker(official_network(), STCNTracker.Config(short_side=-1, **options))
    inputs = golden("toy_video")
    pixels = np.round((frames * inputs.STD + inputs.MEAN) * 255).astype(np.uint8)
    probs = np.zeros((count + 1, *frames.shape[:1], *frames.shape[2:]), dtype=np.float32)
    for t, frame in enumerate(pixels):
        prompt = Prompt(torch.from_numpy(given[t].astype(np.int64))) if t in given else None
        tracks = tracker.step(torch.from_numpy(frame), prompt)
        assert tracks.ids.tolist() == sorted(i for s in given if s <= t for i in np.unique(given[s]) if i)
        probs[tracks.ids.numpy(), t] = tracks.masks
        probs[0, t] = 1 - tracks.masks.sum(0)
    return probs


@pytest.mark.parametrize("name", RUNS)
def test_videos_are_tracked_as_by_the_official_program(name):
    golden("check_golden").check_run(str(NUMBERS), golden("golden_config").PUBLIC, "stcn", name, play)


def training_clip() -> Clip:
    """Two clips of three frames, with two objects and with one."""
    frames, labels = golden("golden_inputs").training_clips(golden("golden_config").PUBLIC, "stcn")
    return Clip(
        frames=torch.from_numpy(frames),
        labels=torch.from_numpy(labels),
        ids=torch.tensor([[1, 2], [1, 0]]),
        classes=torch.zeros(2, 2, dtype=torch.int64),
        names=[],
    )


def test_training_predicts_and_loses_as_the_official_program():
    clip = training_clip()
    outputs = official_network()(clip.frames, clip.prompt)
    frames = (1, 2)
    arrays = {f"train/logits_{t}": outputs["logits"][:, t - 1] for t in frames}
    arrays |= {f"train/prob_{t}": outputs["logits"][:, t - 1].softmax(1)[:, 1:] for t in frames}
    assert_official(arrays)
    wanted = np.load(NUMBERS / "stcn_modules.npz")
    criterion = STCNCriterion(STCNCriterion.Config())
    for iteration in (0, 19999, 20000, 45000, 70000, 70001):
        criterion.iteration.fill_(iteration)
        total = criterion(outputs, clip)["ce"]
        share = criterion.stats["optimiser/hardest_share"]
        official = wanted[f"train/loss_{iteration}"]
        assert [total.item(), share.item()] == pytest.approx([official[0], official[3]], rel=2e-5)
