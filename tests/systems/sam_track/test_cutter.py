"""SAMCutter and the tracker that has one: what is asked of the network, and what becomes of its answer."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from common.types import Prompt
from systems.sam_track.cutter import SAMCutter, cutter_of
from systems.sam_track.images import prepare_frame
from systems.sam_track.tracker import SAMTracker
from tests.support.sam_networks import ColourNetwork, small_network
from video.masks import masks_of_prompt

SIZE = (20, 40)  # (H, W), which become (16, 32) in a square of 32
FRAME = torch.zeros(3, *SIZE, dtype=torch.uint8)


class Segmenting(ColourNetwork):
    """A network that takes boxes and clicks: an object is where the square of 8x8 around its mark is."""

    def __init__(self):
        super().__init__()
        self.config.prompt_encoder = True
        self.asked: list[SimpleNamespace] = []

    def segment(
        self,
        image: Tensor,
        points: Tensor,
        labels: Tensor,
        boxes: Tensor | None,
        masks: Tensor | None,
        side: int,
    ) -> Tensor:
        self.asked.append(SimpleNamespace(points=points, labels=labels, boxes=boxes, masks=masks))
        logits = torch.full((1, 1, 32, 32), -9.0)
        x, y = (points[0, 0] if boxes is None else boxes.view(2, 2).mean(0)).int().tolist()
        logits[..., max(0, y - 4) : y + 4, max(0, x - 4) : x + 4] = 9
        return logits


@pytest.fixture
def network() -> Segmenting:
    return Segmenting()


def test_clicks_and_boxes_are_brought_to_the_square_without_a_shift(network):
    prompt = Prompt(
        boxes={2: (5.0, 10.0, 10.0, 2.5)}, clicks={2: [(0.0, 0.0, 1)], 1: [(39.5, 5, 1), (10, 1, 0)]}
    )
    SAMCutter(network, 32).cut(FRAME, prompt)
    one, two = network.asked
    assert one.points.tolist() == [[[pytest.approx(31.6), 4], [8, pytest.approx(0.8)]]]
    assert one.labels.tolist() == [[1, 0]] and one.boxes is None and one.masks is None
    assert two.boxes.tolist() == [[4, 8, 12, 10]]
    assert two.points.tolist() == [[[0, 0]]] and two.labels.tolist() == [[1]]


def test_an_object_is_where_the_network_says_at_the_frames_size(network):
    prompt = Prompt(boxes={3: (5.0, 5.0, 10.0, 10.0)}, clicks={8: [(30.0, 10.0, 1)]})
    result = SAMCutter(network, 32).cut(FRAME, prompt)
    wanted = torch.zeros(SIZE, dtype=torch.int64)
    wanted[5:15, 5:15], wanted[5:15, 25:35] = 3, 8
    assert result.labels.equal(wanted) and not result.boxes and not result.clicks


def test_a_label_map_alone_stays_and_nothing_is_asked(network):
    prompt = Prompt(torch.ones(SIZE, dtype=torch.int64))
    assert SAMCutter(network, 32).cut_encoded(torch.zeros(1, 3, 8, 8), SIZE, prompt) is prompt
    assert network.asked == []


def test_a_single_click_has_the_best_of_several_masks_and_all_else_the_one():
    """By what the decoder says of its masks: an estimate per mask, here of weights alone."""
    network = small_network(prompt_encoder=True, decoder_heads=2)
    decoder, grid = network.mask_decoder, 4
    last = decoder.iou_prediction_head.layers[-1]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([9.0, 0.1, 0.7, 0.3])  # of the single mask, and of three
    image, encoder = torch.randn(1, 16, grid, grid), network.prompt_encoder
    point, box = torch.tensor([[[5.0, 6.0]]]), torch.tensor([[2.0, 3.0, 20.0, 9.0]])
    no_points = point[:, :0]
    former = torch.randn(1, 1, 16, 16)
    for points, boxes, masks, chosen in (
        (point, None, None, 2),
        (point.expand(1, 2, 2), None, None, 0),
        (point, box, None, 0),
        (no_points, box, None, 0),
        (point, None, former, 0),
    ):
        labels = torch.ones(points.shape[:2], dtype=torch.int64)
        with torch.no_grad():
            tokens = encoder.sparse(points, labels, boxes, 32)
            given = image, encoder.pe_layer(grid, grid), tokens, encoder.dense(masks, 1, grid)
            several, single = (decoder(*given, multimask=multimask)[0] for multimask in (True, False))
            result = network.segment(image, points, labels, boxes, masks, 32)
        assert result.equal(several[:, chosen - 1, None] if chosen else single)


# -------------------------------------------------------------------------------------- in the tracker


def test_a_tracker_starts_from_clicks_and_encodes_each_frame_once(network):
    tracker = SAMTracker(network, SAMTracker.Config())
    assert tracker.sparse_prompts == ("boxes", "clicks")
    tracks = tracker.step(FRAME, Prompt(clicks={6: [(10.0, 10.0, 1)]}))
    assert tracks.ids.tolist() == [6] and (tracks.labels[5:15, 5:15] == 6).all()
    assert (tracks.labels == 6).sum() == 100
    tracker.step(FRAME)
    assert network.encoded == 2 and len(network.asked) == 1


def test_clicks_on_a_known_object_correct_the_mask_that_it_would_have(network):
    tracker = SAMTracker(network, SAMTracker.Config())
    tracker.step(FRAME, Prompt(clicks={6: [(10.0, 10.0, 1)]}))
    propagated = tracker._propagate(network.encode(prepare_frame(FRAME, 32)), [6], SIZE)
    tracks = tracker.step(FRAME, Prompt(clicks={6: [(30.0, 10.0, 1)], 7: [(10.0, 10.0, 1)]}))
    first, second, third = network.asked
    assert first.masks is None and third.masks is None
    assert second.masks.equal(propagated) and propagated.shape == (1, 1, 32, 32)
    assert tracks.labels[10, 30] == 6 and tracks.labels[10, 10] == 7


def test_without_a_prompt_encoder_boxes_are_filled_and_clicks_are_refused():
    network = ColourNetwork()
    tracker = SAMTracker(network, SAMTracker.Config())
    assert cutter_of(network) is None and tracker.sparse_prompts == ()
    box = Prompt(boxes={4: (2.0, 3.0, 10.0, 5.0)})
    labels = tracker.step(FRAME, box).labels
    assert labels.bool().equal(masks_of_prompt(box, SIZE)[1][0])
    with pytest.raises(UserError, match="takes no clicks"):
        tracker.step(FRAME, Prompt(clicks={4: [(1.0, 1.0, 1)]}))


def test_real_layers_cut_a_frame_of_any_size():
    cutter = cutter_of(small_network(prompt_encoder=True, decoder_heads=2))
    assert cutter.image_size == 32
    prompt = Prompt(boxes={1: (3.0, 2.0, 20.0, 15.0)})
    result = cutter.cut(torch.randint(0, 256, (3, 37, 53), dtype=torch.uint8), prompt)
    assert result.labels.shape == (37, 53) and result.ids == [1]
