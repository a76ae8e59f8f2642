"""The hidden working place of a run in its output: what is begun, what is done, and by which command.

    .unfinished/run.json        the settings of the command, and the videos whose results were there before
    .unfinished/videos/<name>/  maps/ rows.sqlite overlay.mp4 detections.npz  what is written of a video
                                states/ reverse/  of its tracker, from which it goes on
                                source.json what it is made from, as it was
                                done.json   it is done: its results are complete

It goes when every video is done. Everything in it may be cut off by a kill at any moment.
"""

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import below, check_own, is_visible, read_json, write_json
from tracking.output import VideoPaths
from video.reader import Video

WORK, FINISHED = ".unfinished", ".finished"  # folders of the output: at work, and about to be removed
JSON_FILES = ("tracks.json", "results.json", "categories.json", "failed.json")  # of all videos of a run
RUN_FILE = re.compile(r"frames|\.?[^.].*\.(png|json|npz|mp4|pt|sqlite|sqlite-journal)(\.tmp)?")
VIDEO_ENTRY = (("video_id", int), ("frames", int), ("tracks", dict))


def _is_typed(value: Any, fields: Iterable[tuple[str, type]]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in fields)


def _read_own(path: Path, default: Any) -> Any:
    """The JSON object in a file of a run; UserError where no run wrote it."""
    content = read_json(path) if path.exists() else default
    if path.name == "tracks.json":
        ours = isinstance(content, dict) and all(_is_typed(entry, VIDEO_ENTRY) for entry in content.values())
    else:
        ours = _is_typed(content, [("overwrite", bool), ("former", list)])
        ours = ours and all(isinstance(name, str) for name in content["former"])
    if not ours:
        raise UserError(f"{path} is no file of inference.py: remove it, or choose another --output")
    return content


def _remove(folder: Path) -> None:
    """Remove a working place; UserError where it holds what no run writes."""
    check_own(folder, RUN_FILE)
    if folder.exists():
        shutil.rmtree(folder)


class Work:
    """The working place of the runs into one output, which may not be there yet."""

    def __init__(self, output: Path):
        self.output, self.folder = output, output / WORK
        self.settings_file = self.folder / "run.json"

    def place(self, name: str) -> Path:
        return below(self.folder / "videos", name)

    def is_done(self, name: str) -> bool:
        return (self.place(name) / "done.json").exists()

    def names(self) -> list[str]:
        """The videos whose results the output holds, of this run and of former ones."""
        tracks = _read_own(self.output / "tracks.json", {})
        return list({**tracks, **dict.fromkeys(self._record()["former"]), **dict.fromkeys(self._done())})

    def goes_on(self, settings: Any, *, overwrite: bool) -> bool:
        """Whether a command of these settings goes on with what is there.

        settings: plain values by name; None where the command always begins anew
        overwrite: whether it may replace results, which begins anew unless what is there began so
        """
        record = self._record()
        same = settings is not None and record["settings"] == settings
        return same and (record["overwrite"] or not overwrite)

    def check(self, videos: Sequence[Video], settings: Any = None, *, overwrite: bool) -> None:
        """Raise UserError where results cannot be put into the output, or may not replace what it holds.

        Names of videos that no file can have are refused here, before others are tracked for hours. What is
        left of a run that was killed while it removed its working place goes first, even if this one is
        refused.
        """
        _remove(self.output / FINISHED)
        if not overwrite and not self.goes_on(settings, overwrite=overwrite):
            self._check_empty(settings)
        check_own(self.folder, RUN_FILE)
        if (self.folder / "videos").exists() and not self.settings_file.exists():
            raise UserError(f"{self.folder} was not written by a run into --output {self.output}: move it")
        former = set(self.names())
        for name in sorted({*former, *(video.name for video in videos)}):
            paths = VideoPaths.of_results(self.output, name)
            there = [path for path in paths[:2] if path.exists()]
            if name not in former and there and not self.is_done(name):
                remedy = "move it, or choose another folder"
                raise UserError(f"{there[0]} was not written by a run into --output {self.output}: {remedy}")
            check_own(paths.maps)

    def check_frames(self, video: Video) -> None:
        """Raise UserError where a video has a frame whose name no file can have."""
        for frame in video.frame_names or ():
            below(VideoPaths.of_results(self.output, video.name).maps, frame, ".png")

    def begin(self, settings: Any, *, overwrite: bool) -> None:
        """Go on with what is there, or begin anew; former results stay until they are replaced."""
        if self.goes_on(settings, overwrite=overwrite):
            for name in self._begun():
                if self.is_done(name):
                    self._publish(name)  # which a kill may have cut off
            return
        record = {"settings": None, "overwrite": overwrite, "former": self.names()}
        if (self.folder / "videos").exists():
            # Of no command's settings, until all of the former is gone.
            write_json(self.settings_file, record)
            _remove(self.folder / "videos")
        write_json(self.settings_file, record | {"settings": settings})

    def open(self, name: str, source: Any) -> Path:
        """The working place of a video, emptied where it was made from something else than `source`."""
        path = self.place(name) / "source.json"
        if not path.exists() or read_json(path) != source:
            if self.is_done(name):
                record = self._record()
                write_json(self.settings_file, record | {"former": [*record["former"], name]})
            _remove(self.place(name))
            write_json(path, source)
        return self.place(name)

    def finish(self, name: str) -> None:
        """Put the results of a video in the place of former ones; JSON files, which no longer hold, go."""
        for file in JSON_FILES:
            (self.output / file).unlink(missing_ok=True)
        VideoPaths.of_results(self.output, name).remove()
        write_json(self.place(name) / "done.json", {})
        self._publish(name)

    def clear(self, name: str) -> None:
        """Keep nothing of a video."""
        _remove(self.place(name))

    def leave(self) -> bool:
        """Keep what a next run can go on with, and tell whether that is anything."""
        for name in self._begun():
            if not self.is_done(name) and not any((self.place(name) / "states").glob("*.pt")):
                _remove(self.place(name))
        former = set(self._record()["former"])
        if not self._begun() and former <= _read_own(self.output / "tracks.json", {}).keys():
            self._drop()
        return self.folder.exists()

    def end(self, names: Iterable[str]) -> None:
        """Remove results of all but these videos; what was at work goes, unless some videos failed."""
        for name in set(self.names()) - set(names):
            VideoPaths.of_results(self.output, name).remove()
            _remove(self.place(name))
        if (self.output / "failed.json").exists():
            write_json(self.settings_file, self._record() | {"former": []})
        else:
            self._drop()

    def _drop(self) -> None:
        """Remove the working place, of which no half stays under its name."""
        self.folder.rename(self.output / FINISHED)
        _remove(self.output / FINISHED)

    def _record(self) -> dict[str, Any]:
        return _read_own(self.settings_file, {"settings": None, "overwrite": False, "former": []})

    def _begun(self) -> list[str]:
        folder = self.folder / "videos"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def _done(self) -> list[str]:
        return [name for name in self._begun() if self.is_done(name)]

    def _publish(self, name: str) -> None:
        place = self.place(name)
        VideoPaths.of_work(place).move(VideoPaths.of_results(self.output, name))
        for folder in ("states", "reverse"):
            shutil.rmtree(place / folder, ignore_errors=True)

    def _check_empty(self, settings: Any) -> None:
        """Raise UserError where the output holds results, or what is at work for another command."""
        remedy = "choose another --output, or add --overwrite"
        if self.settings_file.exists():
            former = self._record()["settings"] or {}
            others = [name for name in settings or {} if former.get(name) != settings[name]]
            reason = f" ({', '.join(others)})" if former and others else ""
            raise UserError(f"--output {self.output} holds results of another command{reason}: {remedy}")
        results = [path for path in (self.output / "Annotations").glob("*") if is_visible(path.name)]
        results += (self.output / name for name in JSON_FILES)
        if any(path.exists() for path in results):
            raise UserError(f"--output {self.output} holds results already: {remedy}")
