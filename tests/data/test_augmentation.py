import pytest
import torch
import torch.nn.functional as F

from src_training.data.augmentation import Augmentation, Augmenter

PATCH = 32
STILL = Augmentation(
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
MOVED = STILL.model_copy(update={"flips": True, "turn": 180, "scale": 0.25})


def crop_size(views, seed=0, count=2, channels=1):
    torch.manual_seed(seed)
    side = views.crop_size
    return torch.rand(count, channels, side, side), torch.randint(3, (count, side, side))


def centre(image):
    start = (image.shape[-1] - PATCH) // 2
    return image[..., start : start + PATCH, start : start + PATCH]


@pytest.mark.parametrize("channels", [1, 3])
def test_anchors_and_views_have_the_size_of_the_patch_and_the_range_of_images(channels):
    views = Augmenter(Augmentation(), PATCH)
    image, mask = crop_size(views, channels=channels)
    anchor, anchor_mask = views.moved(image, mask)
    further = views.views(anchor, 3)
    assert anchor.shape == (2, channels, PATCH, PATCH)
    assert anchor_mask.shape == (2, PATCH, PATCH) and anchor_mask.dtype == mask.dtype
    assert further.shape == (6, channels, PATCH, PATCH)
    for each in (anchor, further):
        assert each.min() >= 0 and each.max() <= 1 and torch.isfinite(each).all()


def test_masks_keep_their_classes():
    views = Augmenter(Augmentation(), PATCH)
    _, mask = views.moved(*crop_size(views, count=8))
    assert set(mask.unique().tolist()) == {0, 1, 2}


def test_with_nothing_to_vary_the_anchor_is_the_centre_and_every_view_the_anchor():
    views = Augmenter(STILL, PATCH)
    image, mask = crop_size(views)
    anchor, anchor_mask = views.moved(image, mask)
    assert torch.allclose(anchor, centre(image), atol=1e-4)
    assert torch.equal(anchor_mask, centre(mask))
    assert torch.allclose(views.views(anchor, 2), anchor.repeat_interleave(2, 0), atol=1e-5)


def test_turning_is_as_wide_as_said_and_mirrors_nothing():
    views = Augmenter(STILL.model_copy(update={"turn": 20}), PATCH)
    middle = (views.crop_size - 1) / 2
    row, column = torch.meshgrid(*(torch.arange(views.crop_size) - middle,) * 2, indexing="ij")
    # A blob at 45 degrees, 12 pixels from the middle.
    blob = torch.exp(-((row - 8.5) ** 2 + (column - 8.5) ** 2) / 4)
    torch.manual_seed(0)
    moved, _ = views.moved(
        blob.expand(64, 1, -1, -1), torch.zeros(64, *blob.shape, dtype=torch.int64)
    )
    weight = moved[:, 0] / moved.sum((2, 3))[:, :, None]
    place = torch.arange(PATCH) - (PATCH - 1) / 2
    down, right = (weight.sum(2) * place).sum(1), (weight.sum(1) * place).sum(1)
    turned = torch.rad2deg(torch.atan2(down, right)) - 45
    assert turned.abs().max() < 21 and turned.min() < -10 and turned.max() > 10


def test_image_and_mask_move_together():
    views = Augmenter(MOVED, PATCH)
    mask = torch.zeros(8, views.crop_size, views.crop_size, dtype=torch.int64)
    mask[:, 14:40, 20:30] = 1
    torch.manual_seed(0)
    anchor, anchor_mask = views.moved(mask[:, None].float(), mask)
    agreement = ((anchor[:, 0] > 0.5) == (anchor_mask > 0)).float().mean((1, 2))
    assert (agreement > 0.97).all()
    assert not torch.equal(anchor_mask[0], anchor_mask[1])


def test_every_view_shows_its_own_sample_in_its_place():
    views = Augmenter(Augmentation(), PATCH)
    torch.manual_seed(0)
    image = F.interpolate(torch.rand(3, 1, 8, 8), PATCH, mode="bilinear")
    further = views.views(image, 4).unflatten(0, (3, 4))
    likeness = torch.tensor(
        [[_correlation(view, sample) for sample in image] for views in further for view in views]
    )
    assert likeness.argmax(1).tolist() == torch.arange(3).repeat_interleave(4).tolist()
    assert (likeness.amax(1) > 0.7).all()
    assert not torch.allclose(further, image[:, None].expand_as(further), atol=1e-2)


def _correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_the_seed_decides_everything():
    views = Augmenter(Augmentation(), PATCH)

    def drawn(seed):
        torch.manual_seed(seed)
        anchor, mask = views.moved(*crop_size(views, seed=seed))
        return anchor, mask, views.views(anchor, 2)

    assert all(torch.equal(a, b) for a, b in zip(drawn(3), drawn(3), strict=True))
    assert not torch.equal(drawn(3)[0], drawn(4)[0])


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma", "blur", "noise", "resolution"])
def test_each_strength_changes_grey_values(name):
    still = STILL.model_dump()
    views = Augmenter(Augmentation(**(still | {name: 2.0 if name == "resolution" else 0.9})), PATCH)
    torch.manual_seed(0)
    image = torch.rand(16, 1, PATCH, PATCH)
    assert not torch.allclose(views.restyle(image), image, atol=1e-2)
