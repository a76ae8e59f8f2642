"""What an official tracker says: `python -m benchmarks.peers.official JOB`, from the root of this project.

Nothing else of it may be imported, because its modules have the names of theirs: what the functions below
import is in the checkout. JOB is JSON: `program`, `checkout`, `weights`, `clip`, `result` and `threads`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import model_zoo

from benchmarks.peers.script import enter

Job = dict[str, Any]
Track = Callable[[np.ndarray, np.ndarray], np.ndarray]  # frames (T, H, W, 3), labels (H, W) to (T, H, W)
XMEM = {  # the defaults of its eval.py
    "enable_long_term": True,
    "enable_long_term_count_usage": False,  # of clips that are not long
    "max_mid_term_frames": 10,
    "min_mid_term_frames": 5,
    "max_long_term_elements": 10000,
    "num_prototypes": 128,
    "top_k": 30,
    "mem_every": 5,
    "deep_update_every": -1,
}
SHARP = "experiments/siammask_sharp"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def normalise(frame: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 RGB to (3, H, W) float32 in the statistics of ImageNet."""
    scaled = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
    return (scaled - MEAN[:, None, None]) / STD[:, None, None]


def one_hot(labels: np.ndarray) -> Tensor:
    """(H, W) labels 1 to K to (K, H, W) float32."""
    return torch.stack([torch.from_numpy(labels == i).float() for i in range(1, labels.max() + 1)])


def boxes_of(labels: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(x, y, width, height) of each of the objects 1 to K in an (H, W) label map."""
    boxes = []
    for i in range(1, labels.max() + 1):
        rows, columns = np.nonzero(labels == i)
        x, y = int(columns.min()), int(rows.min())
        boxes.append((x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y))
    return boxes


def without_effect(*_: object) -> None:
    """In place of what fetches and loads ImageNet's weights, which are replaced at once."""


def without_gpu() -> None:
    """Programs that ask for a GPU get the CPU."""
    make = torch.zeros
    torch.Tensor.cuda = nn.Module.cuda = lambda self, *_, **__: self
    torch.zeros = lambda *size, device=None, **options: make(*size, **options)


def without_imagenet(program: str) -> None:
    """XMem and STCN fetch none of ImageNet's weights, which theirs would replace at once."""
    model_zoo.load_url = without_effect
    if program == "xmem":
        from model import resnet

        resnet.load_weights_add_extra_dim = without_effect
    else:
        from model import mod_resnet
        from torchvision import models

        mod_resnet.load_weights_sequential = without_effect
        make, models.resnet50 = models.resnet50, lambda pretrained: make()


def xmem(job: Job) -> Track:
    without_imagenet("xmem")
    from model.network import XMem

    from inference.inference_core import InferenceCore

    config = dict(XMEM)
    network = XMem(config, job["weights"]).eval()

    def track(frames: np.ndarray, labels: np.ndarray) -> np.ndarray:
        core, maps = InferenceCore(network, config=config), []
        known = list(range(1, labels.max() + 1))
        core.set_all_labels(known)
        for t, frame in enumerate(frames):
            prompt = (None, None) if t else (one_hot(labels), known)
            probs = core.step(normalise(frame), *prompt, end=t == len(frames) - 1)
            maps.append(probs.argmax(0).byte().numpy())
        return np.stack(maps)

    return track


def stcn(job: Job) -> Track:
    without_imagenet("stcn")
    from inference_core import InferenceCore
    from model.eval_network import STCN
    from util.tensor_util import unpad

    network = STCN().eval()
    network.load_state_dict(torch.load(job["weights"]))

    def track(frames: np.ndarray, labels: np.ndarray) -> np.ndarray:
        images = torch.stack([normalise(frame) for frame in frames])[None]
        masks = one_hot(labels)
        core = InferenceCore(network, images, len(masks), top_k=20, mem_every=5, include_last=False)
        core.interact(masks[:, None], 0, len(frames))
        maps = []
        for t in range(core.t):
            probs = F.interpolate(unpad(core.prob[:, t], core.pad), labels.shape, mode="bilinear")
            maps.append(probs.argmax(0)[0].byte().numpy())
        return np.stack(maps)

    return track


def siammask(job: Job) -> Track:
    import cv2

    import utils as theirs

    for part in ("pyvotkit", "pyvotkit.region"):  # compiled, and needed by its VOT scores only
        sys.modules[f"{theirs.__name__}.{part}"] = MagicMock()
    cv2.__version__ = "4.0.0"  # it reads a digit of it
    cv2.setNumThreads(job["threads"])
    sys.path.insert(0, str(Path(job["checkout"]) / SHARP))
    from custom import Custom

    from tools.test import siamese_init, siamese_track

    options = json.loads((Path(job["checkout"]) / SHARP / "config_davis.json").read_text())
    network = Custom(anchors=options["anchors"]).eval()
    network.load_state_dict(torch.load(job["weights"]))

    def track(frames: np.ndarray, labels: np.ndarray) -> np.ndarray:
        images = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]
        states, maps = [], [labels]
        for x, y, w, h in boxes_of(labels):
            centre, size = np.array([x + w / 2, y + h / 2]), np.array([w, h])
            states.append(siamese_init(images[0], centre, size, network, options["hp"]))
        for image in images[1:]:
            states = [siamese_track(s, image, mask_enable=True, refine_enable=True) for s in states]
            probs = np.stack([state["mask"] for state in states])
            threshold = states[0]["p"].seg_thr
            maps.append(((probs.argmax(0) + 1) * (probs.max(0) > threshold)).astype(np.uint8))
        return np.stack(maps)

    return track


def sam(job: Job) -> Track:
    from segment_anything import SamPredictor, sam_model_registry

    predictor = SamPredictor(sam_model_registry["vit_b"](job["weights"]).eval())

    def track(frames: np.ndarray, labels: np.ndarray) -> np.ndarray:
        maps = []
        x, y, w, h = boxes_of(labels)[0]
        for frame in frames:
            predictor.set_image(frame)
            masks, _, _ = predictor.predict(box=np.array([x, y, x + w, y + h]), multimask_output=False)
            maps.append(masks[0].astype(np.uint8))
        return np.stack(maps)

    return track


TRACKERS: dict[str, Callable[[Job], Track]] = {"xmem": xmem, "stcn": stcn, "siammask": siammask, "sam": sam}


def peak_memory() -> float:
    """MiB that were resident at most, as the Linux kernel counts them."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def serve(job: Job, make: Callable[[Job], Track]) -> None:
    """Track the clip once for each line on standard input, after its first two frames to warm up.

    The answer to each is a line of JSON: CPU milliseconds and the peak of memory so far, in MiB.
    """
    with open(os.dup(1), "w") as answers, np.load(job["clip"]) as clip, torch.inference_mode():
        os.dup2(2, 1)  # what a program prints goes elsewhere
        torch.set_num_threads(job["threads"])
        frames, labels = clip["frames"], clip["labels"]
        track = make(job)
        track(frames[:2], labels)
        for _ in sys.stdin:
            begun = time.process_time()
            maps = track(frames, labels)
            cpu = 1000 * (time.process_time() - begun)
            np.save(job["result"], maps)
            print(json.dumps({"cpu": cpu, "peak": peak_memory()}), file=answers, flush=True)


def main() -> None:
    job = json.loads(sys.argv[1])
    enter(job["checkout"])
    without_gpu()
    serve(job, TRACKERS[job["program"]])


if __name__ == "__main__":
    main()
