"""Propagation backwards: what a tracker says of the frames before the prompts that start its objects."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.files import below, naming, write_json
from common.types import BinaryTracks, Prompt, Tracker
from tracking.loop import RecordFrame, binarise, track_video
from tracking.prompts import PromptFolder
from video.reader import ImageSequence, Video


def backwards_from_disk(
    frames: Iterable[tuple[str, Tensor]], last: str, path: Path
) -> Iterator[tuple[str, Tensor]]:
    """(name, frame) from the one named `last`, or from the very last, to the first.

    They wait in a file in the meantime, three bytes a pixel, because a video file is decoded forwards.
    """
    names: list[str] = []
    with naming(path), open(path, "w+b") as file:
        for name, frame in frames:
            names.append(name)
            file.write(frame.numpy().tobytes())
            if name == last:
                break
        for place in reversed(range(len(names))):
            file.seek(place * frame.numel())
            pixels = np.frombuffer(file.read(frame.numel()), dtype=np.uint8)
            yield names[place], torch.from_numpy(pixels.copy()).view(frame.shape)


def frames_backwards(video: Video, last: str, folder: Path) -> Iterator[tuple[str, Tensor]]:
    """(name, frame) of a video from the one named `last` to the first, at flat memory in its length."""
    if isinstance(video, ImageSequence):
        return video.backwards(last)
    return backwards_from_disk(video.frames(), last, folder / "frames")


class EarlierFrames:
    """The tracks of objects in the frames before the prompts that start them, kept in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def track(self, tracker: Tracker, video: Video, prompts: PromptFolder) -> None:
        """Run the tracker backwards, from the last prompt that starts an object to the first frame.

        Nothing is left to do where the folder holds all of it already.
        """
        starts, whole = prompts.starts_of(video), self.folder / "whole.json"
        if not starts or whole.exists():
            return
        self.folder.mkdir(exist_ok=True)
        frames = frames_backwards(video, next(reversed(starts)), self.folder)

        def prompt_of(name: str, frame: Tensor) -> Prompt | None:
            return prompts.prompt_for(video, name, starts[name], frame) if name in starts else None

        for name, _, tracks, _ in track_video(tracker, video.name, frames, prompt_of):
            earlier = [i not in starts.get(name, ()) for i in tracks.ids.tolist()]
            chosen = torch.tensor(earlier, dtype=torch.bool)
            self._keep(name, binarise(tracks, tracker.mask_threshold), chosen)
        (self.folder / "frames").unlink(missing_ok=True)
        write_json(whole, {})

    def joined(self, name: str, tracks: BinaryTracks) -> BinaryTracks:
        """The tracks of a frame and those that start later; where both claim a pixel, the given ones win."""
        if not self._path(name).is_file():
            return tracks
        with np.load(self._path(name)) as kept:
            ids, scores, labels = (torch.from_numpy(kept[part]) for part in ("ids", "scores", "labels"))
            masks = np.unpackbits(kept["masks"], axis=-1, count=labels.shape[1])
            earlier_boxes = torch.from_numpy(kept["boxes"]) if "boxes" in kept else None
        masks = torch.from_numpy(masks).bool() & (tracks.labels == 0).cpu()
        device, boxes = tracks.ids.device, tracks.boxes
        if earlier_boxes is not None:
            boxes = earlier_boxes if boxes is None else torch.cat([boxes, earlier_boxes.to(boxes)])
        return replace(
            tracks,
            ids=torch.cat([tracks.ids, ids.to(device)]),
            scores=torch.cat([tracks.scores, scores.to(device)]),
            binary_masks=torch.cat([tracks.binary_masks, masks.to(device)]),
            labels=torch.where(tracks.labels == 0, labels.to(device), tracks.labels),
            boxes=boxes,
        )

    def joined_before(self, record: RecordFrame) -> RecordFrame:
        """`record`, which is then given the tracks of each frame with those that start later."""
        return lambda name, frame, tracks, prompt: record(name, frame, self.joined(name, tracks), prompt)

    def _path(self, name: str) -> Path:
        return below(self.folder, name, ".npz")

    def _keep(self, name: str, tracks: BinaryTracks, chosen: Tensor) -> None:
        """Write the (K,) chosen of a frame's tracks, if any."""
        if not chosen.any():
            return
        chosen = chosen.to(tracks.ids.device)
        ids, masks = tracks.ids[chosen], tracks.binary_masks[chosen]
        labels = tracks.labels * torch.isin(tracks.labels, ids)
        boxes = {} if tracks.boxes is None else {"boxes": tracks.boxes[chosen].cpu().numpy()}
        np.savez_compressed(
            self._path(name),
            **boxes,
            ids=ids.cpu().numpy(),
            scores=tracks.scores[chosen].cpu().numpy(),
            labels=labels.cpu().numpy(),
            masks=np.packbits(masks.cpu().numpy(), axis=-1),
        )
