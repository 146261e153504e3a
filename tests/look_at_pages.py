"""Looks at the pages of the built docs as a screen and a telephone show them, light and dark: `make look`.

    python tests/look_at_pages.py [folder for pictures]

A page is bad where it is wider than the window, a line of its code must be scrolled to be read at 1280
pixels, a picture is broken, the browser complains, or, in the reference, it is taller than 8,000 pixels.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from browser import Browser
from docs_site import build_site, serve_site

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
TALLEST = 8_000
_FACTS = """(() => {
  const shown = each => each.offsetParent !== null;
  const hidden = each => each.scrollWidth > each.clientWidth + 1;
  return {
    wide: document.documentElement.scrollWidth - window.innerWidth,
    height: document.documentElement.scrollHeight,
    code: [...document.querySelectorAll('article pre > code')].filter(shown).filter(hidden)
      .map(each => each.textContent.trim().slice(0, 60)),
    broken: [...document.images].filter(each => each.complete && !each.naturalWidth).map(each => each.src),
  };
})()"""


def find_faults(browser: Browser, address: str, page: str, *, width: int) -> Iterator[str]:
    """Yield what is wrong with a page at a width."""
    asked, complained = len(browser.requests), len(browser.errors)
    browser.visit(address + page, width=width, rest=50)
    facts = browser.run(_FACTS)
    if facts["wide"] > 0:
        yield f"is {facts['wide']} pixels wider than the window"
    # On a telephone code scrolls inside its box; broken lines of forty characters would be no code.
    if width >= WIDTHS[0]:
        yield from (f"code must be scrolled: {text!r}" for text in facts["code"])
    yield from (f"a broken picture: {source}" for source in facts["broken"])
    if width >= WIDTHS[0] and page.startswith("reference/") and facts["height"] > TALLEST:
        yield f"is {facts['height']} pixels tall"
    yield from (f"the browser says: {error}" for error in browser.errors[complained:])
    foreign = (url for url in browser.requests[asked:] if not url.startswith((address, "data:", "blob:")))
    yield from (f"asks for {url}" for url in foreign)


def list_pages(site: Path) -> list[str]:
    """Return the addresses of all pages below the site's own."""
    found = (path.parent.relative_to(site).as_posix() for path in site.rglob("index.html"))
    return sorted("" if each == "." else f"{each}/" for each in found)


def main(words: list[str]) -> int:
    """Look at all pages, print what is wrong, keep pictures if a folder is named, return the exit status."""
    faults = looks = 0
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        site = build_site(Path(folder, "site"))
        with serve_site(site) as address:
            for scheme in SCHEMES:
                browser.wear(scheme)
                for page in list_pages(site):
                    for width in WIDTHS:
                        looks += 1
                        for fault in find_faults(browser, address, page, width=width):
                            faults += 1
                            print(f"{page or 'front page'} at {width}, {scheme}: {fault}", flush=True)
                        if words:
                            name = f"{page.replace('/', '-') or 'front-'}{width}-{scheme}.png"
                            browser.picture(Path(words[0], name))
    print(f"{looks} looks, {faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
