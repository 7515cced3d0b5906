"""A magicgui form for any pydantic model."""

from napari_msankd.widgets.model_form.forms import (
    Editors,
    Group,
    ModelForm,
    ModelTable,
    OptionalForm,
    filter_rows,
    set_tab_order,
)
from napari_msankd.widgets.model_form.value_widgets import choice

__all__ = [
    "Editors",
    "Group",
    "ModelForm",
    "ModelTable",
    "OptionalForm",
    "choice",
    "filter_rows",
    "set_tab_order",
]
