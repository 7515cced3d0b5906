"""Synthetic fundus photographs with exact vessel masks, by several cameras.

Samples, quick start and tests use them, so that they need no download. `anatomy`
and `vessel_tree` generate a fundus; this module renders its photograph. All of it
is *reconstruction*: designed to look and to vary like fundus photographs, without
following a paper.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from src_training.data.domain import Case, Domain
from src_training.data.phantom.anatomy import FundusAnatomy, grow_anatomy, smooth_noise
from src_training.data.phantom.compression import simulate_jpeg
from src_training.data.phantom.vessel_tree import VesselTree
from src_training.errors import InputError

Map = NDArray[np.float64]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class FundusCamera:
    """A fundus camera, its optics and its colours (RGB in [0, 1]).

    Attributes
    ----------
    field
        Diameter of the field of view, degrees.
    centre
        Point on the retina at the centre of the image, degrees.
    crop
        Height of the field of view relative to its diameter; below 1 it is truncated.
    notch
        Whether the field of view has a small tab.
    retina, disc, cup
        Colours of the retina, the optic disc and its cup.
    blood
        Contrast of the vessels; 1 is full contrast.
    choroid, sheen
        Strength of the choroidal vessels, and of the nerve fibre reflexes.
    vignette
        Fraction of the light lost at the rim.
    blur
        Standard deviation of the point spread function, degrees.
    noise
        Standard deviation of the noise; grey values are in [0, 1].
    compression
        Quantisation step of JPEG compression (`simulate_jpeg`), grey values of 255.
    """

    field: float
    centre: tuple[float, float]
    crop: float
    notch: bool
    retina: Colour
    disc: Colour
    cup: Colour
    blood: float
    choroid: float
    sheen: float
    vignette: float
    blur: float
    noise: float
    compression: float


ScannerName = Literal["A", "B", "C"]

SCANNERS: dict[ScannerName, FundusCamera] = {
    "A": FundusCamera(
        field=45, centre=(1.5, 0.4), crop=1, notch=True,
        retina=(0.78, 0.47, 0.28), disc=(0.95, 0.74, 0.42), cup=(1.0, 0.92, 0.60),
        blood=1.0, choroid=0.028, sheen=0.35, vignette=0.34,
        blur=0.055, noise=0.010, compression=4,
    ),
    "B": FundusCamera(
        field=30, centre=(14.6, 0.8), crop=1, notch=False,
        retina=(0.80, 0.28, 0.06), disc=(0.97, 0.56, 0.17), cup=(1.0, 0.86, 0.34),
        blood=1.05, choroid=0.11, sheen=0.8, vignette=0.72,
        blur=0.045, noise=0.012, compression=6,
    ),
    "C": FundusCamera(
        field=36, centre=(7.0, 0.4), crop=0.88, notch=False,
        retina=(0.84, 0.60, 0.42), disc=(0.99, 0.86, 0.62), cup=(1.0, 0.96, 0.80),
        blood=0.62, choroid=0.045, sheen=0.3, vignette=0.22,
        blur=0.095, noise=0.024, compression=14,
    ),
}  # fmt: skip


def fundus_phantom(seed: int, size: int = 512, scanner: ScannerName = "A") -> Case:
    """Draw one synthetic fundus photograph.

    Parameters
    ----------
    seed
        The same seed gives the same eye for every scanner.
    size
        Height and width, pixels; 32 or more.
    scanner
        ``A``: 45 degrees, centred on the macula, tan, sharp. ``B``: 30 degrees,
        centred on the disc, deep red, tessellated, unevenly lit. ``C``: 36 degrees,
        pale, blurred, noisy, truncated at the top and bottom.

    Returns
    -------
    Case
        Image (size, size, 3) uint8; mask (size, size) uint8, 1 where a vessel
        covers at least half of the pixel; fov (size, size) bool.

    Raises
    ------
    InputError
        If the scanner is unknown or the size too small.

    Examples
    --------
    >>> case = fundus_phantom(seed=7, size=64, scanner="B")
    >>> case.name, case.image.shape, case.mask.max()
    ('B_7', (64, 64, 3), np.uint8(1))
    """
    if scanner not in SCANNERS or size < 32:
        raise InputError(
            f"a phantom cannot be drawn for scanner {scanner!r} at {size} pixels; "
            f"expected one of {', '.join(SCANNERS)} and 32 pixels or more"
        )
    camera, anatomy = SCANNERS[scanner], grow_anatomy(seed)
    projection = _Projection(anatomy, camera, size)
    rng = np.random.default_rng([seed, ord(scanner)])
    fov = projection.field_of_view()
    arteries, veins = projection.vessels(anatomy.arteries), projection.vessels(anatomy.veins)
    retina = _retina(projection)
    for tree, density in ((veins, (0.44, 1.0, 0.72)), (arteries, (0.24, 0.78, 0.60))):
        absorbance = camera.blood * tree.depth[..., None] * np.array(density)
        retina = retina * np.exp(-absorbance) * (1 + 0.22 * tree.reflex[..., None])
    image = _photograph(retina, projection, fov, rng)
    mask = ((arteries.cover >= 0.5) | (veins.cover >= 0.5)) & fov
    return Case(f"{scanner}_{seed}", image, mask.astype(np.uint8), fov)


def draw_phantoms(scanner: ScannerName, n: int, size: int = 512, seed: int = 0) -> Iterator[Case]:
    """Draw `n` phantoms of one scanner, each of a different eye; see `phantom_domain`."""
    if n < 1:
        raise InputError(f"the number of phantoms is {n}; expected 1 or more")
    seeds = np.random.SeedSequence([seed, ord(scanner[:1] or "?")]).generate_state(n)
    for index, case_seed in enumerate(seeds):
        yield replace(fundus_phantom(int(case_seed), size, scanner), name=f"{scanner}_{index:03d}")


def phantom_domain(
    scanner: ScannerName,
    n: int,
    size: int = 512,
    seed: int = 0,
    *,
    cases: Sequence[Case] | None = None,
) -> Domain:
    """Draw a domain of `n` phantoms of one scanner, each of a different eye.

    Domains of two scanners have no eye in common, for any seeds.

    Parameters
    ----------
    scanner, size
        See `fundus_phantom`.
    n
        Number of images.
    seed
        Seed of the eyes.
    cases
        Cases from `draw_phantoms`, to avoid drawing them again.

    Raises
    ------
    InputError
        If `n` is below 1, there is no such scanner or the size is too small.
    """
    drawn = list(draw_phantoms(scanner, n, size, seed)) if cases is None else cases
    return Domain.from_arrays(
        f"phantom_{scanner}",
        [case.image for case in drawn],
        [case.mask for case in drawn],
        [case.fov for case in drawn],
        ("background", "vessel"),
        [case.name for case in drawn],
    )


@dataclass(frozen=True, eq=False)
class _VesselMaps:
    """Vessels on the pixel grid (H, W): covered fraction, blood depth, central light reflex."""

    cover: Map
    depth: Map
    reflex: Map


class _Projection:
    """Pixel grid of a photograph, and the point on the retina for each pixel."""

    def __init__(self, anatomy: FundusAnatomy, camera: FundusCamera, size: int) -> None:
        self.anatomy, self.camera, self.size = anatomy, camera, size
        self.scale = 0.96 * size / camera.field
        middle = (size - 1) / 2
        row, column = np.mgrid[:size, :size].astype(np.float64)
        self.across, self.up = (column - middle) / self.scale, (middle - row) / self.scale
        self.side = 1.0 if anatomy.left else -1.0
        self.x = camera.centre[0] - self.side * self.across
        self.y = camera.centre[1] + self.up

    def field_of_view(self) -> NDArray[np.bool_]:
        radius = self.camera.field / 2
        fov = np.hypot(self.across, self.up) <= radius
        if self.camera.notch:
            tab = np.hypot(self.across - 0.73 * radius, self.up - 0.73 * radius) < 0.055 * radius
            fov |= tab
        return np.asarray(fov & (np.abs(self.up) <= radius * self.camera.crop))

    def vessels(self, tree: VesselTree) -> _VesselMaps:
        """Draw a tree as discs along all vessels; each pixel is assigned to the nearest wall."""
        points, radii = tree.samples(0.4 / self.scale)
        middle = (self.size - 1) / 2
        column = middle - self.side * (points[:, 0] - self.camera.centre[0]) * self.scale
        row = middle - (points[:, 1] - self.camera.centre[1]) * self.scale
        radius = radii * self.scale
        reach = np.ceil(radius + 1).astype(int)
        wall = np.full(self.size * self.size, np.inf)
        bore = np.zeros(self.size * self.size)
        for extent in np.unique(reach):
            chosen = np.flatnonzero(reach == extent)
            offset = np.arange(-extent, extent + 1)
            rows = np.rint(row[chosen]).astype(int)[:, None, None] + offset[:, None]
            columns = np.rint(column[chosen]).astype(int)[:, None, None] + offset
            away = np.hypot(rows - row[chosen, None, None], columns - column[chosen, None, None])
            walls = away - radius[chosen, None, None]
            drawn = (rows >= 0) & (rows < self.size) & (columns >= 0) & (columns < self.size)
            drawn &= walls < 1
            pixel = (rows * self.size + columns)[drawn]
            np.minimum.at(wall, pixel, walls[drawn])
            nearest = walls[drawn] == wall[pixel]
            radii_drawn = np.broadcast_to(radius[chosen, None, None], walls.shape)[drawn]
            bore[pixel[nearest]] = radii_drawn[nearest]
        return self._vessel_maps(wall.reshape(self.size, -1), bore.reshape(self.size, -1))

    def _vessel_maps(self, wall: Map, bore: Map) -> _VesselMaps:
        cover = np.clip(0.5 - wall, 0, 1) * np.minimum(1, 2 * bore)
        inside = np.clip(-wall / np.maximum(bore, 1e-6), 0, 1)
        degrees = bore / self.scale
        chord = 0.45 + 0.55 * np.sqrt(np.clip(1 - (1 - inside) ** 2, 0, 1))
        depth = cover * chord * np.clip(degrees / 0.20, 0.25, 1) ** 0.6 * 0.62
        reflex = np.exp(-(((1 - inside) / 0.28) ** 2)) * cover * np.clip(degrees / 0.2 - 0.3, 0, 1)
        return _VesselMaps(cover, depth, reflex)


def _retina(projection: _Projection) -> Map:
    """Colours of the retina without vessels, (H, W, 3)."""
    anatomy, camera = projection.anatomy, projection.camera
    x, y = projection.x, projection.y
    rng = np.random.default_rng(anatomy.seed)
    broad, fine = smooth_noise(x, y, 16, rng), smooth_noise(x, y, 1.0, rng)
    warp = 0.7 * smooth_noise(x, y, 5, rng), 0.7 * smooth_noise(x, y, 5, rng)
    choroid = 0.5 - np.minimum(1.1, np.abs(smooth_noise(x + warp[0], y + warp[1], 1.9, rng)))
    choroid += 0.8 * np.clip(smooth_noise(x, y, 1.2, rng) - 0.3, 0, None) + 0.25 * fine
    choroid *= np.clip(1 + 0.5 * smooth_noise(x, y, 8, rng), 0.1, 1.7)
    tone = 1 + camera.choroid * choroid[..., None] * np.array([1.1, 1.1, 0.9])
    tone += (0.06 * broad - 0.10 * anatomy.pigment)[..., None] * np.array([0.5, 1.2, 1.5])
    fovea = np.hypot(x, y)
    macula = 0.26 * np.exp(-((fovea / 3.6) ** 2)) + 0.24 * np.exp(-((fovea / 1.5) ** 2))
    tone *= 1 - macula[..., None] * np.array([0.7, 0.9, 1.0])
    colour = np.array(camera.retina) * tone
    colour += _sheen(projection, rng)[..., None] * np.array([0.5, 0.8, 0.6])
    return _with_disc(colour, projection, rng)


def _sheen(projection: _Projection, rng: np.random.Generator) -> Map:
    """Nerve fibre reflexes (H, W): pale streaks from the disc, strongest above and below it."""
    disc = projection.anatomy.disc
    east, north = projection.x - disc[0], projection.y - disc[1]
    distance, angle = np.hypot(east, north), np.arctan2(north, east)
    spokes = gaussian_filter(rng.standard_normal(720), 2.0, mode="wrap") * 2.0
    streak = np.interp(angle, np.linspace(-np.pi, np.pi, 720), spokes)
    fade = np.exp(-((distance - 3.5) ** 2) / 18) * (0.25 + np.sin(angle) ** 2)
    patches = np.clip(0.5 + 0.5 * smooth_noise(projection.x, projection.y, 3.0, rng), 0, 2)
    return np.asarray(
        0.05 * projection.camera.sheen * fade * np.clip(0.6 + streak, 0, None) * patches
    )


def _with_disc(colour: Map, projection: _Projection, rng: np.random.Generator) -> Map:
    """Draw the optic disc and its cup over the colours (H, W, 3) of the retina."""
    anatomy, camera = projection.anatomy, projection.camera
    ripple = 0.035 * smooth_noise(projection.x, projection.y, 2.5, rng)
    east = (projection.x - anatomy.disc[0]) / anatomy.disc_radii[0]
    north = (projection.y - anatomy.disc[1]) / anatomy.disc_radii[1]
    radius = np.hypot(east, north) + ripple
    halo = 0.14 * np.exp(-(((radius - 1.05) / 0.22) ** 2))[..., None]
    colour = colour * (1 - halo * np.array([0.5, 1.0, 1.0]))
    disc = 1 / (1 + np.exp((radius - 1) / 0.05))
    nasal = 0.16 * np.clip(east, -1, 1)[..., None]
    rim = np.array(camera.disc) * (1 - nasal * np.array([0.3, 1, 1]))
    colour = colour * (1 - disc[..., None]) + rim * disc[..., None]
    pit = np.hypot(east + 0.12, north) / anatomy.cup + 2 * ripple
    cup = (0.85 / (1 + np.exp((pit - 1) / 0.12)))[..., None]
    return np.asarray(colour * (1 - cup) + np.array(camera.cup) * cup)


def _photograph(
    retina: Map, projection: _Projection, fov: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Add illumination, blur, noise, compression and the dark frame: (H, W, 3) uint8."""
    camera = projection.camera
    radius = camera.field / 2
    turn, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.30)
    slope = (projection.across * np.cos(turn) + projection.up * np.sin(turn)) / radius
    rim = np.hypot(projection.across, projection.up) / radius
    light = 1.06 - camera.vignette * (0.75 * rim**2.4 + tilt * (slope + 0.2))
    tint = np.clip(light, 0.12, None)[..., None] ** np.array([1.25, 1.0, 0.8])
    exposed: Map = retina * tint * rng.normal(1, 0.04)
    knee = 0.85
    over = np.clip(exposed - knee, 0, None)
    exposed = np.minimum(exposed, knee) + (1 - knee) * (1 - np.exp(-over / (1 - knee)))
    edge = gaussian_filter(fov.astype(np.float64), 0.0012 * projection.size)[..., None]
    with_frame = exposed * edge + np.array([0.022, 0.016, 0.018]) * (1 - edge)
    sigma = camera.blur * projection.scale
    blur = gaussian_filter(with_frame, (sigma, sigma, 0))
    grain = rng.standard_normal(blur.shape)
    grain += 1.5 * gaussian_filter(rng.standard_normal(blur.shape[:2]), 0.8)[..., None]
    noisy = blur + camera.noise * grain * (0.25 + 0.9 * np.sqrt(np.clip(blur, 0, 1)))
    return simulate_jpeg(np.clip(noisy, 0, 1) * 255, camera.compression)
