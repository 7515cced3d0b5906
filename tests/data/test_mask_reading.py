"""Masks without plain labels are read consistently with a note, or are an error."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from src_training.data.domain import Domain
from src_training.data.summary import CaseSummary, Note, Problem
from src_training.data.validation import inspect_folder
from src_training.errors import InputError

SIDE = 128
Save = Callable[[Path, np.ndarray], None]


def discs(seed: int, value: int = 255) -> np.ndarray:
    """Three discs and a line of two pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for row, column, radius in rng.integers(8, 120, (3, 3)):
        mask[(y - row) ** 2 + (x - column) ** 2 < (5 + radius / 10) ** 2] = value
    mask[60:62] = value
    return mask


def cells(seed: int, count: int = 32) -> np.ndarray:
    """Numbered squares at random positions, in random order."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for number, place in enumerate(rng.permutation(36)[:count], start=1):
        row, column = 21 * (place // 6), 21 * (place % 6)
        mask[row + 3 : row + 15, column + 2 : column + 14] = number
    return mask


def pictures(path: Path, mask: np.ndarray, **options: object) -> None:
    Image.fromarray(mask).save(path, **options)


def domain_folder(
    folder: Path, masks: list[np.ndarray], suffix: str = ".png", save: Save = pictures
) -> Path:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index, mask in enumerate(masks):
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(folder / f"images/{index}.png")
        save(folder / f"masks/{index}{suffix}", mask)
    return folder


def notes(folder: Path) -> list[str]:
    return [each.sentence for each in inspect_folder(folder) if isinstance(each, Note)]


def foreground(folder: Path) -> list[int]:
    """Foreground of each case; the same when it is inspected."""
    found = inspect_folder(folder)
    counts = [each.counts for each in found if isinstance(each, CaseSummary) and each.counts]
    domain = Domain.from_folder(folder)
    read = [int((case.mask > 0).sum()) for case in domain if case.mask is not None]
    assert [sum(each.values()) - each["background"] for each in counts] == read
    return read


def problems(folder: Path) -> dict[str, str]:
    found = inspect_folder(folder)
    return {each.file: each.sentence for each in found if isinstance(each, Problem)}


MASKS = [discs(seed) for seed in range(3)]
TRUE = [int((mask > 0).sum()) for mask in MASKS]


@settings(
    deadline=None,
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(quality=st.integers(60, 100), seeds=st.sets(st.integers(0, 999), min_size=1, max_size=2))
def test_jpeg_masks_are_divided_in_the_middle(
    quality: int, seeds: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    masks = [discs(seed) for seed in sorted(seeds)]
    save = partial(pictures, quality=quality)
    folder = domain_folder(tmp_path_factory.mktemp("jpeg"), masks, ".jpg", save)
    assert foreground(folder) == [int((mask > 0).sum()) for mask in masks]
    domain = Domain.from_folder(folder)
    assert notes(folder) == list(domain.mask_notes)
    assert "noise of a lossy compression: above 127 is foreground" in domain.mask_notes[0]
    assert domain.subset(domain.names[:1]).mask_notes == domain.mask_notes


@pytest.mark.parametrize("times", [2, 4])
def test_grey_edges_are_divided_in_the_middle(times: int, tmp_path: Path) -> None:
    turned = [Image.fromarray(mask).resize((SIDE * times,) * 2).rotate(20) for mask in MASKS]
    soft = [np.asarray(each.resize((SIDE, SIDE), Image.Resampling.BOX)) for each in turned]
    folder = domain_folder(tmp_path, soft)
    assert foreground(folder) == [int((mask > 127).sum()) for mask in soft]
    assert "grey edges or noise: above 127 is foreground" in notes(folder)[0]


def test_probabilities_at_two_ends_are_divided(tmp_path: Path) -> None:
    soft = [(mask > 0) * np.float32(0.98) + np.float32(0.01) for mask in MASKS]
    for mask in soft:
        mask[0] += np.linspace(0, 0.01, SIDE, dtype=np.float32)
    folder = domain_folder(tmp_path, soft, ".tif", tifffile.imwrite)
    assert foreground(folder) == TRUE
    assert "above 0.5 is foreground" in notes(folder)[0]


@pytest.mark.parametrize(
    ("suffix", "mask"),
    [
        (".png", np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)),
        (".jpg", discs(0, 3)),
        (".jpg", np.repeat(np.repeat(np.uint8([[0, 128], [255, 0]]), 64, 0), 64, 1)),
        (".tif", np.float32(np.mgrid[:SIDE, :SIDE][0] / SIDE)),
    ],
    ids=["picture", "JPEG of 0 and 3", "JPEG of three classes", "probabilities"],
)
def test_what_is_no_label_is_one_sentence(suffix: str, mask: np.ndarray, tmp_path: Path) -> None:
    folder = domain_folder(tmp_path, [mask], suffix)
    name = f"masks/0{suffix}"
    sentence = problems(folder)[name]
    assert sentence.startswith(f"{name} holds ") and " different values" in sentence
    assert " px)" in sentence and "; expected labels: two values far apart" in sentence
    with pytest.raises(InputError, match=r"different values.*; expected labels"):
        Domain.from_folder(folder)


@pytest.mark.parametrize(("suffix", "options"), [(".tif", {"compression": "jpeg"}), (".webp", {})])
def test_any_lossy_file_holds_no_small_labels(
    suffix: str, options: dict[str, str], tmp_path: Path
) -> None:
    save = partial(pictures, **options)
    folder = domain_folder(tmp_path, [discs(0, 4)], suffix, save)
    assert "different values after a lossy compression" in problems(folder)[f"masks/0{suffix}"]


def test_one_picture_among_jpeg_masks_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)
    folder = domain_folder(tmp_path, [*MASKS, noise], ".jpg")
    assert list(problems(folder)) == ["masks/3.jpg"]


def test_0_and_1_beside_jpegs_of_255_is_named(tmp_path: Path) -> None:
    folder = domain_folder(tmp_path, MASKS, ".jpg")
    (folder / "masks" / "2.jpg").unlink()
    pictures(folder / "masks" / "2.png", discs(2, 1))
    assert "masks/2.png holds 0 to 1" in problems(folder)["masks/2.png"]


@pytest.mark.parametrize("bands", ["LA", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_labels_in_the_alpha_channel_are_read(bands: str, suffix: str, tmp_path: Path) -> None:
    white = [np.full((SIDE, SIDE, len(bands) - 1), 255, np.uint8)] * 3
    masks = [np.dstack([each, mask]) for each, mask in zip(white, MASKS, strict=True)]
    folder = domain_folder(tmp_path, masks, suffix)
    assert foreground(folder) == TRUE
    assert notes(folder) == ["The labels of 3 of 3 masks are read from the alpha channel."]


def test_colors_and_alpha_that_differ_are_refused(tmp_path: Path) -> None:
    mask = np.dstack([MASKS[0]] * 3 + [MASKS[1]])
    folder = domain_folder(tmp_path, [mask])
    assert "transparent pixels are not black); expected" in problems(folder)["masks/0.png"]


def test_one_color_on_black_is_foreground(tmp_path: Path) -> None:
    red = [np.dstack([mask, mask // 2, mask * 0]) for mask in MASKS]
    folder = domain_folder(tmp_path, red)
    assert foreground(folder) == TRUE
    assert "read from the color (255, 127, 0)" in notes(folder)[0]


def test_several_colors_are_counted_and_refused(tmp_path: Path) -> None:
    folder = domain_folder(tmp_path, [np.dstack([*MASKS])])
    sentence = problems(folder)["masks/0.png"]
    assert "colors: (0, 0, 0) " in sentence and "; expected one number per pixel" in sentence


def test_numbered_objects_are_one_class(tmp_path: Path) -> None:
    folder = domain_folder(tmp_path, [cells(0), cells(1, 30), cells(2, 25)])
    assert foreground(folder) == [32 * 144, 30 * 144, 25 * 144]
    assert Domain.from_folder(folder).classes == ("background", "foreground")
    assert "looks like numbered objects: they are read as one class" in notes(folder)[0]
    values: dict[str, int | list[int]] = {f"kind_{value}": value for value in range(1, 33)}
    assert len(Domain.from_folder(folder, class_values=values).classes) == 33
    [note] = [each for each in inspect_folder(folder) if isinstance(each, Note)]
    assert note.other_values == {f"class_{value}": value for value in range(1, 33)}


def test_regions_at_one_place_are_classes(tmp_path: Path) -> None:
    organs = np.zeros((SIDE, SIDE), np.uint8)
    for value in range(1, 8):
        organs[16 * value : 16 * value + 9, 10 * value : 10 * value + 9] = value
    folder = domain_folder(tmp_path, [np.roll(organs, shift, 0) for shift in (0, 2, 4)])
    assert len(Domain.from_folder(folder).classes) == 8
    assert "read as 7 classes. If they number objects" in notes(folder)[0]


@pytest.mark.parametrize(("low", "high"), [(1, 2), (128, 255)])
def test_of_two_values_without_0_the_higher_counts(low: int, high: int, tmp_path: Path) -> None:
    masks = [np.where(mask > 0, high, low).astype(np.uint8) for mask in MASKS]
    folder = domain_folder(tmp_path, masks)
    assert foreground(folder) == TRUE
    assert notes(folder) == [f"The masks hold {low} and {high}, and no 0: {high} is foreground."]


def test_inverted_masks_are_doubted(tmp_path: Path) -> None:
    folder = domain_folder(tmp_path, [255 - mask for mask in MASKS])
    assert "of the masks. If they are inverted, name the values" in notes(folder)[0]


@pytest.mark.parametrize("kind", ["1-bit PNG", "16-bit TIFF", "MINISWHITE", "GIF"])
def test_two_values_of_any_file_need_no_word(kind: str, tmp_path: Path) -> None:
    suffix = {"1-bit PNG": ".png", "GIF": ".gif"}.get(kind, ".tif")
    saves: dict[str, Save] = {
        "1-bit PNG": lambda path, mask: pictures(path, mask > 0),
        "16-bit TIFF": lambda path, mask: tifffile.imwrite(path, mask.astype(np.uint16) * 257),
        "MINISWHITE": lambda path, m: tifffile.imwrite(path, 255 - m, photometric="miniswhite"),
        "GIF": pictures,
    }
    folder = domain_folder(tmp_path, MASKS, suffix, saves[kind])
    assert foreground(folder) == TRUE and notes(folder) == []


def test_a_field_of_view_has_no_noise(tmp_path: Path) -> None:
    folder = domain_folder(tmp_path, MASKS)
    (folder / "fov").mkdir()
    for index, mask in enumerate(MASKS):
        pictures(folder / "fov" / f"{index}.jpg", mask, quality=75)
    assert [int(case.fov.sum()) for case in Domain.from_folder(folder) if case.fov is not None] == (
        TRUE
    )
