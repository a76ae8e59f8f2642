"""A tracker that knows the truth scores 100; what it gets wrong on purpose is counted exactly."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from annotated.videos import VOSFolder
from common.types import Prompt, Tracks
from tests.support.mots import write_sequence
from tools.validation import Gallery, evaluate_tracker, to_show
from video.label_maps import IGNORE
from video.masks import masks_from_labels
from video.synthetic import write_video

SIZE, FRAMES = (24, 32), 6
HUNDREDS = ("J", "F", "J&F", "J_tube", "AP", "AP50", "AP75", "HOTA", "DetA", "AssA", "IDF1")


def two_squares(late: int = 0) -> np.ndarray:
    """(T, H, W) label maps: object 1 stays at the left, object 2 is at the right from frame `late` on."""
    labels = np.zeros((FRAMES, *SIZE), dtype=np.uint8)
    labels[:, 4:14, 3:13] = 1
    labels[late:, 10:20, 18:28] = 2
    return labels


def save_videos(
    root: Path, videos: dict[str, np.ndarray], categories: dict[int, str] | None = None
) -> VOSFolder:
    """An annotated folder; frames are noise, so that no two are alike."""
    rng = np.random.default_rng(0)
    for name, labels in videos.items():
        write_video(root, name, rng.integers(0, 255, (*labels.shape, 3), dtype=np.uint8), labels)
    if categories:
        objects = {str(i): {"category": category} for i, category in categories.items()}
        (root / "meta.json").write_text(
            json.dumps({"videos": {name: {"objects": objects} for name in videos}})
        )
    return VOSFolder(root)


class Oracle:
    """Knows the label map of every frame of a folder by the frame's pixels.

    change: what it says in place of the truth, from the (H, W) label map and the number of the frame
    class_of: the class index of each id
    """

    mask_threshold = 0.5

    def __init__(
        self,
        folder: VOSFolder,
        change: Callable[[Tensor, int], Tensor] = lambda labels, frame: labels,
        class_of: Callable[[int], int] = lambda track: 0,
        needs_prompt: bool = False,
    ):
        self.change, self.class_of, self.needs_prompt = change, class_of, needs_prompt
        self.truth: dict[bytes, Tensor] = {}
        for video in folder.videos:
            for name in video.frames:
                frame = video.read_frame(name).transpose(2, 0, 1).tobytes()
                labels = (
                    video.read_labels(name) if name in video.annotated else np.zeros(SIZE, dtype=np.uint8)
                )
                self.truth[frame] = torch.from_numpy(labels.astype(np.int64))
        self.prompts: list[list[list[int]]] = []  # the ids that were prompted, for every frame of every video

    def reset(self) -> None:
        self.frame = 0
        self.prompted_ids: set[int] = set()
        self.prompts.append([])

    def step(self, frame: Tensor, prompt: Prompt | None = None) -> Tracks:
        labels = self.truth[frame.numpy().tobytes()]
        self.prompts[-1].append(prompt.ids if prompt else [])
        self.prompted_ids |= set(self.prompts[-1][-1])
        if self.needs_prompt:
            prompted_ids = torch.tensor(sorted(self.prompted_ids), dtype=torch.int64)
            labels = labels.where(torch.isin(labels, prompted_ids), 0)
        labels = self.change(labels.where(labels != IGNORE, 0), self.frame)
        self.frame += 1
        ids = labels.unique()
        ids = ids[ids > 0]
        return Tracks(
            ids=ids,
            labels=labels,
            masks=masks_from_labels(labels, ids).float(),
            scores=torch.ones(len(ids)),
            classes=torch.tensor([self.class_of(i) for i in ids.tolist()], dtype=torch.int64),
        )

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.fixture
def folder(tmp_path) -> VOSFolder:
    """Two videos of two objects; in the second, object 2 comes in frame 2."""
    return save_videos(tmp_path / "data", {"both": two_squares(), "late": two_squares(late=2)})


def test_a_tracker_that_knows_the_truth_scores_100(folder):
    scores = evaluate_tracker(Oracle(folder), folder)
    assert {name: scores[name] for name in HUNDREDS} == pytest.approx(dict.fromkeys(HUNDREDS, 100.0))
    assert scores["id_switches"] == scores["id_switches_per_100_frames"] == 0
    assert (scores["videos"], scores["frames"]) == (2, 12)


def test_the_order_of_the_videos_does_not_matter(folder):
    folder.videos.reverse()  # a JSON file and several data sets list them in any order
    scores = evaluate_tracker(Oracle(folder), folder)
    assert {name: scores[name] for name in HUNDREDS} == pytest.approx(dict.fromkeys(HUNDREDS, 100.0))


def test_names_of_tracks_do_not_matter(folder):
    scores = evaluate_tracker(Oracle(folder, lambda labels, frame: labels * 50), folder)
    assert {name: scores[name] for name in HUNDREDS} == pytest.approx(dict.fromkeys(HUNDREDS, 100.0))


def test_ids_that_are_swapped_midway_are_exactly_that_many_switches(tmp_path):
    folder = save_videos(tmp_path / "data", {"both": two_squares()})

    def swap(labels: Tensor, frame: int) -> Tensor:
        return torch.tensor([0, 2, 1])[labels] if frame >= 4 else labels

    scores = evaluate_tracker(Oracle(folder, swap), folder)
    assert scores["id_switches"] == 2
    assert scores["id_switches_per_100_frames"] == pytest.approx(100 * 2 / 12)  # 2 objects in 6 frames
    assert scores["DetA"] == pytest.approx(100) and scores["AssA"] < 100
    assert scores["J"] == pytest.approx(100 * 4 / 6)  # each with the track that it has in 4 frames of 6
    assert scores["J_tube"] == pytest.approx(100 * 4 / 8)  # 4 areas in common, 6 + 6 - 4 in all
    assert scores["IDF1"] == pytest.approx(100 * 4 / 6)


def test_a_tracker_that_sees_nothing_scores_0(folder):
    scores = evaluate_tracker(Oracle(folder, lambda labels, frame: labels * 0), folder)
    assert all(scores[name] == 0 for name in HUNDREDS)
    assert scores["id_switches"] == 0


def test_a_prompted_tracker_is_told_each_object_once_when_it_appears(folder):
    oracle = Oracle(folder, needs_prompt=True)
    scores = evaluate_tracker(oracle, folder)
    assert oracle.prompts == [[[1, 2], *[[]] * 5], [[1], [], [2], *[[]] * 3]]
    assert {name: scores[name] for name in HUNDREDS} == pytest.approx(dict.fromkeys(HUNDREDS, 100.0))


def test_a_prompted_tracker_is_scored_by_id_and_without_the_frame_of_the_prompt(tmp_path):
    folder = save_videos(tmp_path / "data", {"both": two_squares()})

    def forget(labels: Tensor, frame: int) -> Tensor:
        return labels.where((labels != 2) | (frame == 0), 0)

    scores = evaluate_tracker(Oracle(folder, forget, needs_prompt=True), folder)
    assert scores["J"] == pytest.approx(50)  # object 2: 0 in the frames after its prompt
    swapped = Oracle(folder, lambda labels, frame: torch.tensor([0, 2, 1])[labels], needs_prompt=True)
    assert evaluate_tracker(swapped, folder)["J"] == pytest.approx(0)


def test_frames_without_annotation_are_tracked_and_not_scored(tmp_path):
    save_videos(tmp_path / "data", {"both": two_squares()})
    for frame in (1, 3):
        (tmp_path / "data" / "Annotations" / "both" / f"{frame:05d}.png").unlink()
    folder = VOSFolder(tmp_path / "data")
    oracle = Oracle(folder, needs_prompt=True)
    scores = evaluate_tracker(oracle, folder)
    assert scores["frames"] == 4 and len(oracle.prompts[0]) == FRAMES
    assert scores["J&F"] == scores["AP"] == pytest.approx(100)


def test_ignored_pixels_count_neither_for_nor_against(tmp_path):
    labels = two_squares()
    labels[:, :, 15:] = IGNORE  # all of object 2

    def guess(truth: Tensor, frame: int) -> Tensor:
        guessed = truth.clone()
        guessed[:, 20:] = 9
        return guessed

    folder = save_videos(tmp_path / "data", {"one": labels})
    scores = evaluate_tracker(Oracle(folder, guess), folder)
    assert scores["J"] == scores["F"] == scores["HOTA"] == pytest.approx(100)
    prompted = Oracle(folder, needs_prompt=True)
    evaluate_tracker(prompted, folder)
    assert prompted.prompts[0][0] == [1]


# ----------------------------------------------------------------------------------------------------
# classes, choices, nothing at all


def test_a_tracker_is_scored_on_sequences_of_mots_outside_their_regions_to_ignore(tmp_path):
    write_sequence(tmp_path, "MOTS20-02")
    folder = VOSFolder(tmp_path)
    scores = evaluate_tracker(Oracle(folder, lambda labels, _: labels.where(labels >= 0, 2001)), folder)
    assert all(scores[name] == pytest.approx(100) for name in HUNDREDS)


@pytest.mark.parametrize("use_classes, right, AP", [(True, True, 100), (True, False, 0), (False, False, 100)])
def test_classes_count_where_they_are_asked_for(tmp_path, use_classes, right, AP):
    folder = save_videos(tmp_path / "data", {"both": two_squares()}, {1: "cat", 2: "dog"})
    oracle = Oracle(folder, class_of=lambda track: track - 1 if right else 2 - track)
    scores = evaluate_tracker(oracle, folder, use_classes=use_classes)
    assert scores["AP"] == pytest.approx(AP) and scores["J"] == pytest.approx(100)


def test_some_of_the_videos_are_chosen_evenly(tmp_path):
    folder = save_videos(tmp_path / "data", {f"v{i}": two_squares() for i in range(5)})
    oracle, gallery = Oracle(folder), Gallery(num_frames=1)
    scores = evaluate_tracker(oracle, folder, num_videos=3, gallery=gallery)
    assert scores["videos"] == len(oracle.prompts) == 3
    assert [caption.split()[0] for caption in gallery.captions] == ["v0", "v0", "v2", "v2", "v4", "v4"]
    assert evaluate_tracker(Oracle(folder), folder, num_videos=9)["videos"] == 5


@pytest.mark.parametrize("needs_prompt", [False, True])
def test_a_video_without_objects_adds_nothing_to_the_means(tmp_path, needs_prompt):
    nothing = np.zeros((FRAMES, *SIZE), dtype=np.uint8)
    folder = save_videos(tmp_path / "data", {"both": two_squares(), "empty": nothing})
    scores = evaluate_tracker(Oracle(folder, needs_prompt=needs_prompt), folder)
    assert {name: scores[name] for name in HUNDREDS} == pytest.approx(dict.fromkeys(HUNDREDS, 100.0))
    assert (scores["videos"], scores["frames"]) == (2, 12)


def test_without_any_object_or_video_there_is_no_score(tmp_path):
    folder = save_videos(tmp_path / "data", {"empty": np.zeros((FRAMES, *SIZE), dtype=np.uint8)})
    scores = evaluate_tracker(Oracle(folder), folder)
    assert all(scores[name] is None for name in HUNDREDS)
    assert scores["id_switches"] == 0 and scores["id_switches_per_100_frames"] is None
    folder.videos = []
    scores = evaluate_tracker(Oracle(folder), folder)
    assert all(scores[name] is None for name in HUNDREDS) and scores["videos"] == scores["frames"] == 0


def test_without_pycocotools_only_ap_is_missing_and_that_is_told(folder, monkeypatch, capsys):
    for name in ("pycocotools", "pycocotools.mask", "pycocotools.cocoeval"):
        monkeypatch.setitem(sys.modules, name, None)
    scores = evaluate_tracker(Oracle(folder), folder)
    assert scores["AP"] is scores["AR10"] is None
    assert scores["J&F"] == scores["HOTA"] == pytest.approx(100)
    assert capsys.readouterr().err.count("AP is skipped") == 1


# ----------------------------------------------------------------------------------------------------
# pictures


def test_the_gallery_shows_truth_and_tracks_of_the_first_videos(folder):
    gallery = Gallery(num_videos=1, num_frames=3)
    evaluate_tracker(Oracle(folder, lambda labels, frame: labels * 0), folder, gallery=gallery)
    assert len(gallery.pictures) == len(gallery.captions) == 6
    assert all(picture.shape[0] >= 128 and picture.dtype == np.uint8 for picture in gallery.pictures)
    assert gallery.captions[0].startswith("both truth") and gallery.captions[3].startswith("both tracked")
    truth, tracked = gallery.pictures[0], gallery.pictures[3]
    assert (truth != tracked).any() and gallery.picture().ndim == 3


def test_the_gallery_has_a_slide_of_every_frame_of_a_short_video_and_of_twenty_of_a_long_one(tmp_path):
    long = np.concatenate([two_squares()] * 5)
    videos, gallery = save_videos(tmp_path, {"a": two_squares(), "b": long}), Gallery(num_frames=3)
    evaluate_tracker(Oracle(videos), videos, gallery=gallery)
    frames = {name: [one["frame"] for one in gallery.slides if one["video"] == name] for name in "ab"}
    assert len(frames["a"]) == FRAMES and len(frames["b"]) == 20
    assert frames["b"] == sorted(frames["b"])
    assert {frames["b"][0], frames["b"][-1]} == {videos.videos[1].frames[0], videos.videos[1].frames[-1]}
    assert all(
        one[name].startswith("data:image/jpeg") for one in gallery.slides for name in ("truth", "tracks")
    )
    assert len(gallery.pictures) == 2 * 2 * 3  # the sheet has fewer


def test_in_the_gallery_other_names_change_the_numbers_but_not_the_colours(folder):
    galleries = [Gallery(num_videos=1, num_frames=3) for _ in range(2)]
    evaluate_tracker(Oracle(folder), folder, gallery=galleries[0])
    swapped = Oracle(folder, lambda labels, frame: torch.tensor([0, 2, 1])[labels])
    evaluate_tracker(swapped, folder, gallery=galleries[1])
    truth, tracked = (gallery.pictures[3] for gallery in galleries)
    assert 0 < (truth != tracked).any(2).mean() < 0.02  # the two numbers
    assert (truth[100:110, 60:90] == tracked[100:110, 60:90]).all()


def test_in_the_gallery_a_track_after_a_switch_is_neutral(tmp_path):
    folder, gallery = save_videos(tmp_path, {"both": two_squares()}), Gallery(num_videos=1, num_frames=6)
    evaluate_tracker(
        Oracle(folder, lambda labels, frame: labels.where((labels != 1) | (frame < 4), 7)),
        folder,
        gallery=gallery,
    )
    edges = [picture[60, 18].tolist() for picture in gallery.pictures[6:]]  # of the square at the left
    assert edges == [[255, 0, 0]] * 4 + [[0, 0, 0]] * 2


def test_the_gallery_fills_the_rows_of_a_short_video_and_shrinks_large_frames(folder):
    gallery = Gallery(num_videos=1, num_frames=50)
    evaluate_tracker(Oracle(folder), folder, gallery=gallery)
    assert len(gallery.pictures) == 100
    assert to_show(np.zeros((720, 1280, 3))).shape == (240, 427, 3)
    assert to_show(np.zeros((50, 70))).shape == (150, 210)
