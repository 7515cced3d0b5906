"""Phantoms follow Murray's law, are reproducible, and differ by scanner."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, binary_erosion, label, laplace

from src_training.data.case import Case
from src_training.data.phantom.abdomen import ct_phantom
from src_training.data.phantom.anatomy import grow_anatomy
from src_training.data.phantom.camera import SCANNERS, ScannerName, fundus_phantom, phantom_domain
from src_training.data.phantom.vessel_tree import murray_radii
from src_training.data.preprocessing.field_of_view import find_field_of_view
from src_training.errors import InputError

NAMES: tuple[ScannerName, ...] = ("A", "B", "C")


@pytest.fixture(scope="module")
def phantoms() -> dict[ScannerName, Case]:
    return {scanner: fundus_phantom(4, 512, scanner) for scanner in NAMES}


@pytest.mark.parametrize("seed", [0, 1])
def test_murrays_law_holds_at_every_branching(seed: int) -> None:
    anatomy = grow_anatomy(seed)
    for tree in (anatomy.arteries, anatomy.veins):
        child = np.flatnonzero(tree.parent >= 0)
        children = np.bincount(tree.parent[child], minlength=len(tree.parent))
        cubes = np.bincount(tree.parent[child], tree.radius[child] ** 3, len(tree.parent))
        inner = children > 0
        assert children.max() == 2
        assert (children == 2).sum() > 50
        np.testing.assert_allclose(tree.radius[inner] ** 3, cubes[inner], rtol=1e-9)
        assert (tree.parent < np.arange(len(tree.parent))).all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60), st.floats(0.01, 2))
def test_a_root_carries_the_cubes_of_its_leaves(draws: list[int], leaf: float) -> None:
    parent = np.array([-1, *(draw % (index + 1) for index, draw in enumerate(draws))])
    leaves = len(parent) - len(set(parent.tolist()) - {-1})
    assert murray_radii(parent, leaf)[0] ** 3 == pytest.approx(leaves * leaf**3)


def test_veins_are_wider_than_arteries() -> None:
    anatomy = grow_anatomy(3)
    assert anatomy.veins.radius.max() > anatomy.arteries.radius.max()


@pytest.mark.parametrize("scanner", NAMES)
def test_the_same_seed_is_the_same_photograph(scanner: ScannerName) -> None:
    one, same, other = (fundus_phantom(seed, 96, scanner) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.mask, same.mask)
    assert (one.image != other.image).any()


@pytest.mark.parametrize("scanner", NAMES)
def test_masks_are_plausible(scanner: ScannerName, phantoms: dict[ScannerName, Case]) -> None:
    case = phantoms[scanner]
    assert case.mask is not None and case.fov is not None
    assert (case.image.dtype, case.image.shape) == (np.uint8, (512, 512, 3))
    assert (case.mask.dtype, case.fov.dtype) == (np.uint8, bool)
    assert set(np.unique(case.mask)) == {0, 1}
    assert not case.mask[~case.fov].any()
    assert 0.08 < case.mask[case.fov].mean() < 0.14
    assert 0.6 < case.fov.mean() < 0.8


@pytest.mark.parametrize("scanner", NAMES)
def test_vessels_are_darker_than_their_surroundings_in_green(
    scanner: ScannerName, phantoms: dict[ScannerName, Case]
) -> None:
    case = phantoms[scanner]
    assert case.mask is not None and case.fov is not None
    vessel = case.mask > 0
    around = binary_dilation(vessel, iterations=4) & ~binary_dilation(vessel, iterations=1)
    green = case.image[..., 1].astype(float)
    assert green[vessel].mean() < 0.93 * green[around & case.fov].mean()


@pytest.mark.parametrize("scanner", NAMES)
def test_the_frame_is_dark_and_the_field_of_view_is_found(
    scanner: ScannerName, phantoms: dict[ScannerName, Case]
) -> None:
    case = phantoms[scanner]
    assert case.fov is not None
    assert case.image[~binary_dilation(case.fov, iterations=8)].mean() < 12
    found = find_field_of_view(case.image)
    assert (found & case.fov).sum() / (found | case.fov).sum() > 0.97


def test_scanners_differ_in_colour_scale_and_sharpness(
    phantoms: dict[ScannerName, Case],
) -> None:
    for one, other in combinations(NAMES, 2):
        balance = [phantoms[name].image[phantoms[name].fov].mean(0) for name in (one, other)]
        assert np.abs(balance[0] - balance[1]).max() > 20
        assert SCANNERS[one].field / SCANNERS[other].field != pytest.approx(1, abs=0.15)
    grain = [
        laplace(case.image[..., 1].astype(float))[case.fov].std() for case in phantoms.values()
    ]
    assert max(grain) > 1.5 * min(grain)


def test_a_scanner_sees_both_left_and_right_eyes() -> None:
    assert {grow_anatomy(seed).left for seed in range(4)} == {True, False}


def test_a_domain_has_its_own_eyes() -> None:
    a, b = phantom_domain("A", 2, 64, seed=1), phantom_domain("B", 2, 64, seed=1)
    assert (a.name, a.names, a.classes) == (
        "phantom_A",
        ("A_000", "A_001"),
        ("background", "vessel"),
    )
    masks = [case.mask for domain in (a, b) for case in domain]
    assert all((one != other).any() for one, other in combinations(masks, 2))
    again = phantom_domain("A", 3, 64, seed=1)
    np.testing.assert_array_equal(again[1].image, a[1].image)


def test_what_cannot_be_photographed_is_refused() -> None:
    with pytest.raises(InputError, match="scanner 'Z' at 512 pixels; expected one of A, B, C"):
        fundus_phantom(0, scanner="Z")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at 8 pixels"):
        fundus_phantom(0, 8)
    with pytest.raises(InputError, match="number of phantoms is 0"):
        phantom_domain("A", 0)


@pytest.fixture(scope="module")
def ct():
    return ct_phantom(seed=1, coarseness=2)


def test_a_ct_phantom_has_the_units_of_its_tissues(ct) -> None:
    inner = binary_erosion(ct.liver, iterations=2)
    assert 95 < np.median(ct.voxels[inner]) < 130
    assert np.median(ct.voxels[:, 0]) == pytest.approx(-1000, abs=20)
    assert (ct.voxels > 350).any() and (ct.voxels < -750).any()


def test_the_liver_of_a_ct_phantom_is_one_body_of_a_size(ct) -> None:
    bodies, count = label(ct.liver)
    largest = np.bincount(bodies.ravel())[1:].max() if count else 0
    assert largest > 0.95 * ct.liver.sum()
    millilitres = ct.liver.sum() * np.prod(ct.spacing) / 1000
    assert 1200 < millilitres < 2200
    centre = np.argwhere(ct.liver).mean(0)
    assert centre[2] < ct.liver.shape[2] / 2, "the liver lies on the patient's right"


def test_a_ct_phantom_repeats_and_differs_by_seed(ct) -> None:
    again, other = ct_phantom(seed=1, coarseness=2), ct_phantom(seed=2, coarseness=2)
    np.testing.assert_array_equal(again.voxels, ct.voxels)
    assert (other.liver != ct.liver).mean() > 0.001


@pytest.mark.parametrize("coarseness", [0.1, 9])
def test_the_coarseness_of_a_ct_phantom_has_bounds(coarseness) -> None:
    with pytest.raises(InputError, match=r"expected 0\.5 to 8"):
        ct_phantom(coarseness=coarseness)
