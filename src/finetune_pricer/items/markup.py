"""HTML in texts: whether there is some, and the text without it.

Only what HTML itself knows is markup: its elements, comments, and entities that end with a semicolon.
`a < b`, `<3`, `5 < 6 > 2`, `Tom & Jerry` and `<insert name>` are text. Time grows with a text's length and no
faster, whatever it holds, which is why the standard library's parser is not used here.
"""

from __future__ import annotations

import html
import re
from html.entities import html5
from typing import TYPE_CHECKING

from .._lazy import compile_late

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_BLOCKS = frozenset(
    """address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset
    figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li main menu nav ol
    optgroup option p pre section select summary table tbody tfoot thead title tr ul""".split()
)
_CELLS = frozenset({"td", "th"})
_HIDDEN = frozenset({"script", "style"})
_INLINE = frozenset(
    """a abbr acronym area audio b base bdi bdo big button canvas circle cite code col colgroup data datalist
    del dfn em embed font frame frameset g i iframe img input ins kbd label line link map mark marquee meta
    meter nobr noframes noscript object output param path picture polygon progress q rect rp rt ruby s samp
    slot small source span strike strong sub sup svg template textarea time track tt u use var video
    wbr""".split()
)
_KNOWN = _BLOCKS | _CELLS | _HIDDEN | _INLINE
_OFFICE = frozenset({"o", "v", "w", "st1"})  # of names such as `o:p`, which Word writes
# Attributes that stand without a value. With others, `a <b and c> d` would hold the tag `b`.
_FLAGS = frozenset(
    """allowfullscreen async autofocus autoplay checked compact controls defer disabled hidden loop multiple
    muted noshade novalidate nowrap open playsinline readonly required reversed selected""".split()
)
_ROUNDS = 3  # texts may be escaped as a whole: behind `&lt;p&gt;` stands a tag

_opening = compile_late(
    r"<(?:(?P<comment>!--)|(?P<literal>!\[CDATA\[)|(?P<head>!doctype\b|\?xml\b)"
    r"|(?P<closes>/?)(?P<name>[A-Za-z][A-Za-z0-9]*)(?P<inner>:\w+)?)",
    re.IGNORECASE,
)
_attribute = compile_late(
    r"""[\s/]*(?P<name>[A-Za-z_:@][\w.:@-]*)(?P<value>\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))?"""
)
_end = compile_late(r"[\s/]*>")
_marks = {  # where what a tag has opened ends
    "comment": compile_late("-->"),
    "literal": compile_late(r"\]\]>"),
    "head": compile_late(">"),
    "script": compile_late("</script", re.IGNORECASE),
    "style": compile_late("</style", re.IGNORECASE),
}
_entity = compile_late(
    r"&(?:(?:amp|#0*38|#[xX]0*26);)*(#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
)
_spaces = compile_late(r"[ \t]{2,}")


def has_markup(text: str) -> bool:
    """Whether `strip_markup` would change a text."""
    return ("<" in text and next(_find_tags(text), None) is not None) or (
        "&" in text and any(_decode(match) != match.group() for match in _entity.finditer(text))
    )


def strip_markup(text: str) -> str:
    r"""Return a text without HTML: line breaks for blocks, characters for entities, no scripts and styles.

    A text without markup is returned as it is, byte for byte.

    Examples:
        >>> strip_markup("<p>Lamp &amp; <b>shade</b></p><ul><li>5 &lt; 6</ul>")
        'Lamp & shade\n5 < 6'
        >>> strip_markup("I <3 lamps, a < b")
        'I <3 lamps, a < b'
    """
    for _ in range(_ROUNDS):
        before = text
        text = _take_tags_out(text) if "<" in text else text
        text = _entity.sub(_decode, text) if "&" in text else text
        if text == before:
            break
    return text


def strip_column(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, int]:
    """Return a column of texts without HTML, and how many texts held some."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not any(map(_has_signs, column.chunks)):
        return column, 0
    suspects = pc.fill_null(pc.match_substring_regex(column, "[<&]"), False)
    if not pc.any(suspects).as_py():
        return column, 0
    texts = column.filter(suspects).to_pylist()
    stripped = [strip_markup(text) for text in texts]
    changed = sum(new != old for new, old in zip(stripped, texts, strict=True))
    if not changed:
        return column, 0
    whole = column.combine_chunks()
    whole = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    mask = pa.array(suspects.to_pylist(), pa.bool_())
    return pa.chunked_array([pc.replace_with_mask(whole, mask, pa.array(stripped, whole.type))]), changed


def _has_signs(texts: pa.StringArray) -> bool:
    """Whether the bytes of an array hold a sign of markup: twenty times as fast as to look into each text."""
    import numpy as np

    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return False
    ends = np.frombuffer(offsets, np.int32)
    first, last = int(ends[texts.offset]), int(ends[texts.offset + len(texts)])
    held = data.slice(first, last - first).to_pybytes()
    return b"<" in held or b"&" in held


def _decode(match: re.Match[str]) -> str:
    name = f"{match[1]};"
    if not name.startswith("#") and name not in html5:
        return match.group()
    character = html.unescape(f"&{name}")
    return {"\u00a0": " ", "\u00ad": ""}.get(character, character)  # they were written for the layout


def _take_tags_out(text: str) -> str:
    pieces, at = list[str](), 0
    for start, end, instead in _find_tags(text):
        pieces += [text[at:start], instead]
        at = end
    if not pieces:
        return text
    lines = "".join([*pieces, text[at:]]).split("\n")
    return "\n".join(line for line in (_spaces.sub(" ", line).strip() for line in lines) if line)


def _find_tags(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where each tag, comment or script begins and ends, and what stands for it in plain text."""
    at, scan = 0, _Scan(text)
    while match := _opening.search(text, at):
        at, opened, name = match.end(), match.lastgroup or "", (match["name"] or "").lower()
        if opened in _marks:
            if mark := scan.find(opened, at):
                yield match.start(), mark.end(), text[at : mark.start()] if opened == "literal" else ""
                at = mark.end()
            continue
        known = name in _OFFICE if match["inner"] else name in _KNOWN
        end = scan.find_end_of_tag(at) if known else None
        if end is None:
            continue
        at = end
        if name in _HIDDEN and not match["closes"] and (mark := scan.find(name, end)):
            at = scan.find_end_of_tag(mark.end()) or mark.end()
        yield match.start(), at, "\n" if name in _BLOCKS else " " if name in _CELLS else ""


class _Scan:
    """Looks for ends in one text, at no place twice: a hostile text takes no longer than another."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._absent = set[str]()
        """Marks that do not come any more."""

    def find(self, opened: str, at: int) -> re.Match[str] | None:
        """Return the mark that ends what was opened."""
        found = None if opened in self._absent else _marks[opened].search(self._text, at)
        if found is None:
            self._absent.add(opened)
        return found

    def find_end_of_tag(self, at: int) -> int | None:
        """Return where a tag ends whose name ends here; None where this is no tag."""
        if self._text.startswith(">", at):  # as most tags do
            return at + 1
        # No character is read for more than three tags: another tag can begin only in this one's quotes, and
        # at each quotation mark one of two goes into quotes or stays in them, so that they never meet.
        while (end := _end.match(self._text, at)) is None:
            attribute = _attribute.match(self._text, at)
            if not attribute or not (attribute["value"] or attribute["name"].lower() in _FLAGS):
                return None
            at = attribute.end()
        return end.end()
