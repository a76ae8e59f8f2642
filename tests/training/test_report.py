"""What a run writes about itself, and what it tells at its end: the command that comes next."""

import shlex
import shutil
from pathlib import Path

import numpy as np

from annotated.json_videos import JsonVideos
from annotated.still_images import StillImages
from annotated.videos import VOSFolder
from tests.support.commands import run_here
from tests.support.json_sets import write_pairs, write_vis
from tests.support.mots import sequence_labels, write_sequence, write_text
from tests.support.vos_folders import maps_of, write_video
from tools.convert import __main__ as convert
from tracking.prompts import PromptFolder
from training import report
from training.listeners.listener import Listeners
from training.report import Report, next_command, score_command
from video.images import read_label_map
from video.reader import find_videos

MAPS = {"a": maps_of([1, 2], frames=2)}
BEST = Path("runs/1/best.pth")
HEAD = "python inference.py --checkpoint runs/1/best.pth --video_root"


def test_a_prompted_system_is_given_the_label_maps(tmp_path):
    write_video(tmp_path, "a", MAPS["a"])
    command = f"{HEAD} {tmp_path} --output runs/1/inference"
    assert next_command(VOSFolder(tmp_path), BEST, BEST.parent, prompted=False) == command
    command += f" --prompt_root {tmp_path / 'Annotations'}"
    assert next_command(VOSFolder(tmp_path), BEST, BEST.parent, prompted=True) == command


def test_masks_in_json_are_converted_for_a_prompted_system(tmp_path):
    path = write_vis(tmp_path / "valid.json", tmp_path / "valid", MAPS)
    first, second = next_command(
        JsonVideos(path, tmp_path / "valid"), tmp_path / "best.pth", tmp_path / "run", prompted=True
    ).split(" && ")
    prompts = tmp_path / "run/prompts"
    assert second.endswith(
        f"--video_root {tmp_path / 'valid'} --output {tmp_path / 'run/inference'} --prompt_root {prompts}"
    )
    arguments = first.removeprefix("python -m tools.convert ")
    assert run_here(convert.main, *shlex.split(arguments)).status == 0
    drawn = [read_label_map(prompts / "a" / f"{t:05d}.png") for t in range(2)]
    np.testing.assert_array_equal(drawn, MAPS["a"])


def test_masks_in_text_of_mots_are_converted_and_their_regions_to_ignore_are_no_prompts(tmp_path):
    write_sequence(tmp_path / "data", "0002", kitti=True)
    shutil.rmtree(tmp_path / "data/instances")
    write_text(tmp_path / "data/instances_txt/0002.txt", sequence_labels(), first=0)
    videos = VOSFolder(tmp_path / "data")
    first, second = next_command(videos, BEST, tmp_path / "run", prompted=True).split(" && ")
    assert second.endswith(f"--prompt_root {tmp_path / 'run/instances'}")
    arguments = first.removeprefix("python -m tools.convert ")
    assert run_here(convert.main, *shlex.split(arguments)).status == 0
    prompts, (video,) = PromptFolder(tmp_path / "run/instances"), find_videos(tmp_path / "data")
    prompts.check(video, needed=True)
    assert prompts.starts_of(video) == {"000000": [2001]}


def test_of_still_images_one_is_tracked_and_none_by_a_prompt(tmp_path):
    stills = StillImages(write_pairs(tmp_path, MAPS))
    image = tmp_path / "images/a00000.png"
    command = f"{HEAD} {image} --output runs/1/inference"
    assert next_command(stills, BEST, BEST.parent, prompted=False) == command
    command = f"{HEAD} VIDEOS --output runs/1/inference --prompt_root THEIR_MASKS"
    assert next_command(stills, BEST, BEST.parent, prompted=True) == command


def test_tracks_are_scored_by_the_protocol_of_their_annotations(tmp_path):
    write_video(tmp_path / "vos", "a", MAPS["a"])
    path = write_vis(tmp_path / "valid.json", tmp_path / "valid", MAPS)
    write_sequence(tmp_path / "mots", "0002", kitti=True)
    head = "python evaluate.py --results runs/1/inference --annotations"
    expected = {
        f"{head} {tmp_path}/vos": VOSFolder(tmp_path / "vos"),
        f"{head} {path} --protocol ytvis --use_categories false": JsonVideos(path, tmp_path / "valid"),
        f"{head} {tmp_path}/mots --protocol mots": VOSFolder(tmp_path / "mots"),
    }
    for command, videos in expected.items():
        assert score_command(videos, BEST.parent, use_classes=False) == command
    assert score_command(StillImages(write_pairs(tmp_path, MAPS)), BEST.parent, use_classes=False) is None


def test_curves_are_drawn_when_there_was_time_since_the_last_ones_and_at_the_end(tmp_path, monkeypatch):
    drawn: list[Path] = []
    monkeypatch.setattr(report, "plot_curves", lambda table, picture: drawn.append(picture))
    now = [100.0]
    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    told, rows = Report(tmp_path, Listeners()), [{"epoch": 1, "step": 2, "loss/total": 0.5}]
    counts = []
    for seconds in (29, 1, 29, 2):
        now[0] += seconds
        told.table(rows)
        counts.append(len(drawn))
    told.metrics({}, 62.0, 2)
    assert counts == [0, 1, 1, 2] and drawn == [tmp_path / "results.png"] * 3
