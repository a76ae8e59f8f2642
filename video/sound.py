"""The sound of a source in a video that was written without it."""

from collections.abc import Iterator
from fractions import Fraction
from heapq import merge
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.errors import UserError, require
from common.files import atomic_write
from common.progress import say
from video.streams.containers import open_video

COPIED = {"aac", "mp3"}  # codecs that every browser plays in an mp4; all others become AAC
RATE = 48_000  # samples per second of what is encoded
PREROLL = 2  # packets before the first that is heard, from which a decoder needs something


def _copied(source: Any, stream: Any, target: Any, start: Fraction, end: Fraction) -> Iterator[Any]:
    """The packets of an audio stream that are heard from `start` to `end` seconds, `start` becoming 0.

    Those that begin before it get times below 0, which an edit list of the file passes over.
    """
    shift, waiting = round(start / stream.time_base), []
    for packet in source.demux(stream):
        if packet.pts is None or packet.size == 0:
            continue
        if packet.pts * packet.time_base >= end:
            break
        waiting.append(packet)
        is_heard = (packet.pts + packet.duration) * packet.time_base > start
        if not is_heard:
            waiting = waiting[-PREROLL:]
            continue
        for one in waiting:
            one.pts, one.dts, one.stream = one.pts - shift, one.pts - shift, target
            yield one
        waiting = []


def _trimmed(stream: Any, layout: str, start: Fraction, end: Fraction) -> Any:
    """FFmpeg's filters that give the samples from `start` to `end` seconds, `start` becoming 0, for AAC."""
    graph = require("av", "writing sound").filter.Graph()
    forms = f"sample_fmts=fltp:sample_rates={RATE}:channel_layouts={layout}"
    chain = [graph.add_abuffer(template=stream)]
    chain.append(graph.add("atrim", f"start={float(start):.6f}:end={float(end):.6f}"))
    chain.append(graph.add("asetpts", f"PTS-{float(start):.6f}/TB"))
    chain += [graph.add("aresample", "async=1"), graph.add("aformat", forms), graph.add("abuffersink")]
    for former, following in pairwise(chain):
        former.link_to(following)
    graph.configure()
    return graph


def _encoded(source: Any, stream: Any, target: Any, start: Fraction, end: Fraction) -> Iterator[Any]:
    """The packets of an audio stream from `start` to `end` seconds, encoded anew; damaged ones are silent."""
    av, graph = require("av", "writing sound"), _trimmed(stream, target.layout.name, start, end)

    def filtered(frame: Any) -> Iterator[Any]:
        graph.push(frame)
        try:
            while True:
                yield from target.encode(graph.pull())
        except (av.BlockingIOError, av.EOFError):  # it needs more, or has had all
            return

    for packet in source.demux(stream):
        if packet.pts is not None and packet.pts * packet.time_base >= end:
            break
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            continue
        for frame in frames:
            yield from filtered(frame)
    yield from filtered(None)
    yield from target.encode(None)


def _write(temporary: Path, silent: Any, source: Any, stream: Any, start: Fraction, end: Fraction) -> None:
    """Write the video of one open file and the audio stream of another into an mp4, by their times."""
    av, picture = require("av", "writing sound"), silent.streams.video[0]
    index_first = {"movflags": "+faststart"}
    with av.open(str(temporary), "w", format="mp4", container_options=index_first) as container:
        target = container.add_stream_from_template(picture)
        target.time_base = picture.time_base
        if stream.codec_context.codec.canonical_name in COPIED:
            sound = _copied(source, stream, container.add_stream_from_template(stream), start, end)
        else:
            layout = "mono" if stream.layout.nb_channels == 1 else "stereo"
            encoder = container.add_stream("aac", rate=RATE, layout=layout)
            sound = _encoded(source, stream, encoder, start, end)
        pictures = (packet for packet in silent.demux(picture) if packet.dts is not None)
        for packet in merge(pictures, sound, key=lambda packet: packet.dts * packet.time_base):
            if packet.stream is picture:
                packet.stream = target
            container.mux(packet)


def add_sound(path: Path, source: Path, start: Fraction, end: Fraction) -> None:
    """Give an mp4 the sound that a video file has from `start` to `end` seconds, if it has any.

    Sound that cannot be read is left out, which a line says.
    """
    av = require("av", "writing sound")
    try:
        with open_video(source) as (sounding, _):
            stream = sounding.streams.best("audio")
            if stream is None:
                return
            if stream.codec_context is None:
                raise UserError("its codec is not known")
            with atomic_write(path) as temporary, av.open(str(path)) as silent:
                _write(temporary, silent, sounding, stream, start, end)
    except (av.FFmpegError, UserError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else error
        say(f"{source}: its sound is left out of the overlay ({reason})", error=True)
