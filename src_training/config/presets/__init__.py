"""Recipes from four choices: source, targets, student and time.

Torch is only imported when a recipe is built, so that a form can show the choices immediately.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from src_training.config.stages import STAGES
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.config.domains import DomainRecipe
    from src_training.config.recipe import Recipe
    from src_training.data.preprocessing import Preprocessing

TIMES = ("quick", "standard", "full")

PURPOSE = {
    "quick": "A first look at what can be learnt, in minutes on two cores: small patches of "
    "coarser images, a narrow teacher, few steps.",
    "standard": "A student to work with, in about an hour on two cores.",
    "full": "A wide teacher, and a student that trains and learns from it for long. For a GPU.",
}
"""Purpose of each of `TIMES`, for the user."""

Network = str | Mapping[str, Any]
"""A network by its name, or fields of `NetworkRecipe` or `TeacherRecipe`."""

_STUDENTS: dict[str, dict[str, Any]] = {"mobile_unet": {"width": 0.35}}
"""Options of students that are large or slow at their published width."""

_TEACHERS = ("fanet", "raunet", "pspnet", "unet_plus_plus")
"""Networks whose width (published: 64) depends on the time."""

_WIDE: dict[str, dict[str, Any]] = {name: {"width": 16} for name in ("wnet", "little_unet")}
"""Options of student networks that are used as the teacher: twice the published width."""

_FULL_RESOLUTION = ("wnet", "little_unet")
"""Students with few weights, which need many small steps."""

_CT_SIDE = 192
"""Longer side of a prepared CT slice, pixels, so that a patch covers most of a slice."""

_CT_DEPTH = 5
"""Levels of networks at full resolution on CT: with 3, they see too little of an organ."""

_CT_AUGMENTATION: dict[str, Any] = {"flips": False, "turn": 15, "scale": 0.3, "illumination": 0.1}
"""Augmentation of CT, without flips: a mirrored liver would be at the place of the spleen."""

_ALIGNMENT = tuple(
    name for name, spec in STAGES.items() if spec.shared == "alignment" and spec.in_recipe
)


class _Stage(NamedTuple):
    """Number of steps, peak learning rate and validation interval of a stage."""

    steps: int
    rate: float
    validate_every: int


class _Preset(NamedTuple):
    """Settings that depend on the time.

    A wide teacher diverges at the learning rate of a narrow one. Its
    predictions have a higher weight, because it is better than the student by
    more. The last three fields are for students at full resolution: a step with
    8 patches of W-Net takes about as long as one with 12 patches of ENet.
    """

    diameter: int
    width: int
    predictions: float
    batch: int
    teacher: _Stage
    alignment: _Stage
    student: _Stage
    distil: _Stage
    small_batch: int
    small_student: _Stage
    small_distil: _Stage


_PRESETS = {
    "quick": _Preset(
        diameter=512,
        width=8,
        predictions=2.0,
        batch=4,
        teacher=_Stage(240, 3e-3, 40),
        alignment=_Stage(60, 2e-3, 20),
        student=_Stage(500, 3e-3, 50),
        distil=_Stage(90, 1e-3, 15),
        small_batch=4,
        small_student=_Stage(500, 3e-3, 50),
        small_distil=_Stage(90, 1e-3, 15),
    ),
    "standard": _Preset(
        diameter=640,
        width=8,
        predictions=2.0,
        batch=16,
        teacher=_Stage(1200, 3e-3, 200),
        alignment=_Stage(150, 2e-3, 50),
        student=_Stage(2000, 3e-3, 200),
        distil=_Stage(300, 1e-3, 50),
        small_batch=8,
        small_student=_Stage(2400, 3e-3, 200),
        small_distil=_Stage(600, 1e-3, 100),
    ),
    "full": _Preset(
        diameter=640,
        width=32,
        predictions=20.0,
        batch=16,
        teacher=_Stage(3000, 1e-3, 500),
        alignment=_Stage(150, 2e-3, 75),
        student=_Stage(1000, 3e-3, 250),
        distil=_Stage(1200, 3e-3, 300),
        small_batch=8,
        small_student=_Stage(8000, 3e-3, 500),
        small_distil=_Stage(3000, 3e-3, 300),
    ),
}


def preset(time: str, student: Network, teacher: Network | None = "fanet") -> dict[str, Any]:
    """Return the fields of a recipe: networks, preprocessing, patch, losses and stages.

    Parameters
    ----------
    time
        One of `TIMES`; see `PURPOSE`.
    student, teacher
        Networks, or models that they start from; see `recipe_for`.

    Raises
    ------
    InputError
        If there is no such preset.
    """
    if time not in TIMES:
        raise InputError(f"time is {time!r}; expected one of {', '.join(TIMES)}")
    chosen = _PRESETS[time]
    stages = {"teacher": chosen.teacher, "student": chosen.student, "distil": chosen.distil}
    stages |= dict.fromkeys(_ALIGNMENT, chosen.alignment)
    batch = dict.fromkeys(stages, chosen.batch)
    widths = {name: {"width": chosen.width} for name in _TEACHERS} | _STUDENTS | _WIDE
    # A teacher that is not used is still there for methods that are added later.
    networks = {
        "teacher": _fields(teacher or "fanet", widths),
        "student": _fields(student, _STUDENTS),
    }
    if _is_small(networks["student"]):
        stages |= {"student": chosen.small_student, "distil": chosen.small_distil}
        batch |= dict.fromkeys(("student", "distil"), chosen.small_batch)
    if teacher is None:
        alone = stages["student"]
        stages["student"] = alone._replace(steps=alone.steps + stages["distil"].steps)
    for role, network in networks.items():
        if network.get("start_from"):
            stage = stages[role]
            stages[role] = stage._replace(steps=stage.steps // 3, rate=stage.rate / 3)
    return {
        "preprocessing": {"kind": "fundus", "diameter": chosen.diameter},
        # A wide range, because the vessel width in pixels differs between 30 and 45 degree cameras.
        "augmentation": {"scale": 0.6},
        "patch": 128,
        **networks,
        "supervised": "dice_ce",
        "distillation": [] if teacher is None else [_gkd(chosen, networks["teacher"])],
        "stages": {
            name: {"batch": batch[name], **stage._asdict()} for name, stage in stages.items()
        },
    }


def default_student(kind: str) -> str:
    """Default student for a `kind` of preprocessing.

    Both work at full resolution, because thin structures are lost in networks
    that halve the image first. For CT, whose organs are large, `recipe_for`
    gives it more levels.

    >>> default_student("fundus"), default_student("window")
    ('wnet', 'little_unet')
    """
    return "little_unet" if kind == "window" else "wnet"


def _is_small(student: Mapping[str, Any]) -> bool:
    """Whether a student, or the model it starts from, is a network at full resolution."""
    name = student.get("name")
    if name is None and (start_from := student.get("start_from")):
        from src_training.config.networks import find_model
        from src_training.inference.model_file import read_card

        name = read_card(find_model(start_from, "student")).architecture
    return name in _FULL_RESOLUTION


def _gkd(chosen: _Preset, teacher: Mapping[str, Any]) -> dict[str, Any]:
    """Options of GKD; only the predictions if the teacher's features are not available."""
    gkd = {"method": "gkd", "predictions": chosen.predictions, "views": 2}
    if "file" in teacher or isinstance(teacher.get("start_from"), list):
        return gkd | {"intra": 0.0, "inter": 0.0, "cross": 0.0}
    return gkd


def _fields(network: Network, options: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Fields of a network; if it has no options, those for its name are added."""
    fields: dict[str, Any] = {"name": network} if isinstance(network, str) else dict(network)
    if "name" in fields and "options" not in fields:
        fields["options"] = options.get(fields["name"], {})
    return fields


def _preprocessing_of_models(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Preprocessing of the model of the teacher, else of the student; None without models."""
    from src_training.config.networks import Role, find_model
    from src_training.inference.model_file import read_card

    roles: tuple[Role, ...] = ("teacher", "student")
    for role in roles:
        if start_from := fields[role].get("start_from"):
            first = start_from[0] if isinstance(start_from, list) else start_from
            card = read_card(find_model(first, role))
            return card.preprocessing.model_dump(exclude={"angle"})
    return None


def recipe_for(
    name: str,
    sources: Sequence["DomainRecipe"],
    targets: Sequence["DomainRecipe"],
    student: Network | None,
    time: str,
    *,
    teacher: Network | None = "fanet",
    unlabelled: Sequence["DomainRecipe"] = (),
    preprocessing: "Preprocessing | None" = None,
    validation: list[str] | float = 0.2,
) -> "Recipe":
    """Build the recipe of a preset for the given domains.

    Parameters
    ----------
    name
        Name of the run and of its model.
    sources, targets
        Domains to train on, at least one, and domains to report on.
    student, teacher
        Networks, or models that they start from; the default student is
        `default_student`. The stage of a network that starts from a model takes a
        third of the steps at a third of the learning rate, to fine-tune the weights.
        A teacher with ``train: false`` is not trained; with None the student is trained
        alone, for the steps of ``student`` and ``distil``.
    time
        One of `TIMES`.
    unlabelled
        Domains whose images are used in the distillation without masks.
    preprocessing
        Its set fields replace those of the preset, or those of the model that the
        teacher, else the student, starts from, if the kinds are the same. CT
        (``window``) is resized to 192 pixels unless `side` is set, and is not
        flipped; W-Net and Little U-Net get five levels unless `depth` is set.
    validation
        Names of cases, or their share; see `Recipe` and `split`.

    Raises
    ------
    InputError
        If there is no such preset or network, a name is invalid, or two targets
        have the same name.
    """
    from src_training.config.recipe import Recipe

    names = [target.name for target in targets]
    if repeated := sorted({duplicate for duplicate in names if names.count(duplicate) > 1}):
        raise InputError(f"two targets are called {repeated[0]}; expected different names")
    if student is None:
        student = default_student("fundus" if preprocessing is None else preprocessing.kind)
    fields = preset(time, student, teacher)
    fields["preprocessing"] = _preprocessing_of_models(fields) or fields["preprocessing"]
    if preprocessing is not None:
        changes = {"kind": preprocessing.kind, **preprocessing.model_dump(exclude_unset=True)}
        base = fields["preprocessing"]
        fields["preprocessing"] = (base if base["kind"] == preprocessing.kind else {}) | changes
    if fields["preprocessing"]["kind"] == "window":
        fields["preprocessing"].setdefault("side", _CT_SIDE)
        fields["augmentation"] = _CT_AUGMENTATION
        for network in (fields["teacher"], fields["student"]):
            if network.get("name") in _FULL_RESOLUTION and not network.get("start_from"):
                network["options"] = {"depth": _CT_DEPTH, **network["options"]}
    fields |= {
        "name": name,
        "sources": [source.model_dump() for source in sources],
        "validation": validation,
        "tests": [target.model_dump() for target in targets],
        "unlabelled": [domain.model_dump() for domain in unlabelled],
    }
    return Recipe.validated(fields, f"{time} recipe of {name}")


def preprocessing_for(image: NDArray[Any]) -> "Preprocessing":
    """Choose the preprocessing for images like this one.

    Parameters
    ----------
    image
        (H, W) or (H, W, C). An image with values as low as air in HU is a CT
        (``window`` of soft tissue); a bright disc on a dark background is a
        ``fundus`` photograph; any other image is prepared by its ``intensity``,
        with 3 channels if it has colours.

    Examples
    --------
    >>> import numpy as np
    >>> preprocessing_for(np.array([[-1000, 40], [60, 300]])).kind
    'window'
    >>> preprocessing_for(np.array([[0, 40], [60, 255]])).kind
    'intensity'
    """
    from src_training.data.ct import looks_like_hounsfield
    from src_training.data.preprocessing import (
        FundusPreprocessing,
        IntensityPreprocessing,
        WindowPreprocessing,
    )
    from src_training.data.preprocessing.field_of_view import find_field_of_view
    from src_training.inference.input_checks import MAX_DISC_RMSE, circularity_rmse

    if looks_like_hounsfield(image):
        return WindowPreprocessing()
    colours = image.ndim == 3 and image.shape[-1] in (3, 4)
    fov = find_field_of_view(image[..., :3] if colours else image)
    if not fov.all() and circularity_rmse(fov) <= MAX_DISC_RMSE:
        return FundusPreprocessing()
    return IntensityPreprocessing(channels=3 if colours else 1)
