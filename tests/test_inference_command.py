"""The inference command: what it reads, writes and refuses."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import inference
from common.checkpoint import read_checkpoint, save_checkpoint
from tests.support.commands import assert_refused, files_in, run_here
from video.images import read_label_map, write_label_map
from video.reader import find_videos
from video.rle import decode_rle
from video.writer import OverlayWriter

SIZE = (37, 53)  # (H, W), nothing that a stride divides


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """(count, H, W, 3): a bright square that moves over a dark ground."""
    frames = np.random.default_rng(seed).integers(0, 60, (count, *SIZE, 3), dtype=np.uint8)
    for t in range(count):
        frames[t, 8:24, 4 + 2 * t : 20 + 2 * t] = (250, 220, 30)
    return frames


def save_folder(folder: Path, names: list[str], seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    for name, picture in zip(names, pictures(len(names), seed), strict=True):
        Image.fromarray(picture).save(folder / f"{name}.jpg")
    return folder


def save_file(path: Path, count: int = 4, seed: int = 0) -> Path:
    with OverlayWriter(path, 10) as writer:
        for picture in pictures(count, seed):
            writer.add(picture)
    return path


@pytest.fixture
def videos(tmp_path) -> Path:
    """Two video folders, of 3 and 2 frames, whose names are not numbers in a row."""
    save_folder(tmp_path / "videos" / "bear", ["00005", "00010", "00115"])
    save_folder(tmp_path / "videos" / "walk", ["a2", "a10"], seed=1)
    return tmp_path / "videos"


@pytest.fixture
def infer(trained, tmp_path):
    """A function of further flags that runs the trained network over videos into tmp_path/output."""
    flags = ["--checkpoint", trained.run / "best.pth", "--output", tmp_path / "output", "--device", "cpu"]
    flags += ["--score_threshold", 0.2, "--birth_score", 0.2]  # it was trained for a moment only
    return lambda *further: run_here(inference.main, *flags, *further)


def tracks_of(output: Path) -> dict:
    return json.loads((output / "tracks.json").read_text())


# ----------------------------------------------------------------------------------------------------
# what is read and written


def test_a_folder_of_video_folders_gives_maps_overlays_results_and_tracks(videos, infer):
    outcome = infer("--video_root", videos)
    output = outcome.run
    maps = ["bear/00005.png", "bear/00010.png", "bear/00115.png", "walk/a10.png", "walk/a2.png"]
    assert files_in(output / "Annotations") == maps
    assert all(read_label_map(output / "Annotations" / name).shape == SIZE for name in maps)
    assert Image.open(output / "Annotations" / maps[0]).mode == "P"
    assert files_in(output / "overlays") == ["bear.mp4", "walk.mp4"]
    assert {name for name in files_in(output) if "/" not in name} == {"results.json", "tracks.json"}
    begun, ended = outcome.out[:-1:2], outcome.out[1:-1:2]
    assert begun == ["bear: 3 frames of 53x37", "walk: 2 frames of 53x37"]
    assert [line.split(":")[0] for line in ended] == ["bear", "walk"] and outcome.err == []


def test_the_files_of_a_video_tell_the_same_story(videos, infer):
    output = infer("--video_root", videos).run
    tracks, results = tracks_of(output), json.loads((output / "results.json").read_text())
    assert tracks.keys() == {"bear", "walk"}
    assert [(video["video_id"], video["frames"]) for video in tracks.values()] == [(1, 3), (2, 2)]
    assert tracks["bear"]["tracks"], "nothing was found: this test needs some track"
    assert len(results) == sum(len(video["tracks"]) for video in tracks.values())
    first = next(iter(tracks["bear"]["tracks"].values()))
    entry = results[0]
    assert entry["video_id"] == 1 and entry["category_id"] == 1
    assert entry["score"] == pytest.approx(first["score"]) and len(entry["segmentations"]) == 3
    by_frame = dict(zip(["00005", "00010", "00115"], entry["segmentations"], strict=True))
    assert {name for name, rle in by_frame.items() if rle} == first["scores"].keys()
    assert all(decode_rle(rle).shape == SIZE for rle in by_frame.values() if rle)
    track_ids = set(tracks["bear"]["tracks"])
    for path in (output / "Annotations" / "bear").iterdir():
        assert {str(i) for i in np.unique(read_label_map(path)) if i} <= track_ids


def test_one_video_folder_is_one_video(videos, infer):
    output = infer("--video_root", videos / "walk").run
    assert files_in(output / "Annotations") == ["walk/a10.png", "walk/a2.png"]
    assert list(tracks_of(output)) == ["walk"]


def test_a_video_file_gives_frames_by_number_and_an_overlay_at_its_rate(tmp_path, infer):
    output = infer("--video_root", save_file(tmp_path / "clip.mp4")).run
    assert files_in(output / "Annotations" / "clip") == [f"{i:05d}.png" for i in range(4)]
    (video,) = find_videos(output / "overlays")
    assert video.fps == 10 and len(list(video.frames())) == 4
    assert tracks_of(output)["clip"]["frames"] == 4


def test_a_folder_of_video_files_gives_one_result_for_each(tmp_path, infer):
    save_file(tmp_path / "films" / "one.mp4", count=2)
    save_file(tmp_path / "films" / "two.mp4", count=3, seed=1)
    output = infer("--video_root", tmp_path / "films").run
    assert {name: video["frames"] for name, video in tracks_of(output).items()} == {"one": 2, "two": 3}
    assert files_in(output / "overlays") == ["one.mp4", "two.mp4"]


def test_without_overlays_none_are_written(videos, infer):
    output = infer("--video_root", videos, "--overlays", "off").run
    assert not (output / "overlays").exists() and (output / "results.json").is_file()


def test_the_same_command_gives_the_same_files(videos, infer, tmp_path):
    output = infer("--video_root", videos).run
    again = infer("--video_root", videos, "--output", tmp_path / "again").run
    assert files_in(again) == files_in(output)
    assert all((again / name).read_bytes() == (output / name).read_bytes() for name in files_in(output))


def test_the_trackers_options_are_those_of_training_unless_they_are_given(trained):
    flags = ["--checkpoint", str(trained.run / "best.pth"), "--video_root", "x", "--output", "y"]
    tracker, args, *_ = inference.tracker_of_run(flags)
    assert tracker.config.image_size == 32 and args.beta == 0.2  # 32 is what it was trained with
    tracker, *_ = inference.tracker_of_run([*flags, "--image_size", "64", "--beta", "0.4"])
    assert (tracker.config.image_size, tracker.config.beta) == (64, 0.4)


def test_averaged_weights_are_what_runs(trained):
    path = trained.run / "best.pth"
    tracker, *_ = inference.tracker_of_run(["--checkpoint", str(path), "--video_root", "x", "--output", "y"])
    saved = read_checkpoint(path)
    assert all(value.equal(saved["ema"][name]) for name, value in tracker.network.state_dict().items())
    assert not tracker.network.training and not saved["model"]["tokens"].equal(saved["ema"]["tokens"])


def test_ids_go_on_over_the_chunks_of_a_long_video(videos, trained):
    flags = ["--checkpoint", str(trained.run / "best.pth"), "--video_root", "x", "--output", "y"]
    flags += ["--birth_score", "0.2", "--score_threshold", "0.2"]
    tracker, *_ = inference.tracker_of_run(flags)
    frames = [torch.from_numpy(picture.transpose(2, 0, 1).copy()) for picture in pictures(6)]
    whole = [tracker.step(frame) for frame in frames]
    other, *_ = inference.tracker_of_run(flags)
    tracker.reset()
    parts = [tracker.step(frame) for frame in frames[:3]]
    other.load_state_dict(tracker.state_dict())
    parts += [other.step(frame) for frame in frames[3:]]
    assert any(len(tracks.ids) for tracks in whole[3:])
    assert all(
        one.ids.equal(two.ids) and one.labels.equal(two.labels) for one, two in zip(whole, parts, strict=True)
    )


# ----------------------------------------------------------------------------------------------------
# prompts


def save_prompt(path: Path, ids: dict[int, slice], size: tuple[int, int] = SIZE) -> None:
    labels = np.zeros(size, dtype=np.int64)
    for track, rows in ids.items():
        labels[rows] = track
    write_label_map(path, labels)


def test_a_mask_names_the_tracks(videos, infer, tmp_path):
    save_prompt(tmp_path / "prompts" / "bear" / "00005.png", {7: slice(0, 37)})
    flags = ["--video_root", videos, "--prompt_root", tmp_path / "prompts", "--birth_score", 2]
    output = infer(*flags).run
    tracks = tracks_of(output)
    assert list(tracks["bear"]["tracks"]) == ["7"] and tracks["walk"]["tracks"] == {}
    assert tracks["bear"]["tracks"]["7"]["first"] == "00005"
    assert set(np.unique(read_label_map(output / "Annotations" / "bear" / "00005.png"))) <= {0, 7}


def test_a_prompt_of_another_size_is_refused_and_nothing_is_written(videos, infer, tmp_path):
    path = tmp_path / "prompts" / "bear" / "00005.png"
    save_prompt(path, {7: slice(0, 9)}, size=(10, 10))
    flags = ["--video_root", videos / "bear", "--prompt_root", tmp_path / "prompts"]
    assert_refused(infer(*flags), path, "10x10", "53x37")
    assert files_in(tmp_path / "output") == []


def test_a_part_of_videos_is_tracked_under_the_names_of_its_frames_and_by_their_prompts(
    videos, infer, tmp_path
):
    for name in ("00005", "00115"):  # the first of them is not read
        save_prompt(tmp_path / "prompts" / "bear" / f"{name}.png", {7: slice(0, 9)})
    outcome = infer("--video_root", videos, "--prompt_root", tmp_path / "prompts", "--start", 1)
    assert files_in(outcome.run / "Annotations") == ["bear/00010.png", "bear/00115.png", "walk/a10.png"]
    video = tracks_of(outcome.run)["bear"]
    assert video["frames"] == 2 and video["tracks"]["7"]["first"] == "00115"
    assert "not used (00005.png)" in outcome.err[0]
    assert_refused(infer("--video_root", videos, "--start", "1.5"), "--start 1.5", "12.5s")
    assert_refused(infer("--video_root", videos, "--start", "1", "--annotate"), "--annotate", "--start 1")


def test_prompts_that_belong_to_no_video_are_refused(videos, infer, tmp_path):
    save_prompt(tmp_path / "prompts" / "beer" / "00005.png", {7: slice(0, 9)})
    assert_refused(
        infer("--video_root", videos, "--prompt_root", tmp_path / "prompts"), "--prompt_root", "bear/"
    )
    assert not (tmp_path / "output").exists()


def test_a_prompt_root_that_is_absent_is_refused(videos, infer, tmp_path):
    assert_refused(infer("--video_root", videos, "--prompt_root", tmp_path / "none"), tmp_path / "none")


# ----------------------------------------------------------------------------------------------------
# what is refused: one line, exit status 2


class Evil:
    """Makes a folder when it is unpickled without care."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def test_a_checkpoint_that_is_junk_is_refused(videos, infer, tmp_path):
    (tmp_path / "junk.pth").write_bytes(bytes(range(256)) * 9)
    assert_refused(
        infer("--video_root", videos, "--checkpoint", tmp_path / "junk.pth"), tmp_path / "junk.pth"
    )
    assert not (tmp_path / "output").exists()


def test_a_checkpoint_that_would_run_code_is_refused_and_does_not(videos, infer, tmp_path):
    torch.save({"format": 1, "system": Evil(tmp_path / "witness")}, tmp_path / "evil.pth")
    refused = infer("--video_root", videos, "--checkpoint", tmp_path / "evil.pth")
    assert_refused(refused, tmp_path / "evil.pth", "could run code")
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("flags", [["--system", "fake"], ["--system=fake"]], ids=str)
def test_a_checkpoint_of_another_system_is_refused(videos, infer, trained, fake_system, flags):
    refused = infer("--video_root", videos, *flags)
    assert_refused(refused, trained.run / "best.pth", "vita_tcovis", "not of fake")


def test_a_checkpoint_of_an_unknown_system_or_other_options_is_refused(videos, infer, trained, tmp_path):
    contents = read_checkpoint(trained.run / "best.pth")
    path = tmp_path / "other.pth"
    save_checkpoint(path, contents | {"system": "stm"})
    assert_refused(infer("--video_root", videos, "--checkpoint", path), path, "stm")
    tracker = contents["config"]["tracker"] | {"gamma": 1.0}
    save_checkpoint(path, contents | {"config": contents["config"] | {"tracker": tracker}})
    assert_refused(infer("--video_root", videos, "--checkpoint", path), path, "gamma")


@pytest.mark.parametrize("value", [10**9, 1e9, 15, True, None, [384]])
def test_a_checkpoint_whose_options_are_out_of_range_is_refused(videos, infer, trained, tmp_path, value):
    contents, path = read_checkpoint(trained.run / "best.pth"), tmp_path / "odd.pth"
    tracker = contents["config"]["tracker"] | {"image_size": value}
    save_checkpoint(path, contents | {"config": contents["config"] | {"tracker": tracker}})
    assert_refused(infer("--video_root", videos, "--checkpoint", path), path, "image_size")
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("flag", ["--w_dice 3", "--over", "--num_tokens 9", "--amp fp8", "--image_siz 3"])
def test_a_foreign_or_abbreviated_flag_is_refused(videos, infer, tmp_path, flag):
    assert_refused(infer("--video_root", videos, *flag.split()), flag.split()[0])
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("lacking", ["--checkpoint", "--video_root", "--output"])
def test_a_missing_path_is_told(trained, videos, tmp_path, lacking):
    flags = {
        "--checkpoint": trained.run / "best.pth",
        "--video_root": videos,
        "--output": tmp_path / "output",
    }
    del flags[lacking]
    remaining = [part for pair in flags.items() for part in pair]
    assert_refused(run_here(inference.main, *remaining), lacking)


def test_help_lists_the_options_of_the_tracker_without_a_checkpoint():
    outcome = run_here(inference.main, "--help")
    text = "\n".join(outcome.out)
    assert outcome.status == 0 and all(
        f"--{flag}" in text for flag in ("video_root", "amp", "match_threshold")
    )


def test_a_corrupt_video_file_leaves_nothing_half_written(infer, tmp_path):
    path = save_file(tmp_path / "clip.mp4", count=8)
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b"no video"):
        path.write_bytes(broken)
        assert_refused(infer("--video_root", path), path)
        assert files_in(tmp_path / "output") == []


def test_a_truncated_frame_leaves_nothing_of_its_video_half_written(videos, infer, tmp_path):
    bad = videos / "bear" / "00115.jpg"
    bad.write_bytes(bad.read_bytes()[:400])
    assert_refused(infer("--video_root", videos / "bear"), bad)
    assert files_in(tmp_path / "output") == []


def test_results_are_replaced_on_demand_only(videos, infer, tmp_path):
    output = infer("--video_root", videos).run
    before = {name: (output / name).read_bytes() for name in files_in(output)}
    assert_refused(infer("--video_root", videos), output, "--overwrite")
    assert {name: (output / name).read_bytes() for name in files_in(output)} == before
    (videos / "bear" / "00115.jpg").unlink()
    infer("--video_root", videos, "--overwrite")
    assert files_in(output / "Annotations" / "bear") == ["00005.png", "00010.png"]
    assert tracks_of(output)["bear"]["frames"] == 2


def test_an_output_below_a_file_is_refused(videos, infer, tmp_path):
    (tmp_path / "file").write_text("")
    assert_refused(infer("--video_root", videos, "--output", tmp_path / "file" / "o"), tmp_path / "file")
    assert_refused(infer("--video_root", videos, "--output", tmp_path / "file"), tmp_path / "file")


def test_a_path_without_videos_is_refused(infer, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent"):
        assert_refused(infer("--video_root", path), path)
    assert not (tmp_path / "output").exists()


# ----------------------------------------------------------------------------------------------------
# without the optional packages


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)  # importing it now raises ImportError


def test_without_av_image_folders_run_and_the_missing_overlays_are_told(videos, infer, monkeypatch):
    hide(monkeypatch, "av", "tqdm", "cv2", "clearml")
    outcome = infer("--video_root", videos)
    assert not (outcome.run / "overlays").exists() and (outcome.run / "results.json").is_file()
    assert (
        len(outcome.err) == 1
        and "overlays are skipped" in outcome.err[0]
        and "pip install av" in outcome.err[0]
    )


def test_without_av_a_video_file_is_refused_with_the_remedy(tmp_path, infer, monkeypatch):
    path = save_file(tmp_path / "clip.mp4")
    hide(monkeypatch, "av")
    outcome = infer("--video_root", path)
    assert outcome.status == 2 and "pip install av" in outcome.err[-1]
    assert files_in(tmp_path / "output") == []


def test_without_pycocotools_all_but_results_json_is_written_and_that_is_told(videos, infer, monkeypatch):
    hide(monkeypatch, "pycocotools", "pycocotools.mask")
    outcome = infer("--video_root", videos)
    assert not (outcome.run / "results.json").exists()
    assert tracks_of(outcome.run)["bear"]["frames"] == 3 and files_in(outcome.run / "overlays")
    assert len(outcome.err) == 1 and "results.json is skipped" in outcome.err[0]
    assert "pip install pycocotools" in outcome.err[0]
