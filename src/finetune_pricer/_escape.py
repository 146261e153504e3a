"""What strangers wrote, as a terminal, a Markdown page or a spreadsheet may get it.

A title, a reply or a service's words may hold anything: codes that take a terminal over, marks that turn the
direction of writing, markup, formulas.
"""

from __future__ import annotations

import re

_RANGES = (
    *((0x00, 0x1F), (0x7F, 0x9F)),  # what terminals obey
    *((0x2028, 0x2029), (0x202A, 0x202E), (0x2066, 0x2069)),  # what breaks lines or turns their direction
)
_CONTROLS = {
    code: chr(code).encode("unicode_escape").decode()
    for first, last in _RANGES
    for code in range(first, last + 1)
}
_CONTROLS_IN_TEXT = {code: shown for code, shown in _CONTROLS.items() if chr(code) not in "\n\t"}
_MARKUP = {ord(sign): f"\\{sign}" for sign in "\\`*_[]#~"} | {ord(sign): f"&#{ord(sign)};" for sign in "<>|"}
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_ENTITY = r"&(?=#?\w+;)"
_BLOCK = r"^(?:(\d+)(?=[.)])|(?=[-+=]))"  # what begins a list, or underlines a heading
# The signs with which a formula begins, in full width too. A semicolon or a tab begins a cell where a
# spreadsheet takes it for the separator.
_FORMULA = r"(^|[;\t])(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])"


def escape_line(text: str) -> str:
    r"""Return text in one line, with `\x1b` and the like for control characters, line breaks and halves."""
    return text if text.isprintable() else _show_halves(text.translate(_CONTROLS))


def escape_text(text: str) -> str:
    """Return text of one line or several: the same, but line breaks and tabs stay."""
    return text if text.isprintable() else _show_halves(text.translate(_CONTROLS_IN_TEXT))


def escape_html(text: str) -> str:
    """Return text of one line or several that HTML shows as it is, without what terminals obey."""
    # As `html.escape` has it, whose module brings a table of two thousand entities.
    return escape_text(text).translate(_HTML)


def escape_markdown(text: str) -> str:
    """Return text as one line in which nothing is markup."""
    return re.sub(_ENTITY, "&amp;", escape_line(" ".join(text.split()))).translate(_MARKUP)


def escape_paragraph(text: str) -> str:
    """Return text as a line of its own of a Markdown page, which begins neither a list nor anything else."""
    return re.sub(_BLOCK, r"\1\\", escape_markdown(text))


def escape_formula(text: str) -> str:
    """Return text that a spreadsheet takes for text: with `'` before what would begin a formula."""
    return re.sub(_FORMULA, r"\1'", text)


def _show_halves(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
