"""State of the Segment widget; works with a `ViewerModel`, without Qt."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from psygnal import SignalGroupDescriptor

from napari_msankd.layers import has_place, layer_by_id, shown_axis, shown_index
from napari_msankd.masks import is_mask_like
from napari_msankd.planes import Index, Slicing, array_of, planes_of
from napari_msankd.segment.inference import ModelInfo, Request
from napari_msankd.settings import Preferences
from src_training.errors import InputError
from src_training.formatting import format_duration

if TYPE_CHECKING:
    from napari.components import ViewerModel

Part = Literal["all", "current", "range"]
Phase = Literal["idle", "loading", "segmenting", "stopping"]


@dataclass(frozen=True)
class SliceChoice:
    """The slices of a stack to segment.

    Attributes
    ----------
    part
        All slices, the current one, or those from `first` to `last`.
    axis
        Slicing axis of a volume.
    first, last
        Inclusive bounds; `last` None means the last slice.
    """

    part: Part = "all"
    axis: int = 0
    first: int = 0
    last: int | None = None

    def ranges(self, slicing: Slicing, shown: Index) -> tuple[range, ...]:
        """The chosen planes: a range for each axis of the stack."""
        if not shown or self.part == "all":
            return tuple(range(count) for count in slicing.stack)
        outer = tuple(range(step, step + 1) for step in shown[:-1])
        if self.part == "current":
            return (*outer, range(shown[-1], shown[-1] + 1))
        last = slicing.stack[-1] - 1 if self.last is None else self.last
        return (*outer, range(self.first, last + 1))


@dataclass(frozen=True)
class Figure:
    """A text about the result.

    Attributes
    ----------
    text
        Empty if there is none.
    stale
        Whether the labels have changed since; a stale figure is greyed and marked.
    """

    text: str = ""
    stale: bool = False

    @property
    def shown(self) -> str:
        """The text, marked while it is being recomputed."""
        return f"{self.text} (updating…)" if self.stale and self.text else self.text

    def outdated(self) -> "Figure":
        """A stale copy."""
        return Figure(self.text, bool(self.text))


@dataclass(frozen=True)
class SliceCurve:
    """Expected and real Dice of the slices of a stack, in order.

    Attributes
    ----------
    indices
        Indices of the slices in the image.
    at
        Positions on the horizontal axis: slice numbers, or flat indices if the stack has
        several axes.
    expected, low, high
        Expected Dice and its interval; NaN if unknown.
    dice
        Dice against the reference; NaN without one.
    """

    indices: tuple[Index, ...]
    at: tuple[int, ...]
    expected: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dice: tuple[float, ...]

    def nearest(self, number: float) -> Index:
        """Index of the slice nearest to a position."""
        return min(zip(self.at, self.indices, strict=True), key=lambda x: abs(x[0] - number))[1]


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes
    ----------
    slices, of
        Number of complete slices, and of all slices of the run; 1 for a photograph.
    fraction
        Fraction of the work done, from 0 to 1.
    seconds
        Time since the first layer of the network ran.
    """

    slices: int = 0
    of: int = 1
    fraction: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        """Text of the bar: ``12 of 78 slices · 40 s left``."""
        remaining = ""
        if self.fraction > 0 and self.seconds > 0.5:
            seconds = self.seconds * (1 - self.fraction) / self.fraction
            remaining = f" · {format_duration(seconds)} left"
        done = f"{self.fraction:.0%}" if self.of == 1 else f"{self.slices} of {self.of} slices"
        return done + remaining


@dataclass
class SegmentState:
    """Choices, phase and figures of the Segment widget; every field emits when it changes.

    Attributes
    ----------
    image, reference, result
        ``unique_id`` of layers, or None.
    uncertainty
        ``unique_id`` of the uncertainty layer, or None.
    mask
        ``unique_id`` of an image layer that could become the reference, or None.
    model
        File of the chosen model.
    flips
        Average over flips.
    slices
        Slices of a stack to segment.
    bounds
        First and last chosen slice along each axis that was left.
    angles
        Angle of the fundus camera in degrees, by ``unique_id`` of the photograph; None if
        unknown.
    angle
        Angle of the chosen image; by default that of the former image.
    threshold
        Threshold of the slice in view.
    manual
        Whether the user set the threshold; else it comes from the model or the slice.
    info
        Metadata of the chosen model; None until it is loaded.
    compatibility, device
        Texts about the fit of image and model, and about the device.
    phase, progress
        Phase and progress of the current run.
    message, traceback
        Status text, and the traceback of an unexpected error.
    expected, scores, volumes
        Figures about the result.
    curve
        Expected and real Dice by slice; None for a single image.
    shown_slice
        Index in the image of the displayed slice of the result.
    resumable
        Whether a stopped run of the chosen image and model can be continued.
    solid
        Whether the result is a volume, which can be shown in 3-D.
    """

    events = SignalGroupDescriptor()

    image: str | None = None
    reference: str | None = None
    result: str | None = None
    uncertainty: str | None = None
    mask: str | None = None
    model: Path | None = None
    flips: bool = False
    slices: SliceChoice = field(default_factory=SliceChoice)
    bounds: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    angles: dict[str, float | None] = field(default_factory=dict)
    angle: float | None = None
    threshold: float = 0.5
    manual: bool = False
    info: ModelInfo | None = None
    compatibility: str = ""
    device: str = ""
    phase: Phase = "idle"
    progress: Progress = field(default_factory=Progress)
    message: str = ""
    traceback: str = ""
    expected: Figure = field(default_factory=Figure)
    scores: Figure = field(default_factory=Figure)
    volumes: Figure = field(default_factory=Figure)
    curve: SliceCurve | None = None
    shown_slice: Index = ()
    resumable: bool = False
    solid: bool = False

    @property
    def running(self) -> bool:
        """Whether a run is active."""
        return self.phase != "idle"

    @property
    def two_classes(self) -> bool:
        """Whether a threshold applies; with more classes the labels are the argmax."""
        return self.info is None or len(self.info.classes) == 2

    def choose_image(self, viewer: "ViewerModel", unique_id: str | None) -> None:
        """Choose an image, and take over its camera angle and the displayed slicing axis."""
        self.image = unique_id
        layer = layer_by_id(viewer, unique_id)
        if layer is None:
            return
        self.angle, self.bounds = self._recorded_angle(viewer, unique_id), {}
        self.slices = SliceChoice(self.slices.part, shown_axis(viewer, layer) or 0)
        if not self.running:
            self.message = ""

    def choose_model(self, model: Path | None) -> None:
        """Choose a model, and reset what depends on the former one."""
        if model != self.model:
            self.model, self.info, self.manual = model, None, False

    def set_angle(self, angle: float | None) -> None:
        """Set the angle of the camera that took the chosen image."""
        self.angle = angle
        if self.image is not None:
            self.angles = {**self.angles, self.image: angle}

    def find_mask(self, viewer: "ViewerModel") -> None:
        """Look for an image layer that is a mask of the chosen image's shape."""
        image = layer_by_id(viewer, self.image)
        self.mask = None
        if image is None or self.reference is not None:
            return
        for layer in viewer.layers:
            other = type(layer).__name__ == "Image" and layer.unique_id != self.image
            same_shape = other and _shape(layer) == _shape(image)
            if same_shape and "msankd" not in layer.metadata and is_mask_like(layer):
                self.mask = layer.unique_id

    def lacks_place(self, viewer: "ViewerModel") -> bool:
        """Whether the image has a transform or units but the reference has neither."""
        image, reference = layer_by_id(viewer, self.image), layer_by_id(viewer, self.reference)
        if image is None or reference is None or _shape(image) != _shape(reference):
            return False
        return has_place(image) and not has_place(reference)

    def follow_view(self, viewer: "ViewerModel") -> None:
        """Set the slicing axis to that of the view, after its axes were rolled."""
        layer = layer_by_id(viewer, self.image)
        axis = None if layer is None else shown_axis(viewer, layer)
        chosen = self.slices
        if axis is not None and axis != chosen.axis:
            self.bounds = {**self.bounds, chosen.axis: (chosen.first, chosen.last)}
            self.slices = SliceChoice(chosen.part, axis, *self.bounds.get(axis, (0, None)))
            self.compatibility = "Checking the image…"

    def set_info(self, info: ModelInfo) -> None:
        """Set the metadata of the chosen model, and its threshold."""
        if self.info is None and not self.manual:
            self.threshold = info.threshold
        self.info = info

    def outdate_figures(self) -> None:
        """Mark the figures as stale, after a change of the labels."""
        self.expected, self.scores = self.expected.outdated(), self.scores.outdated()
        self.volumes = self.volumes.outdated()

    def clear_figures(self) -> None:
        """Clear the figures; there is no result."""
        self.expected = self.scores = self.volumes = Figure()
        self.curve = None

    def asks_angle(self, viewer: "ViewerModel") -> bool:
        """Whether the camera's angle matters: for a fundus model and a photograph."""
        fundus_model = self.info is not None and self.info.angle is not None
        return fundus_model and self.photograph(viewer)

    def photograph(self, viewer: "ViewerModel") -> bool:
        """Whether the chosen layer is photographs: color, or a single grey image."""
        layer = layer_by_id(viewer, self.image)
        return layer is not None and (layer.rgb or layer.ndim == 2)

    def request(self, viewer: "ViewerModel", preferences: Preferences) -> Request:
        """The request that Run would start now.

        Raises
        ------
        InputError
            If no image or no model is chosen, or the view shows no slice of the image.
        """
        layer = layer_by_id(viewer, self.image)
        if layer is None:
            raise InputError(empty_text(viewer) or "Choose an image to segment first.")
        if self.model is None:
            raise InputError("Select a model first, or use Model > Open model file…")
        if self.slices.part == "current" and layer.ndim > 2 and shown_axis(viewer, layer) is None:
            raise InputError(
                f"The view shows no slice of {layer.name!r} (its axes are rolled); expected its "
                "last two axes in view. Roll the dimensions back, or choose other slices"
            )
        axis = self.slices.axis if layer.ndim == 3 and not layer.rgb else 0
        planes, shown = planes_of(layer, axis), shown_index(viewer, layer, axis)
        return Request(
            planes,
            self.slices.ranges(planes.slicing, shown),
            shown,
            self.model,
            self.flips,
            self.angle if self.photograph(viewer) else None,
            preferences.device,
            preferences.memory_limit,
            preferences.cache,
        )

    def _recorded_angle(self, viewer: "ViewerModel", image: str | None) -> float | None:
        """Angle that was set for an image or is stored in its result; else the current one."""
        if image in self.angles:
            return self.angles[image]
        for layer in reversed(viewer.layers):
            record: dict[str, Any] = layer.metadata.get("msankd", {})
            if record.get("input_id") == str(image) and "angle_degrees" in record:
                return record["angle_degrees"]
        return self.angle


def empty_text(viewer: "ViewerModel") -> str:
    """Hint for a viewer without images; empty if there are some."""
    if any(type(layer).__name__ == "Image" for layer in viewer.layers):
        return ""
    return "No image is open. Use File > Open, or begin with a sample."


def stack_shape(viewer: "ViewerModel", image: str | None) -> tuple[int, ...]:
    """Shape without the color axis of a layer with slices; ``()`` for any other."""
    layer = layer_by_id(viewer, image)
    return () if layer is None or layer.ndim < 3 else _shape(layer)


def _shape(layer: Any) -> tuple[int, ...]:
    """Shape without the color axis."""
    return tuple(int(size) for size in array_of(layer).shape[: layer.ndim])


def end_message(name: str, slices: list[Index], of: int, seconds: float) -> str:
    """Status text at the end of a run.

    Parameters
    ----------
    name
        Name of the layer.
    slices
        Complete slices.
    of
        Number of slices of the run; 1 for a photograph.
    seconds
        Duration of the run.

    Examples
    --------
    >>> end_message("ct liver", [(3,), (4,), (9,)], 78, 4)
    "Stopped: 'ct liver' has 3 of 78 slices (3–4, 9)."
    """
    if len(slices) == of:
        return f"✓ {name!r} is ready, in {format_duration(seconds)}."
    if of == 1:
        return f"Stopped: {name!r} is incomplete."
    spans = f" ({span_text([n for (n,) in slices])})" if slices and len(slices[0]) == 1 else ""
    return f"Stopped: {name!r} has {len(slices)} of {of} slices{spans}."


def span_text(numbers: list[int]) -> str:
    """Integers as ranges.

    >>> span_text([3, 4, 5, 9])
    '3–5, 9'
    """
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    texts = [str(low) if low == high else f"{low}–{high}" for low, high in spans]
    if len(texts) > 4:
        texts = [*texts[:3], "…", texts[-1]]
    return ", ".join(texts) or "none"
