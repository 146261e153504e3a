"""The documentation as it is built: its pages, what they link to, and what its search and inventory know."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
_LINKS = {"a": "href", "img": "src", "link": "href", "script": "src", "source": "srcset"}


def build_site(folder: Path) -> Path:
    """Build the documentation into a folder, strictly: whatever MkDocs warns of is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@dataclass
class Page:
    """What a page links to, and the places on it that can be linked to."""

    links: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.page.places.update(value for name in ("id", "name") if (value := given.get(name)))
        if link := given.get(_LINKS.get(tag, "")):
            self.page.links.append(link)


def read_page(text: str) -> Page:
    """Return the links and places of a page."""
    reader = _Reader()
    reader.feed(text)
    return reader.page


def read_pages(site: Path) -> dict[Path, Page]:
    """Return all pages of a built site by their files."""
    return {path: read_page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def find_dead_links(site: Path) -> list[str]:
    """Return `page: link` for each link that leads to no file of the site, or to no place on a page."""
    pages = read_pages(site)
    return [
        f"{path.relative_to(site)}: {link}"
        for path, page in pages.items()
        for link in page.links
        if not _leads_somewhere(link, path, pages, site)
    ]


def _leads_somewhere(link: str, path: Path, pages: dict[Path, Page], site: Path) -> bool:
    address, place = urldefrag(link)
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return parts.scheme in {"https", "mailto", "data"}  # no test asks the network
    start = site if parts.path.startswith("/") else path.parent
    target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    # The theme's pictures of schemes are told apart by their place, which is none.
    if not place or place.startswith("only-"):
        return target.exists()
    return target in pages and unquote(place) in pages[target].places


def read_inventory(site: Path) -> set[str]:
    """Return the names that the reference has a place for, as other projects' docs link to them."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines() if line}


def read_search_titles(site: Path) -> set[str]:
    """Return the headings that the search finds."""
    index: dict[str, Any] = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    return {re.sub(r"<[^>]*>", "", entry["title"]).strip() for entry in index["docs"]}


@contextmanager
def serve_site(site: Path) -> Iterator[str]:
    """Serve a built site on the loopback, and yield its address."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass
