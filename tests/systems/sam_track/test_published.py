"""The published files of SAM, of any size, are recognised by their keys and loaded strictly."""

import re
from pathlib import Path

import pytest
import torch

from common.checkpoint import save_checkpoint
from common.errors import UserError
from inference import load_network
from systems.sam_track.modules import SAMTrack
from systems.sam_track.published import recognise
from systems.sam_track.start import load_checkpoint, start
from systems.sam_track.tracker import SAMTracker
from tests.support.sam_networks import EXTENSION, SIZES, published, small_network

WHOLE = {"prompt_encoder": True, "decoder_heads": 8}  # as the published ones


def load(path: Path, content: object) -> tuple[SAMTrack, dict]:
    torch.save(content, path / "sam.pth")
    return load_network(path / "sam.pth")


def test_a_published_file_is_the_network_and_its_line_says_what_is_used(tmp_path, capsys):
    weights = published(small_network(prompt_encoder=True))
    network, config = load(tmp_path, weights)
    state = network.state_dict()
    assert all(state[name].equal(x) for name, x in weights.items())
    lacking = {name for name in state if name not in weights}
    assert len(lacking) == 7 and all(name.startswith(EXTENSION) for name in lacking)
    assert config["system"] == "sam_track" and config["tracker"] == vars(SAMTracker.Config())
    out = capsys.readouterr().out
    message = f"the published SAM 16 channels, 32 pixels, {len(weights)} entries"
    assert out.startswith(f"{tmp_path / 'sam.pth'}: {message}")
    assert "what tracking adds is not in it and is drawn at random" in out


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"image_size": 80, "patch_size": 4, "window_size": 7},
        {"depth": 5, "global_blocks": "0,3", "embed_dim": 24, "num_heads": 3, "mlp_ratio": 2.5},
        {"window_size": 0, "global_blocks": ""},
        {"global_blocks": "", "window_size": 2},
        {"out_dim": 48, "decoder_heads": 8, "decoder_mlp_dim": 20, "decoder_depth": 3},
        {"iou_hidden": 9, "iou_depth": 2, "num_multimask": 5},
    ],
)
def test_every_size_is_read_from_the_weights(tmp_path, options):
    torch.manual_seed(1)
    written = small_network(**WHOLE | options)
    network, _ = load(tmp_path, published(written))
    image = torch.randn(1, 3, written.config.image_size, written.config.image_size)
    with torch.no_grad():
        embedding = written.encode(image)
        torch.testing.assert_close(network.encode(image), embedding)
        grid = embedding.shape[-1]
        given = (embedding, written.prompt_encoder.pe_layer(grid, grid))
        given += (torch.randn(2, 3, embedding.shape[1]), torch.randn(2, *embedding.shape[1:]))
        for multimask in (True, False):
            result = network.mask_decoder(*given, multimask=multimask)
            torch.testing.assert_close(result, written.mask_decoder(*given, multimask=multimask))


@pytest.mark.parametrize(("depth", "places"), [(12, "2,5,8,11"), (2, "0,1")])
def test_a_grid_of_the_windows_size_has_the_published_global_blocks(tmp_path, depth, places):
    """At 224 pixels a window is the whole grid: what is global shows at other sizes only."""
    options = {"image_size": 56, "patch_size": 4, "window_size": 14, "depth": depth, "global_blocks": places}
    written = small_network(**options, **WHOLE)
    network, _ = load(tmp_path, published(written))
    image = torch.randn(1, 3, 80, 80)
    with torch.no_grad():
        torch.testing.assert_close(network.encode(image), written.encode(image))


def test_a_state_dict_with_the_extension_is_taken_as_it_is(tmp_path, capsys):
    weights = small_network(decoder_heads=8).state_dict()
    network, _ = load(tmp_path, weights)
    assert all(network.state_dict()[name].equal(x) for name, x in weights.items())
    assert "random" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_decoder.iou_token.weight": None}, r"1 missing \(mask_decoder.iou_token.weight\)"),
        ({"image_encoder.pos_embed": None}, r"missing \(image_encoder"),
        ({"prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": None}, "1 missing"),
        ({"image_encoder.patch_embed.proj.weight": torch.zeros(0)}, "of another shape"),
        ({"image_encoder.neck.0.weight": torch.tensor(1.0)}, "of another shape"),
        ({"image_encoder.neck.0.weight": torch.zeros(17, 16, 1, 1)}, "of another shape"),
        ({"more": torch.zeros(1)}, r"1 unexpected \(more\)"),
        ({"prompt_encoder.no_mask_embed.weight": None}, r"1 missing \(prompt_encoder.no_mask_embed.weight\)"),
        ({"prompt_encoder.more.weight": torch.zeros(1)}, r"1 unexpected \(prompt_encoder.more.weight\)"),
        ({"mask_decoder.iou_token.weight": torch.zeros(1, 3)}, r"of another shape \(mask_decoder.iou_token"),
        (
            {"image_encoder.neck.2.weight": torch.zeros(16, 16, 1, 1)},
            r"1 of another shape \(image_encoder.neck.2",
        ),
    ],
)
def test_what_does_not_fit_exactly_is_refused(tmp_path, change, message):
    weights = published(small_network(**WHOLE)) | change
    with pytest.raises(UserError, match=message):
        load(tmp_path, {name: x for name, x in weights.items() if x is not None})


def test_other_files_are_not_taken_for_sam():
    for content in ([1], {}, {"a": torch.zeros(1)}, torch.zeros(2), {"image_encoder.blocks.": 1}):
        assert recognise(content) is None


# ------------------------------------------------------------------------------------- other image sizes


@pytest.fixture
def path(tmp_path) -> Path:
    torch.save(published(small_network(**WHOLE)), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


def config(**options: object) -> SAMTrack.Config:
    return SAMTrack.Config(**SIZES | {"decoder_heads": 8, "embedding_cache": "none"} | options)


def started(options: SAMTrack.Config) -> SAMTrack:
    """A network of these options with the weights that a run begins with."""
    network = SAMTrack(options)
    start(network, options)
    return network


def test_training_starts_from_a_published_file(path, capsys):
    network = started(config(load_network=str(path)))
    weights = torch.load(path)
    assert network.state_dict()["image_encoder.pos_embed"].equal(weights["image_encoder.pos_embed"])
    assert "its prompt encoder is left out; --prompt_encoder keeps it" in capsys.readouterr().out


def test_training_keeps_the_prompt_encoder_as_it_is_where_it_is_asked_to(path, tmp_path, capsys):
    network = started(config(load_network=str(path), prompt_encoder=True))
    weights, state = torch.load(path), network.state_dict()
    assert all(state[name].equal(x) for name, x in weights.items())
    assert not any(x.requires_grad for x in network.prompt_encoder.parameters())
    assert "left out" not in capsys.readouterr().out
    torch.save(started(config(load_network=str(path))).state_dict(), tmp_path / "without.pth")
    with pytest.raises(UserError, match="add --prompt_encoder False"):
        started(config(load_network=str(tmp_path / "without.pth"), prompt_encoder=True))


def test_positions_are_interpolated_for_another_image_size_and_that_is_told(path, capsys):
    network = started(config(load_network=str(path), image_size=64))
    assert "positions of 32 pixels are interpolated for 64" in capsys.readouterr().out
    weights, state = torch.load(path), network.state_dict()
    assert state["image_encoder.pos_embed"].shape == (1, 8, 8, 16)
    assert state["image_encoder.blocks.1.attn.rel_pos_h"].shape == (15, 8)
    windowed = "image_encoder.blocks.0.attn.rel_pos_h"
    assert state[windowed].equal(weights[windowed])
    with torch.no_grad():  # what the network of the file itself makes of larger images
        image = torch.randn(1, 3, 64, 64)
        original, _ = load_network(path)
        torch.testing.assert_close(network.encode(image), original.encode(image))


def test_other_sizes_than_the_files_are_refused_with_the_flags_to_give(path):
    wide = config(embed_dim=32, window_size=4)
    network = SAMTrack(wide)
    message = re.escape(f"{path} has other sizes: add --embed_dim 16 --window_size 3")
    with pytest.raises(UserError, match=message):
        load_checkpoint(network, str(path))


def test_a_norm_that_the_file_lacks_begins_anew_and_one_that_it_has_is_kept(path, tmp_path):
    with_norm = started(config(load_network=str(path), attn_norm=True))
    assert with_norm.mask_decoder.template_norm.weight.eq(1).all()
    torch.save(with_norm.state_dict(), tmp_path / "normed.pth")
    with pytest.raises(UserError, match="add --attn_norm True"):
        started(config(load_network=str(tmp_path / "normed.pth")))


@pytest.mark.parametrize("of_old", [False, True])
def test_training_goes_on_from_a_checkpoint_of_ours_with_all_its_weights(of_old, tmp_path):
    written = small_network(seed=3)
    plain = {"network": dict(vars(written.config)), "tracker": vars(SAMTracker.Config())}
    if of_old:
        del plain["network"]["prompt_encoder"]
    state = {"format": 1, "system": "sam_track", "config": plain, "model": written.state_dict(), "ema": None}
    save_checkpoint(tmp_path / "last.pth", state)
    network = started(SAMTrack.Config(**vars(written.config) | {"load_network": str(tmp_path / "last.pth")}))
    assert all(network.state_dict()[name].equal(x) for name, x in written.state_dict().items())
