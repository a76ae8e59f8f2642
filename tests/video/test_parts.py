"""Parts of videos: from a frame or time on, to another, every so many; frames keep their names."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from video.reader import find_videos
from video.streams.parts import Part, place_of

SECONDS = [
    Fraction(t, 10) for t in (0, 1, 2, 4, 8, 9, 10, 11, 15, 16, 17, 20)
]  # of frames, not in one rhythm


def part(start: str | None = None, end: str | None = None, every: str | None = None) -> Part | None:
    return Part.of_flags(start, end, every, 10)


def save_clip(path: Path) -> Path:
    """A file of 12 frames at `SECONDS`, a key frame every fifth, with frames that refer to later ones."""
    av = pytest.importorskip("av")
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "5", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for second in SECONDS:
            pixels = generator.integers(0, 255, (32, 48, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = int(second * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def save_images(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        Image.new("RGB", (8, 6)).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    "text, place",
    [
        ("300", 300),
        ("0", 0),
        ("12.5s", Fraction(25, 2)),
        ("7s", Fraction(7)),
        ("0:05", Fraction(5)),
        ("1:23.5", Fraction(167, 2)),
        ("1:00:01", Fraction(3601)),
    ],
)
def test_a_place_is_a_frame_or_a_time(text, place):
    assert place_of("--start", text) == place and type(place_of("--start", text)) is type(place)


@pytest.mark.parametrize("text", ["12.5", "-3", "1:2:3:4", "", "s", "3 s", "1e3s", "nan", "٣"])
def test_what_is_neither_is_refused(text):
    with pytest.raises(UserError, match=r"--every .*12\.5s or 1:23\.5"):
        place_of("--every", text)


@pytest.mark.parametrize(
    "flags, numbers",
    [
        (("2", "5", None), [2, 3, 4]),
        (("0.9s", "1.6s", None), [5, 6, 7, 8]),
        (("3", None, "4"), [3, 7, 11]),
        ((None, None, "0.5s"), [0, 4, 6, 8, 11]),  # the first frame of each half second
        (("1", "0:01", "2"), [1, 3, 5]),
        (("12", None, None), []),
    ],
)
def test_a_part_has_the_frames_of_its_flags(flags, numbers):
    shifted = [(number, second + 5) for number, second in enumerate(SECONDS)]  # times count from the first
    assert list(part(*flags).chosen(shifted)) == [(number, number) for number in numbers]


def test_no_flags_are_no_part_and_what_is_no_part_is_refused():
    assert part() is None and part("0", None, "1") is None
    for flags in [
        ("3", "3", None),
        ("2s", "1s", None),
        (None, "0", None),
        (None, None, "0"),
        (None, None, "0s"),
    ]:
        with pytest.raises(UserError, match=r"--(end|every) "):
            part(*flags)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("flags", [("7", "9", None), ("1.1s", None, "2"), (None, "0:01", "0.3s")], ids=str)
def test_a_part_of_a_file_has_the_frames_of_the_whole_under_their_names(tmp_path, suffix, flags):
    path = save_clip(tmp_path / f"clip{suffix}")
    (whole,), (some,) = find_videos(path), find_videos(path, part=part(*flags))
    expected = dict(whole.frames())
    first = whole.times.get("00000", Fraction(0))
    seconds = [(name, whole.times[name] - first) for name in expected]
    names = [name for _, name in part(*flags).chosen(seconds)]
    frames = dict(some.frames())
    assert list(frames) == names and 2 <= len(names) < 12
    assert all((frames[name] == expected[name]).all() for name in names)
    assert some.times == {name: whole.times[name] for name in names}
    assert all(some.has_frame(name) for name in names) and some.num_frames in (None, len(names))
    if suffix != ".avi":
        assert not some.has_frame(next(name for name in expected if name not in names))


@pytest.mark.parametrize("fps, numbers", [(10, [4, 9]), (4, [2, 4, 6, 8, 10])])
def test_frames_without_times_come_at_the_rate_that_is_given(tmp_path, fps, numbers):
    path = save_clip(tmp_path / "clip.h264")
    (video,) = find_videos(path, part=Part.of_flags("0.4s", None, "0.5s", fps))
    assert [name for name, _ in video.frames()] == [f"{number:05d}" for number in numbers]
    assert video.times == {}


def test_a_part_of_a_folder_is_of_its_images_which_come_at_its_rate(tmp_path):
    folder = save_images(tmp_path / "clip", ["00005", "00010", "00015", "00020", "00025"])
    (video,) = find_videos(folder, 10, part("1", None, "2"))
    assert video.frame_names == ["00010", "00020"] and video.fps == 5 and not video.has_frame("00015")
    assert [name for name, _ in video.frames()] == ["00010", "00020"]
    (video,) = find_videos(folder, 10, part("0.2s", "0.4s"))
    assert video.frame_names == ["00015", "00020"] and video.fps == 10


def test_a_part_without_a_frame_is_refused(tmp_path):
    for path in (save_clip(tmp_path / "a.mp4"), save_images(tmp_path / "b", ["1", "2"])):
        (video,) = find_videos(path, 10, part("1:00", None))
        with pytest.raises(UserError, match="holds no frame in --start 60s"):
            video.check()
