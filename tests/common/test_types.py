import torch

from common.types import Clip, Prompt, Tracker, Tracks
from video.label_maps import IGNORE


def make_clip(labels: torch.Tensor, K: int) -> Clip:
    B, T, H, W = labels.shape
    ids = torch.arange(1, K + 1).expand(B, K)
    names = [[("video", str(t)) for t in range(T)] for _ in range(B)]
    return Clip(torch.zeros(B, T, 3, H, W), labels.to(torch.uint8), ids, torch.zeros_like(ids), names)


def test_masks_prompt_and_presence_by_hand():
    clip = make_clip(torch.tensor([[[[0, 1, IGNORE]], [[2, 2, 0]]]]), K=3)
    assert clip.masks[0, 0].int().tolist() == [[[0, 1, 0]], [[0, 0, 0]], [[0, 0, 0]]]
    assert clip.masks[0, 1].int().tolist() == [[[0, 0, 0]], [[1, 1, 0]], [[0, 0, 0]]]
    assert torch.equal(clip.prompt, clip.masks[:, 0])
    assert clip.present.tolist() == [[[True, False, False], [False, True, False]]]


def test_presence_is_that_of_the_masks_in_every_slot_up_to_the_last():
    labels = torch.randint(0, 256, (2, 3, 7, 5), generator=torch.Generator().manual_seed(0))
    clip = make_clip(labels, K=254)
    assert torch.equal(clip.present, clip.masks.flatten(3).any(-1))


def test_no_slot_is_legal():
    clip = make_clip(torch.zeros(1, 2, 4, 4), K=0)
    assert clip.masks.shape == (1, 2, 0, 4, 4) and clip.prompt.shape == (1, 0, 4, 4)
    assert clip.present.shape == (1, 2, 0)


def test_a_clip_moves_as_a_whole_and_keeps_its_names():
    clip = make_clip(torch.zeros(1, 2, 4, 4), K=1)
    clip.skipped = ["bad.jpg"]
    moved = clip.to("meta")
    tensors = (moved.frames, moved.labels, moved.ids, moved.classes)
    assert {x.device.type for x in tensors} == {"meta"} and clip.frames.device.type == "cpu"
    assert moved.names == clip.names and moved.skipped == ["bad.jpg"]


def test_a_prompt_names_the_ids_of_its_map_and_boxes_but_not_background():
    labels = torch.tensor([[0, 9], [255, 300]])
    assert Prompt(labels, {2: (0, 0, 4, 4), 9: (1, 1, 2, 2)}).ids == [2, 9, 255, 300]
    assert Prompt().ids == [] and Prompt(torch.zeros(2, 2, dtype=torch.int64)).ids == []


def test_empty_tracks_have_a_label_map_of_background():
    tracks = Tracks.empty(3, 5)
    assert tracks.labels.tolist() == [[0] * 5] * 3 and tracks.masks.shape == (0, 3, 5)
    assert tracks.ids.dtype == torch.int64 and len(tracks.scores) == 0 and tracks.boxes is None


def test_a_tracker_is_what_has_its_methods():
    class Still:
        needs_prompt, mask_threshold = False, 0.5

        def reset(self): ...
        def step(self, frame, prompt=None): ...
        def state_dict(self): ...
        def load_state_dict(self, state): ...

    assert isinstance(Still(), Tracker) and not isinstance(object(), Tracker)
