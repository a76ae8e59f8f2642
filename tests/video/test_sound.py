"""Overlays sound as their source does: from its start, for its length, whatever its codec and container."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support.sounding import RATE, heard, write_sounding
from video.reader import VideoFile
from video.writer import OverlayWriter


def overlay_of(source: Path, first: int = 0, last: int | None = None) -> Path:
    """An overlay of the frames of a file from `first` to `last`, which is written as by inference.py."""
    video, path = VideoFile("a", source), source.parent / "overlay" / "a.mp4"
    with OverlayWriter(path, video.fps, sound=source) as writer:
        for name, frame in video.frames():
            if int(name) >= first and (last is None or int(name) <= last):
                writer.add(frame.permute(1, 2, 0).numpy(), video.times.get(name))
    return path


KINDS = [
    (".mp4", "mpeg4", "aac"),
    (".ts", "mpeg2video", "aac"),
    (".mov", "mpeg4", "libmp3lame"),
    (".mkv", "mpeg4", "libopus"),
    (".avi", "mpeg4", "pcm_s16le"),
]


@pytest.mark.parametrize(("suffix", "video_codec", "codec"), KINDS)
def test_the_tone_is_heard_when_it_is_in_the_source(tmp_path, suffix, video_codec, codec):
    """A second of silence, then a second of a tone; and the same without its first half second."""
    source = write_sounding(tmp_path / f"source{suffix}", video_codec, codec)
    overlay = overlay_of(source)
    sound = heard(overlay)
    assert len(sound) / RATE == pytest.approx(2, abs=0.05)
    assert np.abs(sound[int(0.1 * RATE) : int(0.95 * RATE)]).max() < 0.02
    tone = sound[int(1.1 * RATE) : int(1.9 * RATE)]
    spectrum = np.abs(np.fft.rfft(tone))
    assert spectrum.argmax() / (len(tone) / RATE) == pytest.approx(440, abs=3) and np.abs(tone).max() > 0.3
    assert len(list(VideoFile("a", overlay).frames())) == 50
    later = heard(overlay_of(source, first=13, last=39))  # from 0.52 s to 1.6 s
    assert len(later) / RATE == pytest.approx(1.08, abs=0.05)
    begins = np.flatnonzero(np.abs(later) > 0.1)[0] / RATE
    assert begins == pytest.approx(0.48, abs=0.03)


def test_sound_that_begins_after_the_first_frame_begins_so_in_the_overlay(tmp_path):
    source = write_sounding(tmp_path / "source.mkv", "mpeg4", "pcm_s16le", delay=Fraction(1, 2))
    begins = np.flatnonzero(np.abs(heard(overlay_of(source))) > 0.1)[0] / RATE
    assert begins == pytest.approx(1.5, abs=0.03)


def test_frame_times_and_pixel_aspect_stay_with_sound(tmp_path):
    source = VideoFile("a", write_sounding(tmp_path / "source.mp4", "mpeg4", "aac"))
    times = [Fraction(t, 100) for t in (0, 4, 10, 50, 51, 90)]
    with OverlayWriter(tmp_path / "a.mp4", 10, Fraction(4, 3), source.path) as writer:
        for time in times:
            writer.add(np.zeros((32, 48, 3), np.uint8), time)
    video = VideoFile("a", tmp_path / "a.mp4")
    assert len(list(video.frames())) == 6 and list(video.times.values()) == times
    assert video.pixel_aspect == Fraction(4, 3)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_damaged_sound_costs_no_frame(tmp_path):
    """Bytes of PCM that are another codec's, which no decoder can read."""
    source = write_sounding(tmp_path / "source.mkv", "mpeg4", "flac")
    content = bytearray(source.read_bytes())
    content = content.replace(b"A_FLAC", b"A_ALAC")  # what Matroska calls the codec
    source.write_bytes(content)
    overlay = overlay_of(source)
    assert len(list(VideoFile("a", overlay).frames())) == 50
    assert [path.name for path in overlay.parent.iterdir()] == ["a.mp4"]


def test_sound_of_no_known_codec_is_left_out_and_told(tmp_path, capsys):
    source = write_sounding(tmp_path / "source.mkv", "mpeg4", "flac")
    source.write_bytes(source.read_bytes().replace(b"A_FLAC", b"A_NONE"))
    overlay = overlay_of(source)
    assert len(list(VideoFile("a", overlay).frames())) == 50
    assert "source.mkv: its sound is left out of the overlay" in capsys.readouterr().err


def test_a_source_without_sound_has_a_silent_overlay(tmp_path, capsys):
    source = write_sounding(tmp_path / "source.mp4", "mpeg4", None)
    with pytest.raises(IndexError):
        heard(overlay_of(source))
    assert capsys.readouterr().err == ""
