"""Hold a built site to what it promises: no dead link or anchor, and nothing that is loaded from elsewhere.

``python docs/check_site.py build/docs`` prints what is wrong, and gives exit code 1 then.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
"""Attributes whose target a browser loads with the page."""


class Page(HTMLParser):
    """The anchors of a page, what it links to and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note anchors and targets."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif value and (tag, name) == ("a", "href"):
                self.links.append(value)
            elif value and (tag, name) in LOADED:
                self.loads.append(value)


def problems(site: Path) -> list[str]:
    """What is wrong, one line each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = (
        [] if (site / "searchindex.js").is_file() and pages else [f"{site}: not a built site, or one that cannot be searched"]
    )
    for path, page in pages.items():
        for target in page.loads:
            if urlsplit(target).scheme not in ("", "data") or target.startswith("//"):
                found.append(f"{path}: loads {target}, which is not there offline")
        for target in (*page.links, *page.loads):
            if urlsplit(target).scheme or target.startswith("//"):
                continue
            place, anchor = urldefrag(target)
            file = (path.parent / unquote(urlsplit(place).path)).resolve() if place else path.resolve()
            if not file.is_file():
                found.append(f"{path}: {target}: there is no such file")
            elif anchor and file.suffix == ".html":
                known = next(other for name, other in pages.items() if name.resolve() == file).anchors
                if unquote(anchor) not in known:
                    found.append(f"{path}: {target}: there is no such anchor")
    return found


def main() -> int:
    """Check the site that is given."""
    found = problems(Path(sys.argv[1]))
    print("\n".join(found) or "no dead link, nothing loaded from elsewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
