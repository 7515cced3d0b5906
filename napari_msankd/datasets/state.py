"""State of a chosen dataset and its summary, without Qt."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray
from psygnal import SignalGroupDescriptor

from napari_msankd.datasets.layer_pairs import (
    LayerPair,
    LayerRow,
    fits,
    is_result,
    matched,
    other_grid,
    resampled,
)
from napari_msankd.datasets.selection import (
    ROLES,
    Dataset,
    FolderDataset,
    LayerDataset,
    Masks,
    Unmasked,
)
from napari_msankd.datasets.summary import DatasetSummary, WithoutMask, inspect
from napari_msankd.layers import add_layer, as_labels, placement
from napari_msankd.masks import is_mask_like
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from src_training.data.summary import Finding
    from src_training.io.volumes.grid import ResampledMask

    Resampling = tuple[Image, Labels, NDArray[Any], ResampledMask]


@dataclass(eq=False)
class DatasetState:
    """Choice of a dataset, open layers or a folder, and its summary.

    Attributes
    ----------
    masks
        Purpose of the images.
    folder
        The chosen folder; None for layers.
    rows
        Open image layers.
    exclude
        Cases and files of the folder to leave out.
    unmasked
        Treatment of images without a mask, if masks are required.
    resample_masks
        Whether to resample masks of the folder to the grid of their image.
    class_values
        Stored values of each class of the folder; None to detect them in the masks.
    channels, channel
        Channels of each case of the folder, if it has several, and the chosen one.
    angle
        Field of view of the fundus camera, degrees; None if unknown.
    summary
        Summary of the cases read so far.
    reading
        Whether the dataset is being read.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()
    masks: Masks = "required"
    folder: Path | None = None
    rows: tuple[LayerRow, ...] = ()
    exclude: tuple[str, ...] = ()
    unmasked: Unmasked = "error"
    resample_masks: bool = False
    class_values: dict[str, int | list[int]] | None = None
    channels: tuple[str, ...] = ()
    channel: str | None = None
    angle: float | None = None
    summary: DatasetSummary = field(default_factory=DatasetSummary)
    reading: bool = False

    def __post_init__(self) -> None:
        self._dataset: Dataset | None = None
        # All by `unique_id` of layers.
        self._ticked: dict[str, bool] = {}
        self._paired: dict[str, str | None] = {}
        self._mask_like: dict[str, tuple[int, bool]] = {}
        self._resampled: dict[str, str] = {}

    @property
    def chosen(self) -> tuple[LayerRow, ...]:
        """Rows of the ticked images; empty for a folder."""
        return () if self.folder is not None else tuple(row for row in self.rows if row.ticked)

    @property
    def mask_images(self) -> tuple["Image", ...]:
        """Image layers that look like masks and are not ticked."""
        if self.folder is not None or self.masks == "unused":
            return ()
        return tuple(row.image for row in self.rows if row.mask_like and not row.ticked)

    def update_layers(self, viewer: "ViewerModel") -> None:
        """Update the rows from the viewer; the user's ticks and pairs are kept."""
        from napari.layers import Image, Labels

        images = [layer for layer in viewer.layers if isinstance(layer, Image)]
        labels = [
            layer
            for layer in viewer.layers
            if isinstance(layer, Labels) and "preview" not in layer.metadata.get("msankd", {})
        ]
        by_id = {layer.unique_id: layer for layer in labels}
        pairs = [
            by_id.get(self._paired[image.unique_id] or "")
            if image.unique_id in self._paired
            else guess
            for image, guess in zip(images, matched(images, labels), strict=True)
        ]
        self._tick_unlabelled(images, pairs)
        self.rows = tuple(
            LayerRow(
                image,
                image.name,
                mask,
                None if mask is None else mask.name,
                tuple(layer for layer in labels if fits(image, layer)),
                # Predictions are not masks to train on, unless the user ticks them.
                self._ticked.get(image.unique_id, mask is not None and not is_result(mask)),
                self._looks_like_mask(image),
            )
            for image, mask in zip(images, pairs, strict=True)
        )

    def tick(self, image: "Image", ticked: bool) -> None:
        """Include an image in the dataset, or exclude it."""
        self._ticked[image.unique_id] = ticked
        self.rows = tuple(
            replace(row, ticked=ticked) if row.image is image else row for row in self.rows
        )

    def pair(self, image: "Image", labels: "Labels | None") -> None:
        """Set the Labels layer that is the mask of an image, or None."""
        self._paired[image.unique_id] = None if labels is None else labels.unique_id
        name = None if labels is None else labels.name
        self.rows = tuple(
            replace(row, labels=labels, labels_name=name) if row.image is image else row
            for row in self.rows
        )
        if labels is not None and self.masks == "required":
            # Choosing a mask implies that the user wants the image.
            self.tick(image, True)

    def use_as_labels(self, viewer: "ViewerModel") -> None:
        """Turn the `mask_images` into Labels layers.

        Raises
        ------
        InputError
            If one is not a mask.
        """
        for image in self.mask_images:
            as_labels(viewer, image)
        self.update_layers(viewer)

    def choose_folder(self, folder: Path | None) -> None:
        """Choose a folder, or the open layers if None, without exclusions."""
        if folder != self.folder:
            self.include_all()
            self.channels, self.channel = (), None
            self.folder = folder

    def choose_channel(self, channel: str) -> None:
        """Choose the channel of each case of the folder."""
        self.channel = channel

    def leave_out(self) -> None:
        """Exclude all cases and files with problems."""
        summary = self.summary
        self.exclude = (*self.exclude, *summary.faulty)
        if summary.without_masks and self.unmasked == "error":
            self.unmasked = "exclude"

    def read_otherwise(self) -> None:
        """Read the masks of the folder by the alternative class values."""
        self.class_values = dict(self.summary.other_values or {}) or None

    def use_without_masks(self) -> None:
        """Use images without a mask as unlabelled ones."""
        self.unmasked = "unlabelled"

    def include_all(self) -> None:
        """Reset all exclusions and changes to the reading of masks."""
        self.exclude, self.unmasked, self.resample_masks = (), "error", False
        self.class_values = None

    def resample(self) -> Iterator["Resampling"] | None:
        """Resample masks whose grid differs from that of their image.

        Returns
        -------
        iterator or None
            For layers, an iterator to advance in a worker, with items for `add_resampled`.
            None for a folder, whose masks are resampled on reading.
        """
        if self.folder is None:
            pairs = [(row.image, row.labels) for row in self._on_other_grids]
            return ((*pair, *resampled(*pair)) for pair in pairs)
        self.resample_masks = True
        return None

    def add_resampled(self, viewer: "ViewerModel", item: "Resampling") -> None:
        """Add the resampled labels of an item as a layer, the mask of its image."""
        image, labels, data, how = item
        attributes = {"name": f"{labels.name} resampled", **placement(image)}
        layer = add_layer(viewer, data, attributes, "labels")
        self._resampled[layer.unique_id] = f"{layer.name!r} is {how}."
        self.pair(image, layer)

    def begin(self, viewer: "ViewerModel") -> Iterator["Finding | WithoutMask | int"] | None:
        """Start to read the chosen dataset.

        Returns
        -------
        iterator or None
            Iterator to advance in a worker, with items for `add`; call `finish` at the end.
            None if nothing is chosen or it is invalid.
        """
        self.update_layers(viewer)
        self.summary = DatasetSummary(self.masks)
        self._dataset, self.reading = None, False
        try:
            self._dataset = self._choose()
        except InputError as error:
            self.fail(str(error))
        if self._dataset is None:
            return None
        self.reading = True
        self.summary.note(
            self._resampled[row.labels.unique_id]
            for row in self.chosen
            if row.labels is not None and row.labels.unique_id in self._resampled
        )
        for row in self.chosen:
            notes = row.labels.metadata.get("mask_notes", ()) if row.labels else ()
            self.summary.note(f"{row.labels_name}: {note}" for note in notes)
        return inspect(self._dataset, self.masks)

    def add(self, finding: "Finding | WithoutMask | int") -> None:
        """Add an item of the iterator of `begin` to the summary."""
        self.summary.add(finding)

    def finish(self) -> None:
        """Complete the summary at the end of reading."""
        self.channels = self.summary.channels or self.channels
        self.summary.close(self.exclude, self.unmasked)
        self.reading = False

    def fail(self, sentence: str) -> None:
        """Stop with an error."""
        self._dataset = None
        self.summary.fail(sentence)
        self.reading = False

    def stop(self) -> None:
        """Stop reading, and discard the dataset."""
        self._dataset = None
        self.reading = False

    def value(self) -> Dataset | None:
        """The dataset; None while it is read, or if it cannot be used."""
        if self._dataset is None or self.reading or not self.summary.usable:
            return None
        return replace(self._dataset, angle=None if self.summary.volumes else self.angle)

    @property
    def text(self) -> str:
        """Summary of the dataset, or a hint what to do."""
        if self.reading:
            return self.summary.progress
        if self._dataset is not None or self.summary.problems:
            return self.summary.text
        if not self.rows:
            what = "Open images and paint Labels on them" if self._needs_masks else "Open images"
            return f"No image is open. {what}, or choose or drop a folder."
        if self.mask_images:
            return "No image is ticked. Some image layers look like masks."
        hint = "Paint Labels on an image, or tick it." if self._needs_masks else "Tick one."
        return f"No image is ticked. {hint}"

    @property
    def problems(self) -> tuple[str, ...]:
        """Problems and skipped files, with paths relative to the folder."""
        prefix = "" if self.folder is None else f"{self.folder}{os.sep}"
        return tuple(problem.replace(prefix, "") for problem in self.summary.problems)

    @property
    def leave_out_text(self) -> str:
        """Text of the button that excludes problems; empty hides it."""
        count = 0 if self.reading else self.summary.blocking
        return f"Leave {f'these {count:,}' if count > 1 else 'it'} out" if count else ""

    @property
    def use_text(self) -> str:
        """Text of the button that uses images without a mask; empty hides it."""
        count = self.summary.without_masks
        if self.reading or not count or not self.summary.classes or self.unmasked == "unlabelled":
            return ""
        images = f"the {count:,} images" if count > 1 else "the image"
        return f"Use {images} without masks too"

    @property
    def include_text(self) -> str:
        """Text of the button that resets exclusions; empty hides it."""
        if self.exclude or self.unmasked != "error":
            return "Use all files again"
        if self.class_values:
            return "Read masks as before"
        return "Do not resample masks" if self.resample_masks else ""

    @property
    def reading_text(self) -> str:
        """Text of the button that reads masks by other class values; empty hides it."""
        return "" if self.reading or self.folder is None else self.summary.other_reading

    @property
    def resample_text(self) -> str:
        """Text of the button that resamples masks; empty hides it."""
        count = len(self._on_other_grids) if self.folder is None else self.summary.on_other_grids
        if self.reading or not count:
            return ""
        return f"Resample {f'{count:,} masks to their images' if count > 1 else 'it to its image'}"

    @property
    def _on_other_grids(self) -> list[LayerRow]:
        return [row for row in self.chosen if row.labels and other_grid(row.image, row.labels)]

    @property
    def labels_text(self) -> str:
        """Text of the button that converts mask images to Labels layers; empty hides it."""
        images = self.mask_images
        if not images:
            return ""
        what = repr(images[0].name) if len(images) == 1 else f"{len(images)} mask images"
        return f"Use {what} as labels"

    @property
    def empty(self) -> bool:
        """Whether there is nothing to choose from, so that a sample is offered."""
        return self.folder is None and not self.rows and self._needs_masks

    @property
    def _needs_masks(self) -> bool:
        return self.masks == "required"

    def _choose(self) -> Dataset | None:
        if self.folder is not None:
            return FolderDataset(
                self.folder,
                exclude=self.exclude,
                unmasked=self.unmasked,
                resample_masks=self.resample_masks,
                class_values=self.class_values,
                channel=self.channel,
            )
        pairs = tuple(LayerPair.of(row.image, row.labels) for row in self.chosen)
        name = common_name([pair.image.name for pair in pairs])
        role = ROLES[self.masks]
        return LayerDataset(name, pairs, role, unmasked=self.unmasked) if pairs else None

    def _tick_unlabelled(
        self, images: Sequence["Image"], labels: Sequence["Labels | None"]
    ) -> None:
        """If masks are not required, tick the first images: those without a mask, else all."""
        if self._needs_masks:
            return
        first, only_unlabelled = not self._ticked, None in labels
        for image, mask in zip(images, labels, strict=True):
            tick = first and (mask is None or not only_unlabelled)
            self._ticked.setdefault(image.unique_id, tick and not self._looks_like_mask(image))

    def _looks_like_mask(self, image: "Image") -> bool:
        cached = self._mask_like.get(image.unique_id)
        if cached is None or cached[0] != id(image.data):
            cached = id(image.data), "msankd" not in image.metadata and is_mask_like(image)
            self._mask_like[image.unique_id] = cached
        return cached[1]


def common_name(names: Sequence[str]) -> str:
    """The common prefix of names of layers.

    >>> common_name(["eye 1", "eye 2"]), common_name(["left", "right"])
    ('eye', 'layers')
    """
    if len(names) == 1:
        return names[0]
    prefix: Any = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in prefix).rstrip(" _-[(.0123456789") or "layers"
