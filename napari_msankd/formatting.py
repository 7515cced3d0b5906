"""Sizes and durations as text, and text without HTML."""


def format_bytes(count: int) -> str:
    """Bytes: ``"12 MB"``."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            value = count / scale
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{max(1, round(count / 1000))} kB"


def format_duration(seconds: float) -> str:
    """A duration, such as a remaining time: ``"8.0 s"``, ``"2 min 5 s"``, ``"1 h 10 min"``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


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
