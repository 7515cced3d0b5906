"""MkDocs hook: one page of API for each module of the engine, the README as first page, links.

Links that leave the site lead to the repository that ``mkdocs.yml`` names.

The pages are made from the docstrings, without importing the engine.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE = "src_training"


def modules() -> list[str]:
    """Dotted names of the modules that have something to show, in order."""
    names = []
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__main__":
            continue
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(names)


def on_config(config: MkDocsConfig) -> None:
    """Append the API to the navigation, a section for each folder."""
    sections: dict[str, list[Any]] = {}
    for name in modules():
        _, folder, inside = (*name.split(".", 2), "", "")[:3]
        if not (ROOT / PACKAGE / folder).is_dir():
            folder, inside = "", folder
        sections.setdefault(folder, []).append({inside or folder or name: f"api/{name}.md"})
    assert config.nav is not None
    config.nav.append({"API": [*sections.pop(""), *({k: v} for k, v in sections.items())]})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each module."""
    for name in modules():
        content = f"# `{name}`\n\n::: {name}\n    options:\n      show_root_heading: false\n"
        files.append(File.generated(config, f"api/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Put the README on the first page, and let links to files beside the site leave it.

    Raises
    ------
    PluginError
        Where there is no such file.
    """
    source = ROOT / "docs" / page.file.src_uri
    repository = f"{str(config.repo_url).rstrip('/')}/blob/main"
    if page.file.src_uri == "index.md":
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        raw = f"{str(config.repo_url).replace('github.com', 'raw.githubusercontent.com')}/main"
        markdown = readme.replace(f"{repository}/docs/", "").replace(f"{raw}/docs/", "")

    def leaving(match: re.Match[str]) -> str:
        target = (source.parent / match["target"]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return match[0]
        if not target.exists():
            raise PluginError(f"{page.file.src_uri} links to {match['target']}, which is not there")
        return f"[{match['text']}]({repository}/{target.relative_to(ROOT).as_posix()})"

    return re.sub(r"\[(?P<text>[^]]+)\]\((?P<target>\.\./[^)#]*)(#[^)]*)?\)", leaving, markdown)
