"""The command ``msankd triage``: finds the images of a folder that need a review."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from src_training.cli import console
from src_training.cli.console import Angle, Device, Flips, Model
from src_training.cli.segment import check_threshold, find_inputs
from src_training.errors import InputError

_MAX_ROWS = 10
"""Maximum number of files in the printed table."""


def triage(
    folder: Annotated[Path, Parameter(help="Folder of images, stacks or volumes.")],
    *,
    model: Model,
    out_dir: Annotated[Path, Parameter(name="--out", help="Folder for labels, table and page.")],
    review: Annotated[
        float, Parameter(help="Share of the files to review; those with a remark always are.")
    ] = 0.2,
    angle: Angle = None,
    flips: Flips = False,
    threshold: Annotated[float | None, Parameter(help="Instead of the model's own.")] = None,
    workers: Annotated[int, Parameter(help="Processes to segment in.")] = 1,
    device: Device = "auto",
) -> None:
    """Segment a folder, and sort it by the Dice that the labels are expected to have.

    Writes labels/, triage.csv, triage.html with thumbnails, 200 files a page, and review.txt,
    the files that a person should look at, the worst first. What is done is not done again: the
    same command resumes, and segments what is new or has changed. For example:

    ```
    msankd triage photos/ --model vessels --angle 45 --out triaged
    ```
    """
    from src_training.cli.progress import counted
    from src_training.evaluation.quality.triage import LABELS, TriageJob, segmented_image
    from src_training.evaluation.quality.triage import triage as triage_files
    from src_training.inference.model_file import load_model
    from src_training.reports.triage import TriageEntry, write_triage

    if not 0 <= review <= 1:
        raise InputError(f"--review is {review:g}; expected a share from 0 to 1")
    if workers < 1:
        raise InputError(f"--workers is {workers}; expected at least 1")
    console.require_folder(out_dir)
    inputs = find_inputs([folder], out_dir / LABELS, {"--angle": angle is not None})
    targets = inputs.images | inputs.targets
    loaded = load_model(model).for_camera(angle)
    assert loaded.source is not None and loaded.sha256 is not None
    job = TriageJob(loaded.sha256, flips, threshold, angle)
    card = loaded.card
    check_threshold(threshold, card.classes)
    entries, done_before = list[TriageEntry](), 0
    with counted(console.out, "segmenting", len(targets)) as advance:
        results = triage_files(targets, out_dir, loaded.source, job, device, workers)
        for result, was_done in results:
            entries.append(TriageEntry(result, segmented_image(result, card.quality)))
            done_before += was_done
            advance(result.file)
    to_review = write_triage(out_dir, entries, card.classes, card.quality, review)
    table = Table("file", "expected Dice", "remark", title="to review, the worst first")
    for each in to_review[:_MAX_ROWS]:
        value = "" if each.image is None else str(each.image.expected)
        table.add_row(Path(each.triaged.file).name, value, each.remark)
    console.print_table(table)
    again = f", {done_before:,} of them done before" if done_before else ""
    console.out.print(
        f"{len(entries):,} files{again}; {len(to_review):,} to review: {out_dir / 'triage.html'}, "
        f"{out_dir / 'triage.csv'} and {out_dir / 'review.txt'}",
        highlight=False,
        soft_wrap=True,
    )
    if inputs.faults or any(each.image is None for each in entries):
        raise SystemExit(1)
