"""The recipe of a run: a typed model of all its settings, read from and written to YAML."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from src_training.alignment.alignment_network import LARGEST
from src_training.alignment.consistency import AlignmentOptions
from src_training.config.domains import DomainRecipe, absolute
from src_training.config.migration import migrate_recipe
from src_training.config.networks import (
    NETWORK_ROLES,
    NetworkRecipe,
    Teacher,
    TeacherRecipe,
    rooted_model,
)
from src_training.config.stages import STAGES, StageSchedule
from src_training.config.yaml_io import first_fault, parse_fields, parse_value, set_field
from src_training.data.augmentation import Augmentation
from src_training.data.preprocessing import FundusPreprocessing, Preprocessing
from src_training.data.preprocessing.base import MAX_SIDE
from src_training.distillation import MethodOptions, active_parts, parse_options
from src_training.distillation.masks import MasksOptions
from src_training.distillation.registry import inner_features, output_methods, sees_plain
from src_training.errors import InputError
from src_training.inference.model_card import DomainKind
from src_training.io.atomic import write_text
from src_training.io.names import name_fault
from src_training.losses.segmentation import Supervision

Weight = Annotated[float, Field(ge=0)]
Validation = list[str] | Annotated[float, Field(gt=0, lt=1)]
PRESETS = Path(__file__).parent / "presets"


def _check_folder_name(name: str) -> str:
    """Require a valid folder name, because the name of a run is used for folders and files."""
    if fault := name_fault(name):
        raise ValueError(f"it {fault}; expected the name of a folder")
    return name


def _complete(stages: dict[str, StageSchedule]) -> dict[str, StageSchedule]:
    """Sort schedules in the order of `STAGES` and add defaults."""
    specs = {name: spec for name, spec in STAGES.items() if spec.in_recipe}
    if unknown := sorted(stages.keys() - specs.keys()):
        raise ValueError(f"stage {unknown[0]!r} is unknown; expected one of {', '.join(specs)}")
    schedules = {name: stages.get(name, spec.default) for name, spec in specs.items()}
    if missing := [name for name, schedule in schedules.items() if schedule is None]:
        raise ValueError(f"stage {missing[0]!r} is missing; expected an entry with its steps")
    return {name: schedule for name, schedule in schedules.items() if schedule is not None}


def _parse_methods(content: Any) -> Any:
    """Parse the methods of a list; return anything else unchanged, for pydantic to report."""
    return [parse_options(options) for options in content] if isinstance(content, list) else content


Distillation = Annotated[list[SerializeAsAny[MethodOptions]], BeforeValidator(_parse_methods)]
DEFAULT_METHODS = [{"method": "gkd"}]
_DOMAINS = "sources", "tests", "unlabelled"


class Recipe(BaseModel):
    """All settings of a run.

    Attributes
    ----------
    name
        Name of the run and of its model.
    sources
        Labelled domains to train on, at least one, all with the same classes. A
        recipe with one source may use the key ``source:`` instead.
    source_sampling
        How patches are drawn from several sources: ``even`` draws equally often from
        each source, ``by_size`` equally often from each image.
    validation
        Cases of the sources that choose the checkpoints: a share of each source
        (whole patients, drawn with `seed`), names of cases, or one of these for each
        source by its name.
    labelled
        Share of each source's training cases that keep their masks (whole patients,
        drawn with `seed`). The others are used like `unlabelled` ones.
    tests
        Domains to report on; they do not influence the training. Masks are only
        needed for scores. Reports state whether the student has seen the scanner of
        each; see `kind_of`.
    unlabelled
        Domains whose images, without masks, are half of each batch of the stage
        ``distil``: the student learns on them from all losses that need no mask
        (Graph Flow's semi-supervised paradigm). They no longer count as unseen.
    preprocessing
        How images are prepared: as ``fundus`` photographs, by their own
        ``intensity``, or in a ``window`` of CT. The angle of the training
        camera is that of the first source.
    augmentation
        Strengths of the augmentation; see `Augmentation`.
    patch
        Side of the training patch, pixels of the prepared image; a multiple of 32.
    teacher, student
        Networks and their initial weights; see `NetworkRecipe`, `TeacherRecipe`,
        `EnsembleTeacher` and `ExternalTeacher`.
    latent, hidden
        Length of the semantic vectors, and hidden units of their perceptrons.
    alignment
        Target of the TAN and the SAN; see `AlignmentOptions`.
    distillation
        Methods by which the student learns from its teacher, each with its `weight` and
        options. Their losses are added to the supervised losses. With none, the student is
        trained alone.
    distil_from
        Initial weights of the distilled student. ``student``: those of the stage
        ``student``. ``scratch``: random ones; ``distil`` then takes the steps of
        ``student`` in addition to its own, and semantic vectors are those of the SAN
        of the stage ``student``.
    supervised
        ``ce``: cross entropy, as in GKD. ``dice_ce``: plus soft Dice.
        ``dice_focal``: half focal loss, half soft Dice, as in EMKD;
        ``dice_focal_detached``: as in the public code of EMKD, see `focal_loss`.
    weight_decay
        Decoupled weight decay of Adam (Loshchilov and Hutter, 2019). The paper's
        coupled decay of 2e-4 shrinks layers that a network with skips does not need:
        those around the bottleneck, whose vectors then are the same for every image.
    stages
        Steps, batch and learning rate of each stage by its name. The stage
        ``baseline`` has no entry, as it trains for as long as ``distil``; see `STAGES`.
    seed
        Seed of all random numbers.
    licence, description
        Licence and description, stored in the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[\w.-]+$"), AfterValidator(_check_folder_name)]
    sources: Annotated[list[DomainRecipe], Field(min_length=1)]
    source_sampling: Literal["even", "by_size"] = "even"
    validation: Validation | dict[str, Validation] = 0.2
    labelled: Annotated[float, Field(gt=0, le=1, title="Labelled share")] = 1.0
    tests: Annotated[list[DomainRecipe], Field(title="Test domains")] = []
    unlabelled: Annotated[list[DomainRecipe], Field(title="Domains without masks")] = []
    preprocessing: Annotated[Preprocessing, Field(validate_default=True)] = FundusPreprocessing()
    augmentation: Augmentation = Augmentation()
    patch: Annotated[int, Field(ge=32, le=MAX_SIDE, multiple_of=32)] = 256
    teacher: Annotated[Teacher, Field(validate_default=False)] = TeacherRecipe(name="fanet")
    student: NetworkRecipe = NetworkRecipe(name="enet")
    latent: Annotated[int, Field(ge=1, le=LARGEST, title="Semantic vector length")] = 512
    hidden: Annotated[int, Field(ge=1, le=LARGEST, title="Perceptron width")] = 64
    alignment: AlignmentOptions = AlignmentOptions()
    distillation: Distillation = Field(default_factory=lambda: _parse_methods(DEFAULT_METHODS))
    distil_from: Annotated[
        Literal["student", "scratch"], Field(title="Distillation starts from")
    ] = "student"
    supervised: Annotated[Supervision, Field(title="Loss on masks")] = "ce"
    weight_decay: Weight = 1e-2
    stages: Annotated[dict[str, StageSchedule], AfterValidator(_complete)]
    seed: Annotated[int, Field(ge=0, le=2**62)] = 0
    licence: str = ""
    description: str = ""

    @model_validator(mode="before")
    @classmethod
    def _single_source(cls, content: Any) -> Any:
        """Read ``source: DOMAIN`` as ``sources: [DOMAIN]``."""
        if not isinstance(content, dict) or "source" not in content:
            return content
        if "sources" in content:
            raise ValueError("there are both source and sources; expected one of them")
        return {
            "sources" if name == "source" else name: [value] if name == "source" else value
            for name, value in content.items()
        }

    @field_validator("preprocessing")
    @classmethod
    def _angle_of_first_source(
        cls, preprocessing: Preprocessing, info: ValidationInfo
    ) -> Preprocessing:
        sources = info.data.get("sources")
        if not sources or preprocessing.kind != "fundus":
            return preprocessing
        angle = sources[0].angle
        if preprocessing.angle == angle:
            return preprocessing
        if preprocessing.angle is None:
            return preprocessing.model_copy(update={"angle": angle})
        found = "not given" if angle is None else f"{angle:g}"
        raise ValueError(
            f"angle is {preprocessing.angle:g}, but that of the first source is {found}; "
            "expected the same"
        )

    @field_validator("distillation")
    @classmethod
    def _check_methods(cls, methods: list[MethodOptions]) -> list[MethodOptions]:
        names = [options.method for options in methods]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"method {twice[0]} is given twice; expected each method once")
        if methods and not any(options.weight for options in methods):
            raise ValueError("all method weights are 0; expected one above 0")
        if methods and not any(active_parts(options) for options in methods):
            losses = " and ".join(options.method for options in methods if options.weight)
            raise ValueError(f"all weights of the losses of {losses} are 0; expected one above 0")
        return methods

    @model_validator(mode="after")
    def _distinct_names(self) -> "Recipe":
        for what, domains in (("sources", self.sources), ("tests", self.tests)):
            names = [domain.name for domain in domains]
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"two {what} are called {twice[0]}; expected different names")
        if isinstance(self.validation, dict):
            names = [source.name for source in self.sources]
            if self.validation.keys() != set(names):
                raise ValueError(
                    f"validation is given for {', '.join(self.validation)}; "
                    f"expected an entry for each source, {', '.join(names)}"
                )
        return self

    @model_validator(mode="after")
    def _angles_agree(self) -> "Recipe":
        for domain in (*self.sources, *self.tests, *self.unlabelled):
            try:
                self.preprocessing.for_camera(domain.angle)
            except InputError as error:
                raise ValueError(f"domain {domain.name}: {error}") from None
        return self

    @model_validator(mode="after")
    def _check_teacher(self) -> "Recipe":
        teacher, methods = self.teacher, self.distillation
        if self.unlabelled and not self.distils:
            raise ValueError("unlabelled has domains, but no distillation uses them; expected one")
        if teacher.outputs_only:
            for options in methods:
                if sentence := inner_features(options):
                    raise ValueError(
                        f"{sentence}, and of a teacher of kind {teacher.kind} the outputs alone "
                        f"are known; expected methods of outputs: {', '.join(output_methods())}"
                    )
        plain = not self.distils or self.masks_alone or any(map(sees_plain, methods))
        if teacher.flips and not plain:
            raise ValueError(
                "teacher.flips is true, but no method has the teacher see plain patches; expected "
                "teacher_sees: plain, or no flips"
            )
        return self

    @property
    def distils(self) -> bool:
        """Whether there is a distillation; otherwise the student is trained alone."""
        return bool(self.distillation)

    @property
    def used_teacher(self) -> Teacher | None:
        """The teacher; None if there is no distillation."""
        return self.teacher if self.distils else None

    @property
    def semi_supervised(self) -> bool:
        """Whether half of each batch of the stage ``distil`` has no masks."""
        return self.distils and (bool(self.unlabelled) or self.labelled < 1)

    @property
    def masks_alone(self) -> MasksOptions | None:
        """Options of the control without a teacher; None if there is a distillation method."""
        only = self.distillation[0] if len(self.distillation) == 1 else None
        return only if isinstance(only, MasksOptions) else None

    def kind_of(self, test: DomainRecipe) -> DomainKind:
        """Whether a distilled student has seen the scanner of a test domain; see `DomainKind`."""
        if any(test.shares_with(source) for source in self.sources):
            return "source"
        return (
            "adapted" if any(test.shares_with(domain) for domain in self.unlabelled) else "unseen"
        )

    def schedule(self, stage: str) -> StageSchedule:
        """Schedule of a stage; see `StageSpec.schedule`."""
        return STAGES[stage].schedule_of(self)

    @property
    def centered_vectors(self) -> bool:
        """Whether the distillation subtracts the batch mean from semantic vectors."""
        choices = [options.centered_vectors for options in self.distillation]
        return next((centered for centered in choices if centered is not None), True)

    @classmethod
    def load(
        cls,
        path: str | Path,
        overrides: dict[str, str] | None = None,
        notes: list[str] | None = None,
    ) -> "Recipe":
        """Read a recipe from YAML.

        Parameters
        ----------
        path
            A file, or the name of a shipped preset.
        overrides
            Values to set before validation: dotted field -> YAML text, as in
            ``{"stages.teacher.steps": "10"}``; see `set_field`.
        notes
            List to which a sentence for each migrated part is appended; see `migrate_recipe`.

        Raises
        ------
        InputError
            If the file is missing or not YAML, a field is unknown or missing,
            a value is invalid, or an environment variable is not set.
        """
        file = _find(Path(path))
        content = parse_fields(file.read_bytes(), str(file))
        content, changes = migrate_recipe(content, str(file))
        if notes is not None:
            notes += [f"{file}: {change}" for change in changes]
        content.setdefault("distillation", deepcopy(DEFAULT_METHODS))
        for field, text in (overrides or {}).items():
            set_field(content, field, parse_value(text, field), "--set")
        content, _ = migrate_recipe(content, str(file))
        root = file.resolve().parent
        recipe = cls.validated(_with_rooted_models(content, root), str(file))
        return recipe.model_copy(update=_with_rooted_domains(recipe, root))

    @classmethod
    def validated(cls, content: object, where: str) -> "Recipe":
        """Validate parsed YAML, with migration (`migrate_recipe`); `where` names it in errors.

        Raises
        ------
        InputError
            If the content is invalid.
        """
        migrated, _ = migrate_recipe(content, where)
        try:
            return cls.model_validate(migrated)
        except ValidationError as error:
            raise InputError(f"{where}: {first_fault(error, cls)}") from None

    def changed(self, fields: Mapping[str, object], where: str) -> "Recipe":
        """Copy with changed values (dotted field -> value); `where` names them in errors.

        Raises
        ------
        InputError
            If the recipe has no such field, or a value is invalid.
        """
        content = self.model_dump(mode="json")
        for field, value in fields.items():
            set_field(content, field, value, where)
        return Recipe.validated(content, where)

    def to_yaml(self) -> str:
        """YAML of the recipe, including defaults."""
        # Without allow_unicode: YAML reads some unescaped Unicode line breaks back as spaces.
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def portable(self) -> "Recipe":
        """Copy for sharing, with only the last component of each path."""
        networks = {role: getattr(self, role).by_last_name() for role in NETWORK_ROLES}
        domains = {name: [d.by_last_name() for d in getattr(self, name)] for name in _DOMAINS}
        return self.model_copy(update=networks | domains)

    def save(self, path: Path) -> None:
        """Write the recipe as YAML, atomically."""
        write_text(path, self.to_yaml())


def preset_recipes() -> dict[str, Path]:
    """Shipped recipes: name -> file."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    presets = preset_recipes()
    if str(path) in presets:
        return presets[str(path)]
    raise InputError(
        f"{path}: there is no such recipe; expected a YAML file or one of {', '.join(presets)}"
    )


def _with_rooted_domains(recipe: Recipe, root: Path) -> dict[str, object]:
    """Domains with absolute folders and expanded environment variables."""
    return {name: [domain.rooted(root) for domain in getattr(recipe, name)] for name in _DOMAINS}


def _with_rooted_models(content: dict[str, Any], root: Path) -> dict[str, Any]:
    """Make the paths of models absolute, because validation may read the models."""
    for role in NETWORK_ROLES:
        network = content.get(role)
        if isinstance(network, dict) and "start_from" in network:
            model = rooted_model(network["start_from"], root, role)
            content = content | {role: network | {"start_from": model}}
    teacher = content.get("teacher")
    if isinstance(teacher, dict) and isinstance(teacher.get("file"), str):
        file = absolute(teacher["file"], root, "teacher.file")
        content = content | {"teacher": teacher | {"file": file}}
    return content
