"""Video files with a tone, and what is heard of one."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 48_000  # samples per second
FPS, SECONDS = 25, 2


def _add_sound(container: av.container.OutputContainer, stream: av.AudioStream, delay: Fraction) -> None:
    """A second of silence and one of a tone of 440 Hz."""
    seconds = np.arange(SECONDS * RATE) / RATE
    samples = np.where(seconds < 1, 0, 0.5 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    for k in range(0, len(samples), 960):
        frame = av.AudioFrame.from_ndarray(np.stack([samples[k : k + 960]] * 2), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, k + int(delay * RATE), Fraction(1, RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_sounding(path: Path, video_codec: str, codec: str | None, delay: Fraction = Fraction(0)) -> Path:
    """Two seconds of 64x48 at 25 frames a second; a codec of None: without sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(video_codec, rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=RATE, layout="stereo") if codec else None
        for i in range(SECONDS * FPS):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            _add_sound(container, sound, delay)
    return path


def heard(path: Path) -> np.ndarray:
    """The samples of a file's sound from its time 0 on, of one channel, as floats; IndexError without any."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono", RATE)
        decoded = list(container.decode(container.streams.audio[0]))
        frames = [part for frame in decoded for part in resampler.resample(frame)] + resampler.resample(None)
    lead = np.zeros(max(0, round(decoded[0].pts * decoded[0].time_base * RATE)), np.float32)
    return np.concatenate([lead, *(frame.to_ndarray()[0] for frame in frames)])


def write_tone(path: Path, *, cover: bool) -> Path:
    """Sound alone; cover: with a picture, as music has it."""
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=RATE, layout="stereo")
        if cover:
            picture = container.add_stream("png", rate=1)
            picture.width, picture.height, picture.pix_fmt = 16, 16, "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
        _add_sound(container, sound, Fraction(0))
        if cover:
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            container.mux([*picture.encode(frame), *picture.encode(None)])
    return path
