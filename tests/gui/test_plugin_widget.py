"""The three widgets share a tabbed sidebar, and are disconnected and deleted with their docks."""

import gc
import weakref

import pytest
from qtpy.QtWidgets import QDockWidget, QLabel, QMainWindow

from napari_msankd.widgets.plugin_widget import PluginWidget, open_widget

NAMES = ("Segment", "Train & distil", "Explore")


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


def dock_of(widget):
    dock = widget.parent()
    assert isinstance(dock, QDockWidget)
    return dock


def test_the_three_widgets_are_tabs_of_one_sidebar(viewer, qtbot):
    viewer.window.show()
    docks = [dock_of(open_widget(viewer, name)) for name in NAMES]
    window = docks[0].parent()
    assert isinstance(window, QMainWindow)
    qtbot.waitUntil(lambda: set(window.tabifiedDockWidgets(docks[0])) >= set(docks[1:]))
    titles = [
        [label.text() for label in dock.titleBarWidget().findChildren(QLabel)] for dock in docks
    ]
    assert titles == [[name] for name in NAMES]


def test_an_open_widget_is_used_again(viewer):
    first = open_widget(viewer, "Segment")
    assert open_widget(viewer, "Segment") is first
    viewer.window.remove_dock_widget(dock_of(first))
    assert open_widget(viewer, "Segment") is not first


def test_the_menu_and_the_plugin_open_the_same_widget(viewer):
    def choose(menu, title):
        menu.aboutToShow.emit()
        return next(action for action in menu.actions() if action.text().startswith(title))

    submenu = choose(viewer.window.plugins_menu, "MSANKD: cross-scanner segmentation").menu()
    choose(submenu, "Segment").trigger()
    [(title, widget)] = viewer.window.dock_widgets.items()
    assert open_widget(viewer, "Segment") is widget
    viewer.window.remove_dock_widget(dock_of(widget))
    open_widget(viewer, "Segment")
    assert list(viewer.window.dock_widgets) == [title]


def test_a_widget_hears_nothing_after_its_end(viewer, qtbot):
    heard = []
    widget = PluginWidget(viewer)
    widget.listen(viewer.layers.events.inserted, heard.append)
    viewer.window.add_dock_widget(widget, name="probe")
    viewer.add_points()
    assert len(heard) == 1
    viewer.window.remove_dock_widget(widget)
    viewer.add_points()
    assert widget.ended and len(heard) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_widget_is_gone(viewer, qtbot, name):
    widget = open_widget(viewer, name)
    gone = weakref.ref(widget)
    qtbot.wait(50)
    viewer.window.remove_dock_widget(dock_of(widget))
    del widget

    def collected():
        gc.collect()
        return gone() is None

    qtbot.waitUntil(collected, timeout=90_000)


def test_nothing_freezes_the_garbage_collector(qtbot):
    from napari_msankd.torch_import import gc_paused, preload

    before = gc.get_freeze_count()
    with gc_paused():
        assert not gc.isenabled()
    preload()
    assert gc.isenabled() and gc.get_freeze_count() == before
