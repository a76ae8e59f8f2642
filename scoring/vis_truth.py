"""The true tracks of annotated videos in the YouTube-VIS form, built from label maps one by one."""

from collections.abc import Iterable, Mapping

import numpy as np

from common.errors import UserError, require
from scoring.vis_tracks import PURPOSE, check_results
from video.label_maps import objects_in, void_in
from video.rle import RLE, encode_rle


class TruthTracks:
    """The true tracks of one video in the YouTube-VIS form, built from its annotated label maps one by one.

    frames: the number of each annotated frame in its video, by which results are looked up
    """

    def __init__(self, video_id: int, categories: Mapping[int, int] | None = None) -> None:
        """video_id: as in the results; categories: the category id of each object, 1 for all where None."""
        self.video_id = video_id
        self.categories = categories
        self.frames: list[int] = []
        self._size = (0, 0)
        self._tracks: dict[int, dict[int, RLE]] = {}  # {object id: {position in frames: mask}}
        self._scored: list[RLE | None] = []

    def add(self, labels: np.ndarray, frame: int) -> None:
        """Take the (H, W) label map of frame number `frame`; its void pixels count for nothing."""
        for object_id in objects_in(labels):
            self._tracks.setdefault(object_id, {})[len(self.frames)] = encode_rle(labels == object_id)
        void = void_in(labels)
        self._scored.append(encode_rle(~void) if void.any() else None)
        self._size = labels.shape
        self.frames.append(frame)

    def video(self) -> dict:
        """The entry of the list "videos"."""
        height, width = self._size
        sizes = {"height": int(height), "width": int(width), "length": len(self.frames)}
        return {"id": self.video_id, **sizes, "scored": self._scored}

    def annotations(self) -> list[dict]:
        """The entries of the list "annotations", one for each object, in the order of their ids."""
        coder = require("pycocotools.mask", PURPOSE)
        annotations = []
        for object_id, masks in sorted(self._tracks.items()):
            segmentations = [masks.get(t) for t in range(len(self.frames))]
            annotations.append(
                {
                    "video_id": self.video_id,
                    "category_id": 1 if self.categories is None else self.categories[object_id],
                    "iscrowd": 0,
                    "segmentations": segmentations,
                    "areas": [rle and int(coder.area(rle)) for rle in segmentations],
                    "bboxes": [rle and coder.toBbox(rle).tolist() for rle in segmentations],
                }
            )
        return annotations


def truth_annotations(videos: Iterable[TruthTracks]) -> dict:
    """Annotations in the official YouTube-VIS form (ids from 1 on) from the true tracks of each video."""
    videos = list(videos)
    annotations = [annotation for video in videos for annotation in video.annotations()]
    categories = sorted({annotation["category_id"] for annotation in annotations} | {1})
    return {
        "videos": [video.video() for video in videos],
        "categories": [{"id": category, "name": str(category)} for category in categories],
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
    }


def on_annotated_frames(results: list[dict], videos: Iterable[TruthTracks], name: str) -> list[dict]:
    """The results of the given videos, their masks on the annotated frames alone; `name` is their file."""
    check_results(results, name)
    frames = {video.video_id: video.frames for video in videos}
    chosen = []
    for i, result in enumerate(results):
        if result["video_id"] in frames:
            masks, annotated = result["segmentations"], frames[result["video_id"]]
            if len(masks) <= max(annotated, default=-1):
                raise UserError(
                    f"{name}: result {i} has {len(masks)} segmentations: one for each frame is needed"
                )
            chosen.append({**result, "segmentations": [masks[t] for t in annotated]})
    return chosen
