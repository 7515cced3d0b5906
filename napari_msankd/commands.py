"""Commands of the palette and the menus that are more than opening a widget."""

import napari
from napari.layers import Image

from napari_msankd.segment.slice_choice import CURRENT
from napari_msankd.segment.widget import SegmentWidget


def segment_current_slice(viewer: napari.Viewer) -> SegmentWidget:
    """Segment the slice in sight of the selected image, with the Segment widget's choices."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-msankd", "Segment")
    active = viewer.layers.selection.active
    if isinstance(active, Image):
        widget.image.layer = active
    widget.slices.which.setCurrentText(CURRENT)
    widget.segment()
    return widget
