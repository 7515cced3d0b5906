import pytest
import torch
import torch.nn.functional as F

from src_training.data.augmentation import Augmentation, Augmenter

PATCH = 32
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
SPATIAL = OFF.model_copy(update={"flips": True, "turn": 180, "scale": 0.25})


def crops(augmenter, seed=0, count=2, channels=1):
    torch.manual_seed(seed)
    side = augmenter.crop_size
    return torch.rand(count, channels, side, side), torch.randint(3, (count, side, side))


def centre(image):
    start = (image.shape[-1] - PATCH) // 2
    return image[..., start : start + PATCH, start : start + PATCH]


@pytest.mark.parametrize("channels", [1, 3])
def test_anchors_and_views_keep_size_and_range(channels):
    augmenter = Augmenter(Augmentation(), PATCH)
    image, mask = crops(augmenter, channels=channels)
    anchor, anchor_mask = augmenter.spatial_augmentation(image, mask)
    further = augmenter.views(anchor, 3)
    assert anchor.shape == (2, channels, PATCH, PATCH)
    assert anchor_mask.shape == (2, PATCH, PATCH) and anchor_mask.dtype == mask.dtype
    assert further.shape == (6, channels, PATCH, PATCH)
    for each in (anchor, further):
        assert each.min() >= 0 and each.max() <= 1 and torch.isfinite(each).all()


def test_masks_keep_their_classes():
    augmenter = Augmenter(Augmentation(), PATCH)
    _, mask = augmenter.spatial_augmentation(*crops(augmenter, count=8))
    assert set(mask.unique().tolist()) == {0, 1, 2}


def test_without_augmentation_anchor_and_views_are_the_centre():
    augmenter = Augmenter(OFF, PATCH)
    image, mask = crops(augmenter)
    anchor, anchor_mask = augmenter.spatial_augmentation(image, mask)
    assert torch.allclose(anchor, centre(image), atol=1e-4)
    assert torch.equal(anchor_mask, centre(mask))
    assert torch.allclose(augmenter.views(anchor, 2), anchor.repeat_interleave(2, 0), atol=1e-5)


def test_rotation_stays_within_its_limit():
    augmenter = Augmenter(OFF.model_copy(update={"turn": 20}), PATCH)
    middle = (augmenter.crop_size - 1) / 2
    row, column = torch.meshgrid(*(torch.arange(augmenter.crop_size) - middle,) * 2, indexing="ij")
    # A blob at 45 degrees, 12 pixels from the middle.
    blob = torch.exp(-((row - 8.5) ** 2 + (column - 8.5) ** 2) / 4)
    torch.manual_seed(0)
    rotated, _ = augmenter.spatial_augmentation(
        blob.expand(64, 1, -1, -1), torch.zeros(64, *blob.shape, dtype=torch.int64)
    )
    weight = rotated[:, 0] / rotated.sum((2, 3))[:, :, None]
    place = torch.arange(PATCH) - (PATCH - 1) / 2
    down, right = (weight.sum(2) * place).sum(1), (weight.sum(1) * place).sum(1)
    angle = torch.rad2deg(torch.atan2(down, right)) - 45
    assert angle.abs().max() < 21 and angle.min() < -10 and angle.max() > 10


def test_image_and_mask_are_transformed_alike():
    augmenter = Augmenter(SPATIAL, PATCH)
    mask = torch.zeros(8, augmenter.crop_size, augmenter.crop_size, dtype=torch.int64)
    mask[:, 14:40, 20:30] = 1
    torch.manual_seed(0)
    anchor, anchor_mask = augmenter.spatial_augmentation(mask[:, None].float(), mask)
    agreement = ((anchor[:, 0] > 0.5) == (anchor_mask > 0)).float().mean((1, 2))
    assert (agreement > 0.97).all()
    assert not torch.equal(anchor_mask[0], anchor_mask[1])


def test_every_view_is_of_its_own_sample():
    augmenter = Augmenter(Augmentation(), PATCH)
    torch.manual_seed(0)
    image = F.interpolate(torch.rand(3, 1, 8, 8), PATCH, mode="bilinear")
    further = augmenter.views(image, 4).unflatten(0, (3, 4))
    similarity = torch.tensor(
        [[_correlation(view, sample) for sample in image] for views in further for view in views]
    )
    assert similarity.argmax(1).tolist() == torch.arange(3).repeat_interleave(4).tolist()
    assert (similarity.amax(1) > 0.7).all()
    assert not torch.allclose(further, image[:, None].expand_as(further), atol=1e-2)


def _correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_the_same_seed_gives_the_same_augmentation():
    augmenter = Augmenter(Augmentation(), PATCH)

    def draw(seed):
        torch.manual_seed(seed)
        anchor, mask = augmenter.spatial_augmentation(*crops(augmenter, seed=seed))
        return anchor, mask, augmenter.views(anchor, 2)

    assert all(torch.equal(a, b) for a, b in zip(draw(3), draw(3), strict=True))
    assert not torch.equal(draw(3)[0], draw(4)[0])


@pytest.mark.parametrize(
    "name",
    ["brightness", "contrast", "gamma", "blur", "noise", "resolution", "illumination"],
)
def test_each_strength_changes_grey_values(name):
    strength = {name: 2.0 if name == "resolution" else 0.9}
    augmenter = Augmenter(OFF.model_copy(update=strength), PATCH)
    torch.manual_seed(0)
    image = torch.rand(16, 1, PATCH, PATCH)
    assert not torch.allclose(augmenter.style_augmentation(image), image, atol=1e-2)
