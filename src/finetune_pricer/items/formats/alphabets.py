"""Which of the encodings that came before UTF-8 a text has, by the letters that its language may have.

charset-normalizer tells scripts apart (Cyrillic, Greek, Chinese), and is at a loss between the code pages of
Latin letters: to it `trčs` is as good a word as `très`. An alphabet knows better, and knows when it does not
know.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

_SAMPLE = 16_000  # bytes that are looked at: charset-normalizer is slow
_LONGEST_RUN = 3  # letters beyond ASCII that stand together in a text of Latin letters

# What may be read as cp1252 has any western letter; in other code pages only what one language has.
_WESTERN = frozenset("àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþœßªº")
_GERMAN = "äöüßé"
_ALPHABETS: dict[str, tuple[str, ...]] = {
    "cp1250": (
        "ąćęłńóśźż",
        "áčďéěíňóřšťúůýž",
        "áäčďéíĺľňóôŕšťúýž",
        "áéíóöőúüű",
        "ăâîşţ",
        "čćđšž",
    ),
    "cp1254": ("çğ\u0131öşüâîûi\u0307",),
    "cp1257": ("āčēģīķļņšūž", "ąčęėįšųūž", "äõöüšž"),
}
LATIN = ("cp1252", *_ALPHABETS)
"""The code pages of Windows for Latin letters."""
_OLDER = ("mac_roman", "cp850")  # shown where no code page of Windows gives a text, and never decided for
_OTHER_SCRIPTS = [
    *(
        "cp1251",
        "koi8_r",
        "cp866",
        "cp1253",
        "cp1255",
        "cp1256",
        "cp932",
        "euc_jp",
        "gb18030",
        "big5",
        "cp949",
    ),
]
_CLEARLY = 0.05  # of mess or coherence, by which one reading is better than another


class Guess(NamedTuple):
    """What encoding a text may have."""

    encodings: tuple[str, ...]
    """The most likely first; more than one where they give different texts and nothing decides."""

    @property
    def decided(self) -> str | None:
        """The encoding, if there is one answer."""
        return self.encodings[0] if len(self.encodings) == 1 else None


def guess_encoding(content: bytes) -> Guess:
    """Return the encodings that bytes, which are no UTF-8, may have."""
    lines = [line for line in re.split(rb"[\r\n]+", content) if not line.isascii()]
    sample = b"\n".join(lines)[:_SAMPLE]
    runs = re.findall(rb"[\x80-\xff]+", sample)
    if max(map(len, runs), default=0) <= _LONGEST_RUN:
        return _guess_latin(sample)
    return _guess_script(sample)


def _guess_latin(sample: bytes) -> Guess:
    readings: dict[str, str] = {}
    for encoding in LATIN:
        text = _decode(sample, encoding)
        if text is not None and _is_text(text, encoding):
            readings.setdefault(text, encoding)
    return Guess(tuple(readings.values()) or ("cp1252", *_OLDER))


def _decode(sample: bytes, encoding: str) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_text(text: str, encoding: str) -> bool:
    """Whether a language's letters stand where letters stand, and signs where signs do."""
    # A sign inside a word, or a capital behind a small letter, is a letter of another encoding.
    if re.search(r"[^\W\d_](?:[^\w\s\u2013\u2014\u2018\u2019·\x00-\x7f]|[²³¹¼½¾])+[^\W\d_]", text):
        return False
    if any(
        before.islower() and letter.isupper() and not letter.isascii() for before, letter in pairwise(text)
    ) or re.search(r"[\x80-\x9f]", text):
        return False
    letters = {letter for letter in text.lower() if letter.isalpha() and not letter.isascii()}
    if encoding in _ALPHABETS:
        return any(letters <= {*alphabet, *_GERMAN} for alphabet in _ALPHABETS[encoding])
    return letters <= _WESTERN


def _guess_script(sample: bytes) -> Guess:
    import charset_normalizer

    found = charset_normalizer.from_bytes(sample, cp_isolation=_OTHER_SCRIPTS, enable_fallback=False)
    matches = [match for match in found if not _is_half_width(str(match))]
    if not matches:
        return Guess(("cp1252", "cp1251"))
    best = matches[0]
    readings = {str(best): best.encoding}
    for match in matches[1:]:
        worse = match.chaos - best.chaos > _CLEARLY or best.coherence - match.coherence > _CLEARLY
        if not worse:
            readings.setdefault(str(match), match.encoding)
    return Guess(tuple(readings.values()))


def _is_half_width(text: str) -> bool:
    # Bytes of Chinese, read as Japanese, give half-width syllables, in which nobody writes whole texts.
    beyond = [letter for letter in text if not letter.isascii()]
    return sum("\uff61" <= letter <= "\uff9f" for letter in beyond) * 3 > len(beyond)
