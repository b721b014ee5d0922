"""Readme and addresses of the package page: relative links made absolute once the project's address is known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PAGES = {"Source": "", "Issues": "/issues", "Changelog": "/blob/main/CHANGELOG.md"}


def absolute(text: str, url: str) -> str:
    """Return Markdown with the links to files of the project made absolute; as it is while there is no address."""
    return re.sub(r"\]\((?!https?://|#)([^)]+)\)", rf"]({url}/blob/main/\1)", text) if url else text


class CustomMetadataHook(MetadataHookInterface):
    """Fill in ``readme`` and ``urls``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add both to the metadata."""
        url = self.config["url"].rstrip("/")
        text = absolute(Path(self.root, "README.md").read_text(encoding="utf-8"), url)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = {name: url + page for name, page in PAGES.items()} if url else {}
