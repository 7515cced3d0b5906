"""What is in a dataset: read case by case in a worker, and said in words."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_msankd.datasets.layer_export import (
    HIGHEST,
    LayerCase,
    cases_of,
    stored_labels,
    stored_pixels,
)
from napari_msankd.datasets.layer_pairs import LayerPair
from napari_msankd.datasets.selection import (
    Dataset,
    FolderDataset,
    LayerDataset,
    Masks,
    Unmasked,
    unpainted_error,
)
from napari_msankd.torch_import import gc_paused
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.data.summary import CaseSummary, Finding, Problem

_FEW = 3
_MOST_CLASSES = 8


@dataclass(frozen=True)
class WithoutMask:
    """Images without a mask where masks are required.

    Attributes
    ----------
    count
        How many.
    problem
        Why they stand in the way; empty where they are left out without a question.
    """

    count: int
    problem: str = ""


def inspect(dataset: Dataset, masks: Masks) -> "Iterator[Finding | WithoutMask | int]":
    """Every case and every problem; call it in a worker.

    Parameters
    ----------
    dataset
        Where the images are; what cannot be used is a `Problem`, not raised.
    masks
        What they are for.

    Yields
    ------
    int
        First of all, how many cases there are.
    CaseSummary, Problem, Note or WithoutMask
        For `DatasetSummary.add`.
    """
    with gc_paused():
        import src_training.data.validation  # noqa: F401
    if isinstance(dataset, LayerDataset):
        yield sum(len(pair.image.indices) for pair in dataset.pairs)
        yield from _inspect_layers(dataset, masks)
    else:
        yield from _inspect_folder(dataset)


def _inspect_folder(dataset: FolderDataset) -> "Iterator[Finding | int]":
    from src_training.data.layouts.files import read_folder
    from src_training.data.summary import Problem
    from src_training.data.validation import inspect_folder

    path = dataset.path
    if path.is_dir():
        try:
            yield len(read_folder(path, dataset.exclude, dataset.channel).images)
        except InputError:
            yield 0  # said by what follows
        # An image without a mask is no fault of the image: what becomes of it is asked.
        yield from inspect_folder(
            path,
            "optional",
            dataset.exclude,
            class_values=dataset.class_values,
            channel=dataset.channel,
            resample=dataset.resample_masks,
        )
        return
    found = "is a file" if path.exists() else "does not exist"
    yield Problem(path.name, f"{path} {found}; expected a folder with images/ and masks/")


def _inspect_layers(dataset: LayerDataset, masks: Masks) -> "Iterator[Finding | WithoutMask]":
    from src_training.data.summary import Problem
    from src_training.data.validation import inspect_array

    classes, required = dataset.classes(), masks == "required"
    cases = cases_of(dataset.pairs, "present" if required else None)
    if dataset.unmasked == "unlabelled":
        cases = (*cases, *cases_of(dataset.pairs, "absent"))
    painted = Counter[str]()
    for case in cases:
        layer = case.pair.labels or case.pair.image
        painted[case.pair.image.name] += case.labels is not None
        try:
            pixels, labels = stored_pixels(case), stored_labels(case, classes)
            _require_labels(case)
        except InputError as error:
            yield Problem(layer.name, str(error))
            continue
        for finding in inspect_array(case.name, pixels, labels, classes, dataset.name):
            # A layer is left out by its tick.
            yield replace(finding, exclude="") if isinstance(finding, Problem) else finding
    for pair in dataset.pairs:
        bare = len(pair.image.indices) - painted[pair.image.name]
        if bare and painted[pair.image.name]:
            yield _partly_painted(pair, bare)
        if bare and required and dataset.unmasked != "unlabelled":
            whole = not painted[pair.image.name]
            yield WithoutMask(bare, str(unpainted_error(pair)) if whole else "")


def _require_labels(case: LayerCase) -> None:
    """Raise InputError if a Labels layer holds the grey values of a mask: all would be paint."""
    from src_training.data.classes import StoredMask, read_classes
    from src_training.io.masks import MaskValues

    labels, layer = case.labels, case.pair.labels
    if labels is None or layer is None or labels.max() < HIGHEST // 2:
        return
    found = MaskValues.of(labels)
    reading = read_classes([StoredMask(f"Labels layer {layer.name!r}", found, lambda: labels)])
    for sentence in reading.problems.values():
        raise InputError(sentence)
    if len(found.values) > 2 and reading.classes.threshold is not None:
        raise InputError(
            f"Labels layer {layer.name!r} holds {len(found.values)} values from "
            f"{found.values[0]:g} to {found.values[-1]:g}, two and grey edges or noise; expected "
            "painted labels, or the mask opened as an image and used as labels"
        )


def _partly_painted(pair: LayerPair, bare: int) -> "Finding":
    from src_training.data.summary import Note

    count = len(pair.image.indices)
    return Note(f"{count - bare} of {count} slices of {pair.image.name!r} are painted.")


class DatasetSummary:
    """What has been found so far, in words.

    Parameters
    ----------
    masks
        What the images are for.

    Attributes
    ----------
    without_masks
        How many images have no mask, where masks are required.
    other_values
        See `Note`.
    """

    def __init__(self, masks: Masks = "required") -> None:
        self.masks = masks
        self.without_masks = 0
        self.other_values: Mapping[str, int | list[int]] | None = None
        self._notes: list[str] = []
        self._found: list[Problem] = []
        self._unmasked: list[str] = []
        self._cases: list[CaseSummary] = []
        self._bare: list[str] = []
        self._failure = ""
        self._done = self._total = 0
        self._closed = False

    def add(self, finding: "Finding | WithoutMask | int") -> None:
        """Add what was found."""
        from src_training.data.summary import Note, Problem

        if isinstance(finding, int):
            self._total = finding
        elif isinstance(finding, Note):
            self._notes.append(finding.sentence)
            self.other_values = finding.other_values or self.other_values
        elif isinstance(finding, Problem):
            self._found.append(finding)
        elif isinstance(finding, WithoutMask):
            self.without_masks += finding.count
            self._unmasked += [finding.problem] if finding.problem else []
        else:
            self._done += 1
            if finding.counts is None and finding.name in self.faulty:
                return
            if finding.counts is None and self.masks == "required":
                self.without_masks += 1
                self._bare.append(finding.name)
            else:
                self._cases.append(finding)

    def note(self, sentences: Iterable[str]) -> None:
        """Add remarks."""
        self._notes += sentences

    def fail(self, sentence: str) -> None:
        """It cannot be read at all."""
        self._failure = sentence

    def close(self, exclude: Sequence[str] = (), unmasked: Unmasked = "error") -> None:
        """Everything was read: say what follows from the whole.

        Parameters
        ----------
        exclude, unmasked
            What was left out, and what becomes of images without a mask.
        """
        from src_training.data.split import patient_of

        self._closed = True
        if exclude:
            self._notes.append(f"{len(exclude)} left out: {_some(exclude)}.")
        if self._bare and unmasked == "error":
            count, have = (
                _count(len(self._bare), self._what),
                "has" if not self._bare[1:] else "have",
            )
            self._unmasked.append(
                f"{count} {have} no mask ({_some(self._bare)}); "
                "expected a file of the same name in masks/"
            )
        if unmasked != "error":
            self._unmasked.clear()
        if self.without_masks and unmasked != "error":
            use = "left out" if unmasked == "exclude" else "used as unlabelled images"
            self._notes.append(f"{self.without_masks:,} without a mask: {use}.")
        patients = {patient_of(case.name) for case in self._cases}
        if self.masks == "required" and len(patients) == 1:
            self._notes.append(
                f"Only one {self._what if len(self._cases) == 1 else 'patient'}: "
                "validation is not independent of training."
            )

    @property
    def problems(self) -> tuple[str, ...]:
        """What stands in the way, or was passed over, a sentence each."""
        found = (*(each.sentence for each in self._found), *self._unmasked, self._failure)
        return tuple(sentence for sentence in found if sentence)

    @property
    def blocking(self) -> int:
        """How many images or files stand in the way and can be left out."""
        if not self._cases:
            return 0
        return len(self.faulty) + (self.without_masks if self._unmasked else 0)

    @property
    def faulty(self) -> tuple[str, ...]:
        """Entries of `DomainRecipe.exclude` that leave out what cannot be used."""
        return tuple(dict.fromkeys(each.exclude for each in self._found if each.exclude))

    @property
    def on_other_grids(self) -> int:
        """How many masks can be used if they are resampled."""
        return sum(each.other_grid for each in self._found)

    @property
    def channels(self) -> tuple[str, ...]:
        """Images of each case, one of which must be chosen; empty where that is settled."""
        return next((each.channels for each in self._found if each.channels), ())

    @property
    def other_reading(self) -> str:
        """The reading by `other_values`, as a button has it; empty without one."""
        names = [name for name in self.other_values or () if name != "background"]
        if not names:
            return ""
        if len(names) < len(self.other_values or ()):
            return "Read masks inverted"
        return f"Read masks as {f'{len(names)} classes' if len(names) > 1 else 'one class'}"

    @property
    def usable(self) -> bool:
        """Whether a run can use the dataset: nothing stands in its way."""
        errors = [each for each in self._found if not each.unused]
        return bool(self._cases) and not (errors or self._unmasked or self._failure)

    @property
    def volumes(self) -> bool:
        """Whether it is volumes."""
        return any(case.slices for case in self._cases)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first; empty without masks."""
        return next((tuple(case.counts) for case in reversed(self._cases) if case.counts), ())

    @property
    def progress(self) -> str:
        """How much was read so far."""
        done = self._done
        return f"Reading… {done:,} of {max(done, self._total):,}" if self._total else "Reading…"

    @property
    def text(self) -> str:
        """How many images of which sizes, the share of each class, and remarks."""
        if not self._cases:
            return ""
        slices = sum(case.slices for case in self._cases)
        count = _count(len(self._cases), self._what) + (f", {slices:,} slices" if slices else "")
        lines = [f"{count} of {self._size()}{self._some_without()}"]
        lines += [self._shares()] if self._labelled else []
        lines += [self._use()] if self.masks != "required" else []
        return "\n".join(line for line in (*lines, *self._notes) if line)

    @property
    def _labelled(self) -> list["CaseSummary"]:
        return [case for case in self._cases if case.counts is not None]

    @property
    def _what(self) -> str:
        return "volume" if self.volumes else "image"

    def _size(self) -> str:
        from src_training.io.volumes.grid import format_size

        sizes = sorted({case.size for case in self._cases})
        return " to ".join(format_size(each) for each in dict.fromkeys((sizes[0], sizes[-1])))

    def _some_without(self) -> str:
        without = len(self._cases) - len(self._labelled)
        return f"; {without:,} without a mask" if self._labelled and without else ""

    def _shares(self) -> str:
        counts = sum((Counter(case.counts) for case in self._labelled), Counter[str]())
        classes = self.classes[1:] or self.classes
        total = sum(counts.values())
        shown = classes if len(classes) <= _MOST_CLASSES else classes[: _MOST_CLASSES - 1]
        shares = [f"{each} {share_of(counts[each], total, self.volumes)}" for each in shown]
        more = len(classes) - len(shown)
        return " · ".join([*shares, *([f"{more} more classes"] if more else [])])

    def _use(self) -> str:
        if self.masks == "unused":
            return "Their masks are not used." if self._labelled else ""
        if not self._labelled:
            return "No masks: only the distance to the source (FSD) is measured."
        if len(self._labelled) < len(self._cases):
            return f"No scores: they need a mask for every {self._what}."
        return "Masks are used for scores only."


def share_of(count: int, total: int, volumes: bool) -> str:
    """``"8.1 % (63,712 pixels)"``, or voxels, where they are of volumes."""
    percent, unit = 100 * count / max(1, total), "voxels" if volumes else "pixels"
    return f"{percent:.{1 if percent < 10 else 0}f} % ({count:,} {unit})"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_FEW])
    return shown if len(names) <= _FEW else f"{shown} and {len(names) - _FEW:,} more"
