"""Commands of the palette and the menus that are more than opening a widget."""

import napari
from napari.layers import Image

from napari_msankd.segment.widget import SegmentWidget
from napari_msankd.widgets.plugin_widget import open_widget
from napari_msankd.widgets.slice_selector import CURRENT


def segment_current_slice(viewer: napari.Viewer) -> SegmentWidget:
    """Segment the slice in sight of the selected image, with the Segment widget's choices."""
    widget: SegmentWidget = open_widget(viewer, "Segment")
    active = viewer.layers.selection.active
    if isinstance(active, Image):
        widget.image.layer = active
    widget.slices.which.setCurrentText(CURRENT)
    widget.segment()
    return widget
