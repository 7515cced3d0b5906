"""Synthetic fundus photographs with exact vessel masks, by several scanners.

The embedded default for samples, the quick start and the tests: no download.
Anatomy comes from `eye`, vessels from `vessel_tree`; here a scanner takes the
photograph. All of it is *reconstruction*: made to look and to vary like
fundus photographs, not taken from a paper.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from src_training.data.domain import Case, Domain
from src_training.data.phantom.anatomy import FundusAnatomy, grow_anatomy, smooth_noise
from src_training.data.phantom.compression import compressed
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
        Place on the retina it looks at, degrees.
    crop
        Height of the field of view over its diameter; below 1 it is cut off.
    notch
        Whether the frame has a small tab.
    retina, disc, cup
        Colours.
    blood
        Contrast of the vessels.
    choroid, sheen
        Strength of the choroidal vessels, and of the nerve fibres' reflexes.
    vignette
        Light lost at the rim, as a fraction.
    blur
        Standard deviation of the point spread, degrees.
    noise
        Standard deviation, in [0, 1].
    compression
        Step of the quantised cosine coefficients, grey values of 255.
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
    """One synthetic fundus photograph.

    Parameters
    ----------
    seed
        Of the eye: the same seed is the same eye for every scanner.
    size
        Height and width, pixels; 32 or more.
    scanner
        ``A``: 45 degrees on the macula, tan, sharp. ``B``: 30 degrees on the
        disc, deep red, tessellated, uneven light. ``C``: 36 degrees, pale,
        blurred, noisy, cut off above and below.

    Returns
    -------
    Case
        Image (size, size, 3) uint8; mask (size, size) uint8, 1 where a vessel
        covers half of the pixel or more; fov (size, size) bool.

    Raises
    ------
    InputError
        If the scanner is unknown or the size too small.
    """
    if scanner not in SCANNERS or size < 32:
        raise InputError(
            f"a phantom was asked of scanner {scanner!r} at {size} pixels; "
            f"expected one of {', '.join(SCANNERS)} and 32 pixels or more"
        )
    camera, eye = SCANNERS[scanner], grow_anatomy(seed)
    view = _View(eye, camera, size)
    shot = np.random.default_rng([seed, ord(scanner)])
    fov = view.field_of_view()
    arteries, veins = view.vessels(eye.arteries), view.vessels(eye.veins)
    retina = _retina(view)
    for tree, density in ((veins, (0.44, 1.0, 0.72)), (arteries, (0.24, 0.78, 0.60))):
        optical = camera.blood * tree.depth[..., None] * np.array(density)
        retina = retina * np.exp(-optical) * (1 + 0.22 * tree.reflex[..., None])
    image = _photograph(retina, view, fov, shot)
    mask = ((arteries.cover >= 0.5) | (veins.cover >= 0.5)) & fov
    return Case(f"{scanner}_{seed}", image, mask.astype(np.uint8), fov)


def phantom_domain(scanner: ScannerName, n: int, size: int = 512, seed: int = 0) -> Domain:
    """A domain of `n` phantoms of one scanner, each of another eye.

    Domains of two scanners share no eye, whatever their seeds.

    Raises
    ------
    InputError
        If `n` is below 1, there is no such scanner or the size is too small.
    """
    if n < 1:
        raise InputError(f"a domain of {n} phantoms was asked for; expected 1 or more")
    eyes = np.random.SeedSequence([seed, ord(scanner[:1] or "?")]).generate_state(n)
    cases = [fundus_phantom(int(eye), size, scanner) for eye in eyes]
    return Domain.from_arrays(
        f"phantom_{scanner}",
        [case.image for case in cases],
        [case.mask for case in cases],
        [case.fov for case in cases],
        ("background", "vessel"),
        [f"{scanner}_{index:03d}" for index in range(n)],
    )


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Vessels on the pixel grid: covered fraction, blood depth, central light reflex."""

    cover: Map
    depth: Map
    reflex: Map


class _View:
    """The pixels of a photograph and the places on the retina they see."""

    def __init__(self, eye: FundusAnatomy, camera: FundusCamera, size: int) -> None:
        self.eye, self.camera, self.size = eye, camera, size
        self.scale = 0.96 * size / camera.field
        middle = (size - 1) / 2
        row, column = np.mgrid[:size, :size].astype(np.float64)
        self.across, self.up = (column - middle) / self.scale, (middle - row) / self.scale
        self.side = 1.0 if eye.left else -1.0
        self.x = camera.centre[0] - self.side * self.across
        self.y = camera.centre[1] + self.up

    def field_of_view(self) -> NDArray[np.bool_]:
        radius = self.camera.field / 2
        fov = np.hypot(self.across, self.up) <= radius
        if self.camera.notch:
            tab = np.hypot(self.across - 0.73 * radius, self.up - 0.73 * radius) < 0.055 * radius
            fov |= tab
        return np.asarray(fov & (np.abs(self.up) <= radius * self.camera.crop))

    def vessels(self, tree: VesselTree) -> _Drawn:
        """Draw a tree: discs along every vessel, nearest wall wins."""
        points, radii = tree.samples(0.4 / self.scale)
        middle = (self.size - 1) / 2
        column = middle - self.side * (points[:, 0] - self.camera.centre[0]) * self.scale
        row = middle - (points[:, 1] - self.camera.centre[1]) * self.scale
        radius = radii * self.scale
        reach = np.ceil(radius + 1).astype(int)
        wall = np.full(self.size * self.size, np.inf)
        bore = np.zeros(self.size * self.size)
        for extent in np.unique(reach):
            some = np.flatnonzero(reach == extent)
            offset = np.arange(-extent, extent + 1)
            rows = np.rint(row[some]).astype(int)[:, None, None] + offset[:, None]
            columns = np.rint(column[some]).astype(int)[:, None, None] + offset
            away = np.hypot(rows - row[some, None, None], columns - column[some, None, None])
            walls = away - radius[some, None, None]
            seen = (rows >= 0) & (rows < self.size) & (columns >= 0) & (columns < self.size)
            seen &= walls < 1
            place = (rows * self.size + columns)[seen]
            np.minimum.at(wall, place, walls[seen])
            won = walls[seen] == wall[place]
            bore[place[won]] = np.broadcast_to(radius[some, None, None], walls.shape)[seen][won]
        return self._drawn(wall.reshape(self.size, -1), bore.reshape(self.size, -1))

    def _drawn(self, wall: Map, bore: Map) -> _Drawn:
        cover = np.clip(0.5 - wall, 0, 1) * np.minimum(1, 2 * bore)
        inside = np.clip(-wall / np.maximum(bore, 1e-6), 0, 1)
        degrees = bore / self.scale
        chord = 0.45 + 0.55 * np.sqrt(np.clip(1 - (1 - inside) ** 2, 0, 1))
        depth = cover * chord * np.clip(degrees / 0.20, 0.25, 1) ** 0.6 * 0.62
        reflex = np.exp(-(((1 - inside) / 0.28) ** 2)) * cover * np.clip(degrees / 0.2 - 0.3, 0, 1)
        return _Drawn(cover, depth, reflex)


def _retina(view: _View) -> Map:
    """Colours of the retina without vessels, (H, W, 3)."""
    eye, camera, x, y = view.eye, view.camera, view.x, view.y
    rng = np.random.default_rng(eye.seed)
    broad, fine = smooth_noise(x, y, 16, rng), smooth_noise(x, y, 1.0, rng)
    bent = 0.7 * smooth_noise(x, y, 5, rng), 0.7 * smooth_noise(x, y, 5, rng)
    choroid = 0.5 - np.minimum(1.1, np.abs(smooth_noise(x + bent[0], y + bent[1], 1.9, rng)))
    choroid += 0.8 * np.clip(smooth_noise(x, y, 1.2, rng) - 0.3, 0, None) + 0.25 * fine
    choroid *= np.clip(1 + 0.5 * smooth_noise(x, y, 8, rng), 0.1, 1.7)
    tone = 1 + camera.choroid * choroid[..., None] * np.array([1.1, 1.1, 0.9])
    tone += (0.06 * broad - 0.10 * eye.pigment)[..., None] * np.array([0.5, 1.2, 1.5])
    fovea = np.hypot(x, y)
    macula = 0.26 * np.exp(-((fovea / 3.6) ** 2)) + 0.24 * np.exp(-((fovea / 1.5) ** 2))
    tone *= 1 - macula[..., None] * np.array([0.7, 0.9, 1.0])
    colour = np.array(camera.retina) * tone
    colour += _sheen(view, rng)[..., None] * np.array([0.5, 0.8, 0.6])
    return _with_disc(colour, view, rng)


def _sheen(view: _View, rng: np.random.Generator) -> Map:
    """Nerve fibres: pale streaks that leave the disc, strongest above and below."""
    east, north = view.x - view.eye.disc[0], view.y - view.eye.disc[1]
    distance, angle = np.hypot(east, north), np.arctan2(north, east)
    spokes = gaussian_filter(rng.standard_normal(720), 2.0, mode="wrap") * 2.0
    streak = np.interp(angle, np.linspace(-np.pi, np.pi, 720), spokes)
    fade = np.exp(-((distance - 3.5) ** 2) / 18) * (0.25 + np.sin(angle) ** 2)
    patches = np.clip(0.5 + 0.5 * smooth_noise(view.x, view.y, 3.0, rng), 0, 2)
    return np.asarray(0.05 * view.camera.sheen * fade * np.clip(0.6 + streak, 0, None) * patches)


def _with_disc(colour: Map, view: _View, rng: np.random.Generator) -> Map:
    eye, camera = view.eye, view.camera
    ripple = 0.035 * smooth_noise(view.x, view.y, 2.5, rng)
    east = (view.x - eye.disc[0]) / eye.disc_radii[0]
    north = (view.y - eye.disc[1]) / eye.disc_radii[1]
    radius = np.hypot(east, north) + ripple
    halo = 0.14 * np.exp(-(((radius - 1.05) / 0.22) ** 2))[..., None]
    colour = colour * (1 - halo * np.array([0.5, 1.0, 1.0]))
    disc = 1 / (1 + np.exp((radius - 1) / 0.05))
    nasal = 0.16 * np.clip(east, -1, 1)[..., None]
    rim = np.array(camera.disc) * (1 - nasal * np.array([0.3, 1, 1]))
    colour = colour * (1 - disc[..., None]) + rim * disc[..., None]
    pit = np.hypot(east + 0.12, north) / eye.cup + 2 * ripple
    cup = (0.85 / (1 + np.exp((pit - 1) / 0.12)))[..., None]
    return np.asarray(colour * (1 - cup) + np.array(camera.cup) * cup)


def _photograph(
    retina: Map, view: _View, fov: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Light, blur, noise, compression and frame: (H, W, 3) uint8."""
    camera = view.camera
    radius = camera.field / 2
    turn, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.30)
    slope = (view.across * np.cos(turn) + view.up * np.sin(turn)) / radius
    rim = np.hypot(view.across, view.up) / radius
    light = 1.06 - camera.vignette * (0.75 * rim**2.4 + tilt * (slope + 0.2))
    tinted = np.clip(light, 0.12, None)[..., None] ** np.array([1.25, 1.0, 0.8])
    exposed: Map = retina * tinted * rng.normal(1, 0.04)
    knee = 0.85
    over = np.clip(exposed - knee, 0, None)
    exposed = np.minimum(exposed, knee) + (1 - knee) * (1 - np.exp(-over / (1 - knee)))
    edge = gaussian_filter(fov.astype(np.float64), 0.0012 * view.size)[..., None]
    framed = exposed * edge + np.array([0.022, 0.016, 0.018]) * (1 - edge)
    sigma = camera.blur * view.scale
    blurred = gaussian_filter(framed, (sigma, sigma, 0))
    grain = rng.standard_normal(blurred.shape)
    grain += 1.5 * gaussian_filter(rng.standard_normal(blurred.shape[:2]), 0.8)[..., None]
    noisy = blurred + camera.noise * grain * (0.25 + 0.9 * np.sqrt(np.clip(blurred, 0, 1)))
    return compressed(np.clip(noisy, 0, 1) * 255, camera.compression)
