"""From a photograph to labels and scores, as ratios to the bare pass of its network."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from napari_msankd.planes import Slicing
from napari_msankd.segment.probability_store import Result
from src_training.data.domain import Domain
from src_training.data.preprocessing.geometry import PADDING
from src_training.evaluation.evaluate import evaluate
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from src_training.io.images import read_image
from tests.bench.row import BenchRow, Rows, images, medians


def rows() -> Rows:
    """One photograph and one slice, with and without adaptation, and their scores."""
    torch.set_num_threads(1)
    data = images()
    hrf = read_image(data / "retina/hrf/images/01_h.jpg").repeat(2, 0).repeat(2, 1)
    vessels = (read_image(data / "retina/hrf/masks/01_h.png") > 0).repeat(2, 0).repeat(2, 1)
    chase = read_image(data / "retina/chasedb1/images/Image_11L.jpg")
    liver = read_image(min((data / "liver/msd_ct_slices/images").iterdir()))
    photograph = ("≤ 2.2", "≤ 1.2")
    yield from ratios("HRF", "vessels", None, hrf, photograph, "25 ×")
    yield from ratios("HRF at its camera's angle", "vessels", 45.0, hrf, photograph, "4.1 ×")
    yield from ratios("CHASE", "vessels", None, chase, photograph, "4.0 ×")
    yield from ratios("liver slice", "liver-msd", None, liver, ("≤ 2.5", ""), "6 ×")
    yield scoring(hrf, vessels)
    yield BenchRow("HRF: threshold moved, without the redraw", moved(hrf.shape[:2]), "ms", "≤ 60")


def ratios(
    what: str,
    model: str,
    angle: float | None,
    image: NDArray[np.generic],
    aims: tuple[str, str],
    before: str,
) -> Rows:
    """Segmenting an image, with and without adaptation, against the bare pass."""
    adapted, plain = (predictor_of(model, angle, each) for each in (True, False))
    took = medians(
        {
            "bare": bare_pass(plain, image),
            "adapted": segmenting(adapted, image),
            "plain": segmenting(plain, image),
        }
    )
    bare = took["bare"]
    yield BenchRow(f"{what}: adapted / bare pass", took["adapted"] / bare, "×", aims[0], before)
    yield BenchRow(f"{what}: not adapted / bare pass", took["plain"] / bare, "×", aims[1])


def scoring(image: NDArray[np.generic], mask: NDArray[np.bool_]) -> BenchRow:
    """Evaluating a photograph against segmenting it."""
    predictor = predictor_of("vessels", None, True)
    domain = Domain.from_arrays("hrf", [image], [mask.astype(np.uint8)])
    took = medians(
        {"segment": segmenting(predictor, image), "score": lambda: evaluate(predictor, domain)}
    )
    ratio = took["score"] / took["segment"]
    return BenchRow("HRF: evaluated / segmented", ratio, "×", "≤ 2", "2.1 ×")


def predictor_of(name: str, angle: float | None, adapted: bool) -> Predictor:
    """A shipped model's predictor."""
    model = load_model(name).for_camera(angle)
    if not adapted:
        model.card = model.card.model_copy(update={"bn_mixing": 0.0})
    return Predictor(model, "cpu")


def bare_pass(predictor: Predictor, image: NDArray[np.generic]) -> Callable[[], object]:
    """One pass of the network as it is stored over the prepared image."""
    network = predictor.model.network
    prepared = torch.from_numpy(predictor.model.card.preprocessing.prepare(image).pixels)
    stack = network.pad(F.pad(prepared[None], [PADDING] * 4))
    stack = stack.contiguous(memory_format=torch.channels_last)

    def work() -> object:
        with torch.inference_mode():
            return network(stack)

    return work


def segmenting(predictor: Predictor, image: NDArray[np.generic]) -> Callable[[], object]:
    """All that `msankd segment` does between reading and writing."""

    def work() -> object:
        fov = predictor.model.card.preprocessing.find_fov(image)
        maps = predictor.predict(image, fov)
        predictor.check(image, fov)
        return labels_from(maps, predictor.model.card.threshold_for(maps))

    return work


def moved(size: tuple[int, ...]) -> float:
    """Milliseconds of new labels and of the sums behind their expected Dice."""
    result = Result(Slicing(size), 2, 0.5)
    foreground = np.random.default_rng(0).random(size, np.float32)
    result.write((), (slice(0, size[0]), slice(0, size[1])), np.stack([1 - foreground, foreground]))
    result.finish(())

    def move() -> None:
        for _ in result.rethreshold(0.37, ()):
            pass
        result.sums(())

    return 1000 * medians({"move": move})["move"]
