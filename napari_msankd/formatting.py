"""Text without HTML, and elapsed times."""


def literal(text: str) -> str:
    """Protect plain text in tooltips and notifications, which detect HTML automatically.

    An invisible word joiner breaks up any tag or entity.
    """
    return text.replace("<", "<\u2060").replace("&lt;", "&\u2060lt;")


def short_name(name: str, most: int = 32) -> str:
    """A name for a button or a title: its middle is left out if it is long, "&" is no mnemonic.

    >>> short_name("left & right"), short_name("photograph of the left eye vessel", 16)
    ('left && right', 'photogra…vessel')
    """
    if len(name) > most:
        name = f"{name[: most // 2]}…{name[1 - most // 2 :].strip()}"
    return name.replace("&", "&&")


def format_clock(seconds: float) -> str:
    """An elapsed time: ``"0:08"``, ``"22:46"``, ``"1:10:05"``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
