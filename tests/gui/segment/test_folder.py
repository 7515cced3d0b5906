"""The Segment folder dialog: written files, order, resuming, and opening results."""

from threading import Event

import numpy as np
import pytest
from napari.components import ViewerModel
from PIL import Image

from napari_msankd.segment.folder import steps
from napari_msankd.segment.folder.dialog import FolderDialog
from napari_msankd.segment.folder.state import FolderState, default_out
from src_training.cli.triage import triage
from src_training.errors import InputError
from src_training.inference.predictor import Predictor
from src_training.io.images import read_image, write_image
from tests.gui.conftest import PATIENCE


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 48, 3), np.uint8)
        Image.fromarray((pixels * (1 - 0.3 * number)).astype(np.uint8)).save(
            folder / f"{number}.png"
        )
    return folder


@pytest.fixture
def state(photos, model):
    made = FolderState(model=model)
    made.choose_folder(photos)
    return made


@pytest.fixture
def dialog(widget, viewer, state, own_preferences, qtbot):
    made = FolderDialog(viewer, state, own_preferences, widget)
    yield made
    made.end()
    qtbot.waitUntil(lambda: not made.workers, timeout=PATIENCE)


@pytest.fixture
def finished(dialog, qtbot):
    """Press Start and wait for the end."""

    def press():
        dialog.start.click()
        qtbot.waitUntil(lambda: not dialog.state.running, timeout=PATIENCE)

    return press


def open_row(dialog, row, qtbot):
    dialog.table.clicked.emit(dialog.table.model().index(row, 0))
    qtbot.waitUntil(lambda: "open" not in dialog.workers, timeout=PATIENCE)


def test_the_output_lies_beside_the_images(photos, tmp_path):
    state = FolderState()
    state.choose_folder(photos)
    assert state.out == tmp_path / "photos-segmented" == default_out(photos)
    state.out = tmp_path / "mine"
    state.choose_folder(tmp_path)
    assert state.out == tmp_path / "mine"


def test_what_is_missing_is_said(photos, model):
    state = FolderState()
    with pytest.raises(InputError, match="No folder is chosen"):
        state.request("cpu")
    state.choose_folder(photos)
    with pytest.raises(InputError, match="Select a model first"):
        state.request("cpu")
    state.model, state.out = model, photos
    with pytest.raises(InputError, match="expected another folder for the labels"):
        state.request("cpu")


def test_a_folder_is_segmented_as_the_command_does(
    dialog, finished, state, photos, model, tmp_path
):
    finished()
    out = tmp_path / "command"
    triage(photos, model=model, out_dir=out, device="cpu")
    assert (state.out / "triage.csv").read_text() == (out / "triage.csv").read_text()
    assert (state.out / "review.txt").read_text() == (out / "review.txt").read_text()
    ranked = [line.split(",")[2] for line in (out / "triage.csv").read_text().splitlines()[1:]]
    assert [*dialog.table.files] == [name.split("/")[-1] for name in ranked]
    assert "✓ 3 of 3 files are segmented; 1 to review." in dialog.status.text()
    assert dialog.report.isEnabled()


def test_a_row_opens_the_image_with_its_labels(dialog, finished, viewer, state, qtbot):
    finished()
    open_row(dialog, 0, qtbot)
    image, labels = viewer.layers
    name = dialog.table.files[0]
    assert np.array_equal(image.data, read_image(state.folder / name)) and image.rgb
    written = read_image(state.out / "labels" / name)
    assert np.array_equal(labels.data, written)
    record = labels.metadata["msankd"]
    assert labels.features["expected Dice"][1] == record["expected_dice"]["value"]
    open_row(dialog, 1, qtbot)
    assert len(viewer.layers) == 2 and image not in viewer.layers


def test_labels_that_were_painted_on_stay_open(dialog, finished, viewer, qtbot):
    finished()
    open_row(dialog, 0, qtbot)
    labels = viewer.layers[1]
    labels.data_setitem((np.array([1]), np.array([2])), 1 - labels.data[1, 2])
    open_row(dialog, 1, qtbot)
    assert labels in viewer.layers and len(viewer.layers) == 4
    open_row(dialog, 0, qtbot)
    assert labels in viewer.layers and len(viewer.layers) == 4


def test_a_second_start_segments_what_is_new(dialog, finished, photos, monkeypatch, qtbot):
    finished()
    seen, predict = [], Predictor.predict

    def counted(*args, **options):
        seen.append(1)
        return predict(*args, **options)

    monkeypatch.setattr(Predictor, "predict", counted)
    write_image(photos / "new.png", np.full((40, 48, 3), 90, np.uint8) + np.uint8(1))
    finished()
    assert len(seen) == 1 and dialog.state.progress.before == 3
    assert len(dialog.table.files) == 4


def test_a_stop_leaves_what_is_done(dialog, state, monkeypatch, qtbot):
    going, one, second = Event(), Event(), Event()
    predict = Predictor.predict

    def held(*args, **options):
        if one.is_set():
            second.set()
            going.wait(PATIENCE / 1000)
        one.set()
        return predict(*args, **options)

    monkeypatch.setattr(Predictor, "predict", held)
    dialog.start.click()
    qtbot.waitUntil(second.is_set, timeout=PATIENCE)
    dialog.stop.click()
    going.set()
    qtbot.waitUntil(lambda: not state.running, timeout=PATIENCE)
    assert "Start resumes" in dialog.status.text()
    assert len(dialog.table.files) == 2 == len([*(state.out / "labels").iterdir()])
    dialog.start.click()
    qtbot.waitUntil(lambda: not state.running, timeout=PATIENCE)
    assert len(dialog.table.files) == 3 and state.progress.before == 2


def test_a_file_that_fails_comes_first_and_says_why(dialog, finished, photos, viewer, qtbot):
    (photos / "broken.png").write_bytes(b"no png")
    finished()
    assert dialog.table.files[0] == "broken.png"
    assert "1 could not be segmented" in dialog.status.text()
    assert dialog.table.model().index(0, 2).data().startswith("broken.png cannot be read")
    open_row(dialog, 0, qtbot)
    assert "broken.png" in dialog.status.text() and len(viewer.layers) == 0


def test_another_model_asks_for_another_folder(dialog, finished, state, tmp_path, model):
    finished()
    from tests.gui.conftest import make_model

    state.model = make_model(tmp_path / "other.safetensors", threshold=0.4)
    finished()
    assert "expected the same, or another folder" in dialog.status.text()


def test_a_stack_opens_with_its_slices(dialog, photos, state, viewer, finished, qtbot):
    for file in photos.iterdir():
        file.unlink()
    stack = np.random.default_rng(3).random((3, 32, 40)).astype(np.float32)
    import tifffile

    tifffile.imwrite(photos / "stack.tif", stack, photometric="minisblack")
    finished()
    open_row(dialog, 0, qtbot)
    assert [np.asarray(each.data).shape for each in viewer.layers] == [stack.shape] * 2
    assert steps.VOLUME in viewer.layers[1].metadata


def test_the_button_takes_the_choices_along(widget, viewer, model):
    assert isinstance(viewer, ViewerModel)
    widget.state.set_angle(45)
    dialog = widget.open_folder()
    assert dialog.model.path == model and dialog.camera.angle == 45
    dialog.close()
