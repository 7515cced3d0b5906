"""What is in a chosen domain: looked at in a worker, said in words."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from napari_msankd.datasets.layer_export import cases_of, stored_labels, stored_pixels
from napari_msankd.datasets.layer_pairs import LayerPair
from napari_msankd.datasets.selection import Dataset, LayerDataset, unpainted
from napari_msankd.torch_import import gc_paused
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.data.summary import Finding, Problem

Masks = Literal["required", "optional", "unused"]
"""What images are for: to learn from, to be tested on, or to learn from without masks."""


def look_at(chosen: Dataset, masks: Masks) -> Iterator["Finding"]:
    """Every case, every problem, and what else should be said. Call it in a worker.

    Parameters
    ----------
    chosen
        Where the images are; what cannot be used is a `Problem`, not raised.
    masks
        ``required`` where a network is to learn from them.
    """
    with gc_paused():
        from src_training.data.summary import Problem
        from src_training.data.validation import inspect_folder

    if isinstance(chosen, LayerDataset):
        yield from _look_at_layers(chosen, masks)
    elif chosen.path.is_dir():
        asked = "required" if masks == "required" else "optional"
        yield from inspect_folder(chosen.path, asked, chosen.exclude)
    else:
        what = "a file" if chosen.path.exists() else "not there"
        sentence = f"{chosen.path} is {what}; expected a folder with images/ and masks/"
        yield Problem(chosen.path.name, sentence)


def _look_at_layers(chosen: LayerDataset, masks: Masks) -> Iterator["Finding"]:
    from src_training.data.summary import Note, Problem
    from src_training.data.validation import inspect_array

    classes = chosen.classes()
    planes = Counter[str]()
    for case in cases_of(chosen.pairs):
        planes[case.pair.image.name] += 1
        layer = case.pair.labels or case.pair.image
        if case.labels is None and masks == "required":
            if planes[case.pair.image.name] == 1:
                yield Problem(layer.name, str(unpainted(case.pair)))
            continue
        try:
            pixels, labels = stored_pixels(case), stored_labels(case, classes)
        except InputError as error:
            yield Problem(layer.name, str(error))
            continue
        yield from inspect_array(case.name, pixels, labels, classes, chosen.name)
    for pair in chosen.pairs:
        if planes[pair.image.name] < len(pair.image.indices):
            yield Note(_left_out(pair, planes[pair.image.name]))


def _left_out(pair: LayerPair, count: int) -> str:
    return (
        f"{count} of {len(pair.image.indices)} slices of {pair.image.name!r} are painted; "
        "the others are left out."
    )


class Found:
    """What has been seen so far, in words.

    Parameters
    ----------
    masks
        Whether the domain is one to learn from.
    """

    def __init__(self, masks: Masks) -> None:
        self.masks = masks
        self.names: list[str] = []
        self.notes: list[str] = []
        self.problems: list[Problem] = []
        self._sizes: set[tuple[int, int]] = set()
        self._slices = 0
        self._counts = Counter[str]()
        self._classes: tuple[str, ...] = ()
        self._labelled = 0

    def take(self, seen: "Finding") -> None:
        """Add what was seen."""
        from src_training.data.summary import Note, Problem

        if isinstance(seen, Note):
            self.notes.append(seen.sentence)
        elif isinstance(seen, Problem):
            self.problems.append(seen)
        else:
            self.names.append(seen.name)
            self._sizes.add(seen.size)
            self._slices += seen.slices
            if seen.counts is not None:
                self._labelled += 1
                self._counts.update(seen.counts)
                self._classes = tuple(seen.counts)

    def close(self) -> None:
        """Everything has been seen: say what follows from the whole."""
        from src_training.data.split import patient_of

        if self.masks == "required" and len({patient_of(name) for name in self.names}) == 1:
            few = f"one {self._what}" if len(self.names) == 1 else f"{self._what}s of one patient"
            self.notes.append(
                f"{few} only: what is held out to choose the best network is much like the rest"
            )

    @property
    def usable(self) -> bool:
        """Whether a run can use the domain: nothing stands in its way."""
        return bool(self.names) and all(self._is_stray(problem) for problem in self.problems)

    @property
    def volumes(self) -> bool:
        """Whether it is volumes that were seen."""
        return self._slices > 0

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first; empty without masks."""
        return self._classes

    def words(self) -> str:
        """How many images of which sizes, the share of each class, and the notes."""
        if not self.names:
            return ""
        count = f"{len(self.names):,} {self._what}{'s' * (len(self.names) > 1)}"
        slices = f", {self._slices:,} slices" if self._slices else ""
        lines = [f"{count}{slices} of {self._size()} pixels{self._without()}"]
        lines += [self._shares()] if self._labelled else []
        lines += [self._use()] if self.masks != "required" else []
        return "\n".join(lines + self.notes)

    @property
    def _what(self) -> str:
        return "volume" if self._slices else "image"

    def _size(self) -> str:
        small, large = (f"{h} x {w}" for h, w in (min(self._sizes), max(self._sizes)))
        return small if small == large else f"{small} to {large}"

    def _without(self) -> str:
        without = len(self.names) - self._labelled
        return f", {without} without mask" if self._labelled and without else ""

    def _shares(self) -> str:
        total = sum(self._counts.values())
        classes = self._classes[1:] or self._classes
        volumes = bool(self._slices)
        parts = [f"{name} {share_of(self._counts[name], total, volumes)}" for name in classes]
        return " · ".join(parts)

    def _use(self) -> str:
        if self.masks == "unused":
            return "Their masks are not used." if self._labelled else ""
        if self._labelled == 0:
            return "No masks, none needed: its distance to the source (FSD) is measured."
        if self._labelled < len(self.names):
            return f"No scores: they need a mask for every {self._what}."
        return "Has masks: used for scores only."

    def _is_stray(self, problem: "Problem") -> bool:
        """A mask without an image: said, but a run passes it over."""
        file = PurePosixPath(problem.file)
        broken = {Path(each.file).stem for each in self.problems if each.file[:7] == "images/"}
        return file.parent.name == "masks" and file.stem not in broken.union(self.names)


def share_of(count: int, total: int, volumes: bool) -> str:
    """``"8.1 % (63,712 pixels)"``, or voxels, where they are of volumes."""
    percent, unit = 100 * count / max(1, total), "voxels" if volumes else "pixels"
    return f"{percent:.{1 if percent < 10 else 0}f} % ({count:,} {unit})"
