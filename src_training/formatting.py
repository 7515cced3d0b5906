"""Numbers, sizes and durations as text."""

import math


def format_number(value: float, digits: int = 3) -> str:
    """A number rounded to significant digits, its integer digits in full.

    >>> format_number(0.01234), format_number(12.345), format_number(267.4, digits=2)
    ('0.0123', '12.3', '267')
    >>> format_number(1234567)
    '1,234,567'
    """
    rounded = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in rounded else rounded


def format_range(low: float, high: float, digits: int = 3) -> str:
    """A lower and an upper number, each as by `format_number`.

    >>> format_range(0.4, 1371.2)
    '0.4 to 1,371'
    """
    return f"{format_number(low, digits)} to {format_number(high, digits)}"


def format_bytes(count: float) -> str:
    """Bytes with their unit.

    >>> format_bytes(300), format_bytes(1_260_000), format_bytes(12e9)
    ('1 kB', '1.3 MB', '12 GB')
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            value = count / scale
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{math.ceil(count / 1000)} kB"


def format_duration(seconds: float) -> str:
    """A duration, such as a remaining time, with its units.

    >>> format_duration(2.41), format_duration(125), format_duration(4200)
    ('2.4 s', '2 min 5 s', '1 h 10 min')
    >>> format_duration(240), format_duration(3600)
    ('4 min', '1 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (0 if hours else rest, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
