"""The loss of STCN: worked by hand, its warm-up, and what does not count."""

import pytest
import torch

from systems.stcn.criterion import STCNCriterion, bootstrapped_cross_entropy, hardest_share
from tests.support.clips import make_clip, perfect_logits, random_clip


@pytest.mark.parametrize(
    ("iteration", "share"),
    [(0, 1.0), (19_999, 1.0), (20_000, 1.0), (45_000, 0.575), (70_000, 0.15), (10**6, 0.15)],
)
def test_the_share_falls_from_all_to_the_least(iteration, share):
    assert hardest_share(iteration, 20_000, 70_000, 0.15) == pytest.approx(share)


def test_a_warm_up_of_no_length_is_a_step():
    assert [hardest_share(i, 5, 5, 0.5) for i in (4, 5, 6)] == [1.0, 0.5, 0.5]


def logits_of(losses: torch.Tensor) -> torch.Tensor:
    """(1, 2, H, W) logits whose cross-entropy with background is the given one in each pixel."""
    wrong = torch.expm1(losses).log()  # -log(1 / (1 + e^x)) = loss
    return torch.stack([torch.zeros_like(losses), wrong])[None]


def test_the_mean_is_over_the_hardest_pixels():
    losses = torch.tensor([[0.5, 4.0], [1.0, 2.5]])
    labels = torch.zeros(1, 2, 2, dtype=torch.uint8)
    for share, mean in ((1.0, 2.0), (0.75, 2.5), (0.5, 3.25), (0.49, 4.0)):
        loss = bootstrapped_cross_entropy(logits_of(losses), labels, [4], share)
        assert loss.tolist() == pytest.approx([mean], rel=1e-5)


def test_ignored_pixels_do_not_count_and_nothing_is_zero():
    losses = torch.tensor([[0.5, 4.0], [1.0, 2.5]])
    labels = torch.tensor([[[0, 255], [0, 255]]], dtype=torch.uint8)
    assert bootstrapped_cross_entropy(logits_of(losses), labels, [2], 1.0).item() == pytest.approx(0.75)
    assert bootstrapped_cross_entropy(logits_of(losses), labels, [2], 0.5).item() == pytest.approx(1.0)
    nothing = torch.full_like(labels, 255)
    assert [bootstrapped_cross_entropy(logits_of(losses), nothing, [0], s).item() for s in (1.0, 0.5)] == [
        0,
        0,
    ]


def test_the_perfect_answer_costs_nothing_and_any_other_does():
    clip = random_clip(3, slots=2)
    criterion = STCNCriterion(STCNCriterion.Config()).train()
    logits = perfect_logits(clip).requires_grad_()
    assert criterion({"logits": logits}, clip)["ce"].item() == pytest.approx(0, abs=1e-6)
    loss = criterion({"logits": -logits}, clip)["ce"]
    loss.backward()
    assert loss > 10 and logits.grad.isfinite().all() and logits.grad.any()


def test_slots_that_fill_the_batch_take_no_part():
    labels = torch.ones(1, 2, 4, 4, dtype=torch.uint8)
    logits = torch.randn(1, 1, 2, 4, 4)
    filled = torch.cat([logits, torch.full((1, 1, 1, 4, 4), 50.0)], 2)
    criterion = STCNCriterion(STCNCriterion.Config()).eval()
    plain = criterion({"logits": logits}, make_clip(labels))["ce"]
    padded = criterion({"logits": filled}, make_clip(labels, ids=torch.tensor([[1, 0]])))["ce"]
    assert plain.item() == pytest.approx(padded.item())


def test_training_counts_its_batches_and_evaluation_does_not():
    clip = random_clip(1, slots=1)
    outputs = {"logits": perfect_logits(clip) * 0.01}
    criterion = STCNCriterion(STCNCriterion.Config(start_warm=1, end_warm=3, top_p=0.2))
    shares = []
    for _ in range(4):
        criterion.train()(outputs, clip)
        shares.append(criterion.stats["optimiser/hardest_share"].item())
        criterion.eval()(outputs, clip)
        assert criterion.stats == {}
    assert shares == pytest.approx([1.0, 1.0, 0.6, 0.2])
    again = STCNCriterion(STCNCriterion.Config())
    again.load_state_dict(criterion.state_dict())
    assert again.iteration == 4
