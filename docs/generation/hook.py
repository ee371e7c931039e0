"""Hooks of the site build: generated pages and tables, equations, and files from outside this folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pages
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from benchmark.methods import METHODS

ROOT = Path(__file__).parent.parent.parent
FROM_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def equation(source: str, *_: Any, **__: Any) -> str:
    """Convert a ``math`` fence to MathML, one formula per paragraph; pages need neither scripts nor the network."""
    formulas = (convert(part, display="block").replace(r"\_", "_") for part in source.split("\n\n"))
    return "".join(f'<div class="equation">{formula}</div>' for formula in formulas)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a page per method to the navigation, and render ``math`` fences as equations."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "math", "class": "math", "format": equation}]
    assert config.nav is not None
    (methods,) = (item["Methods"] for item in config.nav if "Methods" in item)
    methods += [{name: pages.method_file(name)} for name in METHODS.names()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add generated pages, files of the repository's root, and the figures of the reference results."""
    for name in METHODS.names():
        files.append(File.generated(config, pages.method_file(name), content=pages.method_page(name)))
    for path, source in FROM_ROOT.items():
        text = _links((ROOT / source).read_text(encoding="utf-8"), root="", site="")
        files.append(File.generated(config, path, content=text.replace("](docs/", "](")))
    for figure in sorted((ROOT / "results" / "figures").glob("*.png")):
        files.append(File.generated(config, f"results/figures/{figure.name}", abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the generated tables of a page."""
    up = "../" * page.file.src_uri.count("/")
    return _links(pages.filled(markdown), root=up + "../", site=up)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Return the page; raise ``PluginError`` if it loads anything from the network."""
    fetched = re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=[\"']?(https?:)?//[^>]*>", output)
    if fetched:
        raise PluginError(f"{page.file.src_uri} fetches from elsewhere: {fetched[0]}")
    return output


def _links(markdown: str, root: str, site: str) -> str:
    """Convert links of the repository to links of the site.

    Args:
        markdown: The page.
        root: Path from the page to the root of the repository.
        site: Path from the page to the root of the site.
    """
    for path, source in {**FROM_ROOT, "results/figures/": "results/figures/"}.items():
        markdown = markdown.replace(f"]({root}{source}", f"]({site}{path}")
    return markdown
