import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src_training.data.augmentation import Augmentation, Augmenter
from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.data.sampling import (
    PatchSampler,
    SemiSupervisedSampler,
    crop_padded,
    crop_patch,
    evenly_spaced,
    patch_corners,
)
from src_training.errors import InputError

CPU = torch.device("cpu")
MINMAX = IntensityPreprocessing(percentiles=(0, 100))
OFF = Augmentation(
    flips=False,
    turn=0,
    scale=0,
    brightness=0,
    contrast=0,
    gamma=0,
    blur=0,
    noise=0,
    resolution=1,
    illumination=0,
)


def prepared(domain, masks):
    return [case.image for case in prepare_cases(domain, MINMAX, masks)]


def sampler(image, mask, fov=None, augmentation=OFF):
    domain = Domain.from_arrays("d", [image], [mask], [fov], classes=("background", "a", "b"))
    return PatchSampler(prepared(domain, "required"), Augmenter(augmentation, 32))


def noise(size=(40, 50), seed=0):
    return np.random.default_rng(seed).random(size).astype(np.float32)


def test_a_batch_holds_anchors_masks_and_views():
    mask = np.random.default_rng(1).integers(0, 3, (40, 50))
    batch = sampler(noise(), mask, augmentation=Augmentation()).sample(3, 2, CPU)
    assert batch.image.shape == (3, 1, 32, 32) and batch.image.dtype == torch.float32
    assert batch.mask.shape == (3, 32, 32) and batch.mask.dtype == torch.int64
    assert batch.views.shape == (6, 1, 32, 32)
    assert sampler(noise(), mask).sample(1, 0, CPU).views is None


def test_a_sample_has_style_augmentation_where_it_is_on():
    mask = np.random.default_rng(1).integers(0, 3, (40, 50))
    style = Augmentation(flips=False, turn=0, scale=0)
    torch.manual_seed(0)
    batch = sampler(noise(), mask, augmentation=style).sample(8, 2, CPU)
    images = torch.cat([batch.image, batch.views])
    plain = torch.cat([batch.unaugmented, batch.unaugmented.repeat_interleave(2, 0)])
    changed = (images - plain).abs().mean((1, 2, 3)) > 1e-3
    assert changed.float().mean() > 0.9
    off = sampler(noise(), mask).sample(8, 2, CPU)
    assert torch.equal(off.image, off.unaugmented)
    assert torch.equal(off.views, off.unaugmented.repeat_interleave(2, 0))


def test_a_sample_is_spatially_augmented_with_its_mask():
    mask = np.zeros((40, 50), np.uint8)
    mask[5:30, 10:20] = 1
    spatial = OFF.model_copy(update={"flips": True, "turn": 180, "scale": 0.25})

    def draw(augmentation):
        torch.manual_seed(3)
        return sampler(mask.astype(np.float32), mask, augmentation=augmentation).sample(4, 0, CPU)

    off, on = draw(OFF), draw(spatial)
    assert not torch.allclose(on.unaugmented, off.unaugmented, atol=0.1)
    agreement = ((on.image[:, 0] > 0.5) == (on.mask > 0)).float().mean()
    assert agreement > 0.97


@pytest.mark.parametrize(("count", "labelled"), [(4, 2), (5, 3), (1, 1)])
def test_half_of_a_semi_supervised_batch_has_no_masks(count, labelled):
    mask = np.random.default_rng(1).integers(0, 3, (40, 50))
    bright = Domain.from_arrays("bright", [np.linspace(10, 11, 2000).reshape(40, 50)], None)
    unlabelled = PatchSampler(prepared(bright, "ignored"), Augmenter(OFF, 32))
    batch = SemiSupervisedSampler(sampler(noise(), mask), unlabelled).sample(count, 2, CPU)
    assert len(batch.image) == count and len(batch.mask) == labelled
    assert batch.views.shape == (2 * count, 1, 32, 32)
    # Adjacent pixels are similar in a ramp, unlike in noise.
    rough = batch.image.diff(dim=-1).abs().mean((1, 2, 3)) > 0.1
    assert rough.tolist() == [True] * labelled + [False] * (count - labelled)
    assert torch.equal(batch.unaugmented, batch.image)
    views = batch.views.diff(dim=-1).abs().mean((1, 2, 3)) > 0.1
    assert views.tolist() == rough.repeat_interleave(2).tolist()


def test_the_same_seed_gives_the_same_batch():
    mask = np.random.default_rng(1).integers(0, 3, (40, 50))
    patches = sampler(noise(), mask, augmentation=Augmentation())

    def draw(seed):
        torch.manual_seed(seed)
        batch = patches.sample(2, 1, CPU)
        return batch.image, batch.mask, batch.views

    assert all(torch.equal(a, b) for a, b in zip(draw(1), draw(1), strict=True))
    assert not torch.equal(draw(1)[0], draw(2)[0])


def test_image_and_mask_are_cropped_at_the_same_place():
    mask = np.zeros((40, 50), np.uint8)
    mask[5:30, 10:20] = 1
    batch = sampler(mask.astype(np.float32), mask).sample(8, 0, CPU)
    assert torch.allclose(batch.image[:, 0], batch.mask.float(), atol=1e-4)


def test_patches_are_centred_inside_the_field_of_view():
    fov = np.zeros((40, 50), bool)
    fov[7, 41] = True
    image = noise()
    mask = np.zeros((40, 50), np.uint8)
    mask[7, 41] = 1
    [case] = prepare_cases(Domain.from_arrays("d", [image], [mask]), MINMAX)
    expected = case.image.pixels
    batch = sampler(image, mask, fov).sample(4, 0, CPU)
    assert torch.allclose(batch.image[:, 0, 16, 16], torch.tensor(expected[0, 7, 41]), atol=1e-4)
    assert (batch.mask[:, 16, 16] == 1).all()


def test_foreground_is_oversampled_however_small():
    mask = np.zeros((400, 400), np.uint8)
    mask[3, 390] = 2
    torch.manual_seed(0)
    batch = sampler(noise((400, 400)), mask).sample(150, 0, CPU)
    share = (batch.mask[:, 16, 16] == 2).float().mean().item()
    assert 0.2 < share < 0.47


def test_an_image_of_one_pixel_can_be_sampled():
    batch = sampler(np.ones((1, 1)), np.ones((1, 1), np.uint8)).sample(2, 1, CPU)
    assert batch.image.shape == (2, 1, 32, 32) and torch.isfinite(batch.image).all()
    assert (batch.mask.sum((1, 2)) == 1).all()


@given(st.integers(1, 150), st.integers(1, 150), st.integers(8, 64), st.integers(0, 9))
def test_corners_are_inside_and_apart(height, width, patch, seed):
    fov = np.random.default_rng(seed).random((height, width)) < 0.5
    corners = patch_corners(fov, patch)
    everywhere = patch_corners(np.ones_like(fov), patch)
    assert corners and set(corners) <= set(everywhere)
    assert len(everywhere) == max(1, height // patch) * max(1, width // patch)
    for top, left in everywhere:
        assert 0 <= top <= max(0, height - patch) and 0 <= left <= max(0, width - patch)
    for number, (top, left) in enumerate(everywhere):
        for other in everywhere[number + 1 :]:
            assert abs(top - other[0]) >= patch or abs(left - other[1]) >= patch
    shares = [crop_patch(fov, corner, patch).mean() for corner in corners]
    assert corners == everywhere or min(shares) >= 0.5


def test_a_patch_beyond_the_image_is_filled_with_zeros():
    array = np.arange(1, 7).reshape(1, 2, 3)
    assert crop_patch(array, (1, 1), 3).tolist() == [[[5, 6, 0], [0, 0, 0], [0, 0, 0]]]


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(-20, 20), st.integers(-20, 20)),
    st.integers(1, 20),
)
def test_a_padded_crop_is_a_crop_of_the_padded_image(size, corner, side):
    corner = tuple(max(-side, min(at, length)) for at, length in zip(corner, size, strict=True))
    image = np.arange(1, size[0] * size[1] + 1).reshape(size)
    top, left = (at + side for at in corner)
    expected = np.pad(image, side)[top : top + side, left : left + side]
    assert np.array_equal(crop_padded(torch.from_numpy(image), corner, side), expected)


def test_a_case_that_cannot_train_is_named():
    mask = np.ones((8, 8), np.uint8)
    unlabelled = Domain.from_arrays("scans", [np.ones((8, 8))], names=["first"])
    with pytest.raises(InputError, match="scans/first has no mask"):
        list(prepare_cases(unlabelled, MINMAX, "required"))
    broken = Domain.from_arrays("scans", [np.full((8, 8), np.nan)], [mask], names=["first"])
    with pytest.raises(InputError, match="scans/first: the image has 64 values that are NaN"):
        list(prepare_cases(broken, MINMAX, "required"))
    dark = [np.zeros((8, 8), bool)]
    unseen = Domain.from_arrays("scans", [np.eye(8)], [mask], dark, names=["first"])
    with pytest.raises(InputError, match="scans/first: the field of view is empty"):
        list(prepare_cases(unseen, MINMAX, "required"))


@given(st.integers(0, 2**31), st.booleans())
def test_a_patch_is_cropped_as_from_a_padded_image(seed, disc):
    size = (40, 50)
    row, column = np.indices(size)
    fov = np.hypot(row - 20, column - 25) < 15 if disc else None
    image, mask = noise(), (noise(seed=1) > 0.9).astype(np.uint8)
    torch.manual_seed(seed)
    batch = sampler(image, mask, fov).sample(1, 0, CPU)
    crop_size = Augmenter(OFF, 32).crop_size
    torch.manual_seed(seed)
    torch.randint(1, ())
    places = np.argwhere(np.ones(size, bool) if fov is None else fov)
    if bool(torch.rand(()) < 1 / 3):
        places = np.argwhere(mask)
    top, left = places[int(torch.randint(len(places), ()))]
    padded = np.pad(mask, crop_size // 2)[top : top + crop_size, left : left + crop_size]
    edge = (crop_size - 32) // 2
    assert np.array_equal(batch.mask[0], padded[edge : edge + 32, edge : edge + 32])


@given(st.integers(0, 200), st.integers(1, 40))
def test_evenly_spaced_items_leave_no_gap(length, count):
    chosen = evenly_spaced(range(length), count)
    assert len(chosen) == min(length, count) and chosen == sorted(set(chosen))
    gaps = np.diff([*chosen, length])
    assert not chosen or (chosen[0] == 0 and gaps.max() <= gaps.min() + 1)


def test_anchors_do_not_depend_on_the_number_of_views():
    drawn = []
    for views in (0, 1, 3):
        torch.manual_seed(5)
        drawn.append(sampler(noise(), np.eye(40, 50, dtype=np.int64)).sample(4, views, CPU))
    first, *others = drawn
    for other in others:
        assert torch.equal(other.image, first.image)
        assert torch.equal(other.mask, first.mask)
        assert torch.equal(other.unaugmented, first.unaugmented)
