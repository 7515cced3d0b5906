"""Contrastive graphs of samples, computed with the networks of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_msankd.explore.state import Sample
from napari_msankd.torch_import import gc_paused, preload

if TYPE_CHECKING:
    from napari_msankd.explore.extraction import Extraction
    from src_training.explore.view_graphs import BatchGraphs

FINAL = -1
"""Step that means the student of the best validation."""


class GraphSource:
    """Compute graphs, with a cache of networks and patches.

    Parameters
    ----------
    extraction
        Extraction with the samples.
    run
        Run with the networks.
    """

    def __init__(self, extraction: "Extraction", run: Path) -> None:
        self._extraction, self._run = extraction, run
        self._networks: Any = None
        self._patches: dict[Sample, Any] = {}
        self._students: dict[int, Any] = {}

    def steps(self) -> Iterator[list[int]]:
        """Yield the steps of the stage ``distil`` with a saved student; for a worker."""
        preload()
        with gc_paused():
            from src_training.runs.load import snapshots
        yield snapshots(self._run)

    def graphs(
        self, samples: Sequence[Sample], views: int, step: int = FINAL
    ) -> "Iterator[BatchGraphs]":
        """Yield the graphs of samples by the student of a step; for a worker.

        Raises
        ------
        InputError
            If the run's checkpoints are missing, or do not fit the samples.
        """
        preload()
        with gc_paused():
            from src_training.explore.view_graphs import view_graphs
            from src_training.runs.load import load_pair, load_snapshot

        if self._networks is None:
            self._networks = load_pair(self._run)
        if step != FINAL and step not in self._students:
            self._students[step] = load_snapshot(self._run, step)
        networks = self._networks
        if step != FINAL:
            networks = replace(networks, student=self._students[step])
        yield view_graphs(networks, [self._patch(sample) for sample in samples], views)

    def _patch(self, sample: Sample) -> Any:
        """Network input of a sample, (C, p, p)."""
        from src_training.data.prepared import prepare_cases
        from src_training.data.sampling import crop_patch

        if sample not in self._patches:
            domain = self._extraction.domains[sample.domain].subset([sample.case])
            [case] = prepare_cases(domain, self._networks.preprocessing)
            patch = crop_patch(case.image.pixels, sample.corner, self._networks.patch)
            self._patches[sample] = patch
        return self._patches[sample]


def batch_of(
    current: Sample, chosen: Sequence[Sample], known: Sequence[Sample], most: int
) -> list[Sample]:
    """The current sample, the selected ones, and others up to a batch of `most`.

    As in training, the mean over the batch is subtracted from the vectors.
    """
    patches = [sample for sample in known if sample.kind == "image" and sample.view == 0]
    fill = patches[:: max(1, len(patches) // most)]
    ordered = [current.patch, *sorted(sample.patch for sample in chosen), *fill]
    return list(dict.fromkeys(ordered))[:most]
