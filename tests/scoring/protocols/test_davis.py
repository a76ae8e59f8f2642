"""DAVIS with objects given or not: the rules by hand, the official quirks, and TrackEval on random videos."""

import json
import re

import numpy as np
import pytest

from common.errors import UserError
from scoring.protocols.davis import DAVIS_NAMES, davis, davis_unsupervised, listed_sequences
from tests.support.label_folders import NOTHING, blobs, boxes, roots, write


def test_davis_leaves_out_the_first_and_the_last_frame_and_objects_that_come_later(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o2=20), boxes(o1=2, o2=20), boxes(o1=2)]
    results = [NOTHING, boxes(o1=2), NOTHING, NOTHING]
    report = davis(*roots(tmp_path, truth, results))
    assert report["videos"]["cat"]["objects"].keys() == {"1"}
    assert report["overall"]["J-Mean"] == report["overall"]["J&F-Mean"] == 0.5
    assert report["warnings"] == [
        f"{tmp_path}/truth/cat: DAVIS never scores id 2, above the highest of the first mask (1)"
    ]


@pytest.mark.parametrize("protocol", [davis, davis_unsupervised])
def test_the_names_are_the_official_ones(tmp_path, protocol):
    report = protocol(*roots(tmp_path, [boxes(o1=2)] * 3, [boxes(o1=2)] * 3))
    names = "J&F-Mean J-Mean J-Recall J-Decay F-Mean F-Recall F-Decay".split()
    assert list(report["overall"]) == names
    assert list(report["videos"]["cat"]) == [*names, "objects"]
    assert report["warnings"] == []


def test_an_object_that_is_late_is_told_in_the_unsupervised_task_too(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o3=20)]
    report = davis_unsupervised(*roots(tmp_path, truth, truth))
    assert report["overall"]["J-Mean"] == 1.0
    assert report["warnings"][0].endswith("never scores id 3, above the highest of the first mask (1)")


def test_davis_takes_void_for_background_and_the_unsupervised_task_leaves_it_out(tmp_path):
    truth = [boxes(o1=2, o255=8)] * 3
    results = [np.where(truth[0] > 0, 1, 0).astype(np.uint8)] * 3
    folders = roots(tmp_path, truth, results)
    assert davis(*folders)["overall"]["J-Mean"] == 0.5
    assert davis_unsupervised(*folders)["overall"]["J-Mean"] == 1.0
    assert davis_unsupervised(*folders, definition="trackeval")["overall"]["J-Mean"] == 1.0


def test_davis_2016_masks_have_one_object_whatever_its_label(tmp_path):
    folders = roots(tmp_path, [boxes(o255=2)] * 3, [boxes(o7=2)] * 3)
    assert davis(*folders)["overall"]["J-Mean"] == 1.0
    both = np.where(boxes(o1=2, o2=8), 255, 0).astype(np.uint8)
    folders = roots(tmp_path, [boxes(o1=2, o2=8)] * 3, [both] * 3)
    assert davis(*folders, year=2016)["overall"]["J-Mean"] == 1.0


def test_davis_scores_the_listed_set_and_tells_what_has_no_truth(tmp_path):
    root = tmp_path / "DAVIS"
    for name in ("cat", "dog"):
        write(root / "Annotations" / "480p" / name, [boxes(o1=2)] * 3)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("dog\n")
    results = write(tmp_path / "results" / "dog", [boxes(o1=2)] * 3)
    write(results / "horse", [boxes(o1=2)] * 3)
    report = davis(results, root)
    assert list(report["videos"]) == ["dog"]
    assert report["warnings"] == [f"{results}/horse is not scored: there are no true masks of horse"]
    with pytest.raises(UserError, match=r"there is no .*ImageSets/2017/vall\.txt"):
        davis(results, root, image_set="vall")
    with pytest.raises(UserError, match="--year 2015"):
        davis(results, root, year=2015)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("text", ["dog\r\n", "JPEGImages\\480p\\dog\\00000.jpg\r\n"], ids=["name", "path"])
def test_a_list_of_a_windows_editor_is_read(tmp_path, encoding, text):
    path = tmp_path / "ImageSets" / "2017" / "val.txt"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding=encoding)
    assert listed_sequences(tmp_path, "val", ["2017"]) == ["dog"]


@pytest.mark.parametrize("listed", ["2016/val.txt", "480p/val.txt"])
def test_davis_2016_has_lists_of_its_own(tmp_path, listed):
    root = tmp_path / "DAVIS"
    for name in ("cat", "dog"):
        write(root / "Annotations" / "480p" / name, [boxes(o255=2)] * 3)
    write(tmp_path / "results" / "dog", [boxes(o1=2)] * 3)
    lines = (
        "dog\n"
        if "2016" in listed
        else "/JPEGImages/480p/dog/00000.jpg /Annotations/480p/dog/00000.png\n" * 2
    )
    for path, text in ((listed, lines), ("2017/val.txt", "cat\ndog\n")):
        (root / "ImageSets" / path).parent.mkdir(parents=True)
        (root / "ImageSets" / path).write_text(text)
    assert list(davis(tmp_path / "results", root, year=2016)["videos"]) == ["dog"]


def test_davis_refuses_ids_above_the_objects_as_the_official_program_does(tmp_path):
    with pytest.raises(UserError, match=r"results/cat/00001\.png has the id 2, but .* end at 1"):
        davis(*roots(tmp_path, [boxes(o1=2)] * 3, [boxes(o2=2)] * 3))
    with pytest.raises(UserError, match=r"has the id 21, but proposals end at 20"):
        davis_unsupervised(*roots(tmp_path, [boxes(o1=2)] * 3, [boxes(o21=2)] * 3))


def test_davis_needs_a_frame_between_the_first_and_the_last(tmp_path):
    for frames in (1, 2):
        with pytest.raises(UserError, match=f"has {frames} masks"):
            davis(*roots(tmp_path / str(frames), [boxes(o1=2)] * frames, [boxes(o1=2)] * frames))


@pytest.mark.parametrize("definition", ["davis", "trackeval"])
def test_the_unsupervised_task_is_content_with_one_frame(tmp_path, definition):
    folders = roots(tmp_path, [boxes(o1=2)], [boxes(o7=2)])
    overall = davis_unsupervised(*folders, definition=definition)["overall"]
    assert (overall["J-Mean"], overall["F-Recall"], overall["J-Decay"]) == (1, 1, 0)


@pytest.mark.parametrize("definition", ["davis", "trackeval"])
def test_the_unsupervised_task_matches_results_over_the_whole_video(tmp_path, definition):
    truth, results = [boxes(o1=2, o2=20)] * 2, [boxes(o9=20, o4=2)] * 2
    folders = roots(tmp_path, truth, results)
    objects = davis_unsupervised(*folders, definition=definition)["videos"]["cat"]["objects"]
    assert [(one["J-Mean"], one["proposal"]) for one in objects.values()] == [(1.0, 4), (1.0, 9)]


@pytest.mark.parametrize("definition", ["davis", "trackeval"])
def test_the_unsupervised_task_needs_no_results_at_all(tmp_path, definition):
    report = davis_unsupervised(*roots(tmp_path, [boxes(o1=2, o2=20)], [NOTHING]), definition=definition)
    assert report["overall"]["J-Mean"] == 0.0


def test_an_object_that_never_comes_scores_one_where_nothing_is_found(tmp_path):
    truth = [boxes(o3=2)] * 3
    objects = davis(*roots(tmp_path, truth, truth))["videos"]["cat"]["objects"]
    assert [objects[i]["J-Mean"] for i in "123"] == [1, 1, 1]
    objects = davis(*roots(tmp_path, truth, [boxes(o3=2, o1=20)] * 3))["videos"]["cat"]["objects"]
    assert [objects[i]["J-Mean"] for i in "123"] == [0, 1, 1]


def test_trackeval_scores_late_objects_and_takes_any_number_of_results(tmp_path):
    truth = [boxes(o1=2), boxes(o1=2, o3=20)]
    report = davis_unsupervised(*roots(tmp_path, truth, [boxes(o21=2)] * 2), definition="trackeval")
    objects = report["videos"]["cat"]["objects"]
    assert {i: (one["J-Mean"], one["proposal"]) for i, one in objects.items()} == {
        "1": (1.0, 21),
        "3": (0.5, None),  # an empty mask is right where the object is away
    }
    assert report["overall"]["num_gt_tracks"] == 2 and report["overall"]["J&F"] == 0.75
    assert report["definition"] == "trackeval" and report["warnings"] == []


def test_an_unknown_definition_is_told_with_those_there_are(tmp_path):
    with pytest.raises(UserError, match="unknown definition hota: choose among davis, trackeval"):
        davis_unsupervised(*roots(tmp_path, [NOTHING], [NOTHING]), definition="hota")


@pytest.mark.parametrize("options", [{}, {"definition": "trackeval"}])
def test_a_video_without_objects_has_no_scores(tmp_path, options):
    folders = roots(tmp_path, [NOTHING] * 3, [NOTHING] * 3)
    report = davis_unsupervised(*folders, **options) if options else davis(*folders)
    assert report["overall"]["J-Mean"] is None
    json.dumps(report, allow_nan=False)


def test_decay_is_the_official_one_unless_asked_otherwise(tmp_path):
    truth = [boxes(o1=2)] * 302
    results = [boxes(o1=2)] * 151 + [NOTHING] * 151
    folders = roots(tmp_path, truth, results)
    assert davis(*folders)["overall"]["J-Decay"] is None  # its 8-bit frame numbers have wrapped
    assert davis(*folders, official_decay=False)["overall"]["J-Decay"] == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_trackeval_itself_agrees_on_random_videos(tmp_path, seed):
    metric = pytest.importorskip("trackeval.metrics.j_and_f").JAndF()
    pytest.importorskip("skimage")
    coder = pytest.importorskip("pycocotools.mask")
    truth, results = blobs(seed, frames=6), blobs(seed + 50, frames=6, objects=seed % 5 + 1)
    data = {"num_timesteps": len(truth)}
    for side, maps in (("gt", truth), ("tracker", results)):
        ids = sorted(set(np.unique(maps).tolist()) - {0})
        data[f"num_{side}_ids"] = len(ids)
        there = [[i for i in ids if i in labels] for labels in maps]
        data[f"{side}_ids"] = [np.array([ids.index(i) for i in frame], dtype=int) for frame in there]
        data[f"{side}_dets"] = [
            [coder.encode(np.asfortranarray(labels == i, dtype=np.uint8)) for i in frame]
            for labels, frame in zip(maps, there, strict=True)
        ]
    official = metric.eval_sequence(data)
    ours = davis_unsupervised(*roots(tmp_path, truth, results), definition="trackeval")["overall"]
    assert ours == pytest.approx({name: official[name] for name in ours}, abs=1e-9)


def test_help_explains_every_option():
    for protocol in (davis, davis_unsupervised):
        names = set(protocol.__kwdefaults__) - {"num_workers"}
        assert [name for name in names if not re.search(rf"\b{name}\b", protocol.__doc__)] == []
    assert set(DAVIS_NAMES) < set("J-Mean J-Recall J-Decay F-Mean F-Recall F-Decay J&F-Mean".split())
