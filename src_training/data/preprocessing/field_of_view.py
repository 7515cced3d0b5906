"""The field of view of a fundus photograph: the bright disc inside a dark frame."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from src_training.data.preprocessing.geometry import Float, Mask
from src_training.errors import InputError


def find_field_of_view(pixels: NDArray[np.generic]) -> Mask:
    """Find the bright disc of a fundus photograph.

    Otsu's threshold on the smoothed brightest channel, the largest connected
    component, holes filled. An image without a dark frame is all field of view.

    Parameters
    ----------
    pixels
        (H, W) or (H, W, C).

    Returns
    -------
    ndarray
        (H, W) bool, at least one pixel true.

    Examples
    --------
    >>> import numpy as np
    >>> row, column = np.mgrid[:200, :200] - 99.5
    >>> disc = np.hypot(row, column) < 90
    >>> found = find_field_of_view(np.where(disc, 180, 4))
    >>> bool((found & disc).sum() / (found | disc).sum() > 0.9)
    True
    >>> bool(find_field_of_view(np.full((200, 200), 180)).all())
    True
    """
    brightest = pixels.max(axis=-1) if pixels.ndim == 3 else pixels
    smooth = ndimage.gaussian_filter(brightest.astype(np.float32), sigma=2)
    whole_image = np.ones(smooth.shape, bool)
    if smooth.max() <= smooth.min():
        return whole_image
    # The frame is far darker than any fundus: a fraction of Otsu's threshold
    # keeps the shadowed rim inside.
    bright = smooth > 0.35 * (threshold_otsu(smooth) - smooth.min()) + smooth.min()
    # A frame darkens the corners; a caption may light one of them.
    corners = bright[[0, 0, -1, -1], [0, -1, 0, -1]]
    components, count = ndimage.label(bright)
    if count == 0 or corners.sum() > 1:
        return whole_image
    sizes = np.bincount(components.ravel())[1:]
    disc = ndimage.binary_fill_holes(components == 1 + int(sizes.argmax()))
    return disc if disc.mean() > 0.2 else whole_image


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the pixels that are true; bottom and right are exclusive.

    Raises
    ------
    InputError
        If no pixel of the mask (H, W) is true.

    Examples
    --------
    >>> import numpy as np
    >>> bounding_box(np.array([[False, False, False], [False, True, True]]))
    (1, 1, 2, 3)
    """
    if not mask.any():
        raise InputError(
            f"the field of view of {mask.shape[1]} × {mask.shape[0]} px (w × h) is empty; "
            "expected at least one pixel of image"
        )
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def extend_rim(image: Float, fov: Mask) -> Float:
    """Give the pixels outside a field of view the value of the nearest pixel inside.

    CLAHE and the network then see no false edge. The outermost 3 pixels of the
    field of view, darkened by the rim, are replaced too.

    Parameters
    ----------
    image, fov
        (H, W) each; `fov` has at least one pixel true.
    """
    if fov.all():
        return image
    inner = ndimage.binary_erosion(fov, iterations=3, border_value=1)
    source = inner if inner.any() else fov
    nearest = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
    return np.asarray(np.where(source, image, image[tuple(nearest)]), np.float32)
