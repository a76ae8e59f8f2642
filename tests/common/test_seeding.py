import pytest
import torch

from common.seeding import mix, seeded


def draw(*numbers: int) -> list[float]:
    with seeded(*numbers):
        return torch.rand(3).tolist()


def test_draws_depend_on_the_numbers_alone():
    torch.manual_seed(5)
    first = draw(1, 2, 3)
    torch.rand(10)
    assert draw(1, 2, 3) == first
    assert draw(1, 2, 4) != first and draw(3, 2, 1) != first


def test_the_generator_outside_goes_on_as_if_nothing_had_happened_even_after_an_exception():
    torch.manual_seed(0)
    expected = torch.rand(4).tolist()
    torch.manual_seed(0)
    found = torch.rand(2).tolist()
    with pytest.raises(ZeroDivisionError), seeded(7):
        torch.rand(100)
        raise ZeroDivisionError
    assert found + torch.rand(2).tolist() == expected


def test_near_numbers_give_different_seeds_that_fit_63_bits():
    seeds = [mix(a, b, c) for a in range(6) for b in range(6) for c in range(6)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix(0) == mix(0) != mix(0, 1)
