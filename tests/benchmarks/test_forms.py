"""The benchmark of the forms of a network at a tiny size: it runs, and refuses what it cannot measure."""

from benchmarks import forms
from tests.support.commands import assert_refused, run_here


def test_the_benchmark_prints_a_row_of_each_system():
    outcome = run_here(forms.main, "--systems", "siammask", "--size", 32, 48, "--rounds", 1)
    assert (outcome.status, outcome.err) == (0, [])
    name, training, inference, ratio = outcome.out[-1].split()
    assert name == "siammask" and min(map(float, (training, inference, ratio))) > 0
    assert_refused(run_here(forms.main, "--rounds", 0), "--rounds")
