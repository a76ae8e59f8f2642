"""SiamMask against the official program: every tensor, and whole runs of the tracker."""

import copy
import json

import numpy as np
import pytest
import torch

from common.backbone import for_inference
from common.types import Prompt
from systems.siammask.anchors import anchor_shapes, corners, make_anchors
from systems.siammask.backbones import centred, depthwise_correlation
from systems.siammask.crops import crop
from systems.siammask.modules import Kernels, Response
from systems.siammask.selection import cosine_window, object_scores
from systems.siammask.tracker import SiamMaskTracker
from tests.support.siammask_golden import (
    EXACT_WARP,
    as_frame,
    assert_official,
    clip,
    numbers,
    official_network,
)
from tests.support.siammask_sam_golden import FOLDER, golden, needs_golden

pytestmark = needs_golden
FILE = "components"
FRAME_SIZE = (240, 320)


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def stored_crop(name: str) -> torch.Tensor:
    return torch.from_numpy(numbers(FILE)[0][name])[None].float()


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return official_network().encode_template(stored_crop("z_crop"))[0]


@pytest.fixture(scope="module")
def response(kernels) -> Response:
    return official_network().search(kernels, stored_crop("x_crop"))


def test_names_and_shapes_are_the_published_ones():
    wanted = json.loads((FOLDER / "keys_siammask.json").read_text())
    assert {name: list(x.shape) for name, x in official_network().state_dict().items()} == wanted


def test_crops_are_official_to_the_last_pixel():
    meta = numbers(FILE)[1]
    frames, _ = clip(meta["clip_seed"], meta["clip_crc"])
    colour = frames[0].mean((0, 1))
    template = crop(frames[0], meta["target_pos"], 127, meta["s_z"], colour)
    search = crop(frames[1], meta["target_pos"], 255, meta["s_x"], colour)
    found = {"z_crop": template.transpose(2, 0, 1), "x_crop": search.transpose(2, 0, 1)}
    for place, (centre, size, side) in enumerate(meta["crops"]):
        found[f"crop{place}"] = crop(frames[0], centre, size, side, colour)
    assert_official(FILE, found)


def test_anchors_and_window_are_official():
    arrays, _ = numbers(FILE)
    around_origin = corners(torch.cat([torch.zeros(5, 2), anchor_shapes()], 1))
    window = cosine_window(25, torch.device("cpu"))
    training, small = make_anchors(25, 127), make_anchors(3, 71)
    found = {
        "anchor_base": around_origin,
        "anchors_track": make_anchors(25).flatten(0, 2),
        "anchors_train_center": training.permute(3, 0, 1, 2).double(),
        "anchors_train_corner": corners(training).permute(3, 0, 1, 2).double(),
        "anchors143_center": small.permute(3, 0, 1, 2).double(),
        "window": window,
    }
    assert_official(FILE, found, 1e-7)
    assert window.max() == arrays["window"].max()


def test_features_of_both_crops_are_official(kernels):
    found = {}
    for letter, name in (("z", "z_crop"), ("x", "x_crop")):
        levels = official_network().features.features(stored_crop(name))
        found |= {f"{letter}_p{i}": level for i, level in enumerate(levels)}
        found[f"{letter}f"] = official_network().features.downsample(levels[-1])
    assert_official(FILE, found | {"cls_kernel": kernels.cls, "loc_kernel": kernels.loc})


def test_correlations_and_branches_are_official(kernels, response):
    meta, gauss = numbers(FILE)[1], golden("make_inputs").gauss
    image, kernel = (torch.from_numpy(gauss(*meta[name])) for name in ("xcorr_x", "xcorr_k"))
    network = official_network()
    features, _ = network.features(stored_crop("x_crop"))
    rpn = {
        f"{name}_corr": network.rpn_model[name].correlate(getattr(kernels, name), features)
        for name in ("cls", "loc")
    }
    found = {
        "xcorr": depthwise_correlation(image, kernel),
        "rpn_cls": response.cls,
        "rpn_loc": response.loc,
        "mask_corr": response.row,
        "mask63": network.coarse_masks(response.row),
        "score": object_scores(response.cls)[0],
    }
    assert_official(FILE, found | rpn)


def test_masks_of_chosen_responses_are_official(response):
    network, meta = official_network(), numbers(FILE)[1]
    found = {"mask63_12_12": network.masks_at(response, torch.tensor([[12, 12]]), refined=False)[0]}
    for y, x in meta["refine_pos"]:
        found[f"refine_{y}_{x}"] = network.masks_at(response, torch.tensor([[y, x]]), refined=True)[0]
    assert_official(FILE, found)


def test_the_training_path_of_the_refinement_is_official(kernels):
    network, search = official_network(), stored_crop("x143_crop")
    frames = torch.stack([centred(stored_crop("z_crop"), 143), search], 1)
    response = network.search(kernels, search)
    found = {
        "x143_xf": network.features(search)[0],
        "x143_corr": response.row,
        "x143_cls": response.cls,
        "x143_loc": response.loc,
        "x143_refine": network(frames)["refined"].flatten(0, 2),
    }
    assert_official(FILE, found)


# ------------------------------------------------------------------------------------------------- whole runs


NAMES = {
    "penalty_k": "penalty_k",
    "window_influence": "window_influence",
    "lr": "size_lr",
    "seg_thr": "seg_thr",
}


def play(kind: str, *, fast: bool, most: int | None = None) -> None:
    """Run the tracker as the official program was run, and compare every frame, or the first `most`."""
    arrays, meta = numbers(f"loop_{kind}")
    frames, _ = clip(meta["seed"], meta["clip_crc"], meta["frames"])
    options = {ours: meta["hp"][theirs] for theirs, ours in NAMES.items() if theirs in meta["hp"]}
    form = "box" if not meta["mask"] else "best" if meta["refine"] else "coarse"
    config = SiamMaskTracker.Config(**options, mask_form=form)
    network = for_inference(copy.deepcopy(official_network())) if fast else official_network()
    tracker = SiamMaskTracker(network, config)
    tracker.step(as_frame(frames[0]), Prompt(boxes={1: tuple(arrays["init"].tolist())}))
    for t in range(len(arrays["pos"]))[:most]:
        tracks = tracker.step(as_frame(frames[t + 1]))
        (one,) = tracker.targets
        assert one.centre == pytest.approx(arrays["pos"][t], abs=1e-3)
        assert one.size == pytest.approx(arrays["sz"][t], abs=1e-3)
        assert tracks.scores[0].item() == pytest.approx(arrays["score"][t], abs=1e-4)
        if meta["mask"]:
            mask = tracks.masks[0].numpy()
            official = np.unpackbits(arrays["bits"][t]).reshape(FRAME_SIZE).astype(bool)
            inside = mask > config.seg_thr
            if EXACT_WARP:
                assert (inside != official).sum() <= 5
                assert np.abs(mask[::6, ::8] - arrays["soft"][t].clip(0, 1)).max() < 1e-3
                assert_same_corners(tracks.boxes[0].numpy(), arrays["poly"][t])
            else:
                assert (inside & official).sum() >= 0.97 * (inside | official).sum()


def assert_same_corners(found: np.ndarray, official: np.ndarray) -> None:
    """The order of the corners, and where it starts, differs between releases of OpenCV."""
    distances = np.linalg.norm(found[:, None] - official[None], axis=-1)
    assert distances.min(0).max() < 0.5 and distances.min(1).max() < 0.5


@pytest.mark.parametrize("kind", ["davis", "vot", "mask63", "box", "empty"])
@pytest.mark.parametrize("most", [4, pytest.param(None, marks=pytest.mark.slow)], ids=["first", "all"])
def test_runs_are_official_by_a_network_made_fast_for_inference(kind, most):
    play(kind, fast=True, most=most)


def test_a_run_is_official_by_a_network_as_it_is_trained():
    play("empty", fast=False)
