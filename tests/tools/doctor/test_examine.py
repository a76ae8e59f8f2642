"""What is found in one video: each fault is made by hand, and a good video has none."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from annotated.videos import AnnotatedVideo, VOSFolder
from tests.support.vos_folders import maps_of, write_video
from tools.doctor.examine import Examined, examine


def video_of(root, maps: np.ndarray) -> AnnotatedVideo:
    write_video(root, "a", maps)
    return VOSFolder(root).videos[0]


def found(video: AnnotatedVideo, about=None, has_meta: bool = False) -> dict[str, tuple[int, str]]:
    """{kind: (count, name of the file)} of the findings, of which there is one a kind."""
    findings = examine("train", about, has_meta, video).findings
    assert len({one.kind for one in findings}) == len(findings)
    return {one.kind: (one.count, one.path.name) for one in findings}


def test_a_good_video_is_counted_and_nothing_is_found(tmp_path):
    seen = examine("train", None, False, video_of(tmp_path, maps_of([1, 2])))
    assert seen.findings == []
    assert (seen.num_frames, seen.num_masks, seen.size, seen.modes) == (6, 6, (40, 40), ("RGB", "P"))
    assert seen.shares == pytest.approx([16 / 40, 11 / 40])
    assert seen.thumbnails.shape == (3, 16, 16)


def change(maps: np.ndarray, frames: slice, old: int, new: int) -> np.ndarray:
    maps[frames][maps[frames] == old] = new
    return maps


def test_an_id_that_changes_for_good_is_renamed(tmp_path):
    maps = change(maps_of([1, 2]), np.s_[3:], 2, 7)
    assert found(video_of(tmp_path, maps)) == {"renamed_id": (1, "00003.png")}


def test_ids_that_change_places_are_exchanged(tmp_path):
    maps = maps_of([1, 2])
    maps[:, 16:32] = 2  # as wide as the first
    maps[4:] = np.choose(maps[4:], [0, 2, 1])
    seen = examine("train", None, False, video_of(tmp_path, maps))
    assert {(one.kind, one.frames) for one in seen.findings} == {("exchanged_ids", ("00003", "00004"))}
    assert len(seen.findings) == 2


def test_an_id_in_one_mask_and_one_of_a_few_pixels_are_found(tmp_path):
    maps = maps_of([1])
    maps[2, 30:38, 30:38] = 4
    maps[:, 20, :9] = 5
    assert found(video_of(tmp_path, maps)) == {
        "single_appearance": (1, "00002.png"),
        "tiny_object": (1, "00000.png"),
    }


def test_a_mask_that_fills_the_frame_is_giant(tmp_path):
    maps = maps_of([1])
    maps[1:3, :38] = 1
    assert found(video_of(tmp_path, maps)) == {"giant_object": (2, "00001.png")}


def test_smoothed_edges_are_all_that_is_said_of_a_video(tmp_path):
    video = video_of(tmp_path, maps_of([200, 100], frames=2))
    disc = Image.new("L", (40, 40))
    disc.paste(240, (8, 8, 30, 30))
    disc.rotate(20).filter(ImageFilter.GaussianBlur(1)).save(video.mask_path("00001"))
    assert found(video) == {"smoothed_edges": (1, "00001.png")}


def test_an_empty_video_and_one_with_a_single_mask_are_found(tmp_path):
    assert found(video_of(tmp_path / "1", maps_of([]))) == {"empty_video": (1, "a")}
    video = video_of(tmp_path / "2", maps_of([1]))
    video.annotated = video.annotated[:1]
    assert found(video) == {"single_mask": (1, "a")}


def test_masks_of_0_and_255_are_one_object_and_void_beside_ids(tmp_path):
    def with_255(root, ids):
        video = video_of(root, maps_of(ids))
        for frame in video.annotated[2:] if ids else video.annotated:
            Image.fromarray(maps_of([255])[0]).save(video.mask_path(frame))
        return video

    assert found(with_255(tmp_path / "1", [])) == {"one_object": (1, "00000.png")}
    assert found(with_255(tmp_path / "2", [1, 2])) == {"void_only": (4, "00002.png")}


def test_gaps_and_strays_of_frames_and_masks_are_found(tmp_path):
    video = video_of(tmp_path, maps_of([1], frames=10))
    video.frames.remove("00003")
    video.annotated = [frame for frame in video.annotated if frame not in ("00003", "00006", "00007")]
    assert found(video) == {"missing_frames": (1, "00002.png"), "missing_masks": (2, "00005.png")}
    video.frames.append("cover")
    Image.new("RGB", (40, 40)).save(video.frame_path("cover"))
    assert found(video)["extra_frames"] == (1, "cover.png")


def test_bad_files_are_found_and_the_others_are_looked_at(tmp_path):
    video = video_of(tmp_path, maps_of([1]))
    Image.new("RGB", (40, 40)).save(video.mask_path("00001"))
    Image.new("L", (20, 40)).save(video.mask_path("00002"))
    data = video.frame_path("00004").read_bytes()
    video.frame_path("00004").write_bytes(data[:40])
    seen = examine("train", None, False, video)
    bad = [(one.kind, one.path.parent.parent.name, one.path.stem) for one in seen.findings]
    assert sorted(bad) == [
        ("bad_file", "Annotations", "00001"),
        ("bad_file", "Annotations", "00002"),
        ("bad_file", "JPEGImages", "00004"),
    ]
    assert (seen.num_frames, seen.num_masks) == (5, 3)
    assert len(video.frames) == 6  # the caller's list is as it was


def test_a_video_without_a_good_mask_has_findings_alone(tmp_path):
    video = video_of(tmp_path, maps_of([1], frames=1))
    video.mask_path("00000").write_bytes(b"no picture")
    seen = examine("train", None, False, video)
    assert seen == Examined(seen.findings, num_frames=1) and seen.findings[0].kind == "bad_file"


def test_what_meta_json_says_is_compared_with_the_masks(tmp_path):
    video = video_of(tmp_path, maps_of([1, 2]))
    assert found(video, {1: {}, 2: {"frames": ["00000"]}}, True) == {}
    assert found(video, {1: {}, 9: {}}, True) == {
        "meta_lacks": (1, "meta.json"),
        "meta_extra": (1, "meta.json"),
    }
    assert found(video, {1: {}, 2: {"frames": ["00000", "7"]}}, True) == {"meta_extra": (1, "meta.json")}
    assert found(video, None, True) == {"meta_lacks": (1, "meta.json")}
