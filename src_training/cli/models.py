"""Commands about models: ``models``, ``tune`` and ``export``."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from src_training.cli import console
from src_training.cli.console import Angles, Channel, Device, Json, Model, ResampleMasks
from src_training.cli.domains import ClassValues, domains_in
from src_training.errors import InputError


def models(
    *,
    runs_in: Annotated[
        list[Path] | None,
        Parameter(name="--runs", help="Folders of runs; by default ./runs and your own."),
    ] = None,
    models_in: Annotated[
        Path | None, Parameter(name="--models", help="Folder of model files; by default your own.")
    ] = None,
    json_file: Json = None,
) -> None:
    """List the models that ship, those of your finished runs, and your model files.

    Of the two students of a run, the better one has a star. ``MSANKD_RUNS`` and
    ``MSANKD_MODELS`` name other folders than your own.

    For example:

    ```
    msankd models
    msankd models --runs runs --models weights
    ```
    """
    from src_training.runs.library import Library, models_folder

    library = Library(console.runs_roots(runs_in), models_in or models_folder())
    table = Table("model", "segments", "network", "trained on", "Dice", "date", "file")
    entries, unreadable = library.list_models(), library.unreadable()
    for entry in entries:
        scores = (entry.validation_dice, entry.test_dice)
        table.add_row(
            f"{entry.title} ★" if entry.better else entry.title,
            ", ".join(entry.classes[1:]),
            entry.architecture,
            ", ".join(entry.sources),
            "\n".join(f"{dice:.3f} {domain}" for domain, dice in filter(None, scores)),
            entry.created[:10],
            entry.path.stem if entry.origin == "shipped" else str(entry.path),
        )
    folders = [*library.runs, library.models]
    screen = console.screen(json_file)
    console.print_table(table, screen)
    for problem in unreadable:
        console.err.print(problem, highlight=False, soft_wrap=True)
    screen.print(console.looked_in(folders), highlight=False, soft_wrap=True)
    listed = [{"title": entry.title, **asdict(entry)} for entry in entries]
    console.write_json(json_file, {"models": listed, "unreadable": unreadable, "folders": folders})


def tune(
    model: Model,
    *,
    domain: Annotated[Path, Parameter(help="Folder with images/ and masks/; two suffice.")],
    out_file: Annotated[Path, Parameter(name="--out", help="Model file to write.")],
    only: Annotated[
        str | None, Parameter(help="Cases whose whole name matches, a regular expression.")
    ] = None,
    expected_dice: Annotated[
        bool,
        Parameter(negative=(), help="Fit expected Dice alone, and leave all else as it is."),
    ] = False,
    angle: Angles = None,
    class_values: ClassValues = None,
    channel: Channel = None,
    resample_masks: ResampleMasks = False,
    device: Device = "auto",
) -> None:
    """Adapt a model to another scanner by a few labelled images, and write it as a new file.

    Threshold, calibration and batch-norm mixing are chosen anew, and how expected Dice is
    corrected; nothing is trained.

    For example:

    ```
    msankd tune vessels --domain data/ours --angle 45 --out ours.safetensors
    msankd tune old.safetensors --domain data/held-out --expected-dice --out new.safetensors
    ```
    """
    from src_training.evaluation.adaptation import adapt_to_domain, add_expected_dice
    from src_training.inference.model_file import load_model
    from src_training.inference.predictor import Predictor

    console.refuse_written(out_file)
    predictor = Predictor(load_model(model), device=device)
    [labelled] = domains_in(
        [domain],
        angle,
        masks="required",
        class_values=class_values,
        channel=channel,
        resample_masks=resample_masks,
    )
    if only is not None:
        try:
            names = [name for name in labelled.names if re.fullmatch(only, name)]
        except re.error as error:
            raise InputError(f"--only {only}: {error}; expected a regular expression") from None
        if not names:
            raise InputError(
                f"--only {only}: no case of {domain} matches; found {labelled.names[0]!r} "
                f"and {len(labelled) - 1} more"
            )
        labelled = labelled.subset(names)
    fit = add_expected_dice if expected_dice else adapt_to_domain
    with console.out.status("") as status:
        for sentence in fit(predictor, labelled, out_file):
            status.update(Text(sentence))
    console.written(out_file, sentence)


def export(
    model: Model,
    *,
    onnx: Annotated[Path | None, Parameter(help="ONNX file to write.")] = None,
    bioimageio: Annotated[Path | None, Parameter(help="bioimage.io folder to make.")] = None,
    sample: Annotated[
        Path | None, Parameter(help="Image that becomes the folder's test and cover.")
    ] = None,
) -> None:
    """Export a model to ONNX or bioimage.io, and check it against PyTorch.

    For example:

    ```
    msankd export vessels --onnx vessels.onnx
    msankd export runs/mine/model.safetensors --bioimageio vessels --sample photo.png
    ```
    """
    if onnx is None and bioimageio is None:
        raise InputError("export takes --onnx FILE or --bioimageio FOLDER; expected at least one")
    if sample is not None and bioimageio is None:
        raise InputError("--sample goes into a bioimage.io folder; expected --bioimageio with it")
    from src_training.export import OnnxCheck, export_bioimageio, export_onnx
    from src_training.inference.model_file import load_model
    from src_training.io.images import read_image

    loaded = load_model(model)
    image = None if sample is None else read_image(sample)
    written: dict[Path, OnnxCheck] = {}
    with console.out.status("exporting, and comparing with PyTorch"):
        if onnx is not None:
            written[onnx] = export_onnx(loaded, onnx)
        if bioimageio is not None:
            written[bioimageio] = export_bioimageio(loaded, bioimageio, image)
    for path, check in written.items():
        console.written(
            path, f"the probabilities are those of PyTorch within {check.largest_difference:.1e}"
        )
