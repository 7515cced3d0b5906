"""Descriptions of preprocessing and postprocessing, as text and for bioimage.io."""

from typing import Any

from src_training.data.preprocessing import Preprocessing
from src_training.inference.model_card import ModelCard

_FUNDUS = """\
The input is one fundus photograph, prepared so:

1. Take the photograph as float32 (H, W) or (H, W, 3) in the values it is stored in; drop alpha.
2. Field of view, unless it is given as a mask: take the brightest channel of each pixel, smooth \
it with a Gaussian of sigma 2 pixels (scipy.ndimage.gaussian_filter), and call bright what exceeds \
min + 0.35 * (Otsu's threshold - min) of the smoothed image. If two or more of the four corner \
pixels are bright, or the smoothed image is constant, all of the image is field of view. Otherwise \
it is the largest component of the bright pixels (neighbours share an edge), its holes filled; if \
that covers no more than a fifth of the image, all of the image.
3. Crop to the bounding box of the field of view.
4. Take the green channel (of a grey image, the only one) and resize it, bilinear with \
antialiasing (torch.nn.functional.interpolate, mode="bilinear", antialias=True), so that the \
longer side has {diameter} pixels{camera}; the other side is scaled alike and rounded. Resize the \
field of view (0 and 1) in the same way; what exceeds 0.5 is inside.
5. Erode the field of view by 3 pixels (4 neighbours; beyond the image counts as inside); where \
nothing is left, take it as it is. Give each pixel outside of that the value of the nearest pixel \
inside. Skip this step if the field of view is all of the crop.
6. Scale by the smallest and the largest value to [0, 1]; a constant image becomes 0.
7. CLAHE: skimage.exposure.equalize_adapthist(image, kernel_size={tile}, clip_limit=0.01).
8. Set what is outside the field of view to 0. The input is (1, 1, h, w) float32."""

_OTHER_CAMERA = (
    " (where the camera's field of view spans {angle:g} degrees; where it spans x, x / {angle:g} "
    "times as many, and the kernel of step 7 is an eighth of them)"
)

_SCALED = """\
The input is one image, prepared so:

1. Take the image as float32 {taken}.
2. Scale it linearly so that {low} becomes 0 and {high} becomes 1, and clip to [0, 1]; {constant}.
3. {channels} {size} The input is (1, {count}, h, w) float32."""

_OVER_ALL = "both taken over all pixels and channels (numpy.percentile)"
_EXTREMES = {0.0: "the smallest value", 100.0: "the largest"}

_ONE_IMAGE = "(H, W) or (H, W, 3) in the values it is stored in; drop alpha"
_SLICES = (
    "(H, W, {count}): a slice of a volume between its neighbours, in their order; beyond the ends "
    "of the volume the last slice is repeated"
)

_RESIZED = (
    "Resize it, bilinear with antialiasing (torch.nn.functional.interpolate, "
    'mode="bilinear", antialias=True), so that the longer side has {side} pixels; the other '
    "side is scaled alike and rounded."
)

_PER_IMAGE_THRESHOLD = (
    ", or from a threshold found for each image: that of its best expected Dice, twice the sum "
    "of the probabilities above it over the count of pixels above it plus the sum of all "
    "probabilities, tried from 0.2 to 0.8 in steps of 0.01."
)

_BN_MIXING = (
    " The graph normalises by the statistics of training; napari-msankd mixes in those of the "
    "image itself, with a share of {mixing:g}, so its probabilities differ."
)

_CHANNELS = {
    1: "Average colours to one channel: 0.299 red + 0.587 green + 0.114 blue.",
    3: "Repeat a grey image to three channels; colours are red, green, blue.",
}


def preprocessing_text(preprocessing: Preprocessing) -> str:
    """Describe `Preprocessing.prepare` exactly enough to implement it."""
    if preprocessing.kind == "fundus":
        tile = max(8, preprocessing.diameter // 8)
        camera = (
            "" if preprocessing.angle is None else _OTHER_CAMERA.format(angle=preprocessing.angle)
        )
        return _FUNDUS.format(diameter=preprocessing.diameter, camera=camera, tile=tile)
    if preprocessing.kind == "window":
        low, high = (f"{end:g} HU" for end in preprocessing.window)
        constant = "the values must be HU"
    else:
        low, high = (_EXTREMES.get(p, f"percentile {p:g}") for p in preprocessing.percentiles)
        high = f"{high}, {_OVER_ALL}"
        constant = "a constant image becomes 0"
    several, side = preprocessing.neighbours > 1, preprocessing.side
    return _SCALED.format(
        taken=_SLICES.format(count=preprocessing.neighbours) if several else _ONE_IMAGE,
        low=low,
        high=high,
        constant=constant,
        channels="The slices are the channels." if several else _CHANNELS[preprocessing.channels],
        size="The size stays." if side is None else _RESIZED.format(side=side),
        count=preprocessing.in_channels,
    )


def postprocessing_text(card: ModelCard) -> str:
    """Describe the steps from a graph's probabilities to labels of the original image."""
    classes = ", ".join(f"{index} {name}" for index, name in enumerate(card.classes))
    resized = ""
    if card.preprocessing.kind == "fundus":
        resized = (
            "Resize them to the bounding box of the field of view as in step 4 and put them "
            "there; outside the field of view the background has probability 1. "
        )
    elif card.preprocessing.side is not None:
        resized = "Resize them to the size of the image as in step 3. "
    chosen = (
        f"A pixel is {card.classes[1]} where its probability is {card.threshold:g} or more"
        f"{_PER_IMAGE_THRESHOLD if card.per_image_threshold else '.'}"
        if len(card.classes) == 2
        else "A pixel belongs to its most probable class."
    )
    mixing = _BN_MIXING.format(mixing=card.bn_mixing) if card.bn_mixing else ""
    return f"The output holds the probabilities of the classes {classes}. {resized}{chosen}{mixing}"


def bioimageio_preprocessing(preprocessing: Preprocessing) -> list[dict[str, Any]]:
    """Preprocessing steps of bioimage.io for intensity scaling, for ``rdf.yaml``.

    Returns
    -------
    list of dict
        ``ensure_dtype``, then ``scale_linear`` for a window or ``scale_range``
        for percentiles, then ``clip``. Empty for fundus photographs, because
        bioimage.io has no steps for their crop and CLAHE.

    Examples
    --------
    >>> from src_training.data.preprocessing import WindowPreprocessing
    >>> steps = bioimageio_preprocessing(WindowPreprocessing(window=(-100, 300)))
    >>> [step["id"] for step in steps], steps[1]["kwargs"]
    (['ensure_dtype', 'scale_linear', 'clip'], {'gain': 0.0025, 'offset': 0.25})
    """
    if preprocessing.kind == "fundus":
        return []
    if preprocessing.kind == "window":
        low, high = preprocessing.window
        linear = {"gain": 1 / (high - low), "offset": (0 - low) / (high - low)}
        scale = {"id": "scale_linear", "kwargs": linear}
    else:
        lowest, highest = preprocessing.percentiles
        limits = {"min_percentile": lowest, "max_percentile": highest}
        scale = {"id": "scale_range", "kwargs": {"axes": ["channel", "y", "x"], **limits}}
    return [
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
        scale,
        {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}},
    ]


def input_description(preprocessing: Preprocessing) -> str:
    """Description of the input of a bioimage.io model, at most 128 characters."""
    if preprocessing.kind == "fundus":
        return "Fundus photograph after the preparation in README.md, which the caller does."
    values = "HU" if preprocessing.kind == "window" else "any intensities"
    if preprocessing.side is None:
        return f"Image in {values}."
    return f"Image in {values}, resized so that its longer side has {preprocessing.side} pixels."
