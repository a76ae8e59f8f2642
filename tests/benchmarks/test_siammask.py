"""The benchmark of SiamMask at tiny sizes: it runs, and refuses what it cannot measure."""

from benchmarks import siammask, siammask_templates
from common.checkpoint import save_checkpoint
from systems.siammask.tracker import SiamMaskTracker
from tests.support.commands import assert_refused, run_here
from tests.support.siammask_networks import small_network


def test_the_benchmark_prints_both_forms_and_several_objects(monkeypatch):
    monkeypatch.setattr(siammask, "RATIO_AIM", 99.0)  # of such sizes nothing is to be learned
    flags = (
        "--size 48 64 --objects 1 2 --frames 2 --threads 1 --backbone narrow --backbone_weights none".split()
    )
    outcome = run_here(siammask.main, *flags)
    assert (outcome.status, outcome.err) == (0, [])
    rows = [line.split() for line in outcome.out]
    assert [row[0] for row in rows if row and row[0] in siammask.FORMS] == list(siammask.FORMS)
    assert [row[0] for row in rows if row and row[0] in "12"] == ["1", "2"]


def test_boxes_stand_side_by_side_in_the_frame():
    boxes = siammask.boxes((100, 200), 4).boxes
    assert sorted(boxes) == [1, 2, 3, 4] and boxes[4] == (150, 25, 40, 50)


def test_no_frames_and_no_objects_are_refused():
    assert_refused(run_here(siammask.main, "--frames", 0), "--frames 0")
    assert_refused(run_here(siammask.main, "--objects", 1, 0), "--objects 0")


def test_renewed_templates_are_compared_with_the_first_ones(tmp_path):
    network, tracker = small_network(), SiamMaskTracker.Config()
    config = {"network": vars(network.config), "tracker": vars(tracker)}
    state = {"format": 1, "system": "siammask", "config": config, "model": network.state_dict(), "ema": None}
    save_checkpoint(tmp_path / "last.pth", state)
    flags = ["--checkpoint", tmp_path / "last.pth", "--videos", 1, "--frames", 3, "--update_every", 1]
    outcome = run_here(siammask_templates.main, *flags, "--update_score", 0, "--update_similarity", -1, 1)
    assert (outcome.status, outcome.err) == (0, [])
    starts = [line[:20].split() for line in outcome.out[-3:]]
    assert starts == [["first", "only"], ["1", "0.00", "-1.00"], ["1", "0.00", "1.00"]]
    first, renewed, kept = (line[20:] for line in outcome.out[-3:])
    assert first == kept and first != renewed  # nothing is quite like the first template
    assert_refused(run_here(siammask_templates.main, *flags, "--videos", 0), "--videos 0")
