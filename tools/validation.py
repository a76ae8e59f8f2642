"""A tracker run over annotated videos and scored: the numbers of metrics.json, and pictures to look at."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from annotated.videos import AnnotatedVideo, VideoSet
from common.errors import available
from common.files import below
from common.parallel import prefetch
from common.progress import progress
from common.types import BinaryTracks, Prompt, Tracker
from scoring.tracker_scores import VideoScore, VideoScorer, summarise
from tools.pages import to_uri
from tracking.loop import record_video
from tracking.spool import ResultsSpool
from video.label_maps import void_in
from video.masks import prompt_from_labels
from video.pictures import draw_overlay, strip
from video.reader import DEFAULT_FPS
from video.writer import OverlayWriter

NUM_SLIDES = 20  # frames of a video that are shown one by one
OF_A_VIDEO = ("J&F", "J", "F", "J_tube", "HOTA", "AssA", "IDF1", "id_switches", "frames")


def to_show(image: np.ndarray, least: int = 128, most: int = 320) -> np.ndarray:
    """An (H, W, ...) picture by whole numbers larger or smaller, so that its short side is within bounds."""
    short_side = min(image.shape[:2])
    step, times = max(1, -(-short_side // most)), max(1, -(-least // short_side))
    return image[::step, ::step].repeat(times, 0).repeat(times, 1)


def evenly(items: Sequence[str], number: int) -> list[str]:
    """Up to `number` of the items from the first to the last, in order."""
    places = np.linspace(0, len(items) - 1, min(number, len(items)))
    return [items[place] for place in places.round().astype(int)]


class Example(NamedTuple):
    """A frame to look at, uint8 RGB (3, H, W), its true label map and the tracker's, both (H, W)."""

    frame: Tensor
    truth: np.ndarray
    tracked: np.ndarray

    def pictures(self, object_of: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) uint8 RGB of the truth and of the tracks; `object_of` as for `draw_overlay`."""
        ground = to_show(self.frame.permute(1, 2, 0).numpy())
        truth, tracked = (to_show(np.where(void_in(maps), 0, maps)) for maps in (self.truth, self.tracked))
        return draw_overlay(ground, truth), draw_overlay(ground, tracked, object_of=object_of)


class Gallery:
    """What an evaluation has to show: pictures of frames of the first videos, films of them, scores of all.

    rows: {"video", score: value} of each video; paths: of the films
    slides: {"video", "frame", "truth", "tracks"} of each frame that is shown, the last two as data: URIs
    """

    def __init__(self, num_videos: int = 4, num_frames: int = 6, films: Path | None = None):
        """num_frames: of a row of the sheet; films: the folder of films, which need PyAV; None for none."""
        self.num_videos, self.num_frames = num_videos, num_frames
        self.slides: list[dict[str, str]] = []
        self.films = films if films and available("av") else None
        self.pictures: list[np.ndarray] = []
        self.captions: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.paths: list[Path] = []

    def film(self, place: int, video: AnnotatedVideo) -> AbstractContextManager[OverlayWriter | None]:
        """The writer of the film of a video, the `place`-th, which takes its name when the block ends."""
        if self.films is None or place >= self.num_videos:
            return nullcontext()
        self.paths.append(below(self.films, video.name, ".mp4"))
        return OverlayWriter(self.paths[-1], DEFAULT_FPS)

    def score(self, video: AnnotatedVideo, score: VideoScore) -> None:
        """Add the row of a video."""
        numbers = summarise([score])
        self.rows.append({"video": video.name, **{name: numbers[name] for name in OF_A_VIDEO}})

    def frames_of(self, place: int, video: AnnotatedVideo) -> set[str]:
        """The names of the frames that are shown of a video, the `place`-th."""
        if place >= self.num_videos:
            return set()
        return set(evenly(video.annotated, max(NUM_SLIDES, self.num_frames)))

    def show(self, video: AnnotatedVideo, examples: dict[str, Example], object_of: dict[int, int]) -> None:
        """Add the frames of a video by name: a slide of each, and of some a row of truth and of tracks.

        object_of: {track: the true object that it is matched with}, whose colour it has
        """
        pairs = {name: example.pictures(object_of) for name, example in examples.items()}
        for name, (truth, tracks) in pairs.items():
            pictures = {"truth": to_uri(truth), "tracks": to_uri(tracks)}
            self.slides.append({"video": video.name, "frame": name, **pictures})
        chosen = evenly(list(pairs), self.num_frames)
        for row, title in enumerate(("truth", "tracked")):
            for place, name in enumerate(chosen):
                self.pictures.append(pairs[name][row])
                self.captions.append(name if place else f"{video.name} {title}")
            for _ in range(self.num_frames - len(chosen) if chosen else 0):  # a short video fills its row
                self.pictures.append(np.full((1, 1, 3), 255, dtype=np.uint8))
                self.captions.append("")

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB contact sheet."""
        return strip(self.pictures, self.captions, self.num_frames)


class Truth:
    """The frames and label maps of one video as they are read; a prompted system sees each object's first."""

    def __init__(self, video: AnnotatedVideo, prompted: bool):
        self.video, self.prompted = video, prompted
        self.labels: dict[str, np.ndarray] = {}  # of the annotated frames that were read and not yet scored
        self.prompted_ids: set[int] = set()

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """(name, uint8 RGB (3, H, W)) of every frame, annotated or not."""
        annotated = set(self.video.annotated)
        for name in self.video.frames:
            frame = torch.from_numpy(self.video.read_frame(name)).permute(2, 0, 1)
            if name in annotated:
                self.labels[name] = self.video.read_labels(name)
            yield name, frame

    def prompt_of(self, name: str, frame: Tensor) -> Prompt | None:
        """The objects that appear for the first time; None where there are none, or the system asks for none.

        Until there is one, an annotated frame says so by an empty prompt: a video may be without objects.
        """
        if name not in self.labels or not self.prompted:
            return None
        prompt = prompt_from_labels(self.labels[name])
        new = [i for i in prompt.ids if i not in self.prompted_ids]
        prompt.labels[~torch.isin(prompt.labels, torch.tensor(new, dtype=torch.int64))] = 0
        self.prompted_ids |= set(new)
        return prompt if new or not self.prompted_ids else None


def evaluate_video(
    tracker: Tracker,
    video: AnnotatedVideo,
    scorer: VideoScorer,
    spool: ResultsSpool,
    chosen: set[str],
    film: OverlayWriter | None = None,
) -> tuple[VideoScore, dict[str, Example]]:
    """Run the tracker over a video as in inference; returns its score, and the chosen frames as examples.

    film: gets every frame with its tracks
    """
    truth = Truth(video, tracker.needs_prompt)
    places = {name: place for place, name in enumerate(video.frames)}
    examples: dict[str, Example] = {}

    def record(name: str, frame: Tensor, tracks: BinaryTracks, prompt: Prompt | None) -> None:
        spool.add_tracks(name, tracks)
        if film:
            picture = to_show(frame.permute(1, 2, 0).cpu().numpy())
            film.add(draw_overlay(picture, to_show(tracks.labels.cpu().numpy())))
        true_labels = truth.labels.pop(name, None)
        if true_labels is None:
            return
        labels = tracks.labels.cpu().numpy()
        prompted_ids = set(prompt.ids) if prompt else set()
        scorer.add(true_labels, labels, prompted_ids, frame=places[name])
        if name in chosen:
            examples[name] = Example(frame, true_labels, labels)

    spool.start_video(video.name)
    record_video(tracker, video.name, prefetch(truth.frames()), truth.prompt_of, record)
    return scorer.result(), examples


def evaluate_tracker(
    tracker: Tracker,
    folder: VideoSet,
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
    videos = sorted(folder.videos, key=lambda video: video.name)  # so results.json numbers them
    if 0 < num_videos < len(videos):
        videos = [videos[round(place)] for place in np.linspace(0, len(videos) - 1, num_videos)]
    gallery = gallery or Gallery(num_videos=0)
    scores = []
    with ResultsSpool() as spool:
        titled = progress(videos, "evaluation", len(videos), "video")
        for place, video in enumerate(titled):
            categories = {i: c + 1 for i, c in folder.classes_of(video).items()} if use_classes else None
            scorer = VideoScorer(tracker.needs_prompt, place + 1, categories)
            chosen = gallery.frames_of(place, video)
            with gallery.film(place, video) as film:
                score, examples = evaluate_video(tracker, video, scorer, spool, chosen, film)
            gallery.score(video, score)
            scores.append(score)
            gallery.show(video, examples, score.object_of)
        return summarise(scores, spool.results())
