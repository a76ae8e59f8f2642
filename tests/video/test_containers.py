"""What a video file may be inside: any container that holds the video itself, no list of other files."""

from pathlib import Path

import av
import numpy as np
import pytest

from common.errors import UserError
from tests.support.sounding import write_sounding, write_tone
from video.reader import find_videos

CODECS = {".webm": "vp8", ".wmv": "wmv2", ".gif": "gif", ".flv": "flv", ".ogv": "vp8"}
MPEG2 = {".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".vob", ".m2v", ".mxf"}
SUFFIXES = [".mp4", ".m4v", ".mov", ".mkv", ".avi", ".3gp", ".3g2", *CODECS, *sorted(MPEG2)]


def write_video(path: Path, num_frames: int = 30) -> Path:
    """A grey video of 64x48 in the container of its suffix."""
    with av.open(str(path), "w") as container:
        codec = "mpeg2video" if path.suffix in MPEG2 else CODECS.get(path.suffix, "mpeg4")
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8" if codec == "gif" else "yuv420p"
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_container_that_is_looked_for_is_read(tmp_path, suffix):
    (video,) = find_videos(write_video(tmp_path / f"a{suffix}"))
    video.check()
    assert video.size == (48, 64) and len(list(video.frames())) == 30


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile a.ts\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\na.ts\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    '<Period><AdaptationSet mimeType="video/mp2t"><Representation id="1"><BaseURL>a.ts</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_list_of_other_files_is_no_video_whatever_its_name(tmp_path, kind, suffix):
    write_video(tmp_path / "a.ts")
    path = tmp_path / f"list{suffix}"
    path.write_text(PLAYLISTS[kind])
    (video,) = find_videos(path)
    for read in (video.check, lambda: next(video.frames())):
        with pytest.raises(UserError, match=rf"list{suffix} is not a readable video \(.*\): copy it again"):
            read()


def test_a_list_of_other_files_is_called_so(tmp_path):
    write_video(tmp_path / "a.ts")
    (tmp_path / "b.mp4").write_text(PLAYLISTS["concat"])
    with pytest.raises(
        UserError, match=r"b\.mp4 .*\(a list of other files, or of a format that is not read\)"
    ):
        find_videos(tmp_path / "b.mp4")[0].check()


def test_what_ffmpeg_reads_is_a_video_whatever_its_suffix_and_the_rest_is_counted(tmp_path: Path, capsys):
    content = write_sounding(tmp_path / "a.ts", "mpeg2video", None).read_bytes()
    for name in ("b.mts", "c.rec", "d"):
        (tmp_path / name).write_bytes(content)
    for name in ("notes.txt", "program.ts", "table.csv", "weights"):
        (tmp_path / name).write_text("let x = 1;\n" * 100)
    write_tone(tmp_path / "song.m4a", cover=True)
    assert [video.name for video in find_videos(tmp_path)] == ["a", "b", "c", "d"]
    line = "5 files are not videos and are skipped: notes.txt, program.ts, song.m4a, ..."
    assert capsys.readouterr().err == f"{tmp_path}: {line}\n"
    assert find_videos(tmp_path / "c.rec")[0].name == "c" and capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"program\.ts is not a readable video"):
        find_videos(tmp_path / "program.ts")[0].check()


def test_a_title_in_latin_1_does_not_keep_a_video_from_being_read(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "caf__"
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(
            stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24"))
        )
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"caf__", b"caf\xe9 "))
    (video,) = find_videos(path)
    video.check()
    assert len(list(video.frames())) == video.num_frames == 1
