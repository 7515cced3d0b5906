"""Description of an external segmentation model: an ONNX file, its inputs and its outputs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from src_training.errors import InputError
from src_training.io.yaml_json import parse_json, parse_yaml

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml")
"""Possible names of the description in a bioimage.io folder."""


class ExternalPreprocessing(BaseModel):
    """From a prepared image, with values in [0, 1], to the input of an external model.

    Attributes
    ----------
    channels
        Input channels of the model. A single channel is repeated; colours are averaged for one.
    values
        Values that 0 and 1 of a prepared image correspond to in the images that the model was
        trained on: ``[0, 255]`` for photographs, the window in HU for CT.
    normalise
        Normalisation. ``fixed``: minus `mean`, over `std`. ``image``: minus the mean of each
        image, over its standard deviation. ``percentiles``: each image from its percentiles to
        [0, 1].
    mean, std
        Mean and standard deviation for ``fixed``, one for each channel, or one for all.
    percentiles
        Lower and upper percentile for ``percentiles``.
    scale
        Size of the model's input relative to a prepared image; 2 for a model that was
        trained on images twice as large.
    multiple
        Number that the sides of the input have to be multiples of, pixels; images are padded by
        repeating their edges.
    side
        Side of the input, pixels, if that is fixed: larger images are cut into such squares.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    channels: Annotated[int, Field(ge=1, le=64)] = 1
    values: tuple[float, float] = (0.0, 1.0)
    normalise: Literal["none", "fixed", "image", "percentiles"] = "none"
    mean: list[float] = []
    std: list[float] = []
    percentiles: tuple[float, float] = (0.0, 100.0)
    scale: Annotated[float, Field(gt=0, le=16)] = 1.0
    multiple: Annotated[int, Field(ge=1, le=4096)] = 32
    side: Annotated[int | None, Field(ge=8, le=4096, title="Fixed side")] = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.normalise == "fixed":
            for name, values in (("mean", self.mean), ("std", self.std)):
                if len(values) not in (1, self.channels):
                    raise ValueError(
                        f"{name} has {len(values)} values; expected one for all channels, or one "
                        f"for each of {self.channels}"
                    )
            if min(self.std) <= 0:
                raise ValueError(f"std is {min(self.std):g}; expected more than 0")
        return self


class ExternalModel(BaseModel):
    """An external segmentation model.

    Attributes
    ----------
    file
        An ONNX file; or a bioimage.io folder with one, whose description fills in missing
        fields. A relative path is relative to the recipe's folder.
    preprocessing
        From a prepared image to the model's input.
    output
        Kind of output. ``logits``: their softmax over the channels gives probabilities.
        ``probabilities``. ``sigmoid``: the sigmoid of each channel gives its probability.
    classes
        Name of the class of each output channel, as in the masks; others count as background. If
        missing, the channels are the classes in their order, with or without the background.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    file: str
    preprocessing: ExternalPreprocessing = ExternalPreprocessing()
    output: Literal["logits", "probabilities", "sigmoid"]
    classes: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _as_described(cls, content: Any) -> Any:
        """Fill in missing fields from the file's own description."""
        if not isinstance(content, dict) or not isinstance(content.get("file"), str):
            return content
        if content.keys() >= {"preprocessing", "output"} and content["file"].endswith(".onnx"):
            return content
        try:
            description = describe_model(Path(content["file"]))
        except InputError as error:
            raise ValueError(str(error)) from None
        given = content.get("preprocessing", {})
        merged = {**description, **content, "file": description["file"]}
        if "output" not in merged:
            raise ValueError(
                f"output of {Path(merged['file']).name} is missing, and the file does not say it; "
                "expected logits, probabilities or sigmoid"
            )
        if isinstance(given, Mapping):
            merged["preprocessing"] = {**description.get("preprocessing", {}), **given}
        return merged


def describe_model(file: Path) -> dict[str, Any]:
    """Read the fields of `ExternalModel` that a file describes, at least `file` itself.

    Parameters
    ----------
    file
        An ONNX file, a bioimage.io folder, or the description in it.

    Raises
    ------
    InputError
        If there is no such file, the folder has no ONNX, or the description has an
        unsupported preprocessing step.
    """
    if file.is_dir():
        names = [name for name in DESCRIPTIONS if (file / name).is_file()]
        if not names:
            raise InputError(f"{file}: expected {' or '.join(DESCRIPTIONS)} in the folder")
        file = file / names[0]
    if not file.is_file():
        raise InputError(f"{file}: there is no such file; expected an ONNX file")
    if file.suffix not in (".yaml", ".yml"):
        return {"file": str(file)} | _of_graph(file)
    try:
        content = parse_yaml(file.read_bytes())
        return _of_description(content, file)
    except InputError:
        raise
    except (yaml.YAMLError, KeyError, TypeError, IndexError, ValueError, AttributeError):
        raise InputError(
            f"{file}: the description cannot be read; expected one of bioimage.io, or "
            "preprocessing, output and classes in the recipe beside the ONNX file itself"
        ) from None


def _of_graph(file: Path) -> dict[str, Any]:
    """Fields from the metadata of a graph, if this package exported it."""
    try:
        import onnxruntime

        metadata = onnxruntime.InferenceSession(
            str(file), providers=["CPUExecutionProvider"]
        ).get_modelmeta()
        card = metadata.custom_metadata_map.get("msankd")
    except Exception:  # an invalid file raises InputError when `OnnxNetwork` opens it
        return {}
    return _of_card(parse_json(card)) if card else {}


def _of_card(card: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "preprocessing": {"channels": card["in_channels"], "multiple": 1},
        "output": "probabilities",
        "classes": card["classes"],
    }


def _of_description(content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Fields of `ExternalModel` from a bioimage.io description, version 0.4 or 0.5."""
    weights = content["weights"]
    if "onnx" not in weights:
        raise InputError(f"{file}: its weights are {', '.join(weights)}; expected onnx among them")
    source = weights["onnx"]["source"]
    fields: dict[str, Any] = {"file": str(file.parent / Path(str(source)).name)}
    if isinstance(card := content.get("config", {}).get("msankd"), Mapping):
        return fields | _of_card(card)
    input_, output = content["inputs"][0], content["outputs"][0]
    fields["preprocessing"] = _axes(input_, file) | _steps(input_.get("preprocessing") or [], file)
    postprocessing = {_name(step) for step in output.get("postprocessing") or []}
    span = (output.get("data") or {}).get("range") or output.get("data_range") or [None, None]
    if "sigmoid" in postprocessing:
        fields["output"] = "sigmoid"
    elif "softmax" in postprocessing:
        fields["output"] = "logits"
    elif list(span) == [0, 1]:
        fields["output"] = "probabilities"
    names = _channel_names(output)
    return fields | ({"classes": names} if len(names) > 1 else {})


def _name(step: Mapping[str, Any]) -> str:
    return str(step.get("id") or step.get("name"))


def _axes(tensor: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """`channels`, and `multiple` or `side`, of an input tensor."""
    axes = tensor["axes"]
    if isinstance(axes, str):
        shape = tensor["shape"]
        least, step = (shape["min"], shape["step"]) if isinstance(shape, Mapping) else (shape, None)
        names, at = list(axes), {name: index for index, name in enumerate(axes)}
        channels = least[at["c"]] if "c" in at else 1
        sides = [(least[at[name]], step[at[name]] if step else 0) for name in "yx"]
    else:
        names = [str(axis.get("id") or axis["type"])[0] for axis in axes]
        channels = max(1, len(_channel_names(tensor)))
        sizes = [axis["size"] for axis in axes if str(axis.get("id")) in ("y", "x")]
        sides = [
            (each["min"], each["step"]) if isinstance(each, Mapping) else (each, 0)
            for each in sizes
        ]
    if "z" in names:
        raise InputError(f"{file}: its input has axes {''.join(names)}; expected a 2-D model")
    (least, step), *_ = sides
    return {"channels": channels} | ({"multiple": step} if step else {"side": least})


def _channel_names(tensor: Mapping[str, Any]) -> list[str]:
    axes = tensor["axes"]
    if isinstance(axes, str):
        return []
    named = (axis for axis in axes if "channel" in (axis.get("type"), axis.get("id")))
    return [str(name) for axis in named for name in axis.get("channel_names", [])]


def _steps(steps: list[Mapping[str, Any]], file: Path) -> dict[str, Any]:
    """Fields of `ExternalPreprocessing` for preprocessing steps of bioimage.io."""
    fields: dict[str, Any] = {}
    names = [_name(step) for step in steps]
    for step in steps:
        options = step.get("kwargs") or {}
        match _name(step):
            case "ensure_dtype" | "clip":
                pass
            case "scale_linear" if "clip" in names:
                pass  # prepared images are in [0, 1] already
            case "zero_mean_unit_variance":
                fields["normalise"] = "image"
            case "scale_range":
                ends = options.get("min_percentile", 0.0), options.get("max_percentile", 100.0)
                fields |= {"normalise": "percentiles", "percentiles": ends}
            case "fixed_zero_mean_unit_variance":
                mean, std = (
                    value if isinstance(value, list) else [value]
                    for value in (options["mean"], options["std"])
                )
                fields |= {"normalise": "fixed", "mean": mean, "std": std}
                # A mean above 1 shows that the model was trained on values in [0, 255].
                fields["values"] = (0.0, 255.0) if max(mean) > 1 else (0.0, 1.0)
            case other:
                raise InputError(
                    f"{file}: its preprocessing has the step {other}, which cannot be followed; "
                    "expected preprocessing in the recipe beside the ONNX file itself"
                )
    return fields
