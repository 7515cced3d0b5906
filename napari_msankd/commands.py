"""Commands of the command palette and menus."""

from dataclasses import replace

import napari
from napari.layers import Image
from napari.utils.notifications import show_warning

from napari_msankd.formatting import literal
from napari_msankd.segment.widget import SegmentWidget
from napari_msankd.widgets.plugin_widget import open_widget


def segment_current_slice(viewer: napari.Viewer) -> SegmentWidget:
    """Segment the current slice of the selected image with the Segment widget's settings."""
    widget: SegmentWidget = open_widget(viewer, "Segment")
    selected = viewer.layers.selection.active
    if widget.running:
        show_warning("A segmentation is running; stop it first, or wait for its end.")
    elif not isinstance(selected, Image):
        what = "No layer" if selected is None else literal(f"{selected.name!r}")
        show_warning(f"{what} is selected; expected one image layer, to segment its slice in view.")
    else:
        widget.image.layer = selected
        widget.state.follow_view(viewer)
        widget.state.slices = replace(widget.state.slices, part="current")
        widget.segment()
    return widget
