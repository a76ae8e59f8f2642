"""The memory of XMem: consolidation, potentiation, eviction and their corners."""

import pytest
import torch

from systems.stcn.affinity import anisotropic_memory_terms, anisotropic_query_terms, keys_of_terms
from systems.xmem.memory import Elements, MemoryBank, prototypes_of

CELLS = 4
CONFIG = {"min_mid_term_frames": 2, "max_mid_term_frames": 4, "num_prototypes": 3}


def frame(number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Terms (4, 5), selection (4, 2) and values (4, 1) of a frame of four cells, all values its number."""
    generator = torch.Generator().manual_seed(number)
    key, selection = torch.randn(2, CELLS, generator=generator), torch.rand(CELLS, 2, generator=generator)
    terms = anisotropic_memory_terms(key, 1 + torch.rand(1, CELLS, generator=generator))
    return terms, selection, torch.full((CELLS, 1), float(number))


def bank_of(frames: int, **options) -> MemoryBank:
    """A memory that was read once between every two frames."""
    bank = MemoryBank(MemoryBank.Config(**{"max_long_term_elements": 10} | CONFIG | options))
    for number in range(frames):
        bank.add(*frame(number))
        bank.read(query(number), 5)
    return bank


def query(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100 + seed)
    key, selection = torch.randn(2, 6, generator=generator), torch.rand(2, 6, generator=generator)
    return anisotropic_query_terms(key, selection)


def test_the_first_and_the_latest_frames_stay_whole():
    bank = bank_of(4)
    assert bank.elements.values[bank.num_long_term :, 0].tolist() == [0] * 4 + [3] * 4
    assert (bank.num_long_term, bank.num_working) == (3, 8)
    values = bank.elements.values[:3]
    assert ((values > 1) & (values < 2)).all()  # of both frames that were given up


def test_without_long_term_memory_every_frame_stays():
    bank = bank_of(40, no_long_term=True)
    assert (bank.num_long_term, bank.num_working) == (0, 160)
    assert bank.elements.values[:, 0].tolist() == [n for n in range(40) for _ in range(CELLS)]


def test_reading_counts_use_and_life():
    bank = bank_of(2)
    assert bank.elements.life.tolist() == pytest.approx([2] * 4 + [1] * 4)
    assert bank.elements.use.sum().item() == pytest.approx(12, abs=1e-4)  # 6 cells, twice


def test_prototypes_are_what_was_read_most_and_their_values_a_mixture_worked_by_hand():
    terms, selection, _ = frame(7)
    values = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    candidates = Elements.unread(terms, selection, values)._replace(use=torch.tensor([3.0, 1.0, 9.0, 0.0]))
    prototypes = prototypes_of(candidates, 2)
    keys, shrinkage = keys_of_terms(terms)
    for row, chosen in enumerate((2, 0)):
        distance = (selection[chosen][:, None] * (keys - keys[:, chosen : chosen + 1]).square()).sum(0)
        weights = (-shrinkage[0] * distance / 2**0.5).softmax(0)
        value = (weights * values[:, 0]).sum().item()
        assert prototypes.values[row, 0].item() == pytest.approx(value, rel=1e-5)
        new_keys, new_shrinkage = keys_of_terms(prototypes.terms)
        assert new_shrinkage[0, row].item() == pytest.approx((weights * shrinkage[0]).sum().item(), rel=1e-5)
        torch.testing.assert_close(new_keys[:, row], keys[:, chosen])
    assert not prototypes.use.any() and prototypes.usage.tolist() == [0, 0]


def test_what_was_read_least_is_forgotten_and_of_equals_all():
    bank = bank_of(4)
    bank.elements.use[:3] = torch.tensor([3.0, 1.0, 2.0])
    bank.elements.life[:3] = 1.0
    first = bank.elements.values[:3].clone()
    bank._forget(2)
    assert bank.elements.values[: bank.num_long_term].equal(first[[0, 2]])
    bank.elements.use[:2] = 1.0
    bank._forget(1)
    assert bank.num_long_term == 0
    bank._forget(0)
    assert bank.num_long_term == 0 and bank.num_working == 8


def test_a_memory_that_is_just_full_is_left_alone():
    """Where the official program ends with an IndexError."""
    bank = bank_of(4)
    bank._forget(3)
    assert bank.num_long_term == 3


def test_the_oldest_are_forgotten_where_use_is_not_counted():
    bank = bank_of(6, enable_long_term_count_usage=False)
    assert bank.num_long_term == 6  # of two consolidations
    newest = bank.elements.values[:3].clone()
    bank._forget(5)
    assert bank.num_long_term == 3 and bank.elements.values[:3].equal(newest)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_kept_keeps_all_of_its_parts(seed):
    bank = bank_of(12, num_prototypes=4)
    torch.manual_seed(seed)
    bank.elements.use[: bank.num_long_term] = torch.rand(bank.num_long_term)
    former, working = bank.elements.rows(slice(0, bank.num_long_term)).copied(), bank.num_working
    bank._forget(5)
    kept = former.usage.argsort(descending=True)[:5]
    now = bank.elements.rows(slice(0, bank.num_long_term)).copied()
    order = now.usage.argsort(descending=True)
    assert bank.num_working == working
    assert all(mine[order].equal(its[kept]) for mine, its in zip(now, former, strict=True))


@pytest.mark.parametrize("most", [3, 4, 6, 10, 11, 50])
@pytest.mark.parametrize("count_usage", [True, False])
def test_the_bound_holds_for_ever(most, count_usage):
    bank = MemoryBank(
        MemoryBank.Config(**CONFIG, max_long_term_elements=most, enable_long_term_count_usage=count_usage)
    )
    for number in range(60):
        bank.add(*frame(number))
        assert bank.num_long_term <= most and bank.num_working < 4 * CELLS
        assert bank.read(query(number), 7).isfinite().all()
    assert bank.num_long_term >= min(most, 3)


def test_fewer_candidates_than_prototypes_all_become_some():
    bank = bank_of(4, num_prototypes=50, max_long_term_elements=50)
    assert bank.num_long_term == 2 * CELLS


def test_a_memory_goes_on_from_its_state():
    for frames in (2, 4, 13):
        bank = bank_of(frames)
        other = MemoryBank(bank.config)
        other.load_state_dict(bank.state_dict())
        for number in range(frames, frames + 9):
            assert other.read(query(number), 5).equal(bank.read(query(number), 5))
            bank.add(*frame(number))
            other.add(*frame(number))
        assert all(mine.equal(its) for mine, its in zip(bank.elements, other.elements, strict=True))
