"""What STCN is trained on: three frames with random jumps, a target and a second object, still images."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from annotated.videos import VOSFolder
from common.errors import UserError
from common.seeding import seeded
from systems.stcn.augmentation import vary_image, vary_video
from systems.stcn.dataset import (
    STCNDataset,
    choose_targets,
    davis_videos,
    frame_spacing,
    jump_of_epoch,
    random_places,
)
from systems.stcn.static import FIVEFOLD, SoftClip, StillClips, read_mask, weighted_pairs
from systems.xmem.dataset import XMemDataset
from tests.support.vos_folders import maps_of, write_video
from training.loader import make_loader
from video.images import write_label_map

CONFIG = STCNDataset.Config(epochs=10, crop_size=32)


@pytest.fixture
def folder(tmp_path) -> VOSFolder:
    write_video(tmp_path, "three", maps_of([7, 3, 9]))
    return VOSFolder(tmp_path)


# ------------------------------------------------------------------------------------------------ frames


def test_the_jump_grows_with_training_and_falls_at_its_end():
    jumps, starts = (5, 10, 15, 20, 25, 5), (0.1, 0.2, 0.3, 0.4, 0.9)
    drawn = [jump_of_epoch(jumps, starts, epoch, 20) for epoch in range(20)]
    assert drawn == [5] * 2 + [10] * 2 + [15] * 2 + [20] * 2 + [25] * 10 + [5] * 2


@pytest.mark.parametrize("length", [3, 4, 5, 9, 60])
@pytest.mark.parametrize("jump", [1, 5, 25])
def test_three_places_lie_in_the_video_and_no_further_apart_than_the_jump(length, jump):
    with seeded(length, jump):
        drawn = [random_places(length, jump) for _ in range(200)]
    for places in drawn:
        assert all(0 <= place < length for place in places)
        first, second, third = sorted(places)
        assert places in ([first, second, third], [third, second, first])
        assert second - first <= jump + 1 and third - second <= jump + 1
    if length > 2 * jump:
        assert {places[0] < places[2] for places in drawn} == {True, False}
        assert len({min(places) for places in drawn}) > (length - jump) // 2  # not the first frames only


def test_the_distance_counts_frames_of_the_video_and_not_annotations():
    assert frame_spacing(["00000", "00005", "00010"]) == 5
    assert frame_spacing(["00000", "00001", "00002"]) == 1
    assert frame_spacing(["a", "b"]) == frame_spacing(["00007"]) == 1


def test_a_video_that_is_annotated_every_fifth_frame_has_a_fifth_of_the_jump(tmp_path):
    write_video(tmp_path, "sparse", maps_of([1], frames=20), step=5)
    data = STCNDataset(VOSFolder(tmp_path), CONFIG, training=True)
    for seed in range(30):
        data.seed = seed
        numbers = sorted(int(name) for _, name in data[0, 0].names[0])
        assert numbers[2] - numbers[0] <= 2 * (5 + 5)


# ------------------------------------------------------------------------------------------------ objects


def test_the_largest_objects_are_target_and_second():
    first = torch.from_numpy(maps_of([7, 3, 9])[0])
    assert choose_targets(first, "largest", 1) == [7, 3]
    assert choose_targets(first, "largest", 11 * 40 + 1) == [7]
    assert choose_targets(torch.zeros(4, 4, dtype=torch.uint8), "largest", 1) == []


def test_random_targets_are_any_two_objects():
    first = torch.from_numpy(maps_of([7, 3, 9])[0])
    with seeded(0):
        drawn = {tuple(choose_targets(first, "random", 1)) for _ in range(100)}
    assert drawn == {(a, b) for a in (3, 7, 9) for b in (3, 7, 9) if a != b}


def test_ignored_pixels_are_no_object():
    assert choose_targets(torch.full((4, 4), 255), "random", 1) == []


def test_a_clip_has_three_frames_two_slots_and_every_other_object_is_background(folder):
    data = STCNDataset(folder, replace(CONFIG, instance="largest"), training=False)
    clip = data[0, 0]
    assert clip.frames.shape == (1, 3, 3, 32, 32) and clip.labels.shape == (1, 3, 32, 32)
    assert clip.ids.tolist() == [[7, 3]] and set(clip.labels.unique().tolist()) == {0, 1, 2}
    assert [name for _, name in clip.names[0]] == ["00000", "00002", "00004"]


def test_ids_stay_with_their_objects_under_augmentation(folder):
    data = STCNDataset(folder, CONFIG, training=True)
    for epoch in range(20):
        clip = data[epoch, 0]
        grey = clip.frames[0].float().mean(1)
        for slot, track in enumerate(clip.ids[0].tolist(), start=1):
            inside = clip.labels[0] == slot
            assert inside[0].any()  # seen in the first frame
            if inside[0].sum() > 30:
                assert grey[0][inside[0]].median().item() == pytest.approx(
                    10 * track, abs=0.2 * 10 * track + 8
                )


def test_a_clip_repeats_itself_and_epochs_differ(folder):
    data = STCNDataset(folder, CONFIG, training=True, seed=3)
    assert data[1, 0].frames.equal(data[1, 0].frames) and not data[1, 0].frames.equal(data[2, 0].frames)


def test_a_video_without_objects_gives_a_clip_without_slots(tmp_path):
    write_video(tmp_path, "nothing", maps_of([]))
    write_video(tmp_path, "one", maps_of([4]))
    data = STCNDataset(VOSFolder(tmp_path), CONFIG, training=True)
    batch = next(iter(make_loader(data, [[(0, 0), (0, 1)]], num_workers=0, pin_memory=False)))
    assert batch.ids.tolist() == [[0], [4]] and not batch.labels[0].any() and batch.prompt.shape[1] == 1


@pytest.mark.parametrize("dataset", [STCNDataset, XMemDataset])
def test_pasted_objects_are_targets_like_others_and_have_new_ids(tmp_path, dataset):
    for name, track in (("four", 4), ("nine", 9), ("twelve", 12)):
        write_video(tmp_path, name, maps_of([track], frames=8))
    videos, config = VOSFolder(tmp_path), dataset.Config(epochs=10, crop_size=32, paste_probability=1.0)
    clips = [dataset(videos, config, training=True)[epoch, 0] for epoch in range(20)]
    pasted = [track for clip in clips for track in clip.ids[0].tolist() if track != 4]
    assert len(pasted) > 10 and min(pasted) > 254
    for clip in clips:
        grey, inside = clip.frames[0].float().mean(1), [clip.labels[0] == slot for slot in (1, 2, 3)]
        for slot, track in enumerate(clip.ids[0].tolist()):
            if inside[slot].sum() > 60:
                shown = grey[inside[slot]].median().item()  # ten times the id in the object's own video
                assert abs(shown - 40) < 16 if track == 4 else max(shown / 90, 90 / shown) < 1.6
    again = dataset(videos, config, training=True)[3, 0]
    assert again.frames.equal(clips[3].frames) and again.labels.equal(clips[3].labels)


def test_objects_are_pasted_into_videos_only_and_from_other_ones(folder, tmp_path):
    config = replace(CONFIG, paste_probability=0.5)
    with pytest.raises(UserError, match=r"--paste_probability 0\.5 takes objects of other videos"):
        STCNDataset(folder, config, training=True)
    with pytest.raises(UserError, match=r"--paste_probability 0\.5 is for videos: 0 with --static_root"):
        STCNDataset(folder, replace(config, static_root=str(tmp_path)), training=True)


def test_short_videos_are_left_out_and_nothing_else_is_an_error(tmp_path, folder):
    write_video(tmp_path, "short", maps_of([1], frames=2))
    data = STCNDataset(VOSFolder(tmp_path), CONFIG, training=True)
    assert [video.name for video in data.videos] == ["three"]
    shutil.rmtree(tmp_path / "JPEGImages" / "three")
    shutil.rmtree(tmp_path / "Annotations" / "three")
    with pytest.raises(UserError, match="no video with 3 annotated frames"):
        STCNDataset(VOSFolder(tmp_path), CONFIG, training=True)


def test_davis_joins_five_times_with_its_training_videos_only(tmp_path, folder):
    for name in ("bear", "bus", "dogs"):
        write_video(tmp_path / "davis", name, maps_of([1]))
    (tmp_path / "davis" / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "davis" / "ImageSets" / "2017" / "train.txt").write_text("bear\nbus\n")
    assert [v.name for v in davis_videos(tmp_path / "davis", skip_bad=False)] == ["bear", "bus"]
    config = replace(CONFIG, davis_root=str(tmp_path / "davis"), clips_per_video=2)
    names = [video.name for video in STCNDataset(folder, config, training=True).videos]
    assert {name: names.count(name) for name in names} == {"three": 2, "bear": 10, "bus": 10}


def test_a_list_with_a_byte_order_mark_is_read_and_a_video_that_is_absent_is_told(tmp_path, capsys):
    write_video(tmp_path, "bear", maps_of([1]))
    listed = tmp_path / "ImageSets" / "2017" / "train.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("bear\nboat\ncow\n", encoding="utf-8-sig")
    assert [video.name for video in davis_videos(tmp_path, skip_bad=False)] == ["bear"]
    assert capsys.readouterr().err == f"{listed} names 2 videos that are not there, such as boat\n"


def test_what_is_wrong_with_davis_is_told(tmp_path, capsys):
    for name in ("bear", "bus"):
        write_video(tmp_path, name, maps_of([1]))
    broken = tmp_path / "Annotations" / "bus" / "00002.png"
    broken.write_bytes(b"junk")
    videos = davis_videos(tmp_path, skip_bad=True)
    assert [len(video.annotated) for video in videos] == [6, 5] and str(broken) in capsys.readouterr().out
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "train.txt").write_text("boat\n")
    with pytest.raises(UserError, match=r"--davis_root .* holds no video that .*train\.txt names"):
        davis_videos(tmp_path, skip_bad=False)
    with pytest.raises(UserError, match=r"--davis_root .*absent: no such folder"):
        davis_videos(tmp_path / "absent", skip_bad=False)


def test_frames_and_labels_move_together():
    labels = torch.from_numpy(maps_of([1, 2], frames=3))
    frames = (labels * 100)[:, None].expand(-1, 3, -1, -1).contiguous()
    for seed in range(10):
        with seeded(seed):
            moved, new, _ = vary_video(frames, labels, 48, min_crop=0.4, degrees=15.0, shear=10.0)
        assert moved.shape == (3, 3, 48, 48) and new.shape == (3, 48, 48) and new.max() <= 2
        inside = torch.nn.functional.max_pool2d((new != new.roll(1, -2)).float()[:, None], 7, 1, 3)[:, 0] == 0
        for label in (1, 2):
            visible = inside & (new == label)
            if visible.sum() > 20:
                assert moved.float().mean(1)[visible].median().item() == pytest.approx(100 * label, abs=25)


# ----------------------------------------------------------------------------------------- still images


def write_pair(image: Path, mask: Path, grey: np.ndarray) -> None:
    for path, picture in ((image, np.repeat(grey[..., None], 3, -1)), (mask, grey)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


@pytest.fixture
def disc() -> np.ndarray:
    y, x = np.mgrid[:60, :80]
    return ((y - 30) ** 2 + (x - 40) ** 2 < 400).astype(np.uint8) * 255


def test_pairs_are_found_side_by_side_and_in_two_folders(tmp_path, disc):
    for name in ("b/2", "b/10", "BIG_small/1"):
        write_pair(tmp_path / "one" / f"{name}.jpg", tmp_path / "one" / f"{name}.png", disc)
    for name in ("__MACOSX/1", ".ipynb_checkpoints/1", "b/._2"):
        write_pair(tmp_path / "one" / f"{name}.jpg", tmp_path / "one" / f"{name}.png", disc)
    (tmp_path / "one" / "alone.jpg").write_bytes(b"")
    paths = [image.relative_to(tmp_path / "one").as_posix() for image, _ in weighted_pairs(tmp_path / "one")]
    assert paths == ["BIG_small/1.jpg", "b/2.jpg", "b/10.jpg"] + ["BIG_small/1.jpg"] * 4
    assert FIVEFOLD[0] == "BIG"
    write_pair(tmp_path / "two" / "images" / "x.png", tmp_path / "two" / "masks" / "x.png", disc)
    ((image, mask),) = weighted_pairs(tmp_path / "two")
    assert (image.parent.name, mask.parent.name) == ("images", "masks")
    for name in ("BIG/y", "BIG_x"):
        image, mask = (tmp_path / "two" / kind / name for kind in ("images", "masks"))
        write_pair(image.with_suffix(".jpg"), mask.with_suffix(".png"), disc)
    names = [image.name for image, _ in weighted_pairs(tmp_path / "two")]
    assert [names.count(name) for name in ("y.jpg", "BIG_x.jpg", "x.png")] == [5, 1, 1]


def test_a_folder_without_pairs_or_no_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image with a mask"):
        StillClips(tmp_path / "empty", 32, 3)
    with pytest.raises(UserError, match="no such folder"):
        StillClips(tmp_path / "absent", 32, 3)


def test_masks_are_read_from_grey_and_from_palette_files(tmp_path, disc):
    soft = (disc // 255 * np.linspace(1, 200, 80).astype(np.uint8)[None]).astype(np.uint8)
    write_pair(tmp_path / "a.jpg", tmp_path / "a.png", soft)
    grey = read_mask(tmp_path / "a.png")
    assert grey.shape == (1, 60, 80) and grey.max() == 1 and 0.2 < grey[0, 30, 30] < 0.8
    write_label_map(tmp_path / "p.png", disc // 255 * 4)
    assert read_mask(tmp_path / "p.png").equal(torch.from_numpy(disc > 0).float()[None])
    white_ground = Image.fromarray(disc // 255)
    white_ground.putpalette([255, 255, 255, 0, 0, 0])
    white_ground.save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png").equal(torch.from_numpy(disc > 0).float()[None])


def test_an_image_becomes_a_clip_with_a_soft_first_mask(tmp_path, disc, folder):
    write_pair(tmp_path / "stills" / "a.jpg", tmp_path / "stills" / "a.png", disc)
    data = STCNDataset(folder, replace(CONFIG, static_root=str(tmp_path / "stills")), training=True)
    clip = data.collate([data[0, 0], data[1, 0]])
    assert isinstance(clip, SoftClip) and clip.frames.shape == (2, 3, 3, 32, 32) and len(data) == 1
    assert clip.prompt.shape == (2, 1, 32, 32) and ((clip.prompt > 0.05) & (clip.prompt < 0.95)).any()
    assert (clip.labels[:, 0] == 1).equal(clip.prompt[:, 0] > 0.5)
    assert not clip.labels[0, 0].equal(clip.labels[0, 1])  # every frame is warped anew
    held_out = STCNDataset(folder, replace(CONFIG, static_root=str(tmp_path / "stills")), training=False)
    assert held_out[0, 0].names[0][0][0] == "three"


def test_a_mask_of_another_size_is_named(tmp_path, disc):
    write_pair(tmp_path / "a.jpg", tmp_path / "a.png", disc)
    Image.fromarray(disc[:50]).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png is 80x50 but its image is 80x60"):
        StillClips(tmp_path, 32, 3).draw(0)


def test_a_warped_image_stays_under_its_mask(disc):
    mask = torch.from_numpy(disc / 255).float()[None]
    frame = torch.from_numpy(disc)[None].expand(3, -1, -1) // 255 * 200
    for seed in range(10):
        with seeded(seed):
            frames, masks = vary_image(frame.contiguous(), mask, 48, 3)
        sure = masks > 0.9
        assert sure.sum() > 100 and frames.float().mean(1, keepdim=True)[sure].median() > 150
