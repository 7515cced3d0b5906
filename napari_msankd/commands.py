"""Commands of the palette and the menus that are more than opening a widget."""

from typing import TYPE_CHECKING

from napari_msankd.segment import SegmentWidget

if TYPE_CHECKING:
    import napari


def segment_current_slice(viewer: "napari.viewer.Viewer") -> SegmentWidget:
    """Segment the slice in sight of the selected image, with the Segment widget's choices."""
    from napari.layers import Image

    _, widget = viewer.window.add_plugin_dock_widget("napari-msankd", "Segment")
    active = viewer.layers.selection.active
    if isinstance(active, Image):
        widget.image.layer = active
    widget.current_only.setChecked(True)
    widget.segment()
    return widget
