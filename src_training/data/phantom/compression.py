"""Simulated JPEG artefacts, which are the same on every machine."""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

Map = NDArray[np.float64]


def simulate_jpeg(image: Map, step: float) -> NDArray[np.uint8]:
    """Add the artefacts of JPEG compression.

    The cosine coefficients of 8 x 8 blocks are quantised, with larger steps for
    higher frequencies.

    Parameters
    ----------
    image
        (size, size, 3), grey values from 0 to 255.
    step
        Quantisation step of the constant coefficient, grey values.

    Returns
    -------
    ndarray
        (size, size, 3) uint8.
    """
    size = image.shape[0]
    padded = np.pad(image, ((0, -size % 8), (0, -size % 8), (0, 0)), mode="edge")
    count = padded.shape[0] // 8
    blocks = padded.reshape(count, 8, count, 8, 3)
    ramp = np.arange(8)
    steps = step * (1 + 0.35 * (ramp[:, None] + ramp))[None, :, None, :, None]
    quantised = np.round(dctn(blocks, axes=(1, 3), norm="ortho") / steps) * steps
    decoded = idctn(quantised, axes=(1, 3), norm="ortho").reshape(padded.shape)
    return np.clip(np.round(decoded[:size, :size]), 0, 255).astype(np.uint8)
