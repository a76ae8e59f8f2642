"""What a video file may be inside: any container that holds the video itself, no list of other files."""

from pathlib import Path

import av
import numpy as np
import pytest

from common.errors import UserError
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
