"""What a model thinks, in a text of what it says: found by its marks, and cut off."""

from __future__ import annotations

import re
from typing import NamedTuple

from ._chat_protocol import SPECIAL_TOKEN
from ._lazy import compile_late

_NAMES = "(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad)"
BEGIN = compile_late(
    rf"(?:<|&lt;){_NAMES}\s*(?:>|&gt;)|\[THINK\]|<\|START_THINKING\|>|◁think▷|<\|begin_of_thought\|>"
    r"|<\|channel>thought|<unused94>thought|<\|think\|>",
    re.IGNORECASE,
)
END = compile_late(
    rf"(?:<|&lt;)/{_NAMES}\s*(?:>|&gt;)|\[/THINK\]|<\|END_THINKING\|>|◁/think▷|<\|end_of_thought\|>"
    r"|<channel\|>|<unused95>|<\|/think\|>",
    re.IGNORECASE,
)
_BEGIN_IN_WORDS = compile_late(
    r"\W*(?:here(?:'|\u2019)?s (?:a|my) )?(?:thinking|thought|reasoning) process\b", re.IGNORECASE
)
_HALF_A_MARK = compile_late(r"\s*(?:<\|?|\[)/?[a-z_:|]*\Z", re.IGNORECASE)
# gpt-oss names channels before its texts: what it thinks, and what it says.
_CHANNEL = compile_late(r"<\|channel\|>\s*(\w*)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_BARE_CHANNELS = compile_late(r"\s*(?:assistant)?(?:analysis|commentary)(?:<\|message\|>|(?=[^\sa-z,.;:]))")
_BARE_FINAL = compile_late(r"assistant\s*final(?:<\|message\|>)?")


class Reply(NamedTuple):
    """What a model says in a reply, without what it thinks."""

    text: str | None
    """None where there is no content at all."""
    has_thought: bool = False
    """Whether reasoning was there."""
    is_unfinished: bool = False
    """Whether it ended in its reasoning, before it said anything."""


def cut_reasoning(text: str, *, is_cut: bool) -> Reply:
    """Return a text without its reasoning: what is between marks, or before a mark that only closes.

    Args:
        text: A reply's content.
        is_cut: Whether it ended because it had no more room.
    """
    if "<|channel|>" in text or _BARE_CHANNELS.match(text) or text.lstrip().startswith("assistantfinal"):
        return _take_final_channel(text)
    if is_cut and _HALF_A_MARK.fullmatch(text):
        return Reply("", has_thought=True, is_unfinished=True)
    *_, end = (None, *END.finditer(text))
    rest = text if end is None else text[end.end() :]
    if BEGIN.match(rest.lstrip()) or _BEGIN_IN_WORDS.match(rest) or (is_cut and BEGIN.search(rest)):
        return Reply("", has_thought=True, is_unfinished=True)
    if end is None:
        return Reply(text)
    begin = BEGIN.search(text)
    thought = text[begin.end() if begin else 0 : end.start()]
    if not rest.strip() and begin is not None:  # the answer stood before the thoughts about it
        rest = text[: begin.start()]
    has_said = bool(rest.strip())
    return Reply(rest, has_thought=bool(thought.strip()), is_unfinished=is_cut and not has_said)


def _take_final_channel(text: str) -> Reply:
    finals = [mark for mark in _CHANNEL.finditer(text) if mark[1] == "final"] or list(
        _BARE_FINAL.finditer(text)
    )
    if not finals:
        return Reply("", has_thought=True, is_unfinished=True)
    said = SPECIAL_TOKEN.split(text[finals[-1].end() :], maxsplit=1)[0]
    return Reply(said, has_thought=bool(SPECIAL_TOKEN.sub("", text[: finals[-1].start()]).strip()))
