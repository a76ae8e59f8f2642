"""What a search over flags draws is in its lists and ranges."""

import sys

import pytest

from common.errors import MissingPackage, UserError
from tuning.space import Choice, Grid, Optuna, Random, Range, parse_space


def test_lists_and_ranges_are_read():
    space = parse_space(
        ["num_tokens=10,20", "--lr_head=1e-5..1e-3:log", "w_dice=1..5", "paste_probability=0.0..0.5"]
    )
    assert space == {
        "num_tokens": Choice(["10", "20"]),
        "lr_head": Range(1e-5, 1e-3, is_log=True, is_whole=False),
        "w_dice": Range(1, 5, is_log=False, is_whole=True),
        "paste_probability": Range(0, 0.5, is_log=False, is_whole=False),
    }


@pytest.mark.parametrize(
    "text", ["lr", "lr=", "=1,2", "lr=2..1", "lr=0..1:log", "lr=1..2:cubic", "lr=a..b", "lr=1..nan"]
)
def test_what_is_no_list_and_no_range_is_refused(text):
    with pytest.raises(UserError, match=rf"--vary {text} .*give NAME=A,B,C or"):
        parse_space([text])


def test_a_flag_is_varied_once():
    with pytest.raises(UserError, match="twice"):
        parse_space(["lr=1,2", "lr=3,4"])


def test_a_grid_has_every_combination_once_and_ends():
    grid = Grid(parse_space(["a=1,2", "b=x,y"]))
    asked = [grid.ask() for _ in range(5)]
    assert asked == [{"a": a, "b": b} for a in "12" for b in "xy"] + [None]
    with pytest.raises(UserError, match="--method grid takes lists, and lr has a range"):
        Grid(parse_space(["lr=1..2"]))


def test_draws_are_within_their_ranges_and_the_same_for_a_seed():
    space = parse_space(["a=1,2", "lr=1e-5..1e-3:log", "n=3..5", "p=0.2..0.4"])
    draws = [
        [sampler.ask() for _ in range(300)]
        for sampler in (Random(space, 1), Random(space, 1), Random(space, 2))
    ]
    assert draws[0] == draws[1] != draws[2]
    rates = [float(flags["lr"]) for flags in draws[0]]
    assert all(1e-5 <= rate <= 1e-3 for rate in rates)
    assert sum(rate < 1e-4 for rate in rates) == pytest.approx(150, abs=35)  # half are below the middle
    assert {flags["a"] for flags in draws[0]} == {"1", "2"}
    assert {flags["n"] for flags in draws[0]} == {"3", "4", "5"}
    assert all(0.2 <= float(flags["p"]) <= 0.4 for flags in draws[0])


def test_optuna_that_is_not_installed_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackage, match=r"--method optuna needs optuna.*pip install optuna"):
        Optuna(parse_space(["lr=1..2"]))


def test_optuna_learns_from_scores_and_takes_failures():
    pytest.importorskip("optuna")
    sampler = Optuna(parse_space(["a=1,2", "lr=1e-5..1e-3:log", "n=3..5", "p=0.0..1.0"]))
    draws = []
    for number in range(40):
        draws.append(float((flags := sampler.ask())["p"]))
        assert flags["a"] in "12" and flags["n"] in "345" and 1e-5 <= float(flags["lr"]) <= 1e-3
        sampler.tell(None if number == 3 else -abs(draws[-1] - 0.8))
    assert sum(abs(p - 0.8) for p in draws[-10:]) < sum(abs(p - 0.8) for p in draws[:10])
