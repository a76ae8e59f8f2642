"""SAM and its extension against the official program: names, every tensor, losses, gradients, training."""

import json
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import main
from common.config import config_from_args
from common.types import Clip
from systems.sam_track.attention import partition, relative_positions
from systems.sam_track.criterion import SAMTrackCriterion
from systems.sam_track.images import (
    fit_long_side,
    masks_on_grid,
    prepare_frame,
    prepare_frames,
    resize_exactly,
    resize_smoothly,
    restore,
)
from systems.sam_track.modules import SAMTrack
from systems.sam_track.published import recognise
from tests.support.commands import ROOT
from tests.support.sam_golden import Numbers, clip, filled, frame_of, gauss, small_network
from tests.support.siammask_sam_golden import FOLDER, golden, needs_golden
from video.transforms import normalise

pytestmark = needs_golden


def outputs_of(modules: dict[str, torch.nn.Module], run) -> dict[str, Tensor]:
    """What each named module gives while `run()` runs."""
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: found.update({name: out}))
        for name, module in modules.items()
    ]
    run()
    for hook in hooks:
        hook.remove()
    return found


@pytest.fixture(scope="module")
def network() -> SAMTrack:
    """Small; nobody may change it."""
    return small_network("sam_encoder_small")


@pytest.mark.parametrize("model", ["vit_b", "vit_l", "vit_h"])
def test_names_and_shapes_of_the_defaults_and_of_the_presets_are_the_published_ones(model):
    flags = ["--system", "sam_track"] if model == "vit_b" else [f"@{ROOT / 'presets' / f'sam_{model}.txt'}"]
    config = config_from_args(SAMTrack.Config, main.parse_args(flags)[0])
    wanted = json.loads((FOLDER / f"keys_sam_{model}.json").read_text())
    with torch.device("meta"):
        own = SAMTrack(replace(config, prompt_encoder=True)).state_dict()
    added = ("mask_decoder.template_", "mask_decoder.track_token")
    own = {name: list(x.shape) for name, x in own.items() if not name.startswith(added)}
    assert own == wanted


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("vit_b", (768, 12, 12, "2,5,8,11")),
        ("vit_l", (1024, 24, 16, "5,11,17,23")),
        ("vit_h", (1280, 32, 16, "7,15,23,31")),
    ],
)
def test_the_sizes_of_a_published_file_are_read_from_its_weights(model, sizes):
    shapes = json.loads((FOLDER / f"keys_sam_{model}.json").read_text())
    published = recognise({name: torch.zeros(()).expand(shape) for name, shape in shapes.items()})
    found = SAMTrack.Config(**published.config["network"])
    wanted = dict(zip(("embed_dim", "depth", "num_heads", "global_blocks"), sizes, strict=True))
    assert found == SAMTrack.Config(**wanted, prompt_encoder=True)
    assert f"the published SAM {model}, 1024 pixels, {len(shapes)} entries" in published.description


@torch.no_grad()
def test_the_encoder_is_official_block_by_block(network):
    numbers = Numbers("sam_encoder_small")
    frame, encoder = frame_of(numbers), network.image_encoder
    image = prepare_frame(frame, 256)
    numbers.check("resized_u8", resize_exactly(frame, 256).permute(1, 2, 0))
    numbers.check("input", image)
    modules = {"patch": encoder.patch_embed, "embedding": encoder}
    modules |= {f"block{i}": block for i, block in enumerate(encoder.blocks)}
    modules |= {f"attn{i}": block.attn for i, block in enumerate(encoder.blocks)}
    for name, tensor in outputs_of(modules, lambda: encoder(image)).items():
        numbers.check(name, tensor)
    numbers.check("dense_pe", network.prompt_encoder.pe_layer(16, 16))


@torch.no_grad()
def test_relative_positions_are_official_at_other_and_unequal_sizes():
    numbers = Numbers("sam_encoder_small")
    seed = numbers.meta["S"] + 20
    for i, (q, k, length, channels) in enumerate(numbers.meta["relpos"]):
        numbers.check(f"relpos{i}", relative_positions(gauss(seed + i, (length, channels)), q, k))


@torch.no_grad()
def test_windows_are_official():
    numbers = Numbers("sam_encoder_small")
    windows, padded = partition(gauss(numbers.meta["S"] + 30, (2, 10, 13, 3)), 7)
    numbers.check("winpart", windows)
    assert list(padded) == numbers.arrays["winpart_hw"].tolist()


@torch.no_grad()
def test_norms_are_official_where_their_epsilon_counts(network):
    numbers = Numbers("sam_encoder_small")
    S, encoder = numbers.meta["S"], network.image_encoder
    for i in (0, 1):
        tiny = encoder.blocks[i](gauss(S + 31 + i, (1, 16, 16, 96), 1e-3))
        numbers.check(f"tiny_block{i}", tiny, 1e-4)
    numbers.check("tiny_neck", encoder.neck(gauss(S + 33, (1, 96, 16, 16), 1e-3)), 1e-4)
    image, tokens = gauss(S + 34, (1, 64, 16, 16), 1e-3), gauss(S + 35, (1, 6, 64), 1e-3)
    found, _ = network.mask_decoder.transformer(image, torch.zeros_like(image), tokens)
    numbers.check("tiny_two_way_tokens", found, 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", ["small", "full"])
def test_the_decoder_is_official(size):
    numbers = Numbers(f"sam_decoder_{size}")
    S, dim, g = (numbers.meta[name] for name in ("S", "dim", "grid"))
    options = {} if size == "full" else {"embed_dim": 96, "out_dim": 64, "decoder_mlp_dim": 128}
    options |= {"depth": 1, "num_heads": 4, "global_blocks": "0", "image_size": 16 * g}
    options |= {"iou_hidden": 64} if size == "small" else {}
    config = SAMTrack.Config(**{"embed_dim": 64} | options)
    network = filled(SAMTrack(config), "sam" if size == "full" else "sam_small")
    decoder, positions = network.mask_decoder, network.prompt_encoder.pe_layer(g, g)
    image = gauss(S + 40, (1, dim, g, g), 0.7)
    sparse, dense = gauss(S + 41, (2, 3, dim), 0.5), gauss(S + 42, (2, dim, g, g), 0.3)
    for name, given, multimask in (
        ("multi", (sparse, dense), True),
        ("single", (sparse, dense), False),
        ("nosparse", (sparse[:1, :0], dense[:1]), True),
    ):
        masks, iou = decoder(image, positions, *given, multimask=multimask)
        numbers.check(f"masks_{name}", masks)
        numbers.check(f"iou_{name}", iou)
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, sparse[0]])[None]
    tokens, keys = decoder.transformer(image + dense[:1], positions, tokens)
    numbers.check("transformer_tokens", tokens)
    numbers.check("transformer_keys", keys)
    numbers.check("dense_pe", positions)


@torch.no_grad()
def test_pixels_come_in_and_masks_go_out_as_published():
    numbers = Numbers("sam_prepost")
    meta, arrays = numbers.meta, numbers.arrays
    for side in (256, 1024):
        sizes = [fit_long_side(h, w, side) for h, w in meta["cases"]]
        assert sizes == list(map(tuple, arrays[f"shape_{side}"].tolist()))
    H, W = meta["clip_hw"]
    frame = torch.from_numpy(clip(meta["clip_seed"], frames=1, height=H, width=W)[0][0]).permute(2, 0, 1)
    numbers.check("resized_u8", resize_exactly(frame, 256).permute(1, 2, 0))
    numbers.check("input", prepare_frame(frame, 256))
    numbers.check("torch_resized", resize_smoothly(frame[None].float(), fit_long_side(H, W, 256)))
    h, w = meta["up_hw"]
    small = torch.from_numpy(clip(meta["up_seed"], frames=1, height=h, width=w)[0][0]).permute(2, 0, 1)
    numbers.check("up_u8", resize_exactly(small, 256).permute(1, 2, 0))
    g = meta["grid"]
    numbers.check("post", restore(gauss(meta["S"] + 50, (2, 3, 4 * g, 4 * g), 3.0), (H, W), 256))


@torch.no_grad()
def test_normalised_floats_are_prepared_as_the_published_pixels_are():
    numbers = Numbers("sam_prepost")
    H, W = numbers.meta["clip_hw"]
    frame = torch.from_numpy(clip(502, frames=1, height=H, width=W)[0][0]).permute(2, 0, 1)
    exact, smooth = prepare_frame(frame, 256), prepare_frames(normalise(frame)[None], 256)
    assert (exact - smooth).abs().max() < 1 / 255 / 0.224  # a grey level: Pillow rounds after each axis
    assert exact.shape == smooth.shape == (1, 3, 256, 256)


# ------------------------------------------------------------------------------------- the extension


class Pairs(NamedTuple):
    """The two pairs of the golden set: embeddings, masks of the templates and of the images."""

    images: Tensor
    templates: Tensor
    given: Tensor
    wanted: Tensor


def pairs_of(network: SAMTrack, meta: dict) -> Pairs:
    frames, labels = clip(meta["clip_seed"], frames=meta["clip_frames"])
    assert golden("make_inputs").crc(frames) == meta["clip_crc"]
    embeddings, masks = [], []
    for place in (1, 0):
        chosen = [pair[place] for pair in meta["pairs"]]
        images = [prepare_frame(torch.from_numpy(frames[t]).permute(2, 0, 1), 256) for t in chosen]
        embeddings.append(network.encode(torch.cat(images)))
        masks.append(torch.from_numpy(labels[chosen] == 1).float())
    return Pairs(*embeddings, given=masks[1], wanted=masks[0])


@pytest.fixture(scope="module")
def tracking() -> SAMTrack:
    """With gradients of the two pairs; nobody may change it."""
    return small_network("samtrack_small")


def clip_of(wanted: Tensor) -> Clip:
    """One clip of each pair, of which a criterion needs the label maps alone."""
    labels = torch.stack([torch.zeros_like(wanted), wanted], 1).to(torch.uint8)
    ids = torch.ones(len(wanted), 1, dtype=torch.int64)
    frames = torch.zeros(*labels.shape[:2], 3, 1, 1)
    return Clip(frames, labels, ids, torch.zeros_like(ids), names=[])


def losses_of(network: SAMTrack, pairs: Pairs, loss: str) -> Tensor:
    """The criterion's loss of the two pairs."""
    shares = masks_on_grid(pairs.given, 256, 16)
    logits, _ = network.track(pairs.images, pairs.templates[:, None], shares[:, None])
    probs = network.to_frame(logits, tuple(pairs.wanted.shape[-2:]), 256)
    criterion = SAMTrackCriterion(SAMTrackCriterion.Config(image_size=256, loss=loss))
    outputs = {"logits": logits[:, None], "probs": probs[:, None]}
    return criterion(outputs, clip_of(pairs.wanted))["ce"]


def test_the_extension_is_the_recorded_one_from_mask_to_probability(tracking):
    numbers = Numbers("samtrack_small")
    with torch.no_grad():
        pairs = pairs_of(tracking, numbers.meta)
        shares = masks_on_grid(pairs.given, 256, 16)
        numbers.check("grid_mask", shares[:, None])
        templates = pairs.templates[:, None]
        numbers.check("dense", tracking.mask_decoder.attend(pairs.images, templates, shares[:, None]))
        logits, iou = tracking.track(pairs.images, templates, shares[:, None])
        numbers.check("low_res", logits)
        numbers.check("iou", iou)
        numbers.check("prob", tracking.to_frame(logits, (240, 320), 256))


def test_both_losses_and_all_gradients_are_the_recorded_ones(tracking):
    numbers = Numbers("samtrack_small")
    pairs = pairs_of(tracking, numbers.meta)
    on_cells = losses_of(tracking, pairs, "logits")
    assert on_cells.item() == pytest.approx(float(numbers.arrays["bce_logits_lowres"]), rel=1e-5)
    loss = losses_of(tracking, pairs, "probs")
    assert loss.item() == pytest.approx(float(numbers.arrays["bce_prob"]), rel=1e-5)
    loss.backward()
    wanted = json.loads(str(numbers.arrays["grad_norms"]))
    found = {name: p.grad for name, p in tracking.named_parameters() if p.grad is not None}
    trained = {name for name, norm in wanted.items() if norm}
    assert trained == found.keys()
    largest = max(wanted.values())
    for name, gradient in found.items():
        # The bias of keys has no effect: its gradient is rounding error.
        assert gradient.norm().item() == pytest.approx(wanted[name], rel=1e-4, abs=1e-7 * largest), name
    assert all(p.grad is None for p in tracking.image_encoder.parameters())


def test_four_steps_of_adam_are_the_recorded_ones():
    numbers = Numbers("samtrack_small")
    network = small_network("samtrack_small")
    pairs = pairs_of(network, numbers.meta)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-4)
    losses = []
    for _ in range(4):
        loss = losses_of(network, pairs, "probs")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx(numbers.arrays["adam_losses"].tolist(), rel=1e-5)


def test_the_network_of_clips_gives_what_its_parts_give(tracking):
    """Frames come in as normalised floats, so that half a grey level is between the two ways."""
    numbers = Numbers("samtrack_small")
    frames, labels = clip(numbers.meta["clip_seed"], frames=numbers.meta["clip_frames"])
    chosen = torch.tensor(numbers.meta["pairs"])
    video = normalise(torch.from_numpy(frames).permute(0, 3, 1, 2))
    given = torch.from_numpy(labels)[chosen[:, 0]] == 1
    with torch.no_grad():
        outputs = tracking(video[chosen], given[:, None])
    numbers.check("prob", outputs["probs"][:, 0], 5e-3)
    assert outputs["logits"].shape == (2, 1, 1, 64, 64)


@pytest.mark.slow
@torch.no_grad()
def test_vit_b_of_full_size_is_official():
    numbers = Numbers("sam_vit_b")
    network = filled(SAMTrack(SAMTrack.Config()), "sam")
    image, encoder = prepare_frame(frame_of(numbers), 1024), network.image_encoder
    numbers.check("input", image)
    modules = {"patch": encoder.patch_embed, "embedding": encoder}
    modules |= {f"block{i}": encoder.blocks[i] for i in (0, 2, 11)}
    for name, tensor in outputs_of(modules, lambda: encoder(image)).items():
        numbers.check(name, tensor)
