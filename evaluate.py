"""Scores: a tracker run over annotated videos, or a folder of results by a named protocol.

python evaluate.py --results R --annotations A --protocol P [--json FILE]
"""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from common.errors import available
from common.progress import progress
from common.results import ResultsSpool
from common.threads import prefetch
from common.tracking import track_rows, track_video
from common.types import Prompt, Tracker
from common.video_scores import VideoScore, VideoScorer, summarise
from common.visualize import overlay, strip
from common.vos_dataset import Video, VOSFolder

Shown = dict[
    str, tuple[Tensor, np.ndarray, np.ndarray]
]  # {frame: (picture, true labels, labels of the tracker)}


class Gallery:
    """Pictures of some frames of the first videos: the truth above, what the tracker says below."""

    def __init__(self, num_videos: int = 4, num_frames: int = 6):
        self.num_videos, self.num_frames = num_videos, num_frames
        self.rows: list[np.ndarray] = []
        self.captions: list[str] = []

    def wanted(self, place: int, video: Video) -> set[str]:
        """The names of the frames that are shown of a video, the `place`-th."""
        if place >= self.num_videos:
            return set()
        chosen = np.linspace(0, len(video.annotated) - 1, self.num_frames).round().astype(int)
        return {video.annotated[index] for index in chosen}

    def show(self, video: Video, frames: Shown) -> None:
        """Add the frames of a video, enlarged where they are small."""
        for title, which in (("truth", 1), ("tracked", 2)):
            for name, shown in frames.items():
                times = max(1, 128 // min(shown[1].shape))
                frame, labels = (
                    np.repeat(np.repeat(x, times, 0), times, 1)
                    for x in (shown[0].permute(1, 2, 0).numpy(), shown[which])
                )
                self.rows.append(overlay(frame, labels))
                self.captions.append(f"{video.name} {name} {title}")

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB contact sheet."""
        return strip(self.rows, self.captions, self.num_frames)


class Truth:
    """The label maps of one video, read as its frames come; a prompted system sees each object's first."""

    def __init__(self, video: Video, prompted: bool):
        self.video, self.prompted = video, prompted
        self.annotated = set(video.annotated)
        self.seen: set[int] = set()
        self.labels: np.ndarray | None = None  # of the present frame, None where it has none

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """(name, uint8 RGB (3, H, W)) of every frame, annotated or not."""
        for name in self.video.frames:
            yield name, torch.from_numpy(self.video.read_frame(name)).permute(2, 0, 1)

    def prompt_of(self, name: str, frame: Tensor) -> Prompt | None:
        """The objects that appear for the first time; None where there are none, or nobody is to be told."""
        self.labels = self.video.read_labels(name) if name in self.annotated else None
        if self.labels is None or not self.prompted:
            return None
        prompt = Prompt(torch.from_numpy(self.labels.astype(np.int64)))
        new = [i for i in prompt.ids if i not in self.seen]
        prompt.labels[~torch.isin(prompt.labels, torch.tensor(new, dtype=torch.int64))] = 0
        self.seen |= set(new)
        return prompt if new else None


def evaluate_video(
    tracker: Tracker, video: Video, scorer: VideoScorer, spool: ResultsSpool, wanted: set[str]
) -> tuple[VideoScore, Shown]:
    """Run the tracker over a video as in inference; returns its score, and the wanted frames to show."""
    truth = Truth(video, tracker.needs_prompt)
    encode = available("pycocotools.mask")
    shown: Shown = {}
    spool.start_video(video.name)
    frames = prefetch(truth.frames())
    for place, (name, frame, tracks, prompt) in enumerate(
        track_video(tracker, video.name, frames, truth.prompt_of)
    ):
        spool.add_frame(name, track_rows(tracks, tracker.mask_threshold, encode=encode))
        if truth.labels is None:
            continue
        labels = tracks.labels.cpu().numpy()
        scorer.add(truth.labels, labels, set(prompt.ids) if prompt else set(), frame=place)
        if name in wanted:
            shown[name] = frame, truth.labels, labels
    return scorer.result(), shown


def evaluate_tracker(
    tracker: Tracker,
    folder: VOSFolder,
    *,
    num_videos: int = 0,
    use_classes: bool = False,
    gallery: Gallery | None = None,
) -> dict[str, float | int | None]:
    """Run a tracker over annotated videos and score it: the flat numbers of metrics.json, in percent.

    num_videos: how many of the videos, evenly chosen; 0: all
    use_classes: whether AP tells the categories of meta.json apart
    gallery: takes pictures of the first videos
    """
    videos = folder.videos
    if 0 < num_videos < len(videos):
        videos = [videos[round(place)] for place in np.linspace(0, len(videos) - 1, num_videos)]
    gallery = gallery or Gallery(num_videos=0)
    scores = []
    with TemporaryDirectory() as temporary, ResultsSpool(Path(temporary)) as spool:
        for place, video in enumerate(progress(videos, "evaluation")):
            categories = {i: c + 1 for i, c in folder.classes_of(video.name).items()} if use_classes else None
            scorer = VideoScorer(tracker.needs_prompt, place + 1, categories)
            score, shown = evaluate_video(tracker, video, scorer, spool, gallery.wanted(place, video))
            scores.append(score)
            gallery.show(video, shown)
        spool.write_results(Path(temporary) / "results.json")
        results = json.loads((Path(temporary) / "results.json").read_text())
    return summarise(scores, results)
