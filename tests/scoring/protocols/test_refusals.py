"""What a user gets wrong, protocol by protocol, at the command: one line that names the file, status 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluate
from tests.support.commands import Outcome, assert_refused, run_here
from tests.support.label_folders import boxes, tracks_of, truth_json, write, youtube_roots

MAPS = [boxes(o1=2), boxes(o1=3), boxes(o1=4)]
FOLDER_CASES = {
    "tcovis": [],
    "davis": [],
    "davis_unsupervised": [],
    "davis_unsupervised trackeval": ["--definition", "trackeval"],
    "sav": ["--skip_first_and_last", "false"],
    "youtube_vos": [],
    "mots": [],
    "mots mots_tools": ["--definition", "mots_tools"],
}


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Results and annotations of the video "cat", which every protocol for folders takes."""
    results, annotations = youtube_roots(tmp_path, MAPS, MAPS, {1: "ape"})
    (results / "results.json").write_text("[]")
    return results / "Annotations" / "cat", annotations / "Annotations" / "cat"


def run(results: Path, annotations: Path, protocol: str, *flags: object) -> Outcome:
    """The command in this process; a refusal leaves no report."""
    report = results.parent / "report.json"
    paths = "--results", results, "--annotations", annotations, "--json", report
    outcome = run_here(evaluate.main, *paths, "--protocol", protocol, "--num_workers", 0, *flags)
    assert report.is_file() == (outcome.status == 0)
    return outcome


def run_case(case: str, folders: tuple[Path, Path]) -> Outcome:
    results, annotations = (folder.parents[1] for folder in folders)
    return run(results, annotations, case.split()[0], *FOLDER_CASES[case])


def report_of(folders: tuple[Path, Path]) -> dict:
    return json.loads((folders[0].parents[2] / "report.json").read_text())


def cut(path: Path) -> None:
    """Leave half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def remove(path: Path) -> None:
    path.unlink()


def enlarge(path: Path) -> None:
    Image.fromarray(np.ones((21, 30), dtype=np.uint8)).save(path)


def colour(path: Path) -> None:
    Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("case", FOLDER_CASES)
def test_good_folders_are_scored_without_a_warning(folders, case):
    assert run_case(case, folders).status == 0
    assert report_of(folders)["warnings"] == []


@pytest.mark.parametrize("case", FOLDER_CASES)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [(remove, "is missing"), (enlarge, "30x21"), (colour, "RGB"), (cut, "corrupt or cut short")],
)
def test_a_bad_result_is_named(folders, case, spoil: Callable[[Path], None], message):
    path = folders[0] / "00001.png"
    spoil(path)
    assert_refused(run_case(case, folders), path, message)


@pytest.mark.parametrize("case", FOLDER_CASES)
@pytest.mark.parametrize("spoil", [colour, cut])
def test_a_bad_true_mask_is_named(folders, case, spoil):
    path = folders[1] / "00001.png"
    spoil(path)
    assert_refused(run_case(case, folders), path)


@pytest.mark.parametrize("case", FOLDER_CASES)
def test_a_video_without_results_is_named_and_one_without_truth_warned_of(folders, case):
    results, truth = folders
    write(results.parent / "dog", MAPS)
    (results.parent / "notes").mkdir()
    assert run_case(case, folders).status == 0
    line = f"{results.parent / 'dog'} is not scored: there are no true masks of dog"
    assert report_of(folders)["warnings"] == [line]
    (results.parents[1].parent / "report.json").unlink()
    write(truth.parent / "eel", MAPS)
    assert_refused(run_case(case, folders), f"there is no folder {results.parent / 'eel'}")


@pytest.mark.parametrize("case", FOLDER_CASES)
def test_folders_that_are_empty_absent_or_files_are_named(folders, case, tmp_path):
    results, truth = folders
    for path in truth.iterdir():
        path.unlink()
    assert_refused(run_case(case, folders), truth, "holds no .png label maps")
    truth.rmdir()
    assert_refused(run_case(case, folders), truth.parent, "holds no videos")
    shutil.rmtree(results.parents[1])
    assert_refused(run_case(case, folders), results.parents[1], "there is no folder")
    results.parents[1].write_text("")
    assert_refused(run_case(case, folders), results.parents[1], "is a file")


@pytest.mark.parametrize("case", FOLDER_CASES)
def test_an_id_that_the_truth_lacks_is_refused_ignored_or_counts(folders, case):
    write(folders[0], [boxes(o1=2, o21=20)] * 3)
    outcome = run_case(case, folders)
    if case in ("davis", "davis_unsupervised"):
        first = 1 if case == "davis" else 0  # DAVIS does not look at the first frame of a task by id
        assert_refused(outcome, folders[0] / f"{first:05d}.png", "has the id 21")
        return
    assert outcome.status == 0
    warned = {"sav": "SA-V ignores id 21", "youtube_vos": "YouTube-VOS ignores id 21"}
    assert [warned[case] in line for line in report_of(folders)["warnings"]] == [True] * (case in warned)


def test_a_mistake_that_a_worker_finds_is_told_as_any_other(folders):
    results, truth = folders
    for name in ("dog", "eel"):
        write(results.parent / name, MAPS[:2] if name == "eel" else MAPS)
        write(truth.parent / name, MAPS)
    outcome = run(results.parent, truth.parent, "mots", "--num_workers", 2)
    assert_refused(outcome, results.parent / "eel" / "00002.png", "is missing")


# ----------------------------------------------------------------------------------------------------
# YouTube-VIS


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """results.json and instances.json of one video."""
    pytest.importorskip("pycocotools")
    paths = tmp_path / "results.json", tmp_path / "instances.json"
    for path, content in zip(
        paths, (tracks_of(MAPS, 1), truth_json(tracks_of(MAPS, 1), {1: 3})), strict=True
    ):
        path.write_text(json.dumps(content))
    return paths


def run_ytvis(*paths: Path) -> Outcome:
    return run(*paths, "ytvis", "--tracking", "true")


def test_good_files_are_scored_without_a_warning(files):
    assert run_ytvis(*files).status == 0
    report = json.loads((files[0].parent / "report.json").read_text())
    assert report["warnings"] == [] and report["tracking"].keys() > {"cls_comb_det_av"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a JSON file"),
        ("[{", "not a JSON file"),
        ("\udcff", "neither in UTF-8"),
        ("{}", "must be a list"),
        ('{"annotations": []}', "must be a list"),
        ("3", "must be a list"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1.0, "category_id": 1}]', "result 0 must have"),
        (json.dumps(tracks_of(MAPS, 8)), "video 8"),
        (json.dumps(tracks_of(MAPS, 1, category=5)), "category 5"),
        (json.dumps(tracks_of(MAPS[:2], 1)), "must have 3 segmentations"),
        (json.dumps(tracks_of([np.pad(labels, 2) for labels in MAPS], 1)), "the size [24, 34]"),
    ],
)
def test_a_file_that_is_not_results_of_these_videos_is_named(files, text, message):
    files[0].write_text(text, encoding="utf-8", errors="surrogateescape")
    assert_refused(run_ytvis(*files), files[0], message)


@pytest.mark.parametrize("text", ["[]", "{}", "[{", '{"videos": [], "categories": []}'])
def test_a_file_that_is_not_annotations_is_named(files, text):
    files[1].write_text(text)
    assert_refused(run_ytvis(*files), files[1])


def test_a_file_that_is_absent_is_named(files, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(run_ytvis(tmp_path / "none.json", files[1]), tmp_path / "none.json", "there is no file")
    assert_refused(run_ytvis(tmp_path / "empty", files[1]), tmp_path / "empty" / "results.json")
    assert_refused(run_ytvis(files[0], tmp_path / "empty"), tmp_path / "empty" / "instances.json")
