"""Lengths as formats name them."""

MILLIMETRES = {
    "angstrom": 1e-7,
    "nm": 1e-6,
    "nanometer": 1e-6,
    "um": 1e-3,
    "µm": 1e-3,  # micro sign
    "μm": 1e-3,  # Greek mu, which is written as well
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "mm": 1.0,
    "millimeter": 1.0,
    "cm": 10.0,
    "centimeter": 10.0,
    "inch": 25.4,
    "m": 1000.0,
    "meter": 1000.0,
}
"""mm of a unit, by its name in OME-XML, OME-Zarr and ImageJ."""
