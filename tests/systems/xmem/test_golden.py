"""XMem against the official program: names, every tensor, losses, label maps, memory sizes and events."""

import copy
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.backbone import for_inference
from common.types import Clip, Prompt
from systems.stcn.affinity import (
    anisotropic_memory_terms,
    anisotropic_query_terms,
    memory_terms,
    query_terms,
    similarity,
    top_k_affinity,
)
from systems.stcn.blocks import upsample
from systems.stcn.modules import others_of
from systems.xmem import memory as memory_file
from systems.xmem.criterion import XMemCriterion
from systems.xmem.memory import Elements, MemoryBank, prototypes_of
from systems.xmem.modules import KeyFeatures
from systems.xmem.tracker import XMemTracker
from tests.support.affinity import dense
from tests.support.stcn_golden import FOLDER, NUMBERS, golden, hard_masks, module_video, needs_golden
from tests.support.xmem_golden import assert_official, official_network
from video.masks import soft_aggregate

pytestmark = needs_golden
RUNS = [
    "default",
    "long_term",
    "late_no_long_term",
    "deep_update_async",
    "pad",
    "one",
    "no_sensory",
    "late_long_term_quirk",
]


@pytest.fixture(scope="module", autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def features() -> KeyFeatures:
    return official_network().encode_key(module_video()[0])


def at(features: KeyFeatures, frame: int) -> KeyFeatures:
    return KeyFeatures(*(x[frame : frame + 1] for x in features))


def hidden_of(features: KeyFeatures, objects: int) -> torch.Tensor:
    return torch.from_numpy(golden("golden_inputs").xmem_hidden(*features.key.shape[-2:]))[:, :objects]


def values_of(features: KeyFeatures, frame: int, masks: torch.Tensor) -> torch.Tensor:
    """(1, K, 512, h, w)."""
    image = module_video()[0][frame : frame + 1]
    return official_network().encode_value(image, at(features, frame).f16, masks, others_of(masks))


def frames_in_a_row(x: torch.Tensor) -> torch.Tensor:
    """(T, C, h, w) of frames 0, 1 and 2 to (C, S)."""
    return x[:3].transpose(0, 1).flatten(1)


@pytest.fixture(scope="module")
def elements(features) -> Elements:
    """Of frames 0, 1 and 2, with values (S, 2 * 512) of objects 1 and 2."""
    values = torch.cat([values_of(features, t, hard_masks(t, 2)) for t in range(3)])
    key, shrinkage, selection = (frames_in_a_row(x) for x in features[:3])
    values = values.permute(0, 3, 4, 1, 2).flatten(0, 2).flatten(1)
    return Elements.unread(anisotropic_memory_terms(key, shrinkage), selection.T, values)


@pytest.mark.parametrize(("name", "hidden_dim"), [("keys_xmem", 64), ("keys_xmem_no_sensory", 0)])
def test_names_and_shapes_are_the_published_ones(name, hidden_dim):
    wanted = json.loads((FOLDER / f"{name}.json").read_text())
    found = official_network(hidden_dim).state_dict()
    assert {name: list(x.shape) for name, x in found.items()} == wanted


def test_the_weights_are_those_of_the_golden_set():
    wanted = json.loads((NUMBERS / "weights_xmem.json").read_text())
    for name, value in official_network().state_dict().items():
        if value.is_floating_point():
            assert value.double().norm().item() == pytest.approx(wanted[name][0], rel=1e-5, abs=5e-7)


def test_keys_and_features_are_official_whatever_the_length_of_the_clip(features):
    assert_official({f"encode_key/{name}": x for name, x in features._asdict().items()})
    clip = official_network().encode_key(module_video()[0][None])
    assert all(x.shape[:2] == (1, 5) for x in clip)
    assert_official({f"encode_key/{name}": x[0] for name, x in clip._asdict().items()})


def test_values_and_deep_updates_are_official(features):
    soft = torch.from_numpy(golden("golden_inputs").soft(hard_masks(0, 3).numpy()))
    arrays = {}
    for k in (1, 2, 3):
        value = values_of(features, 0, hard_masks(0, k))
        hidden = official_network().deep_update(value, hidden_of(features, k))
        arrays |= {f"encode_value/k{k}/value": value, f"encode_value/k{k}/hidden": hidden}
    arrays["encode_value/soft_shallow/value"] = values_of(features, 0, soft)
    arrays["encode_value/soft_shallow/hidden"] = hidden_of(features, 3)
    assert_official(arrays)


def test_blocks_are_official():
    x = {name: torch.from_numpy(value) for name, value in golden("golden_inputs").xmem_blocks().items()}
    network, frame = official_network(), x["fuser_x"][:, None]
    updater, reinforcer = network.decoder.hidden_update, network.value_encoder.hidden_reinforce
    assert_official(
        {
            "value_fuser/out": network.value_encoder.fuser(x["value_fuser_g"], frame),
            "decoder_fuser/out": network.decoder.fuser(x["decoder_fuser_g"], frame),
            "hidden_update/out": updater(x["g16"], x["g8"], x["g4"][:, :, :-1], x["g4"][:, :, -1:], x["h"]),
            "hidden_reinforce/out": reinforcer(x["g16"], x["h"]),
            "resample/area_half": F.avg_pool2d(x["g8"][0], 2)[None],
            "resample/area_quarter": F.avg_pool2d(x["g4"][0], 4)[None],
            "resample/bilinear_double": upsample(x["g16"][0], 2)[None],
        }
    )


def test_a_network_in_its_form_for_inference_is_official(features):
    fast = for_inference(copy.deepcopy(official_network()))
    assert fast.decoder.up_8_4.out_conv.conv1.m and fast.value_encoder.fuser.block1.conv1.m
    x = {name: torch.from_numpy(value) for name, value in golden("golden_inputs").xmem_blocks().items()}
    image, masks = module_video()[0][:1], hard_masks(0, 2)
    arrays = {
        "decoder_fuser/out": fast.decoder.fuser(x["decoder_fuser_g"], x["fuser_x"][:, None]),
        "encode_value/k2/value": fast.encode_value(image, at(features, 0).f16, masks, others_of(masks)),
    }
    assert_official(arrays)


def test_similarities_affinities_and_usage_are_official(features, elements):
    key, shrinkage = (frames_in_a_row(x) for x in features[:2])
    query, selection = features.key[3].flatten(1), features.selection[3].flatten(1)
    asked, plain = anisotropic_query_terms(query, selection), query_terms(query)
    one = torch.ones_like(shrinkage)
    full = similarity(asked, elements.terms)
    arrays = {
        "similarity/full": full,
        "similarity/no_selection": similarity(plain, shrinkage.T * memory_terms(key)),
        "similarity/no_shrinkage": similarity(asked, anisotropic_memory_terms(key, one)),
        "similarity/plain": similarity(plain, memory_terms(key)),
        "affinity/topNone": full.softmax(1),
        "affinity/top30": dense(top_k_affinity(asked, elements.terms, 30), len(elements.terms)),
    }
    arrays = {name: x.T[None] for name, x in arrays.items()}
    everything = top_k_affinity(asked, elements.terms, 999)
    arrays["usage/topNone"] = everything.usage(len(elements.terms))[None]
    arrays["usage/top30"] = top_k_affinity(asked, elements.terms, 30).usage(len(elements.terms))[None]
    assert_official(arrays)


def test_readout_decoder_and_sensory_update_are_official(features, elements):
    query = anisotropic_query_terms(features.key[3].flatten(1), features.selection[3].flatten(1))
    readout = (similarity(query, elements.terms).softmax(1) @ elements.values).T
    readout = readout.unflatten(0, (1, 2, 512)).unflatten(-1, features.key.shape[-2:])
    hidden, decode = hidden_of(features, 2), official_network().decode
    logits, renewed = decode(readout, hidden, at(features, 3))
    shallow, same = decode(readout, hidden, at(features, 3), update=False)
    assert same.equal(hidden) and shallow.equal(logits)
    arrays = {"read_memory/softmax_all": readout, "decoder/logits": logits}
    for name, selector in (("plain", (1, 1)), ("no_h", (1, 1)), ("selector", (1, 0))):
        there = torch.tensor(selector)[None, :, None, None]
        aggregated = soft_aggregate(logits.sigmoid() * there)
        arrays |= {f"segment/{name}/logits": aggregated, f"segment/{name}/prob": aggregated.softmax(1)}
        if name != "no_h":
            arrays[f"segment/{name}/hidden"] = renewed
    assert_official(arrays)


def test_consolidation_is_official(elements):
    usage = torch.from_numpy(golden("golden_inputs").consolidation_usage(len(elements.use))).flatten()
    found = prototypes_of(elements._replace(use=usage, life=torch.ones_like(usage)), 24)
    key, shrinkage = memory_file.keys_of_terms(found.terms)
    value = found.values.T.unflatten(0, (2, 512))
    arrays = {"key": key[None], "shrinkage": shrinkage[None], "value": value}
    assert_official({f"consolidation/{name}": x for name, x in arrays.items()})


def training_clip() -> Clip:
    """Two clips of four frames, with two objects and with one, of three slots."""
    frames, labels = golden("golden_inputs").training_clips(golden("golden_config").PUBLIC, "xmem")
    return Clip(
        frames=torch.from_numpy(frames),
        labels=torch.from_numpy(labels),
        ids=torch.tensor([[1, 2, 0], [1, 0, 0]]),
        classes=torch.zeros(2, 3, dtype=torch.int64),
        names=[],
    )


def test_training_predicts_and_loses_as_the_official_program(monkeypatch):
    clip, network = training_clip(), official_network()
    monkeypatch.setattr(network, "_draw_deep_updates", lambda count: [True, False, True])
    outputs = network(clip.frames, clip.prompt)
    arrays = {f"train/logits_{t}": outputs["logits"][:, t - 1] for t in (1, 2, 3)}
    arrays |= {f"train/masks_{t}": outputs["logits"][:, t - 1].softmax(1)[:, 1:] for t in (1, 2, 3)}
    assert_official(arrays)
    wanted = np.load(NUMBERS / "xmem_modules.npz")
    criterion = XMemCriterion(XMemCriterion.Config(num_objects=3))
    for iteration in (0, 20000, 45000, 70001):
        criterion.iteration.fill_(iteration)
        losses = criterion(outputs, clip)
        official = wanted[f"train/loss_{iteration}"]
        found = [
            sum(losses.values()),
            losses["ce"],
            losses["dice"],
            criterion.stats["optimiser/hardest_share"],
        ]
        sums = [official[0], sum(official[1:4]), sum(official[4:7]), official[7]]
        assert [float(x) for x in found] == pytest.approx(sums, rel=2e-5)


# ------------------------------------------------------------------------------------------------ videos


class Recorder:
    """A run of the golden set by the tracker, with what its first group of objects remembers.

    upto: the number of its frames that are tracked, or None for all
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, upto: int | None):
        self.upto = upto
        self.sizes: list[tuple[int, int]] = []
        self.hidden: list[tuple[float, float]] = []
        self.events: list[dict] = []
        self.frame = 0
        self.bank: MemoryBank | None = None
        forget = MemoryBank._forget

        def prototypes(candidates: Elements, number: int) -> Elements:
            found = prototypes_of(candidates, number)
            chosen = candidates.usage.topk(len(found.use)).indices.tolist()
            shrinkage = found.terms[:, -1].tolist()
            told = {"candidates": len(candidates.use), "prototypes": chosen, "shrinkage": shrinkage}
            self.events.append({"frame": self.frame, "kind": "consolidate", **told})
            return found

        def forgotten(bank: MemoryBank, target: int) -> None:
            before = bank.num_long_term
            forget(bank, target)
            if bank.num_long_term < before:
                told = {"before": before, "max_size": target, "after": bank.num_long_term}
                self.events.append({"frame": self.frame, "kind": "evict", **told})

        monkeypatch.setattr(memory_file, "prototypes_of", prototypes)
        monkeypatch.setattr(MemoryBank, "_forget", forgotten)

    def play(self, case: dict, frames: np.ndarray, given: dict[int, np.ndarray], count: int) -> np.ndarray:
        """(count + 1, T, H, W) probabilities, 0 before a start and of frames that are not tracked."""
        config = dict(case["config"])
        network = official_network(config.pop("hidden_dim"))
        config.pop("enable_long_term_count_usage")  # set for each video by the official evaluation
        config["no_long_term"] = not config.pop("enable_long_term")
        tracker = XMemTracker(network, XMemTracker.Config(short_side=-1, **config))
        inputs = golden("toy_video")
        pixels = np.round((frames * inputs.STD + inputs.MEAN) * 255).astype(np.uint8)[: self.upto]
        probs = np.zeros((count + 1, *frames.shape[:1], *frames.shape[2:]), dtype=np.float32)
        for self.frame, frame in enumerate(pixels):
            t = self.frame
            prompt = Prompt(torch.from_numpy(given[t].astype(np.int64))) if t in given else None
            tracks = tracker.step(torch.from_numpy(frame), prompt)
            probs[tracks.ids.numpy(), t] = tracks.masks
            probs[0, t] = 1 - tracks.masks.sum(0)
            self.bank = tracker.groups[0].bank
            self.sizes.append((self.bank.num_working, self.bank.num_long_term))
            if tracker.hidden.numel():
                self.hidden.append((tracker.hidden.mean().item(), tracker.hidden.std(correction=0).item()))
        return probs


@pytest.mark.parametrize("name", RUNS)
def test_videos_are_tracked_as_by_the_official_program(name, monkeypatch):
    right = 12 if name == "late_long_term_quirk" else None
    recorder = Recorder(monkeypatch, right)
    config = golden("golden_config").PUBLIC
    golden("check_golden").check_run(str(NUMBERS), config, "xmem", name, recorder.play, upto=right)
    wanted = np.load(NUMBERS / f"xmem_{name}.npz")
    last = (right or len(recorder.sizes)) - 1  # of the last frame an official run remembers nothing
    assert np.array_equal(recorder.sizes[:last], wanted["memory_sizes"][:last])
    if name != "no_sensory":
        np.testing.assert_allclose(recorder.hidden[:last], wanted["hidden_stats"][:last], atol=1e-4)
    assert_the_same_events(recorder.events, json.loads(str(wanted["events"])), right)
    if right is None:
        assert_the_same_memory(recorder.bank, wanted)


def assert_the_same_events(found: list[dict], wanted: list[dict], right: int | None) -> None:
    found = [event for event in found if right is None or event["frame"] < right]
    wanted = [event for event in wanted if right is None or event["frame"] < right]
    assert len(found) == len(wanted)
    for mine, its in zip(found, wanted, strict=True):
        chosen, its_chosen = (
            dict(zip(event.pop("prototypes", []), event.pop("shrinkage", []), strict=True))
            for event in (mine, its)
        )
        assert chosen == pytest.approx(its_chosen, abs=1e-5)  # two whose usage is the same may swap places
        assert {name: its[name] for name in mine} == mine


def in_official_order(bank: MemoryBank, wanted: np.lib.npyio.NpzFile) -> Elements:
    """The long-term memory with its oldest elements first, which here are the last."""
    long_term = bank.elements.rows(slice(0, bank.num_long_term))
    shrinkage = torch.from_numpy(wanted["final/long_shrinkage|sample"])
    nearest = (long_term.terms[None, :, -1] - shrinkage[:, None]).abs().min(1)
    assert nearest.values.max() < 1e-5 and len(nearest.indices.unique()) == bank.num_long_term
    return long_term.rows(nearest.indices)


def assert_the_same_memory(bank: MemoryBank, wanted: np.lib.npyio.NpzFile) -> None:
    compare = golden("golden_tools").compare
    size = int(wanted["memory_sizes"][-1].sum())  # without the last frame
    working = bank.elements.rows(slice(bank.num_long_term, size))
    parts = {"work": working}
    if bank.num_long_term:
        parts["long"] = in_official_order(bank, wanted)
    for name, rows in parts.items():
        keys, shrinkage = memory_file.keys_of_terms(rows.terms)
        values = rows.values.T.unflatten(0, (-1, 512))
        arrays = {"key": keys[None], "value0": values, "shrinkage": shrinkage[None]}
        for part, array in arrays.items():
            if f"final/{name}_{part}|shape" in wanted:
                assert compare(wanted, f"final/{name}_{part}", array) < 1e-3, (name, part)
        if f"final/{name}_usage" in wanted:
            np.testing.assert_allclose(rows.usage, wanted[f"final/{name}_usage"], atol=1e-4)
