"""`python evaluate.py` on folders of label maps: tables, files, the page of evidence, submissions."""

import csv
import json
import os
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

import evaluate
from tests.support.commands import assert_refused, files_in, held_elsewhere, run_apart, run_here
from tests.support.mots import write_sequence
from video.images import write_label_map

FRAMES = 6


def write_video(folder: Path, name: str, labels: np.ndarray) -> None:
    for t, label_map in enumerate(labels):
        write_label_map(folder / name / f"{t:05d}.png", label_map)


def moving(start: int) -> np.ndarray:
    """(T, 24, 32) label maps of two squares, one of which moves."""
    labels = np.zeros((FRAMES, 24, 32), dtype=np.uint8)
    for t in range(FRAMES):
        labels[t, 2:10, start + t : start + t + 8] = 1
        labels[t, 14:22, 20:28] = 2
    return labels


@pytest.fixture
def root(tmp_path) -> Path:
    """A DAVIS root of two videos with their frames."""
    for name, start in (("cat", 2), ("dog", 6)):
        write_video(tmp_path / "davis" / "Annotations" / "480p", name, moving(start))
        for t in range(FRAMES):
            path = tmp_path / "davis" / "JPEGImages" / "480p" / name / f"{t:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 24), "grey").save(path)
    (tmp_path / "davis" / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "davis" / "ImageSets" / "2017" / "val.txt").write_text("cat\ndog\n")
    return tmp_path / "davis"


@pytest.fixture
def results(tmp_path) -> Path:
    """Results that are the truth, but for the ids of `dog`, which are swapped in the last three frames."""
    swapped = moving(6)
    swapped[3:] = np.array([0, 2, 1], dtype=np.uint8)[swapped[3:]]
    write_video(tmp_path / "results", "cat", moving(2))
    write_video(tmp_path / "results", "dog", swapped)
    return tmp_path / "results"


@pytest.fixture
def flags(root, results) -> list[object]:
    return ["--results", results, "--annotations", root, "--num_workers", 0]


def test_the_truth_scores_100_and_the_report_is_written(root, tmp_path):
    flags = ["--results", root, "--annotations", root, "--num_workers", 0, "--json", tmp_path / "r.json"]
    outcome = run_here(evaluate.main, *flags)
    assert outcome.status == 0, outcome.err
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["overall"]["J&F"] == pytest.approx(100) and report["videos"].keys() == {"cat", "dog"}
    assert any(line.startswith("overall") and "100" in line for line in outcome.out)


def test_what_is_absent_or_foreign_is_refused(flags, results, tmp_path):
    (results / "dog" / "00003.png").unlink()
    assert_refused(run_here(evaluate.main, *flags), results / "dog" / "00003.png")
    assert_refused(run_here(evaluate.main, *flags, "--annotations", tmp_path / "none"), tmp_path / "none")
    assert_refused(run_here(evaluate.main, *flags, "--protocol", "coco"), "--protocol")
    assert_refused(run_here(evaluate.main, *flags, "--protocol", "mots", "--prompted"), "--prompted")
    names = [f"cat/{t:05d}.png" for t in range(6)] + [f"dog/{t:05d}.png" for t in (0, 1, 2, 4, 5)]
    assert files_in(results) == names


def test_the_table_and_the_csv_have_each_object_each_video_and_all(flags, tmp_path):
    outcome = run_here(evaluate.main, *flags, "--protocol", "davis", "--csv", tmp_path / "s.csv")
    assert outcome.status == 0, outcome.err
    assert [line.split()[0] for line in outcome.out] == ["J&F-Mean", "cat", "dog", "overall"]
    with open(tmp_path / "s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    places = [(row["video"], row["object"]) for row in rows]
    assert places == [
        *[("cat", ""), ("cat", "1"), ("cat", "2"), ("dog", ""), ("dog", "1"), ("dog", "2"), ("overall", "")]
    ]
    J = [float(row["J-Mean"]) for row in rows]
    assert J[:3] == [1, 1, 1] and J[3] == pytest.approx(0.5) and J[6] == pytest.approx(0.75)
    assert rows[1]["J&F-Mean"] == "" and float(rows[0]["J&F-Mean"]) == 1


@pytest.mark.parametrize("protocol", ["tcovis", "davis", "davis_unsupervised", "sav", "mots"])
def test_the_page_of_every_protocol_shows_the_switches(flags, tmp_path, protocol):
    page = tmp_path / "page.html"
    outcome = run_here(evaluate.main, *flags, "--protocol", protocol, "--explain", page)
    assert outcome.status == 0, outcome.err
    rows = {line.split()[0]: line.split()[1:] for line in outcome.out[1:] if line}
    assert all(any(cell[0].isdigit() for cell in rows[name]) for name in ("cat", "dog", "overall"))
    html = page.read_text()
    assert "ID switches" in html and "data:image/jpeg;base64," in html and "00003" in html
    assert "http://" not in html.replace("http://www.w3.org", "") and "https://" not in html


def test_two_results_are_compared_the_largest_difference_first(flags, root, tmp_path):
    flags += ["--protocol", "davis", "--against", root / "Annotations" / "480p"]
    outcome = run_here(evaluate.main, *flags, "--json", tmp_path / "s.json", "--explain", tmp_path / "e.html")
    assert outcome.status == 0, outcome.err
    heading = next(i for i, line in enumerate(outcome.out) if "difference" in line)
    assert [line.split()[0] for line in outcome.out[heading + 1 : heading + 3]] == ["dog", "cat"]
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["overall"]["J-Mean"] == pytest.approx(0.75)
    assert report["against"]["overall"]["J-Mean"] == 1
    assert "Comparison" in (tmp_path / "e.html").read_text()


def test_a_submission_is_packed_without_scores_unless_these_are_asked_for(flags, tmp_path):
    packed = tmp_path / "davis.zip"
    outcome = run_here(evaluate.main, *flags, "--protocol", "davis", "--submission", packed)
    assert outcome.status == 0, outcome.err
    assert len(outcome.out) == 1 and "2 videos, 12 frames" in outcome.out[0]
    with ZipFile(packed) as archive:
        assert archive.namelist() == [f"{name}/{t:05d}.png" for name in ("cat", "dog") for t in range(FRAMES)]
    both = [*flags, "--protocol", "davis", "--submission", tmp_path / "d", "--json", tmp_path / "s.json"]
    assert run_here(evaluate.main, *both).status == 0
    assert len(files_in(tmp_path / "d")) == 12
    assert json.loads((tmp_path / "s.json").read_text())["protocol"] == "davis"


def test_youtube_vos_prints_each_video_and_the_rule(flags, root, tmp_path):
    objects = {str(i): {"category": "cat", "frames": []} for i in (1, 2)}
    videos = {name: {"objects": objects} for name in ("cat", "dog")}
    (root / "meta.json").write_text(json.dumps({"videos": videos}))
    flags += ["--protocol", "youtube_vos", "--train_meta", root / "meta.json"]
    outcome = run_here(evaluate.main, *flags)
    assert outcome.status == 0, outcome.err
    names, cat, dog, overall, rule = (line.split() for line in outcome.out)
    assert dict(zip(names, cat[1:], strict=True))["J"] == "1.0000"
    assert dict(zip(names, dog[1:], strict=True))["J"] != "-"
    assert dict(zip(names, overall[1:], strict=True))["J_unseen"] == "-"
    assert rule[:2] == ["rule:", "the"]


def test_what_cannot_be_written_or_read_is_told_before_anything_is_scored(flags, tmp_path):
    flags += ["--protocol", "davis"]
    (tmp_path / "file").write_text("")
    for wrong in (
        ["--json", tmp_path],
        ["--csv", tmp_path / "file" / "s.csv"],
        ["--json", tmp_path / "s", "--csv", tmp_path / "s"],
        ["--against", tmp_path / "none"],
        ["--explain", tmp_path / "e.html", "--video_root", tmp_path / "none"],
    ):
        outcome = run_here(evaluate.main, *flags, *wrong)
        assert_refused(outcome, wrong[-1])
        assert outcome.out == []


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '[{"video_id": 1, "category_id": 1, "score": true, "segmentations": []}]', '{"a": 1}'],
)
def test_json_that_is_no_results_is_refused(tmp_path, content):
    truth = {"videos": [], "categories": [], "annotations": []}
    (tmp_path / "instances.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(content)
    flags = ["--results", tmp_path, "--annotations", tmp_path, "--protocol", "ytvis"]
    assert_refused(run_here(evaluate.main, *flags), tmp_path / "results.json")
    (tmp_path / "instances.json").write_text(json.dumps(truth | {"annotations": None}))
    (tmp_path / "results.json").write_text("[]")
    assert_refused(run_here(evaluate.main, *flags), tmp_path / "instances.json", "no true masks")


def test_warnings_are_told_and_change_nothing(flags, results, tmp_path):
    write_video(results, "horse", moving(2))
    outcome = run_here(evaluate.main, *flags, "--protocol", "sav", "--json", tmp_path / "s.json")
    assert outcome.status == 0
    assert [line for line in outcome.err if line.startswith("warning: ") and "horse" in line]
    assert json.loads((tmp_path / "s.json").read_text())["videos"].keys() == {"cat", "dog"}


def test_what_cannot_be_done_is_refused_and_nothing_is_written(flags, results, tmp_path):
    page = tmp_path / "page.html"
    assert_refused(run_here(evaluate.main, *flags, "--protocol", "ytvis", "--explain", page), "tools.convert")
    packing = [*flags, "--protocol", "sav", "--submission", tmp_path / "s.zip"]
    assert_refused(run_here(evaluate.main, *packing), "sav")
    (results / "dog" / "00004.png").unlink()
    packing = [*flags, "--protocol", "davis", "--submission", tmp_path / "s.zip"]
    assert_refused(run_here(evaluate.main, *packing), results / "dog" / "00004.png")
    everything = [*flags, "--protocol", "davis", "--explain", page, "--csv", tmp_path / "s.csv"]
    assert_refused(run_here(evaluate.main, *everything), results / "dog" / "00004.png")
    assert not page.exists() and not list(tmp_path.glob("s.*"))


@pytest.mark.parametrize("flag, name", [("--json", "s.json"), ("--csv", "s.csv"), ("--submission", "s.zip")])
def test_two_evaluations_do_not_write_one_file(flags, tmp_path, flag, name):
    command = [*flags, "--protocol", "davis", flag, tmp_path / "new" / name]
    (tmp_path / "new").mkdir()
    with held_elsewhere(tmp_path / "new" / f".{name}.lock"):
        assert_refused(run_here(evaluate.main, *command), name, "process 7 on a node")
    assert run_here(evaluate.main, *command).status == 0
    assert files_in(tmp_path / "new") == [name]


@pytest.mark.parametrize("protocol", ["tcovis", "davis_unsupervised"])
def test_other_protocols_refuse_sequences_of_mots_whose_regions_to_ignore_they_do_not_know(
    results, tmp_path, protocol
):
    write_sequence(tmp_path / "MOTS", "cat")
    flags = ["--results", results, "--annotations", tmp_path / "MOTS", "--protocol", protocol]
    assert_refused(run_here(evaluate.main, *flags), tmp_path / "MOTS", "--protocol mots")


@pytest.mark.parametrize("stdout, status, told", [(">/dev/full", 2, 1), ("| true", 141, 0), (">&-", 2, 1)])
def test_scores_that_nobody_is_shown_are_written_and_are_no_success(flags, tmp_path, stdout, status, told):
    report = tmp_path / "scores.json"
    shell = f'{{ "$@"; echo $? >&9; }} 9>&2 {stdout}'
    flags = [*flags, "--protocol", "davis", "--json", report]
    outcome = run_apart("evaluate.py", *flags, through=["bash", "-c", shell, "bash"])
    assert outcome.err[-1] == str(status) and len(outcome.err) == 1 + told
    assert all(line.startswith("standard output takes no more lines: ") for line in outcome.err[:-1])
    assert json.loads(report.read_text())["videos"].keys() == {"cat", "dog"}


@pytest.mark.parametrize("flag", ["--json", "--csv", "--explain"])
def test_no_report_takes_the_place_of_what_is_scored(flags, root, results, flag):
    (root / "notes.json").write_text("{}")
    for path in (results / "cat" / "00000.png", root / "Annotations/480p/dog/00001.png", root / "notes.json"):
        before = path.read_bytes()
        assert_refused(run_here(evaluate.main, *flags, flag, path), path, "not a report")
        assert path.read_bytes() == before
    link = results / "link.json"
    link.symlink_to(results / "cat" / "00000.png")
    assert_refused(run_here(evaluate.main, *flags, flag, link), "not a report")


@pytest.mark.parametrize("flag", ["--json", "--csv", "--explain"])
def test_a_report_among_the_results_is_replaced_by_the_next(flags, results, flag):
    for protocol in ("tcovis", "davis"):
        path = results / "report"
        assert run_here(evaluate.main, *flags, "--protocol", protocol, flag, path).status == 0
        assert evaluate.is_report(path)


def test_a_report_is_a_file_and_neither_a_pipe_nor_a_folder(flags, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/null"):
        assert_refused(run_here(evaluate.main, *flags, "--json", path), path, "cannot be written")


@pytest.mark.parametrize("number", ["-1", "257", "9" * 30])
def test_numbers_of_processes_out_of_range_are_refused(flags, number):
    assert_refused(run_here(evaluate.main, *flags, "--num_workers", number), "--num_workers", number[:20])


@pytest.mark.parametrize(
    "protocol, name",
    [
        ("tcovis", "results.json"),
        ("davis", "davis/ImageSets/2017/val.txt"),
        ("youtube_vos", "davis/meta.json"),
    ],
)
def test_a_pipe_among_the_files_to_read_is_refused(flags, results, tmp_path, protocol, name):
    if protocol == "tcovis":
        results.rename(tmp_path / "Annotations")
        flags = ["--results", tmp_path, *flags[2:]]
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    outcome = run_here(evaluate.main, *flags, "--protocol", protocol)
    assert_refused(outcome, tmp_path / name, "is a pipe, a device or a socket")
