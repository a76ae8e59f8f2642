import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import MissingPackage, UserError
from video.reader import ImageSequence, VideoFile, find_videos
from video.writer import OverlayWriter

SHARED = Path(__file__).resolve().parents[3] / "shared"
needs_real_clips = pytest.mark.skipif(not (SHARED / "real").is_dir(), reason="the real clips are not here")


def save_image(path: Path, shade: int = 0, size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), shade, dtype=np.uint8)).save(path)


def noise(count: int, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """(count, H, W, 3) pictures that hardly compress, so that a file's frames take most of its bytes."""
    return np.random.default_rng(0).integers(0, 255, (count, *size, 3), dtype=np.uint8)


def save_video(path: Path, frames: np.ndarray, fps: float = 10) -> Path:
    with OverlayWriter(path, fps) as writer:
        for frame in frames:
            writer.add(frame)
    return path


def corner_picture() -> np.ndarray:
    """(32, 64, 3) black with a red top left quarter."""
    frame = np.zeros((32, 64, 3), dtype=np.uint8)
    frame[:16, :32, 0] = 255
    return frame


def set_rotation(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write the upper left 2x2 of the display matrix into the track header of an mp4."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44  # after version, times, track, duration, layer, group and volume
    a, b, c, d = (number << 16 for number in matrix)
    struct.pack_into(">9i", content, start, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def read_until_error(video: VideoFile | ImageSequence) -> tuple[list[str], str]:
    names = []
    with pytest.raises(UserError) as caught:
        for name, _ in video.frames():
            names.append(name)
    assert str(caught.value).startswith(str(video.path)) and "\n" not in str(caught.value)
    return names, str(caught.value)


# ---- finding videos


def names_of(root: Path | str) -> list[str]:
    return [video.name for video in find_videos(root)]


def test_a_folder_of_video_folders_is_sorted_by_name_and_other_files_are_passed_over(tmp_path: Path):
    for video in ("zebra", "ant"):
        save_image(tmp_path / video / "00000.jpg")
    (tmp_path / "meta.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    save_image(tmp_path / "ant" / ".hidden.jpg")
    videos = find_videos(tmp_path)
    assert videos == [ImageSequence("ant", tmp_path / "ant"), ImageSequence("zebra", tmp_path / "zebra")]
    assert videos[0].frame_names == ["00000"] and videos[0].num_frames == 1 and videos[0].fps == 24


@pytest.mark.parametrize("inner", ["JPEGImages", "JPEGImages/480p"])
def test_a_split_root_is_entered(tmp_path: Path, inner: str):
    save_image(tmp_path / inner / "bear" / "00000.jpg")
    save_image(tmp_path / "Annotations" / "bear" / "00000.png")
    assert find_videos(tmp_path)[0].path == tmp_path / inner / "bear"
    assert names_of(tmp_path) == ["bear"]


def test_one_video_folder_one_image_and_a_glob_of_images_are_one_video(tmp_path: Path):
    for number in range(12):
        save_image(tmp_path / "bear" / f"{number:05d}.png")
    for root, count in (("", 12), ("00003.png", 1), ("0000*.png", 10), ("*[13579].png", 6)):
        (video,) = find_videos(tmp_path / "bear" / root)
        assert (video.name, video.num_frames) == ("bear", count)


def test_a_glob_may_match_folders_and_files(tmp_path: Path):
    for video in ("bear", "boat", "cat"):
        save_image(tmp_path / video / "00000.jpg")
    (tmp_path / "bus.mp4").write_bytes(b"")
    assert names_of(tmp_path / "b*") == ["bear", "boat", "bus"]
    assert names_of(f"{tmp_path}/*/*.jpg") == ["bear", "boat", "cat"]


def test_a_folder_may_hold_video_folders_and_video_files(tmp_path: Path):
    save_image(tmp_path / "b" / "0.jpg")
    (tmp_path / "c.MP4").write_bytes(b"")
    (tmp_path / "a.mov").write_bytes(b"")
    assert [type(video) for video in find_videos(tmp_path)] == [VideoFile, ImageSequence, VideoFile]
    assert find_videos(tmp_path / "a.mov") == [VideoFile("a", tmp_path / "a.mov")]


def test_files_of_cameras_and_recorders_are_videos(tmp_path: Path):
    for number, suffix in enumerate((".flv", ".3gp", ".m2ts", ".OGV", ".vob")):
        (tmp_path / f"{number}{suffix}").write_bytes(b"")
    assert names_of(tmp_path) == [str(number) for number in range(5)]


def test_sequences_of_mot_challenge_are_named_by_their_folder(tmp_path: Path, capsys):
    for name in ("MOT17-02-FRCNN", "MOT17-04-SDP"):
        save_image(tmp_path / "train" / name / "img1" / "000001.jpg")
        (tmp_path / "train" / name / "gt").mkdir()
        (tmp_path / "train" / name / "gt" / "gt.txt").write_text("1,1,0,0,2,2,1,1,1\n")
        (tmp_path / "train" / name / "seqinfo.ini").write_text("[Sequence]\nimDir=img1\n")
    assert names_of(tmp_path / "train") == ["MOT17-02-FRCNN", "MOT17-04-SDP"]
    for root in ("MOT17-04-SDP", "MOT17-04-SDP/img1", "*-SDP"):
        (video,) = find_videos(tmp_path / "train" / root)
        assert video.name == "MOT17-04-SDP" and video.frame_names == ["000001"]
    assert "seqinfo.ini" in capsys.readouterr().err  # passed over beside the frames of a single sequence


SYSTEM_FOLDERS = (".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails")


def test_what_systems_put_beside_videos_and_frames_is_neither(tmp_path: Path):
    save_image(tmp_path / "bear" / "00000.jpg")
    (tmp_path / "clip.mp4").write_bytes(b"")
    for name in ("._clip.mp4", "Thumbs.db", "desktop.ini", ".DS_Store", "bear/._00000.jpg", "...mp4"):
        (tmp_path / name).write_bytes(b"junk")
    for folder in SYSTEM_FOLDERS:
        save_image(tmp_path / folder / "00000.jpg")
        save_image(tmp_path / "bear" / folder / "00000.jpg")
    for root in (tmp_path, tmp_path / "*"):
        assert names_of(root) == ["bear", "clip"]
    assert names_of(tmp_path / "*" / "*.jpg") == ["bear"]
    assert find_videos(tmp_path)[0].frame_names == ["00000"]
    with pytest.raises(UserError, match="holds no video"):
        find_videos(tmp_path / "bear" / "._00000.jpg")


def test_what_lies_below_a_hidden_folder_that_is_named_is_found(tmp_path: Path):
    save_image(tmp_path / ".cache" / "bear" / "00000.jpg")
    for root in (tmp_path / ".cache", tmp_path / ".cache" / "b*", tmp_path / ".cache" / "bear" / "*.jpg"):
        assert names_of(root) == ["bear"]


def test_numbers_in_frame_names_sort_by_value(tmp_path: Path):
    names = ["1", "2", "9", "10", "100"]
    for name in reversed(names):
        save_image(tmp_path / f"{name}.png")
    assert find_videos(tmp_path)[0].frame_names == names


def test_two_videos_of_one_name_are_refused(tmp_path: Path):
    save_image(tmp_path / "bear" / "00000.jpg")
    (tmp_path / "bear.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"both named bear: rename"):
        find_videos(tmp_path)


def test_two_images_of_one_frame_are_refused(tmp_path: Path):
    save_image(tmp_path / "00000.jpg")
    save_image(tmp_path / "00000.png")
    with pytest.raises(UserError, match="the same frame"):
        list(find_videos(tmp_path)[0].frames())


def test_a_path_that_does_not_exist_is_named(tmp_path: Path):
    for root in (tmp_path / "nowhere", tmp_path / "*.jpg"):
        with pytest.raises(UserError, match=re.escape(f"{root}: no such file")):
            find_videos(root)


def test_a_path_without_videos_says_what_was_looked_for(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no video")
    for root in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match=re.escape(f"{root} holds no video") + r".*\.jpg.*\.mp4"):
            find_videos(root)


# ---- still images


def test_frames_of_a_folder_are_uint8_rgb_tensors_in_order(tmp_path: Path):
    for number in range(3):
        save_image(tmp_path / f"{number:05d}.png", shade=10 * number)
    frames = list(find_videos(tmp_path)[0].frames())
    assert [name for name, _ in frames] == ["00000", "00001", "00002"]
    assert [frame.unique().tolist() for _, frame in frames] == [[0], [10], [20]]
    assert (
        frames[0][1].shape == (3, 6, 8) and frames[0][1].dtype == torch.uint8 and frames[0][1].is_contiguous()
    )


def test_channels_are_red_green_blue_and_grey_and_palette_images_are_converted(tmp_path: Path):
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "0.png")
    Image.new("L", (2, 2), 7).save(tmp_path / "1.png")
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 4, 5, 6])
    palette.save(tmp_path / "2.png")
    frames = [frame[:, 0, 0].tolist() for _, frame in find_videos(tmp_path)[0].frames()]
    assert frames == [[1, 2, 3], [7, 7, 7], [4, 5, 6]]


def test_a_truncated_jpeg_is_named_after_the_frames_before_it(tmp_path: Path):
    for number in range(3):
        Image.fromarray(noise(1)[0]).save(tmp_path / f"{number}.jpg")
    bad = tmp_path / "1.jpg"
    bad.write_bytes(bad.read_bytes()[:-1000])
    names, message = read_until_error(find_videos(tmp_path)[0])
    assert names == ["0"] and str(bad) in message


def test_a_frame_of_another_size_is_named_with_both_sizes(tmp_path: Path):
    save_image(tmp_path / "0.png", size=(6, 8))
    save_image(tmp_path / "1.png", size=(8, 6))
    names, message = read_until_error(find_videos(tmp_path)[0])
    assert names == ["0"] and "frame 1 is 6x8" in message and "8x6" in message


# ---- video files


def test_frames_of_a_file_are_numbered_and_upright(tmp_path: Path):
    frames = np.stack([corner_picture() // (1 + number) for number in range(4)])
    (video,) = find_videos(save_video(tmp_path / "clip.mp4", frames, fps=12.5))
    read = list(video.frames())
    assert (video.name, video.fps, video.num_frames, video.frame_names) == ("clip", 12.5, 4, None)
    assert [name for name, _ in read] == ["00000", "00001", "00002", "00003"]
    for (_, frame), original in zip(read, frames, strict=True):
        assert frame.shape == (3, 32, 64) and frame.dtype == torch.uint8 and frame.is_contiguous()
        assert np.abs(frame.permute(1, 2, 0).numpy()[8, 8].astype(int) - original[8, 8]).max() <= 6


@pytest.mark.parametrize(
    ("matrix", "size", "corner"),
    [
        ((1, 0, 0, 1), (32, 64), (0, 0)),
        ((0, 1, -1, 0), (64, 32), (0, 1)),  # a phone held upright: a quarter turn clockwise
        ((-1, 0, 0, -1), (32, 64), (1, 1)),
        ((0, -1, 1, 0), (64, 32), (1, 0)),
        ((-1, 0, 0, 1), (32, 64), (0, 1)),  # mirrored
        ((1, 0, 0, -1), (32, 64), (1, 0)),
        ((0, 1, 1, 0), (64, 32), (0, 0)),
        ((0, -1, -1, 0), (64, 32), (1, 1)),
    ],
)
def test_the_display_matrix_is_applied(tmp_path: Path, matrix, size, corner):
    path = save_video(tmp_path / "clip.mp4", corner_picture()[None])
    set_rotation(path, matrix)
    ((_, frame),) = VideoFile("clip", path).frames()
    assert frame.shape[1:] == size
    bright = torch.nonzero(frame[0] > 128).float().mean(0) / torch.tensor(size)
    assert (bright > 0.5).long().tolist() == list(corner)


def test_a_file_that_is_no_video_is_refused(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    for content in (b"", b"this is no video" * 100):
        path.write_bytes(content)
        names, message = read_until_error(VideoFile("clip", path))
        assert names == [] and "not a readable video" in message
        with pytest.raises(UserError, match="not a readable video"):
            _ = VideoFile("clip", path).fps


def test_a_file_that_is_not_there_or_a_folder_is_an_os_error(tmp_path: Path):
    for path in (tmp_path / "gone.mp4", tmp_path):
        with pytest.raises(OSError, match=re.escape(str(path))):
            list(VideoFile("gone", path).frames())


def test_a_file_without_a_video_stream_is_refused(tmp_path: Path):
    av = pytest.importorskip("av")
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert "no video stream" in read_until_error(VideoFile("sound", path))[1]


def test_a_file_cut_in_the_middle_says_how_many_frames_are_readable(tmp_path: Path):
    path = save_video(tmp_path / "clip.mp4", noise(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    names, message = read_until_error(VideoFile("clip", path))
    assert 5 < len(names) < 20 and f"damaged after {len(names)} readable frames" in message


def test_a_file_cut_between_two_frames_is_not_silently_shorter(tmp_path: Path):
    av = pytest.importorskip("av")
    path = save_video(tmp_path / "clip.mp4", noise(40))
    with av.open(str(path)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: ends[19]])
    names, message = read_until_error(VideoFile("clip", path))
    assert len(names) <= 20 and "should last 4.0 s, but ends after 2.0 s" in message


def test_a_matroska_file_cut_in_the_middle_is_not_silently_shorter(tmp_path: Path):
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mkv"
    with (
        av.open(str(save_video(tmp_path / "clip.mp4", noise(40)))) as source,
        av.open(str(path), "w") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    assert len(list(VideoFile("clip", path).frames())) == 40
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "should last 4.0 s" in read_until_error(VideoFile("clip", path))[1]


def test_garbage_in_the_middle_of_a_file_is_noticed(tmp_path: Path):
    path = save_video(tmp_path / "clip.mp4", noise(40))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    path.write_bytes(content)
    names, message = read_until_error(VideoFile("clip", path))
    assert 5 < len(names) < 35 and f"damaged after {len(names)} readable frames" in message


def test_a_clip_trimmed_by_its_edit_list_is_whole(tmp_path: Path):
    path = save_video(tmp_path / "clip.mp4", noise(40))
    content = bytearray(path.read_bytes())
    start = content.index(b"elst") + 12  # after version, flags and the number of entries
    (milliseconds,) = struct.unpack_from(">I", content, start)
    struct.pack_into(">I", content, start, milliseconds // 2)
    path.write_bytes(content)
    assert 20 <= len(list(VideoFile("clip", path).frames())) <= 22


def test_a_reader_that_stops_early_leaves_no_open_file(tmp_path: Path):
    frames = VideoFile("clip", save_video(tmp_path / "clip.mp4", noise(3))).frames()
    next(frames)
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files cannot be listed here")

    def is_open() -> bool:
        return any(link.is_symlink() and "clip.mp4" in str(link.readlink()) for link in descriptors.iterdir())

    assert is_open()
    frames.close()
    assert not is_open()


def test_a_video_file_without_pyav_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(MissingPackage, match="pip install av"):
        list(find_videos(tmp_path)[0].frames())


@needs_real_clips
def test_real_files_give_as_many_frames_as_they_say():
    sizes = {}
    for video in find_videos(SHARED / "real" / "VIDEOS"):
        sizes[video.name] = [tuple(frame.shape[1:]) for _, frame in video.frames()]
        assert len(sizes[video.name]) == video.num_frames and 15 < video.fps < 31
    assert any(height > width for (height, width), *_ in sizes.values())


def test_what_cannot_be_opened_is_told_before_a_frame_is_read(tmp_path: Path):
    (tmp_path / "junk.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "still").mkdir()
    (tmp_path / "still" / "0.jpg").write_bytes(b"no picture")
    for video in find_videos(tmp_path):
        with pytest.raises(UserError, match=r"junk\.mp4|still/0\.jpg"):
            video.check()
