"""The benchmark of the forms of a network at a tiny size: it runs, and refuses what it cannot measure."""

from benchmarks import forms
from tests.support.commands import assert_refused, run_here


def test_the_benchmark_prints_a_row_of_each_system_and_layer(monkeypatch):
    monkeypatch.setattr(forms, "LAYERS", ((128, 130, 5, 7),))
    outcome = run_here(forms.main, "--systems", "siammask", "--size", 32, 48, "--rounds", 1, "--layers")
    assert (outcome.status, outcome.err) == (0, [])
    system, layer = (line.split() for line in (outcome.out[-4], outcome.out[-1]))
    assert system[0] == "siammask" and layer[:5] == "128 to 130 at 5x7".split()
    assert len(system) == 8 and min(map(float, system[1:])) > 0
    assert len(layer) == 8 and min(map(float, layer[5:])) > 0
    assert_refused(run_here(forms.main, "--rounds", 0), "--rounds")
