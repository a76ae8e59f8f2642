"""The parts of SAM for tracking: attention without its bias, positions, the decoder, the network."""

import pytest
import torch

from benchmarks.sam import plain_attention
from common.errors import UserError
from systems.sam_track.attention import grid_attention, join_windows, partition
from systems.sam_track.image_encoder import ImageEncoder
from systems.sam_track.images import masks_on_grid, padding_on_grid
from systems.sam_track.mask_decoder import MaskDecoder
from systems.sam_track.modules import NOWHERE, SAMTrack, Templates
from systems.sam_track.start import start
from tests.support.sam_networks import SIZES, small_network


@pytest.mark.parametrize(("h", "w", "e", "rows"), [(5, 5, 8, 9), (4, 7, 6, 27), (8, 8, 5, 3), (1, 3, 4, 5)])
def test_attention_without_a_bias_is_the_plain_one(h, w, e, rows):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 6, h, w, e)
    tables = torch.randn(2, rows, e)
    torch.testing.assert_close(
        grid_attention(q, k, v, *tables), plain_attention(q, k, v, *tables), atol=1e-5, rtol=1e-5
    )


def test_what_was_seen_in_inference_first_can_be_trained_later():
    network = small_network(train_encoder=True)
    image = torch.randn(1, 3, 56, 56)  # a size that no other test uses
    with torch.inference_mode():
        network.encode(image)
    network.encode(image).sum().backward()
    assert network.image_encoder.blocks[1].attn.rel_pos_h.grad.any()


@pytest.mark.parametrize(("size", "window"), [((6, 6), 3), ((5, 7), 3), ((2, 2), 4)])
def test_windows_are_joined_to_what_they_were(size, window):
    x = torch.randn(2, *size, 5)
    windows, padded = partition(x, window)
    assert windows.shape[1:3] == (window, window) and all(side % window == 0 for side in padded)
    assert join_windows(windows, padded, size).equal(x)


@torch.no_grad()
def test_the_encoder_takes_other_sizes_than_its_own():
    encoder = small_network().image_encoder
    torch.manual_seed(1)
    assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, 16, 4, 4)
    for side in (16, 40, 64):
        embedding = encoder(torch.randn(1, 3, side, side))
        assert embedding.shape == (1, 16, side // 8, side // 8) and embedding.isfinite().all()


@pytest.mark.parametrize("window", [0, 4])
def test_a_window_of_the_whole_grid_is_global_attention(window):
    torch.manual_seed(0)
    encoder = ImageEncoder(32, 8, 16, 2, 2, window, (), 8)
    torch.manual_seed(0)
    other = ImageEncoder(32, 8, 16, 2, 2, 5, (0, 1), 8)
    other.load_state_dict(encoder.state_dict())
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(encoder(image), other(image))


@torch.no_grad()
def test_the_decoder_takes_many_images_each_with_its_prompt():
    torch.manual_seed(0)
    decoder = MaskDecoder(16, 2, 32, iou_hidden=8).eval()
    images, positions = torch.randn(3, 16, 4, 4), torch.randn(1, 16, 4, 4)
    sparse, dense = torch.randn(3, 2, 16), torch.randn(3, 16, 4, 4)
    masks, iou = decoder(images, positions, sparse, dense, multimask=True)
    assert masks.shape == (3, 3, 16, 16) and iou.shape == (3, 3)
    for i in range(3):
        one = slice(i, i + 1)
        alone, estimate = decoder(images[one], positions, sparse[one], dense[one], multimask=True)
        torch.testing.assert_close(masks[one], alone)
        torch.testing.assert_close(iou[one], estimate)
    single, _ = decoder(images, positions, sparse, dense)
    assert single.shape == (3, 1, 16, 16)


@torch.no_grad()
def test_one_image_has_many_objects():
    network = small_network()
    image, templates, masks = torch.randn(1, 16, 4, 4), torch.randn(3, 1, 16, 4, 4), torch.rand(3, 1, 4, 4)
    together, _ = network.track(image, templates, masks)
    apart = torch.cat([network.track(image, templates[i, None], masks[i, None])[0] for i in range(3)])
    torch.testing.assert_close(together, apart)


@torch.no_grad()
def test_the_same_template_twice_says_what_it_says_once():
    network = small_network()
    image, templates, masks = torch.randn(1, 16, 4, 4), torch.randn(2, 1, 16, 4, 4), torch.rand(2, 1, 4, 4)
    once, _ = network.track(image, templates, masks)
    twice, _ = network.track(image, templates.expand(-1, 2, -1, -1, -1), masks.expand(-1, 2, -1, -1))
    torch.testing.assert_close(once, twice, atol=1e-5, rtol=1e-5)


def test_masks_and_padding_on_the_grid():
    masks = torch.zeros(1, 16, 32)
    masks[0, :8, :4] = 1
    shares = masks_on_grid(masks, 32, 4)
    assert shares[0, 0].tolist() == [0.5, 0, 0, 0] and not shares[0, 1:].any()
    assert padding_on_grid((16, 32), 32, 4).tolist() == [[False] * 4] * 2 + [[True] * 4] * 2
    assert padding_on_grid((32, 20), 32, 4)[0].tolist() == [False, False, False, True]
    thin = torch.zeros(1, 640, 640)
    thin[0, :, 320] = 1
    assert (masks_on_grid(thin, 32, 4)[0].amax(1) > 0).all()  # what is thin does not vanish


# ------------------------------------------------------------------------------------------- the network


def video(B: int = 2, T: int = 2, size: tuple[int, int] = (32, 32), K: int = 1):
    torch.manual_seed(1)
    masks = torch.zeros(B, K, *size, dtype=torch.bool)
    masks[..., 4:20, 2:18] = True
    return torch.randn(B, T, 3, *size), masks


@torch.no_grad()
def test_frames_of_any_size_and_number_and_any_number_of_objects():
    network = small_network()
    sizes = ((3, (21, 50), 2), (1, (40, 30), 1), (2, (20, 45), 0), (2, (1, 90), 1), (2, (32, 32), 1))
    for T, size, K in sizes:
        frames, masks = video(2, T, size, K)
        outputs = network(frames, masks)
        assert outputs["probs"].shape == (2, T - 1, K, *size)
        assert outputs["logits"].shape == (2, T - 1, K, 16, 16)
        assert ((outputs["probs"] >= 0) & (outputs["probs"] <= 1)).all()
    assert network(frames)["probs"].shape == (2, 1, 0, 32, 32)  # no prompt


@torch.no_grad()
def test_certain_masks_stay_probabilities_at_every_size():
    network = small_network()
    for size in ((37, 53), (480, 854), (53, 29)):
        probs = network.to_frame(torch.full((1, 1, 16, 16), 60.0), size, 64)
        assert probs.max() == 1  # what rounding adds, the loss would refuse


@torch.no_grad()
def test_the_template_of_a_later_frame_is_what_was_found_in_the_one_before():
    network = small_network()
    frames, masks = video(T=3)
    outputs = network(frames, masks)["probs"]
    torch.testing.assert_close(network(frames[:, 1:], outputs[:, 0])["probs"], outputs[:, 1:])


@torch.no_grad()
def test_an_object_whose_template_is_empty_is_nowhere():
    network = small_network()
    frames, masks = video(K=2)
    alone = network(frames, masks[:, :1])["probs"]
    masks[:, 1] = False
    outputs = network(frames, masks)
    assert not outputs["probs"][:, :, 1].any() and (outputs["logits"][:, :, 1] == NOWHERE).all()
    torch.testing.assert_close(outputs["probs"][:, :, :1], alone)


@torch.no_grad()
def test_clips_of_different_sizes_in_a_batch_are_as_good_as_alone():
    network = small_network()
    (wide, wide_masks), (high, high_masks) = video(1, size=(24, 40)), video(1, size=(37, 21))
    frames, masks = torch.randn(2, 2, 3, 37, 40), torch.ones(2, 1, 37, 40, dtype=torch.bool)
    frames[0, ..., :24, :40], frames[1, ..., :21] = wide[0], high[0]
    masks[0, :, :24, :40], masks[1, ..., :21] = wide_masks[0], high_masks[0]
    probs = network(frames, Templates(masks, [(24, 40), (37, 21)], None))["probs"]
    torch.testing.assert_close(probs[:1, ..., :24, :40], network(wide, wide_masks)["probs"])
    torch.testing.assert_close(probs[1:, ..., :21], network(high, high_masks)["probs"])
    assert not probs[0, ..., 24:, :].any() and not probs[1, ..., 21:].any()


@torch.no_grad()
@pytest.mark.parametrize(
    "switch", [{"attn_pe": True}, {"attn_norm": True}, {"attn_padding": False}, {"interpolate": "logits"}]
)
def test_each_switch_of_the_network_changes_its_masks(switch):
    frames, masks = video(size=(20, 32))
    plain, switched = small_network(), small_network(**switch)
    switched.load_state_dict(plain.state_dict(), strict=False)
    assert not plain(frames, masks)["probs"].equal(switched(frames, masks)["probs"])


@torch.no_grad()
def test_what_is_in_the_padding_counts_only_where_it_is_read():
    """The template attention alone: the encoder sees the padding anyway."""
    image, templates, masks = torch.randn(1, 16, 4, 4), torch.randn(1, 1, 16, 4, 4), torch.rand(1, 1, 4, 4)
    other = templates.clone()
    other[..., 2:, :] += 1
    for read in (True, False):
        network = small_network(attn_padding=read)
        padding = network.padding([(16, 32)], 32, 4, 1)
        assert (padding is None) == read
        same = network.track(image, templates, masks, padding)[0].equal(
            network.track(image, other, masks, padding)[0]
        )
        assert same != read


@pytest.mark.parametrize("trained", [True, False])
def test_the_encoder_is_trained_only_where_it_is_asked_for(trained):
    network = small_network(train_encoder=trained).train()
    assert network.image_encoder.training == trained
    network(*video())["probs"].sum().backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None}
    assert any(name.startswith("image_encoder.") for name in with_gradient) == trained
    unused = ("mask_decoder.iou_prediction_head", "mask_decoder.output_hypernetworks_mlps.1")
    assert not any(name.startswith(unused) for name in with_gradient)
    added = {name for name in with_gradient if "template_" in name or "track_token" in name}
    assert len(added) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 30}, "--image_size 30 must be a multiple of 8"),
        ({"num_heads": 3}, "--embed_dim 16 must be a multiple of 3"),
        ({"decoder_heads": 3}, "--out_dim 16 must be a multiple of 6"),
        ({"out_dim": 12}, "--out_dim 12 must be a multiple of 8"),
        ({"global_blocks": "1,2"}, "--global_blocks 1,2: give places of the 2 blocks"),
        ({"global_blocks": "last"}, "--global_blocks last"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        small_network(**options)


def test_a_frozen_encoder_of_random_weights_is_refused():
    options = SAMTrack.Config(**SIZES)
    with pytest.raises(UserError, match="--load_network"):
        start(SAMTrack(options), options)
    options = SAMTrack.Config(**SIZES, train_encoder=True)
    start(SAMTrack(options), options)
