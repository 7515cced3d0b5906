"""A segmentation model from elsewhere: an ONNX file, what it takes, and what it returns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from src_training.errors import InputError
from src_training.io.yaml_json import parse_json, parse_yaml

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml")
"""Names of the file that describes a bioimage.io folder."""


class ExternalPreprocessing(BaseModel):
    """From a prepared image, whose values lie in [0, 1], to the input of a model from elsewhere.

    Attributes
    ----------
    channels
        That it takes. One channel is repeated; colours are averaged to one.
    values
        What 0 and 1 of a prepared image are in the values that it was trained on: ``[0, 255]``
        for photographs, the window in HU for CT.
    normalise
        What follows. ``fixed``: minus `mean`, over `std`. ``image``: minus the mean of each
        image, over its standard deviation. ``percentiles``: each image from its percentiles to
        [0, 1].
    mean, std
        Of ``fixed``, one for each channel, or one for all.
    percentiles
        Of ``percentiles``.
    scale
        How many times as large its input is as a prepared image; 2 for a model that was
        trained on images twice as large.
    multiple
        Its input's sides are multiples of it, pixels; edges are repeated up to there.
    side
        Side of its input, pixels, where that is fixed: larger images are cut into such squares.
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
            for name, found in (("mean", self.mean), ("std", self.std)):
                if len(found) not in (1, self.channels):
                    raise ValueError(
                        f"{name} has {len(found)} values; expected one for all channels, or one "
                        f"for each of {self.channels}"
                    )
            if min(self.std) <= 0:
                raise ValueError(f"std is {min(self.std):g}; expected more than 0")
        return self


class ExternalModel(BaseModel):
    """A segmentation model from elsewhere.

    Attributes
    ----------
    file
        An ONNX file; or a bioimage.io folder that has one, whose description fills in what is
        not given. A relative path counts from the recipe's folder.
    preprocessing
        From a prepared image to its input.
    output
        What it returns. ``logits``: their softmax over the channels are probabilities.
        ``probabilities``. ``sigmoid``: logits, the sigmoid of each is a probability of its own.
    classes
        Name of the class of each output channel, as in the masks; others count as background. If
        missing, the channels are the classes in their order, the background first, or left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    file: str
    preprocessing: ExternalPreprocessing = ExternalPreprocessing()
    output: Literal["logits", "probabilities", "sigmoid"]
    classes: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _as_described(cls, content: Any) -> Any:
        """Fill in what the file's own description says, where something is not given."""
        if not isinstance(content, dict) or not isinstance(content.get("file"), str):
            return content
        if content.keys() >= {"preprocessing", "output"} and content["file"].endswith(".onnx"):
            return content
        try:
            described = describe_model(Path(content["file"]))
        except InputError as error:
            raise ValueError(str(error)) from None
        given = content.get("preprocessing", {})
        merged = {**described, **content, "file": described["file"]}
        if "output" not in merged:
            raise ValueError(
                f"output of {Path(merged['file']).name} is missing, and the file does not say it; "
                "expected logits, probabilities or sigmoid"
            )
        if isinstance(given, Mapping):
            merged["preprocessing"] = {**described.get("preprocessing", {}), **given}
        return merged


def describe_model(file: Path) -> dict[str, Any]:
    """What is known of a model from elsewhere: fields of `ExternalModel`, its `file` at least.

    Parameters
    ----------
    file
        An ONNX file, a bioimage.io folder, or the description in it.

    Raises
    ------
    InputError
        If there is no such file, or the folder has no ONNX, or a step that cannot be followed.
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
    """What the metadata of a graph say that this package exported."""
    try:
        import onnxruntime

        metadata = onnxruntime.InferenceSession(
            str(file), providers=["CPUExecutionProvider"]
        ).get_modelmeta()
        card = metadata.custom_metadata_map.get("msankd")
    except Exception:  # whatever is wrong with it is said when it is opened
        return {}
    return _of_card(parse_json(card)) if card else {}


def _of_card(card: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "preprocessing": {"channels": card["in_channels"], "multiple": 1},
        "output": "probabilities",
        "classes": card["classes"],
    }


def _of_description(content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Fields of `ExternalModel` from a description of bioimage.io, version 0.4 or 0.5."""
    weights = content["weights"]
    if "onnx" not in weights:
        raise InputError(f"{file}: its weights are {', '.join(weights)}; expected onnx among them")
    source = weights["onnx"]["source"]
    found: dict[str, Any] = {"file": str(file.parent / Path(str(source)).name)}
    if isinstance(card := content.get("config", {}).get("msankd"), Mapping):
        return found | _of_card(card)
    taken, returned = content["inputs"][0], content["outputs"][0]
    found["preprocessing"] = _axes(taken, file) | _steps(taken.get("preprocessing") or [], file)
    after = {_name(step) for step in returned.get("postprocessing") or []}
    span = (returned.get("data") or {}).get("range") or returned.get("data_range") or [None, None]
    if "sigmoid" in after:
        found["output"] = "sigmoid"
    elif "softmax" in after:
        found["output"] = "logits"
    elif list(span) == [0, 1]:
        found["output"] = "probabilities"
    names = _channel_names(returned)
    return found | ({"classes": names} if len(names) > 1 else {})


def _name(step: Mapping[str, Any]) -> str:
    return str(step.get("id") or step.get("name"))


def _axes(tensor: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Channels and sides of an input."""
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
    """`ExternalPreprocessing` of the steps that bioimage.io names."""
    found: dict[str, Any] = {}
    names = [_name(step) for step in steps]
    for step in steps:
        options = step.get("kwargs") or {}
        match _name(step):
            case "ensure_dtype" | "clip":
                pass
            case "scale_linear" if "clip" in names:
                pass  # to [0, 1], as a prepared image is already
            case "zero_mean_unit_variance":
                found["normalise"] = "image"
            case "scale_range":
                ends = options.get("min_percentile", 0.0), options.get("max_percentile", 100.0)
                found |= {"normalise": "percentiles", "percentiles": ends}
            case "fixed_zero_mean_unit_variance":
                mean, std = (
                    value if isinstance(value, list) else [value]
                    for value in (options["mean"], options["std"])
                )
                found |= {"normalise": "fixed", "mean": mean, "std": std}
                # Means of values in [0, 1] do not exceed 1.
                found["values"] = (0.0, 255.0) if max(mean) > 1 else (0.0, 1.0)
            case other:
                raise InputError(
                    f"{file}: its preprocessing has the step {other}, which cannot be followed; "
                    "expected preprocessing in the recipe beside the ONNX file itself"
                )
    return found
