"""Points, boxes and masks as tokens and cells: worked out one by one, and the official numbers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.types import Prompt
from systems.sam_track.cutter import SAMCutter
from systems.sam_track.modules import SAMTrack
from systems.sam_track.prompt_encoder import PromptEncoder
from tests.support.sam_golden import filled, gauss
from tests.support.siammask_sam_golden import needs_golden

SIDE = 64  # pixels of SAM's square
POINTS, BOX = [(3.0, 5.0), (40.5, 0.0)], (10.0, 20.5, 63.0, 40.0)


@pytest.fixture
def encoder() -> PromptEncoder:
    torch.manual_seed(0)
    return PromptEncoder(8)


def position(encoder: PromptEncoder, x: float, y: float) -> list[float]:
    """That of a pixel's centre, number by number: sines of all frequencies, then their cosines."""
    rows, columns = encoder.pe_layer.positional_encoding_gaussian_matrix.tolist()
    x, y = 2 * (x + 0.5) / SIDE - 1, 2 * (y + 0.5) / SIDE - 1
    angles = [2 * math.pi * (x * a + y * b) for a, b in zip(rows, columns, strict=True)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


def token(encoder: PromptEncoder, kind: int, x: float, y: float) -> Tensor:
    return torch.tensor(position(encoder, x, y)) + encoder.point_embeddings[kind].weight[0]


def tokens_of(encoder: PromptEncoder, points: list, labels: list[int], box: tuple | None) -> Tensor:
    boxes = None if box is None else torch.tensor([box])
    given = torch.tensor(points).view(1, -1, 2), torch.tensor(labels, dtype=torch.int64).view(1, -1)
    with torch.no_grad():
        return encoder.sparse(*given, boxes, SIDE)[0]


def test_a_negative_and_a_positive_point_are_followed_by_one_that_is_none(encoder):
    wanted = [
        token(encoder, 0, *POINTS[0]),
        token(encoder, 1, *POINTS[1]),
        encoder.not_a_point_embed.weight[0],
    ]
    torch.testing.assert_close(tokens_of(encoder, POINTS, [0, 1], None), torch.stack(wanted))


def test_a_box_is_its_corners_behind_the_points_and_nothing_else_follows(encoder):
    corners = [token(encoder, 2, *BOX[:2]), token(encoder, 3, *BOX[2:])]
    torch.testing.assert_close(tokens_of(encoder, [], [], BOX), torch.stack(corners))
    points = [token(encoder, 1, *POINTS[0]), token(encoder, 0, *POINTS[1])]
    torch.testing.assert_close(tokens_of(encoder, POINTS, [1, 0], BOX), torch.stack(points + corners))


def test_no_points_and_no_box_are_no_tokens(encoder):
    assert tokens_of(encoder, [], [], None).shape == (0, 8)


def test_a_point_in_the_middle_of_a_cell_has_the_cells_position(encoder):
    grid = encoder.pe_layer(16, 16)[0]  # cells of 4x4 pixels, whose middle is between pixels 1 and 2
    torch.testing.assert_close(torch.tensor(position(encoder, 4 * 9 + 1.5, 4 * 2 + 1.5)), grid[:, 2, 9])


def test_positions_are_exact_within_autocast(encoder):
    exact = tokens_of(encoder, POINTS, [0, 1], BOX)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tokens_of(encoder, POINTS, [0, 1], BOX).equal(exact)


def channel_norm(x: Tensor, norm: torch.nn.Module) -> Tensor:
    mean = x.mean(1, keepdim=True)
    deviation = ((x - mean).square().mean(1, keepdim=True) + 1e-6).sqrt()
    return (x - mean) / deviation * norm.weight[:, None, None] + norm.bias[:, None, None]


@torch.no_grad()
def test_a_mask_is_brought_to_the_cells_and_none_is_the_same_in_all(encoder):
    masks, layers = torch.randn(3, 1, 16, 16), encoder.mask_downscaling
    for i in (1, 4):
        torch.nn.init.uniform_(layers[i].weight)
    x = F.conv2d(masks, layers[0].weight, layers[0].bias, stride=2)
    x = F.gelu(channel_norm(x, layers[1]))
    x = F.gelu(channel_norm(F.conv2d(x, layers[3].weight, layers[3].bias, stride=2), layers[4]))
    x = F.conv2d(x, layers[6].weight, layers[6].bias)
    assert x.shape == (3, 8, 4, 4)
    torch.testing.assert_close(encoder.dense(masks, 3, 4), x)
    dense = encoder.dense(None, 3, 4)
    assert dense.shape == x.shape and dense.eq(encoder.no_mask_embed.weight[..., None, None]).all()


@needs_golden
@torch.no_grad()
@pytest.mark.parametrize(
    ("clicks", "box", "with_mask", "logits", "area"),
    [
        ([(120, 80.5, 1)], None, False, [-0.75799, 0.20388, -0.51488], 102025),
        ([(120, 80.5, 1), (300, 10, 0)], None, False, [-0.74443, -0.24335, -0.60762], 5027),
        ([], (40, 30.25, 200, 150), False, [-0.26472, -0.48661, -0.2871], 2872),
        ([(120, 80.5, 1), (60, 200, 0)], (40, 30.25, 200, 150), False, [-0.35765, -0.47021, -0.27399], 4908),
        ([(120, 80.5, 1)], None, True, [0.12119, -0.25648, -0.23861], 4878),
    ],
)
def test_masks_of_clicks_boxes_and_masks_are_official(clicks, box, with_mask, logits, area):
    """Numbers of segment-anything @dca509f: SamPredictor.predict on a given embedding, frame of 333x500."""
    sizes = {"image_size": 256, "embed_dim": 96, "depth": 1, "num_heads": 4, "window_size": 0}
    sizes |= {"global_blocks": "0", "out_dim": 64, "decoder_mlp_dim": 128, "iou_hidden": 64}
    config = SAMTrack.Config(**sizes, prompt_encoder=True, embedding_cache="none")
    cutter = SAMCutter(filled(SAMTrack(config), "sam_small"), 256)
    embedding = gauss(540, (1, 64, 16, 16), 0.7)
    prompt = Prompt(boxes={7: box} if box else {}, clicks={7: clicks} if clicks else {})
    former = {7: gauss(541, (1, 64, 64), 3.0)[None]} if with_mask else {}
    masks = cutter.logits(embedding, (333, 500), prompt, 7, former.get(7))
    found = torch.stack([masks[0, 0, y, x] for y, x in ((5, 7), (20, 40), (50, 13))])
    torch.testing.assert_close(found, torch.tensor(logits), rtol=0, atol=1e-5)
    labels = cutter.cut_encoded(embedding, (333, 500), prompt, former).labels
    assert abs(int((labels == 7).sum()) - area) <= 2  # of 166,500 pixels, on which rounding may decide
