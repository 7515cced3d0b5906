"""Registry of folder layouts that can be opened as a domain, including public data sets.

A new layout is an entry of `LAYOUTS`.
"""

import re
from dataclasses import dataclass
from functools import cache

# Suffixes that data sets append to the stem of an image for its mask or field of view.
_ADDITION = (
    r"(?:_(?:manual[12]?|1stHO|2ndHO|mask|roi|seg|segmentation|labels?|gt|annotation)|\.ah|\.vk)"
)
_PART = r"(?:_(?:training|test))"


@dataclass(frozen=True)
class Layout:
    """Patterns for the images, masks and fields of view of a data set.

    Patterns are matched case-insensitively with the whole path within the folder,
    without suffix. The group ``case`` is common to an image, its mask and its field
    of view. The optional group ``name`` is the name of the case, by default ``case``;
    ``channel`` distinguishes several images of a case.

    Attributes
    ----------
    name
        Name of the data set.
    images
        Pattern of images.
    masks, fov
        Patterns in order of preference; the first observer's mask comes before the
        second's.
    example
        An image and its mask, for the documentation.
    """

    name: str
    images: str
    masks: tuple[str, ...]
    fov: tuple[str, ...] = ()
    example: str = ""


LAYOUTS = (
    Layout(
        "images, masks, fov",
        r"images/(?P<case>.+)",
        (
            r"masks/(?P<case>.+)",
            rf"masks/(?P<case>.+){_ADDITION}",
            rf"masks/(?P<case>.+){_PART}{_ADDITION}",
        ),
        (
            r"fov/(?P<case>.+)",
            rf"fov/(?P<case>.+){_ADDITION}",
            rf"fov/(?P<case>.+){_PART}{_ADDITION}",
        ),
        "images/07.png, masks/07.png, fov/07.png",
    ),
    Layout(
        "DRIVE, HRF",
        r"images/(?P<case>.+)",
        (
            r"(?:1st_)?manual1?/(?P<case>.+)_manual1",
            r"(?:1st_)?manual1?/(?P<case>.+)",
            r"2nd_manual/(?P<case>.+)_manual2",
        ),
        (r"mask/(?P<case>.+)_mask",),
        "images/21_training.tif, 1st_manual/21_manual1.gif, mask/21_training_mask.gif",
    ),
    Layout(
        "IOSTAR",
        r"image/(?P<case>.+)",
        (r"GT/(?P<case>.+)_GT", r"GT/(?P<case>.+)"),
        (r"mask/(?P<case>.+)_mask", r"mask/(?P<case>.+)"),
        "image/STAR 01_OSC.jpg, GT/STAR 01_OSC_GT.tif, mask/STAR 01_OSC_Mask.tif",
    ),
    Layout(
        "FIVES",
        r"Original/(?P<case>.+)",
        (r"Ground ?truth/(?P<case>.+)",),
        (),
        "Original/1_A.png, Ground truth/1_A.png",
    ),
    Layout(
        "CHASE_DB1",
        r"(?:[^/]+/)?(?P<case>Image_\d+[LR])",
        (r"(?:[^/]+/)?(?P<case>Image_\d+[LR])_1stHO", r"(?:[^/]+/)?(?P<case>Image_\d+[LR])_2ndHO"),
        (),
        "Image_01L.jpg, Image_01L_1stHO.png",
    ),
    Layout(
        "STARE",
        r"(?:[^/]+/)?(?P<case>im\d+)",
        (r"(?:[^/]+/)?(?P<case>im\d+)\.ah", r"(?:[^/]+/)?(?P<case>im\d+)\.vk"),
        (),
        "stare-images/im0001.ppm.gz, labels-ah/im0001.ah.ppm.gz",
    ),
    Layout(
        "KiTS",
        r"(?P<case>case_\d+)/imaging",
        (r"(?P<case>case_\d+)/segmentation", r"(?P<case>case_\d+)/aggregated_MAJ_seg"),
        (),
        "case_00000/imaging.nii.gz, case_00000/segmentation.nii.gz",
    ),
    Layout(
        "LiTS",
        r"(?:[^/]+/)?(?P<name>volume-(?P<case>\d+))",
        (r"(?:[^/]+/)?segmentation-(?P<case>\d+)",),
        (),
        "volume-0.nii, segmentation-0.nii",
    ),
    Layout(
        "nnU-Net",
        r"imagesTr/(?P<case>.+)_(?P<channel>\d{4})",
        (r"labelsTr/(?P<case>.+)",),
        (),
        "imagesTr/liver_0_0000.nii.gz, labelsTr/liver_0.nii.gz, dataset.json",
    ),
    Layout(
        "Medical Segmentation Decathlon",
        r"imagesTr/(?P<case>.+)",
        (r"labelsTr/(?P<case>.+)",),
        (),
        "imagesTr/liver_0.nii.gz, labelsTr/liver_0.nii.gz, dataset.json",
    ),
    Layout(
        "BraTS",
        r"(?P<case>[^/]+)/(?P=case)[_-](?P<channel>flair|t1ce|t1|t2|t1n|t1c|t2f|t2w)",
        (r"(?P<case>[^/]+)/(?P=case)[_-]seg",),
        (),
        "BraTS20_Training_001/BraTS20_Training_001_flair.nii.gz, …_seg.nii.gz",
    ),
)
"""All layouts; the first of several equally good matches is used."""

_WITHOUT_PART = re.compile(rf"(.+){_PART}", re.IGNORECASE)


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of a layout, or take it from the cache."""
    return re.compile(pattern, re.IGNORECASE)


def short_case(case: str) -> str:
    """Return a case without the suffix ``_training`` or ``_test``.

    Examples
    --------
    >>> short_case("21_training"), short_case("07")
    ('21', '07')
    """
    match = _WITHOUT_PART.fullmatch(case)
    return match[1] if match else case
