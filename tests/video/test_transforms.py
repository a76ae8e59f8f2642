"""Sizes, normalisation, and augmentation that treats every frame and label map of a clip alike."""

import itertools

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from video.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    Geometry,
    augment,
    draw,
    draw_geometry,
    fit_short_side,
    glide,
    jitter,
    normalise,
    random_window,
    recolour,
    resize_frames,
    resize_labels,
)

PLAIN = {"crop_probability": 0.0, "flip_probability": 0.0, "color_jitter": 0.0}
EXACT = {"min_scale": 1.0, "max_scale": 1.0}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def shown(frames: Tensor) -> Tensor:
    """The red of normalised frames, 0 to 255."""
    return 255 * (frames[:, 0] * 0.229 + 0.485)


def encode(labels: Tensor) -> Tensor:
    """(T, H, W) labels to frames that show them: red is 40 times the label."""
    return (40 * labels).to(torch.uint8)[:, None].repeat(1, 3, 1, 1)


def moving_labels(T: int = 3, H: int = 40, W: int = 60) -> Tensor:
    """Large blocks of the labels 0 to 5, shifted from frame to frame."""
    rows, columns = torch.arange(H)[:, None] // 20, torch.arange(W) // 20
    first = (rows * 3 + columns).to(torch.uint8)
    return torch.stack([first.roll(5 * t, 1) for t in range(T)])


def test_a_curve_goes_from_the_first_knot_to_the_last_and_bends_towards_those_between():
    assert glide(torch.tensor([[0.0, 4.0], [8.0, 4.0]]), 5).T.tolist() == [[0, 2, 4, 6, 8], [4] * 5]
    assert glide(torch.tensor([[0.0], [8.0], [0.0]]), 5).flatten().tolist() == [0, 3, 4, 3, 0]
    assert glide(torch.tensor([[7.0]]), 3).tolist() == [[7], [7], [7]]


def test_normalise_by_hand():
    frames = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1)
    expected = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert normalise(frames).flatten().tolist() == pytest.approx(expected, rel=1e-5)
    assert normalise(torch.zeros(2, 5, 3, 4, 4, dtype=torch.uint8)).shape == (2, 5, 3, 4, 4)


@pytest.mark.parametrize(
    "size, short_side, expected",
    [
        ((480, 854), 384, (384, 683)),
        ((854, 480), 384, (683, 384)),
        ((100, 400), 64, (32, 128)),  # the long side is too long
        ((64, 64), 64, (64, 64)),
        ((1, 1000), 32, (1, 64)),
    ],
)
def test_the_short_side_fits_and_the_long_side_is_bounded(size, short_side, expected):
    assert fit_short_side(*size, short_side, 2 * short_side) == expected


def test_resizing_to_the_same_size_changes_nothing():
    frames, labels = encode(moving_labels()), moving_labels()
    assert resize_frames(frames, (40, 60)) is frames and resize_labels(labels, (40, 60)) is labels


@pytest.mark.parametrize("bytes_are_fast", [True, False])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_frames_are_resized_as_torchvision_does(monkeypatch, kind, bytes_are_fast):
    capability = "AVX2" if bytes_are_fast else "DEFAULT"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    frames = torch.randint(256, (2, 3, 41, 60)).to(kind)
    packed = frames[0].permute(1, 2, 0).contiguous().permute(2, 0, 1)  # its colours side by side
    for images, size in itertools.product((frames, frames[None], frames[0], packed), ((20, 33), (70, 90))):
        resized, expected = resize_frames(images, size), TF.resize(images, list(size), antialias=True)
        assert torch.equal(resized, expected) and resized.dtype == kind
        assert resized.stride() == expected.stride()


def test_resized_label_maps_hold_no_new_label_and_stay_on_the_frames():
    labels = moving_labels()
    for size in [(20, 30), (80, 120), (33, 71)]:
        small = resize_labels(labels, size)
        assert small.dtype == torch.uint8 and small.shape == (3, *size)
        assert set(resize_labels(labels * 50, size).unique().tolist()) == set(range(0, 251, 50))
        red = resize_frames(encode(labels), size)[:, 0]
        assert ((red.float() - 40 * small).abs() < 20).float().mean() > 0.9


def vary(config: Augmentation, labels: Tensor, image_size: int = 40) -> tuple[Tensor, Tensor]:
    """Frames that show the labels, normalised, and the labels, by a geometry of their own."""
    geometry = draw_geometry(config, image_size, 2 * image_size)
    frames, labels, colours = augment(config, geometry, encode(labels), labels)
    assert frames.dtype == torch.uint8
    return (normalise(frames) if colours is None else recolour(frames, colours)), labels


def test_without_any_chance_a_clip_is_only_resized():
    labels = moving_labels()
    frames, found = vary(Augmentation(**EXACT, **PLAIN), labels)
    assert torch.equal(frames, normalise(encode(labels))) and torch.equal(found, labels)


@pytest.mark.parametrize("trial", range(8))
def test_geometry_is_the_same_for_every_frame_and_label_map(trial):
    torch.manual_seed(trial)
    labels = moving_labels(T=1).repeat(4, 1, 1)  # four equal frames stay equal
    frames, found = vary(Augmentation(color_jitter=0.0), labels)
    assert frames.shape[-2:] == found.shape[-2:]
    assert frames.eq(frames[0]).all() and found.eq(found[0]).all()
    assert ((shown(frames) - 40 * found).abs() < 20).float().mean() > 0.9


def test_a_flip_mirrors_frames_and_label_maps():
    labels = moving_labels()
    frames, found = vary(Augmentation(**EXACT, **{**PLAIN, "flip_probability": 1.0}), labels)
    assert torch.equal(frames, normalise(encode(labels).flip(-1))) and torch.equal(found, labels.flip(-1))


def test_scales_cover_their_range_and_the_long_side_is_bounded_by_the_size_of_evaluation():
    labels = torch.zeros(1, 100, 200, dtype=torch.uint8)
    sizes = [tuple(vary(Augmentation(**PLAIN), labels, 100)[1].shape[-2:]) for _ in range(40)]
    assert all(75 <= H <= 100 and 150 <= W <= 200 for H, W in sizes)  # up to 133, but for the long side
    assert min(W for _, W in sizes) < 175 and max(W for _, W in sizes) == 200


def test_a_crop_keeps_the_usual_share_of_the_frames_and_one_window_for_the_clip():
    labels = moving_labels(H=100, W=160)
    for _ in range(50):
        _, _, crop = draw_geometry(Augmentation(crop_probability=1.0), 96, 192)
        window = random_window(100, 160, crop)
        H, W = labels[window].shape[-2:]
        assert 100 / 1.56 - 1 <= H <= 100 and 100 / 1.56 - 1 <= W <= 151
        assert torch.equal(encode(labels)[window], encode(labels[window]))


def test_clips_of_one_geometry_have_one_size_and_places_of_their_own():
    geometry = Geometry(40.0, 80.0, (60.0, 40.0, 50.0))
    labels = moving_labels(H=60, W=90)
    results = [augment(Augmentation(**PLAIN), geometry, encode(labels), labels)[1] for _ in range(8)]
    assert {tuple(found.shape) for found in results} == {(3, 40, 50)}
    assert len({found.numpy().tobytes() for found in results}) > 4


def test_colour_jitter_is_one_draw_for_the_clip_and_leaves_the_labels_alone():
    labels = moving_labels(T=1).repeat(3, 1, 1)
    frames, found = vary(Augmentation(**EXACT, **{**PLAIN, "color_jitter": 0.4}), labels)
    assert torch.equal(found, labels) and frames.dtype == torch.float32
    assert not frames.isclose(normalise(encode(labels)), atol=0.01).all() and frames.eq(frames[0]).all()


def random_frames() -> Tensor:
    return torch.randint(0, 256, (2, 3, 9, 11), dtype=torch.uint8)


def test_colours_by_the_factors_one_are_normalised_and_else_unchanged():
    frames = random_frames()
    assert torch.allclose(recolour(frames, jitter(frames, 1, 1, 1)), normalise(frames), atol=1e-5)


@pytest.mark.parametrize("factors", [(1.1, 1, 1), (0.9, 1, 1), (1, 0.9, 1), (1, 1, 0.9), (0.9, 0.8, 0.7)])
def test_colours_are_those_of_torchvision_but_for_its_rounding(factors):
    frames = random_frames()
    brightness, contrast, saturation = factors
    expected = TF.adjust_brightness(frames / 255, brightness)
    expected = TF.adjust_saturation(TF.adjust_contrast(expected, contrast), saturation)
    assert torch.allclose(
        recolour(frames, jitter(frames, *factors)),
        TF.normalize(expected, IMAGENET_MEAN, IMAGENET_STD),
        atol=2e-3,
    )


def test_colours_end_at_black_and_white():
    ends = normalise(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).repeat(1, 3, 1, 1))
    frames = 255 * (random_frames() % 2)
    for factors in ((3, 1, 1), (1, 3, 1), (1, 1, 3)):
        changed = recolour(frames, jitter(frames, *factors))
        assert torch.allclose(changed.amin((0, 2, 3)), ends[0, :, 0, 0])
        assert torch.allclose(changed.amax((0, 2, 3)), ends[1, :, 0, 0])


def test_colours_are_float32_inside_of_autocast():
    frames = random_frames()
    colours = jitter(frames, 1.2, 0.9, 1.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = recolour(frames, colours)
    assert inside.dtype == torch.float32 and torch.equal(inside, recolour(frames, colours))


def test_draws_come_from_torchs_generator_alone():
    labels = moving_labels()
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(vary(Augmentation(), labels))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_draw_stays_in_its_interval():
    numbers = [draw(3, 5) for _ in range(100)]
    assert 3 <= min(numbers) < 3.2 and 4.8 < max(numbers) < 5
    assert draw(2, 2) == 2
