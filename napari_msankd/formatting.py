"""Text without HTML, and elapsed times."""


def literal(text: str) -> str:
    """Protect plain text in tooltips and notifications, which detect HTML automatically.

    An invisible word joiner breaks up any tag or entity.
    """
    return text.replace("<", "<\u2060").replace("&lt;", "&\u2060lt;")


def format_clock(seconds: float) -> str:
    """An elapsed time: ``"0:08"``, ``"22:46"``, ``"1:10:05"``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
