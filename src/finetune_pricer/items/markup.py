"""HTML in texts."""

from __future__ import annotations

from .._lazy import compile_late

# A tag such as `<br/>`, `</p>` or `<a href="x">`; or a reference such as `&amp;`, `&#39;` or `&#x27;`.
_MARKUP = compile_late(
    r"</?[A-Za-z][A-Za-z0-9]{0,15}(?:\s[^<>]{0,500})?/?>|&(?:[A-Za-z]{2,10}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});"
)


def has_markup(text: str) -> bool:
    """Whether a text holds tags or character references of HTML."""
    return ("<" in text or "&" in text) and _MARKUP.search(text) is not None
