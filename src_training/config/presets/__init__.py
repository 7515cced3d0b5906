"""Whole recipes from four choices: source, targets, student and time.

Torch is imported only where a recipe is made: who offers the choices does not wait for it.
"""

from collections.abc import Sequence
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
    "full": "A wide teacher, and a student that long learns from it: what the shipped model was "
    "trained with. For a GPU.",
}
"""What each preset of `TIMES` is for, in words."""

_STUDENTS: dict[str, dict[str, Any]] = {"mobile_unet": {"width": 0.35}}
"""Options of the students that are not small and fast at their published width."""

_SIDE_OF_CT = 192
_CT: dict[str, Any] = {"flips": False, "turn": 15, "scale": 0.3, "illumination": 0.1}
"""How CT is varied: the liver lies on the right, and its double on the left is the spleen."""

_ALIGNMENT = tuple(name for name, spec in STAGES.items() if spec.shared == "alignment")


class _Stage(NamedTuple):
    """How long a stage is, and how fast it learns."""

    steps: int
    rate: float
    validate_every: int


class _Preset(NamedTuple):
    """What the times differ in.

    A wide teacher leaves the rails at the rate of a narrow one. Its
    predictions are worth following closely where it knows much more.
    """

    diameter: int
    width: int
    predictions: float
    batch: int
    teacher: _Stage
    alignment: _Stage
    student: _Stage
    distil: _Stage


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
    ),
}


def preset(time: str, student: str) -> dict[str, Any]:
    """Fields of a recipe for a preset: networks, preparation, patch, losses and stages.

    Parameters
    ----------
    time
        One of `TIMES`; `PURPOSE` says what each is for.
    student
        Name of a network.

    Raises
    ------
    InputError
        If there is no such preset.
    """
    if time not in TIMES:
        raise InputError(f"time is {time!r}; expected one of {', '.join(TIMES)}")
    how = _PRESETS[time]
    stages = {"teacher": how.teacher, "student": how.student, "distil": how.distil}
    stages |= dict.fromkeys(_ALIGNMENT, how.alignment)
    return {
        "preprocessing": {"kind": "fundus", "diameter": how.diameter},
        # Wide: cameras of 30 and 45 degrees show vessels of different widths.
        "augmentation": {"scale": 0.6},
        "patch": 128,
        "teacher": {"name": "fanet", "options": {"width": how.width}},
        "student": {"name": student, "options": _STUDENTS.get(student, {})},
        "supervised": "dice_ce",
        "distillation": [{"method": "gkd", "predictions": how.predictions, "views": 2}],
        "stages": {name: {"batch": how.batch, **stage._asdict()} for name, stage in stages.items()},
    }


def recipe_for(
    name: str,
    sources: Sequence["DomainRecipe"],
    targets: Sequence["DomainRecipe"],
    student: str,
    time: str,
    start_from: str | None = None,
    preprocessing: "Preprocessing | None" = None,
    validation: list[str] | float = 0.2,
) -> "Recipe":
    """The recipe of a preset for these domains.

    Parameters
    ----------
    name
        Of the run and of its model.
    sources, targets
        Domains to train on, at least one, and domains to report on.
    student
        Name of a network.
    time
        One of `TIMES`.
    start_from
        A model's name or file, the student's first weights. Its own stage is
        then a third as long, at a third of the rate: what the model knows is
        adapted, not overrun.
    preprocessing
        The fields that it was made with replace those of the preset. CT
        (``window``) is brought to 192 pixels across unless `side` says
        otherwise, so that a patch holds most of a slice, and not mirrored.
    validation
        Names, or a share; see `Recipe` and `split`.

    Raises
    ------
    InputError
        If there is no such preset or network, a name does not fit, or two
        targets have one name.
    """
    from src_training.config.recipe import Recipe

    called = [target.name for target in targets]
    if twice := sorted({target for target in called if called.count(target) > 1}):
        raise InputError(f"two targets are called {twice[0]}; expected a name of its own for each")
    fields = preset(time, student)
    if preprocessing is not None:
        made = {"kind": preprocessing.kind, **preprocessing.model_dump(exclude_unset=True)}
        base = fields["preprocessing"] if preprocessing.kind == "fundus" else {}
        fields["preprocessing"] = base | made
    if fields["preprocessing"]["kind"] == "window":
        fields["preprocessing"].setdefault("side", _SIDE_OF_CT)
        fields["augmentation"] = _CT
    if start_from is not None:
        fields["start_from"] = start_from
        own = fields["stages"]["student"]
        own["steps"], own["rate"] = own["steps"] // 3, own["rate"] / 3
    fields |= {
        "name": name,
        "sources": [source.model_dump() for source in sources],
        "validation": validation,
        "tests": [target.model_dump() for target in targets],
    }
    return Recipe.validated(fields, f"{time} recipe of {name}")


def preprocessing_for(image: NDArray[Any]) -> "Preprocessing":
    """How images like this one are prepared when nobody says.

    Parameters
    ----------
    image
        (H, W) or (H, W, C), in colour or grey. With values of air in HU it is
        a CT, whose ``window`` is that of soft tissue. A bright disc in a dark
        frame is a ``fundus``; any other image is an ``intensity`` image, in colour if it is.
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
