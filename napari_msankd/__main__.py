"""``python -m napari_msankd``: napari with a sample fundus and the Segment widget."""

import os
import sys
from pathlib import Path

from src_training.errors import InputError

OUTPUT = Path("sample_output")


def main() -> int:
    """Open the window; without a display, segment the sample to files."""
    if has_display():
        return show()
    print(f"There is no display: the sample is segmented without a window, into {OUTPUT}/.")
    from napari_msankd.headless import segment_sample

    try:
        paths = segment_sample(OUTPUT)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(map(str, paths)))
    return 0


def has_display() -> bool:
    """Whether a window can be shown; Linux needs X or Wayland."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show() -> int:
    """Open napari with the sample and the Segment widget; return when it closes."""
    import napari

    from napari_msankd.sample_data import fundus_a
    from napari_msankd.widgets.plugin_widget import open_widget

    viewer = napari.Viewer(title="napari-msankd")
    for layer in fundus_a():
        viewer.add_layer(napari.layers.Layer.create(*layer))
    viewer.layers.selection = {viewer.layers[0]}
    open_widget(viewer, "Segment")
    napari.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
