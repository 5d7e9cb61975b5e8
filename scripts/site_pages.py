"""What mkdocs.yml needs besides docs/: pages that stand elsewhere, and roles in docstrings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).resolve().parents[1]

PAGES: Final = {
    "CHANGELOG.md": "CHANGELOG.md",
    "SECURITY.md": "SECURITY.md",
    "data/CODEBOOK.md": "data/CODEBOOK.md",
    "data/README.md": "data/README.md",
    "model_cards/default/README.md": "model_cards/default/README.md",
}
"""Where a page stands in the repository, and on the site."""

# Docstrings name other things as :meth:`~module.Class.method`; a reader sees the last part.
_ROLE: Final = re.compile(r":(?:attr|class|data|func|meth|mod):<code>(?:~[^<]*\.)?([^<]*)</code>")


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401 (mkdocs is not typed)
    """Adds the pages that stand outside docs/."""
    for source, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:  # noqa: ANN401
    """Points links to where the repository's pages stand on the site."""
    if page.file.src_uri in PAGES.values():
        return markdown.replace("](docs/", "](")
    return re.sub(r"\]\(\.\./(data|model_cards)/", r"](\1/", markdown)


def on_page_content(html: str, **_: Any) -> str:  # noqa: ANN401
    """Takes the roles of docstrings out of the text."""
    return _ROLE.sub(r"<code>\1</code>", html)
