"""Self-contained HTML pages, which follow the light or dark theme of the system."""

from collections.abc import Sequence

from src_training.io.tables import html_text

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0}
th,td{padding:.3rem .7rem;text-align:right;border:1px solid #8886}
th{font-weight:600}
small{opacity:.75}
.row{display:flex;flex-wrap:wrap;gap:1.5rem}
.key i{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin:0 .4em 0 1em}
figure{margin:0;max-width:100%}
svg{max-width:100%;height:auto}
""".strip()


def html_page(title: str, parts: Sequence[str]) -> str:
    """Return an HTML page with a title and the parts of its body, which are HTML elements."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html_text(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join([f"<h1>{html_text(title)}</h1>", *parts])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'
