import json
import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotated.videos import VOSFolder, check
from common.errors import UserError, run_command
from video import synthetic
from video.synthetic import (
    PROFILES,
    bounce,
    draw_centres,
    draw_colours,
    draw_looks,
    generate,
    label,
    make_video,
    rasterise,
    video_rng,
)

SMALL = {"seed": 7, "train_videos": 2, "valid_videos": 1, "frames": 4, "size": 48}


def video(profile: str, index: int, frames: int = 20, size: int = 64):
    return make_video(video_rng(0, "train", index), PROFILES[profile], frames=frames, size=size)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_positions_fold_back_at_both_walls():
    assert bounce(np.array([-3.0, 2, 5, 11, 18, 25]), 2, 10).tolist() == [7, 2, 5, 9, 2, 9]


@pytest.mark.parametrize(
    "shape, area", [("circle", np.pi), ("square", 1.8**2), ("triangle", 3 * 3**0.5 * 0.7**2)]
)
@pytest.mark.parametrize("size", [64, 128])
def test_coverage_and_label_have_the_area_of_the_shape(shape, area, size):
    coverage = rasterise(shape, np.array([[31.3, 33.8]]), np.array([0.3]), np.array([12.0]), size)
    expected = area * (12 * size / 64) ** 2
    assert coverage.shape == (1, size, size) and coverage.dtype == np.float32
    assert coverage.sum() == pytest.approx(expected, rel=0.01)
    assert (label([coverage], []) == 1).sum() == pytest.approx(expected, rel=0.03)


def test_a_pixel_belongs_to_the_front_object_that_covers_most_of_it():
    back, front = np.array([[[1.0, 1.0, 0.6, 0.0]]]), np.array([[[0.9, 0.4, 0.0, 0.0]]])
    assert label([back, front], []).tolist() == [[[2, 1, 1, 0]]]
    assert label([back, front], [np.array([[[1.0, 0.0, 0.0, 1.0]]])]).tolist() == [[[0, 1, 1, 0]]]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_video_has_the_shapes_and_ids_that_it_says(profile):
    for index in range(10):
        frames, labels, categories = video(profile, index)
        assert frames.shape == (20, 64, 64, 3) and frames.dtype == np.uint8
        assert labels.shape == (20, 64, 64) and labels.dtype == np.uint8
        assert set(np.unique(labels)) - {0} == set(categories) == set(range(1, len(categories) + 1))
        assert set(categories.values()) <= {"circle", "square", "triangle"}
        low, high = PROFILES[profile].objects
        assert low <= len(categories) / (2 if PROFILES[profile].pairs else 1) <= high


def test_easy_videos_show_every_object_in_the_first_frame():
    for index in range(20):
        _, labels, categories = video("easy", index, frames=2)
        assert all((labels[0] == k).sum() > 30 for k in categories)


def test_masks_agree_with_the_picture():
    for index in range(5):
        frames, labels, _ = video("easy", index, frames=3)
        painted = np.ptp(frames.astype(int), axis=3) > 100  # saturated colours on grey
        union, both = (painted | (labels > 0)).sum(), (painted & (labels > 0)).sum()
        assert both / union > 0.93


def test_vivid_colours_have_hues_well_apart():
    rng = np.random.default_rng(0)
    for _ in range(50):
        colours = draw_colours(rng, PROFILES["easy"], 3)
        distances = np.linalg.norm(colours[:, None] - colours[None], axis=2)[np.triu_indices(3, 1)]
        assert distances.min() > 0.5


def test_fifteen_percent_of_the_hard_objects_are_identical_twins():
    rng = np.random.default_rng(0)
    videos = [[id(look) for look in draw_looks(rng, PROFILES["hard"])] for _ in range(3000)]
    twins = sum(looks.count(look) > 1 for looks in videos for look in looks)
    assert twins / sum(map(len, videos)) == pytest.approx(0.15, abs=0.015)


def test_twins_look_alike_and_cross_in_the_middle_half_of_the_video():
    for seed in range(20):
        rng, profile = np.random.default_rng(seed), PROFILES["twins"]
        looks = draw_looks(rng, profile)
        assert len(looks) in (2, 4) and all(a is b for a, b in zip(looks[::2], looks[1::2], strict=True))
        first = draw_centres(rng, profile, looks[0].radius, 40, None)
        second = draw_centres(rng, profile, looks[0].radius, 40, first)
        distance = np.hypot(*(first - second).T)
        assert distance[10:30].min() < 1e-9 and distance.max() > 5


def test_hard_objects_leave_and_return():
    returned = 0
    for index in range(10):
        _, labels, categories = video("hard", index, frames=30)
        for k in categories:
            timeline = "".join("x" if visible else " " for visible in (labels == k).any((1, 2)))
            returned += " " in timeline.strip()
    assert returned >= 5


def test_long_videos_go_on_moving():
    _, labels, _ = make_video(video_rng(0, "valid", 0), PROFILES["easy"], frames=400, size=32)
    assert (labels[1:] != labels[:-1]).any((1, 2)).mean() > 0.5
    assert all((labels == k).any((1, 2)).mean() > 0.5 for k in np.unique(labels) if k)


@pytest.mark.parametrize("profile", PROFILES)
def test_one_frame_is_a_video(profile):
    frames, labels, categories = video(profile, 0, frames=1, size=16)
    assert frames.shape == (1, 16, 16, 3) and set(np.unique(labels)) - {0} == set(categories)


def test_the_same_arguments_write_the_same_bytes(tmp_path):
    generate(tmp_path / "a", "hard", **SMALL)
    generate(tmp_path / "b", "hard", **SMALL)
    generate(tmp_path / "c", "hard", **(SMALL | {"seed": 8}))
    first, other = contents(tmp_path / "a"), contents(tmp_path / "c")
    assert contents(tmp_path / "b") == first
    assert not set(first.values()) & {data for name, data in other.items() if name.endswith(".jpg")}


def test_fewer_videos_are_a_prefix_of_more(tmp_path):
    generate(tmp_path / "few", "easy", **SMALL)
    generate(tmp_path / "many", "easy", **(SMALL | {"train_videos": 3, "valid_videos": 2}))
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    pictures = {name for name in few if not name.endswith("meta.json")}
    assert len(pictures) == 3 * 4 * 2
    assert all(few[name] == many[name] for name in pictures)


def test_train_and_valid_share_no_picture(tmp_path):
    generate(tmp_path / "data", "easy", **(SMALL | {"valid_videos": 2}))
    train, valid = (contents(tmp_path / "data" / split / "JPEGImages") for split in ("train", "valid"))
    assert len(train) == len(valid) == 8 and not set(train.values()) & set(valid.values())


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_written_reads_back_as_an_annotated_folder(tmp_path, profile):
    generate(tmp_path / "data", profile, **SMALL)
    folder = VOSFolder(tmp_path / "data" / "train")
    assert check(folder, skip_bad=False) == []
    assert [v.name for v in folder.videos] == ["train_00000", "train_00001"]
    entries = json.loads((folder.root / "meta.json").read_text())["videos"]
    for index, listed in enumerate(folder.videos):
        frames, labels, categories = make_video(
            video_rng(7, "train", index), PROFILES[profile], frames=4, size=48
        )
        assert listed.frames == listed.annotated == ["00000", "00001", "00002", "00003"]
        for t, name in enumerate(listed.frames):
            np.testing.assert_array_equal(listed.read_labels(name), labels[t])
            assert np.abs(listed.read_frame(name).astype(int) - frames[t]).mean() < 4
        for k, category in categories.items():
            assert folder.categories[folder.classes_of(listed)[k]] == category
            visible = [f"{t:05d}" for t in range(4) if (labels[t] == k).any()]
            assert entries[listed.name]["objects"][str(k)]["frames"] == visible
        assert len(entries[listed.name]["objects"]) == len(categories)


def test_an_existing_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match=r"data already exists.*--out"):
        generate(tmp_path / "data", "easy", **SMALL)
    assert contents(tmp_path) == {"data/mine.txt": b"keep"}


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    def fail(folder, name, frames, labels):
        if name == "train_00001":
            raise OSError(28, "No space left on device", str(folder))
        write(folder, name, frames, labels)

    write = synthetic.write_video
    monkeypatch.setattr(synthetic, "write_video", fail)
    with pytest.raises(OSError, match="No space left"):
        generate(tmp_path / "data", "easy", **SMALL)
    assert list(tmp_path.iterdir()) == []


OUT_OF_RANGE = [("seed", -1), ("frames", 0), ("size", 8), ("train_videos", -2), ("occluders", -1)]


@pytest.mark.parametrize("name, value", OUT_OF_RANGE)
def test_a_number_out_of_range_is_named_with_its_flag(tmp_path, name, value):
    with pytest.raises(UserError, match=f"--{name} {value} is too small"):
        generate(tmp_path / "data", "easy", **(SMALL | {name: value}))
    assert list(tmp_path.iterdir()) == []


def test_occluders_hide_parts_of_objects_of_any_profile(tmp_path):
    counts = {}
    for occluders in (None, 0, 3):
        generate(tmp_path / str(occluders), "easy", **SMALL, occluders=occluders)
        folder = VOSFolder(tmp_path / str(occluders) / "valid")
        counts[occluders] = sum((v.read_labels(f) > 0).sum() for v in folder.videos for f in v.frames)
    assert counts[None] == counts[0] > counts[3] > 0
    with pytest.raises(UserError, match="--occluders 7 would hide every object: at most 6"):
        generate(tmp_path / "data", "easy", **SMALL, occluders=7)


def test_no_noise_paints_the_flat_colour():
    profile = replace(PROFILES["easy"], noise=0.0, objects=(1, 1))
    frames, labels, _ = make_video(video_rng(0, "train", 0), profile, frames=1, size=64)
    inside = frames[0][labels[0] == 1]
    _, counts = np.unique(inside, axis=0, return_counts=True)
    assert counts.max() > 0.75 * len(inside)


def test_the_command_writes_a_data_set_and_tells_mistakes_in_one_line(tmp_path, monkeypatch, capsys):
    flags = [
        "--profile",
        "hard",
        "--train_videos",
        "1",
        "--valid_videos",
        "1",
        "--frames",
        "2",
        "--size",
        "32",
    ]
    monkeypatch.setattr(sys, "argv", ["synthetic", "--out", str(tmp_path / "new" / "data"), *flags])
    run_command(synthetic.main)
    assert len(contents(tmp_path / "new" / "data")) == 2 * (2 * 2 + 1)
    with pytest.raises(SystemExit) as stop:
        run_command(synthetic.main)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "already exists" in error and error.count("\n") == 1


def test_a_full_disk_is_told_with_the_picture_that_it_cuts_short(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError, match=r"train_00000/00000\.jpg"):
            synthetic.generate(
                tmp_path / "data", "easy", seed=1, train_videos=1, valid_videos=1, frames=2, size=32
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
