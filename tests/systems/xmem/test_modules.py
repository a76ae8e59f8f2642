"""The parts of XMem: sensory memory, references of training, affinity, options."""

import pytest
import torch
import torch.nn.functional as F

from common.errors import UserError
from systems.stcn.affinity import anisotropic_memory_terms, anisotropic_query_terms, keys_of_terms, similarity
from systems.xmem.blocks import HiddenGate, HiddenReinforcer
from systems.xmem.modules import XMem
from tests.support.xmem_networks import small_network


def test_the_anisotropic_similarity_is_worked_by_hand():
    memory, query = torch.tensor([[1.0], [2.0], [0.0], [3.0]]), torch.tensor([[3.0], [1.0], [0.0], [3.0]])
    selection = torch.tensor([[0.5], [1.0], [0.25], [1.0]])
    result = similarity(
        anisotropic_query_terms(query, selection), anisotropic_memory_terms(memory, torch.tensor([[1.5]]))
    )
    # -1.5 / sqrt(4) * (0.5 * 4 + 1 * 1)
    assert result.item() == pytest.approx(-2.25)


def test_keys_and_shrinkage_are_found_again_in_their_terms():
    key, shrinkage = torch.randn(5, 7), 1 + torch.rand(1, 7)
    result = keys_of_terms(anisotropic_memory_terms(key, shrinkage))
    torch.testing.assert_close(result, (key, shrinkage))


def test_the_gate_is_worked_by_hand():
    gate = HiddenGate(1, 1)
    torch.nn.init.zeros_(gate.transform.weight)
    gate.transform.bias.data = torch.tensor([0.0, 1.0, 2.0])  # forget, update, candidate
    result = gate.update(torch.zeros(1, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 0.8))
    update, candidate = torch.tensor(1.0).sigmoid(), torch.tensor(2.0).tanh()
    assert result.item() == pytest.approx((0.5 * 0.8 * (1 - update) + update * candidate).item(), rel=1e-6)


def test_a_hidden_state_stays_within_one():
    reinforcer, hidden = HiddenReinforcer(4, 3), torch.zeros(2, 3, 3, 5, 5)
    for _ in range(20):
        hidden = reinforcer(torch.randn(2, 3, 4, 5, 5) * 30, hidden)
    assert hidden.abs().max() <= 1 and hidden.dtype == torch.float32


def test_without_sensory_memory_there_is_no_gate():
    network = small_network(hidden_dim=0)
    assert not [name for name in network.state_dict() if "hidden" in name]
    outputs = network(torch.randn(1, 3, 3, 32, 32), torch.rand(1, 2, 32, 32))
    assert outputs["logits"].shape == (1, 2, 3, 32, 32)


def test_an_object_without_a_pixel_in_the_prompt_is_nowhere():
    prompt = torch.zeros(1, 2, 32, 32)
    prompt[:, 0, 4:20, 4:20] = 1
    probs = small_network()(torch.randn(1, 3, 3, 32, 32), prompt)["logits"].softmax(2)
    assert probs[:, :, 2].max() < 1e-6 and probs[:, :, 1].max() > 1e-3


def test_a_frame_of_training_reads_the_first_and_others_before_it():
    network = small_network(num_ref_frames=3).train()
    for t in range(1, 9):
        chosen = network._draw_references(50, t)
        assert chosen.shape == (50, min(t, 3)) and chosen.max() < t and not chosen[:, 0].any()
        assert all(len(set(row)) == len(row) for row in chosen.tolist())
    assert {tuple(sorted(row[1:])) for row in chosen.tolist()} > {(1, 2)}
    assert network.eval()._draw_references(1, 8).tolist() == [[0, 6, 7]]


def test_deep_updates_are_drawn_in_training_and_always_done_after_the_first_frame():
    network = small_network(deep_update_prob=0.5).train()
    drawn = torch.tensor([network._draw_deep_updates(7) for _ in range(200)]).float()
    assert drawn[:, 0].all() and 0.4 < drawn[:, 1:].mean() < 0.6
    assert network.eval()._draw_deep_updates(4) == [True, False, False, False]


def test_only_the_chosen_frames_are_read():
    network = small_network(hidden_dim=0, num_ref_frames=1)  # the first alone
    frames, prompt = torch.randn(1, 5, 3, 32, 32), torch.rand(1, 1, 32, 32)
    other = frames.clone()
    other[:, 2] = torch.randn(1, 3, 32, 32)
    result, expected = (network(x, prompt)["logits"] for x in (other, frames))
    same = [torch.allclose(result[:, t], expected[:, t], atol=1e-5) for t in range(4)]  # of frames 1 to 4
    assert same == [True, False, True, True]


def test_batch_norm_is_frozen_and_sizes_are_checked():
    network = XMem(XMem.Config()).train()
    assert not network.key_encoder.bn1.training and not network.value_encoder.layer1[0].bn1.training
    assert network.value_encoder.conv1.bias is None
    with pytest.raises(ValueError, match="30x32"):
        small_network().encode_key(torch.zeros(1, 3, 30, 32))
    with pytest.raises(UserError, match="--decoder_dim 24"):
        small_network(decoder_dim=24)


def test_area_downsampling_is_that_of_interpolation():
    x = torch.randn(2, 3, 8, 12)
    torch.testing.assert_close(F.avg_pool2d(x, 4), F.interpolate(x, (2, 3), mode="area"))
