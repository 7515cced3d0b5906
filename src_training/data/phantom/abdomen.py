"""A synthetic CT of an abdomen with the exact mask of its liver (*reconstruction*).

Sample volume and tests use it, so that they need no download. The organs are ellipsoids, some
with smooth noise on their surface, and have the Hounsfield units of the portal venous phase. The
phantom is designed to look like a CT; it does not follow a paper.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from src_training.errors import InputError

Map = NDArray[np.float32]

SPACING = (4.0, 1.8, 1.8)
"""Distances (z, y, x) of the voxels, mm."""

CLASSES = ("background", "liver")

_EXTENT = (192.0, 270.0, 378.0)
_FAT, _MUSCLE, _AIR, _LUNG = -100, 55, -1000, -850
_NOISE = 11.0


@dataclass(frozen=True, eq=False)
class CTPhantom:
    """A synthetic CT and the liver in it.

    Attributes
    ----------
    voxels
        (Z, Y, X) int16, Hounsfield units. Z runs from feet to head, Y from front to back, X
        from the patient's right to left.
    liver
        (Z, Y, X) uint8, 1 in the liver, including its vessels and tumours.
    spacing
        Distances (z, y, x) of the voxels, mm.
    """

    voxels: NDArray[np.int16]
    liver: NDArray[np.uint8]
    spacing: tuple[float, float, float]


def ct_phantom(seed: int = 0, coarseness: float = 1.0) -> CTPhantom:
    """Draw an abdomen from the lower end of the liver to its dome.

    Parameters
    ----------
    seed
        Seed of the patient: shapes, vessels, tumours and noise.
    coarseness
        Factor on `SPACING`; 4 gives a small volume for tests.

    Raises
    ------
    InputError
        If the coarseness is below 0.5 or above 8.

    Examples
    --------
    >>> phantom = ct_phantom(coarseness=4)
    >>> phantom.voxels.shape, phantom.voxels.dtype.name, phantom.spacing
    ((12, 37, 52), 'int16', (16.0, 7.2, 7.2))
    """
    if not 0.5 <= coarseness <= 8:
        raise InputError(f"coarseness is {coarseness:g}; expected 0.5 to 8")
    body = _Body(seed, coarseness)
    voxels, liver = body.draw()
    return CTPhantom(voxels, liver, body.spacing)


class _Body:
    """Draw organs one over another; coordinates are in mm from the centre of the lowest slice."""

    def __init__(self, seed: int, coarseness: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.spacing = (
            SPACING[0] * coarseness,
            SPACING[1] * coarseness,
            SPACING[2] * coarseness,
        )
        sides = [int(length / step) for length, step in zip(_EXTENT, self.spacing, strict=True)]
        z, y, x = (
            ((np.arange(side) - offset * (side - 1)) * step).astype(np.float32)
            for side, step, offset in zip(sides, self.spacing, (0, 0.5, 0.5), strict=True)
        )
        self.z, self.y, self.x = z[:, None, None], y[None, :, None], x[None, None, :]
        self.shape = tuple(sides)
        self.hu: Map = np.full(self.shape, _AIR, np.float32)

    def draw(self) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """Return the CT and the mask of the liver."""
        wave = self.noise(60)
        rim = np.sqrt((self.x / 168) ** 2 + (self.y / 112) ** 2) + 0.012 * wave
        inside = rim < 0.84
        self.paint(rim < 1, _FAT)
        self.paint((rim < 0.9) & ~inside, _MUSCLE)
        ribs = np.sin((self.z + 0.35 * np.abs(self.x) + 0.5 * self.y) / 4.6) > 0.55
        self.paint((np.abs(rim - 0.865) < 0.017) & ribs & (self.y < 75), 420)
        self.hu += inside * (8 * self.noise(14) - 2)
        self._bowel(inside)
        self._stomach_and_spleen(inside)
        self._kidneys()
        liver = self._liver(inside)
        domes = [
            top - 0.005 * ((self.x - x) ** 2 + (self.y - 5) ** 2)
            for top, x in ((180, -65), (168, 75))
        ]
        chest = inside & (self.z > np.maximum(*domes) + 2 * wave)
        self.paint(chest & (rim < 0.82), _LUNG)
        self.paint(self.ellipsoid((205, -35, 35), (40, 48, 55)) & chest, 120)
        self._spine_and_vessels()
        table = (np.abs(self.y - 128 + (self.x / 60) ** 2) < 2.5) & (np.abs(self.x) < 180)
        self.paint(table & (self.hu == _AIR), -600)
        return self._scan(), (liver & ~chest).astype(np.uint8)

    def _liver(self, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        right = self.level((104, 4, -74), (76, 70, 66))
        left = self.level((128, -42, 6), (36, 36, 70))
        # A smooth minimum of both levels, which is the union of both bodies with a rounded seam.
        joined = -np.log(np.exp(-6 * right) + np.exp(-6 * left)) / 6
        liver = (joined + 0.05 * self.noise(45) < 1) & inside
        self.paint(liver, 112 + self.rng.normal(0, 4))
        tubes = self.noise(34) ** 2 + self.noise(34) ** 2 < 0.035
        self.paint(liver & tubes, 160)
        for _ in range(2):
            place = (100, 0, -72) + self.rng.uniform(-1, 1, 3) * (35, 40, 38)
            self.paint(liver & self.ellipsoid(place, self.rng.uniform(9, 17, 3)), 72)
        gallbladder = self.ellipsoid((72, -48, -42), (26, 19, 15))
        self.paint(gallbladder, 12)
        return np.asarray(liver & ~gallbladder)

    def _bowel(self, inside: NDArray[np.bool_]) -> None:
        loops = self.noise(30)
        low = inside & (self.z < 95) & (self.y < 40)
        self.paint(low & (np.abs(loops) < 0.55), 42)
        self.paint(low & (np.abs(loops) < 0.14) & (self.y < -20), -700)

    def _stomach_and_spleen(self, inside: NDArray[np.bool_]) -> None:
        self.paint(self.ellipsoid((135, -18, 72), (46, 44, 46)), 55)
        stomach = self.ellipsoid((135, -18, 72), (42, 40, 42))
        self.paint(stomach, 18)
        self.paint(stomach & (self.y < -38), -900)
        self.paint(self.ellipsoid((122, 42, 104), (46, 42, 24)) & inside, 122)

    def _kidneys(self) -> None:
        for x, z in ((-62, 52), (64, 66)):
            self.paint(self.ellipsoid((z, 52, x), (52, 27, 25)), 182)
            self.paint(self.ellipsoid((z, 52, x), (40, 15, 13)), 128)
            self.paint(self.ellipsoid((z, 50, x * 0.86), (16, 8, 12)), -60)

    def _spine_and_vessels(self) -> None:
        for x in (-34, 34):
            self.paint(_ellipse(self.x - x, 30, self.y - 78, 22), 60)
        body = _ellipse(self.x, 24, self.y - 62, 19)
        disc = np.abs((self.z % 36) - 18) < 3
        self.paint(body, 420)
        self.paint(_ellipse(self.x, 20, self.y - 62, 15), 210)
        self.paint(body & disc, 85)
        self.paint(_ellipse(self.x, 15, self.y - 90, 14), 400)
        self.paint(_ellipse(self.x, 9, self.y - 88, 8), 30)
        self.paint(_ellipse(self.x - 9, 11, self.y - 32, 11), 165)
        self.paint(_ellipse(self.x + 20, 12, self.y - 30, 10), 150)

    def _scan(self) -> NDArray[np.int16]:
        """Blur by the resolution of a scanner, and add its noise."""
        blurred = gaussian_filter(self.hu, [1.6 / step for step in self.spacing])
        grain = gaussian_filter(
            self.rng.standard_normal(self.shape, np.float32), (0, 0.7, 0.7), mode="wrap"
        )
        blurred += _NOISE / float(grain.std()) * grain
        return np.clip(np.round(blurred), -1024, 3071).astype(np.int16)

    def paint(self, where: Any, hu: float) -> None:
        """Set the HU of the voxels for which `where` is true."""
        self.hu[np.broadcast_to(where, self.shape)] = hu

    def level(self, centre: Any, radii: Any) -> Map:
        """Distance from a centre (z, y, x) relative to the radii; 1 on an ellipsoid."""
        parts = zip((self.z, self.y, self.x), centre, radii, strict=True)
        squares = [((axis - middle) / radius) ** 2 for axis, middle, radius in parts]
        return np.asarray(np.sqrt(squares[0] + squares[1] + squares[2]), np.float32)

    def ellipsoid(self, centre: Any, radii: Any) -> NDArray[np.bool_]:
        """Voxels of an ellipsoid."""
        return self.level(centre, radii) < 1

    def noise(self, wavelength: float) -> Map:
        """Smooth noise (Z, Y, X) of unit variance, with blobs of `wavelength` mm."""
        sides = [max(4, int(4 * length / wavelength)) for length in _EXTENT]
        coarse = gaussian_filter(self.rng.standard_normal(sides, np.float32), 1.0)
        factors = [want / side for want, side in zip(self.shape, sides, strict=True)]
        return np.asarray(zoom(coarse / coarse.std(), factors, order=1), np.float32)


def _ellipse(x: Map, width: float, y: Map, height: float) -> NDArray[np.bool_]:
    """Whether (x, y) is inside an ellipse with semi-axes `width` and `height`."""
    return np.asarray((x / width) ** 2 + (y / height) ** 2 < 1)
