"""The plugin's manifest in napari."""

import numpy as np
import pytest

from napari_msankd import commands, sample_data
from napari_msankd.__main__ import has_display, main
from napari_msankd.headless import overlay, segment_sample
from napari_msankd.settings import Preferences, new_model_file, preferences

from .conftest import PATIENCE


def test_every_command_of_the_manifest_can_be_imported(manifest):
    from importlib import import_module

    for command in manifest.contributions.commands:
        assert command.id.startswith("napari-msankd.")
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name))


def test_commands_have_a_verb_as_title_and_a_short_title(manifest):
    from app_model.expressions import parse_expression
    from napari._app_model.context import LayerListSelectionContextKeys

    known = {name for name in dir(LayerListSelectionContextKeys) if not name.startswith("_")}
    for command in manifest.contributions.commands:
        assert command.short_title and len(command.short_title) < len(command.title)
        verb = command.title.split()[0]
        assert verb in {"Segment", "Train", "Compare", "Open", "Write"}
        if command.enablement:
            assert parse_expression(command.enablement).eval(dict.fromkeys(known, 1)) in (0, 1)


def test_the_plugin_has_an_icon_and_a_category(manifest):
    from importlib.resources import files

    package, name = manifest.icon.split(":")
    assert (files(package) / name).is_file()
    assert "Segmentation" in manifest.categories


@pytest.mark.parametrize(
    "sample", [sample_data.fundus_a, sample_data.fundus_b, sample_data.fundus_c]
)
def test_a_sample_is_an_image_and_its_vessels(sample):
    (image, shown, kind), (mask, _, truth) = sample()
    assert (kind, truth) == ("image", "labels")
    assert shown["rgb"]
    assert image.shape == (*mask.shape, 3)
    assert image.dtype == np.uint8
    assert 0.02 < mask.mean() < 0.3


def test_the_samples_open_from_the_menu(viewer, npe2pm, manifest):
    npe2pm.register(manifest)
    opened = viewer.open_sample("napari-msankd", "fundus_a")
    assert [type(layer).__name__ for layer in opened] == ["Image", "Labels"]


def test_preferences_are_those_of_napari(plugin_settings, npe2pm, manifest):
    from napari.settings import get_plugin_settings

    assert preferences() == Preferences()
    npe2pm.register(manifest)
    assert preferences() == Preferences()
    get_plugin_settings("napari-msankd").segment.memory_limit = 12
    assert preferences().memory_limit == 12 * 10**6


def test_the_current_slice_command_opens_the_widget_and_runs(
    make_napari_viewer, npe2pm, manifest, model, stack, monkeypatch, qtbot
):
    npe2pm.register(manifest)
    monkeypatch.setattr("src_training.runs.library.shipped_models", lambda: {model.stem: model})
    viewer = make_napari_viewer()
    viewer.add_image(stack)
    viewer.dims.set_point(0, 1)
    widget = commands.segment_current_slice(viewer)
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert widget.result.data.shape == (1, 32, 40)
    assert commands.segment_current_slice(viewer) is widget
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    widget.end()


def test_without_a_display_the_sample_goes_to_files(tmp_path, monkeypatch, model, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("napari_msankd.headless.shipped_models", lambda: {model.stem: model})
    assert not has_display()
    assert main() == 0
    written = sorted(path.name for path in (tmp_path / "sample_output").iterdir())
    assert written == ["fundus.png", "labels.png", "overlay.png"]
    assert "no display" in capsys.readouterr().out.splitlines()[0]


def test_without_a_model_one_sentence_is_said(tmp_path, monkeypatch):
    from src_training.errors import InputError

    monkeypatch.setattr("napari_msankd.headless.shipped_models", dict)
    with pytest.raises(InputError, match="No model ships"):
        segment_sample(tmp_path)


def test_an_overlay_changes_the_foreground_only():
    image = np.full((4, 5, 3), 100, np.uint8)
    labels = np.zeros((4, 5), np.uint8)
    labels[1, 2] = 1
    changed = (overlay(image, labels) != image).any(-1)
    assert np.array_equal(changed, labels == 1)


def test_preferences_of_runs_come_from_the_manifest(manifest, monkeypatch, tmp_path):
    from types import SimpleNamespace

    from napari_msankd import settings

    chosen = {
        section.removeprefix("napari-msankd."): SimpleNamespace(
            **{name: found.default for name, found in configuration.properties.items()}
        )
        for section, configuration in manifest.contributions.configurations.items()
    }
    plugin = SimpleNamespace(**chosen)
    monkeypatch.setattr(settings, "get_plugin_settings", lambda _name: plugin)
    assert settings.preferences() == settings.Preferences()
    plugin.distil.runs = str(tmp_path / "mine")
    settings.remember_on_close("leave")
    assert settings.preferences().runs == tmp_path / "mine"
    assert settings.preferences().on_close == "leave"


def test_the_ct_sample_has_its_spacing_in_mm(viewer):
    from napari.layers import Layer

    image, liver = (viewer.add_layer(Layer.create(*each)) for each in sample_data.abdomen_ct())
    assert image.data.shape == liver.data.shape and liver.data.any()
    assert tuple(image.scale) == tuple(liver.scale) == (4.0, 1.8, 1.8)
    assert {str(unit) for unit in image.units} == {"millimeter"}


def test_a_new_model_file_takes_the_place_of_none(tmp_path, monkeypatch):
    monkeypatch.setenv("MSANKD_MODELS", str(tmp_path / "models"))
    first = new_model_file("mine")
    assert first == tmp_path / "models" / "mine.safetensors"
    first.touch()
    assert new_model_file("mine").name == "mine-2.safetensors"
