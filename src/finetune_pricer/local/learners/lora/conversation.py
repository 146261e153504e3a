"""`ConversationWriter`: conversations as a base model's tokens, the same in training and in asking."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...._chat_protocol import NEIGHBORS_HEAD, text_of
from ....errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..learner import ChatMessages

_MARKS_OF_AN_OPEN_END = ("$", "\n", " ")
_NEIGHBORS = f"\n\n{NEIGHBORS_HEAD}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLimit:
    """How much of an item's text is read: what stands between the words that all training prompts share."""

    before: str
    after: str
    tokens: int

    @classmethod
    def from_prompts(cls, prompts: Sequence[str], *, tokens: int) -> TextLimit:
        """Return the limit for prompts like these, whose shared ends are cut at white space."""
        before = _shared_start(prompts)
        # Of what is left: where texts begin alike, the words behind them must not be taken for a text's.
        after = _shared_start([prompt[len(before) :][::-1] for prompt in prompts])[::-1]
        return cls(before=before, after=after, tokens=tokens)

    def fits(self, prompt: str) -> bool:
        """Return whether a prompt has the shared words, so that the rest is an item's text."""
        return (
            prompt.startswith(self.before)
            and prompt.endswith(self.after)
            and len(prompt) >= len(self.before) + len(self.after)
        )

    def text_of(self, prompt: str) -> str:
        """Return the item's text in a prompt that fits."""
        return prompt[len(self.before) : len(prompt) - len(self.after)]


def _shared_start(texts: Sequence[str]) -> str:
    # What the first and the last in order share, all between them share too. No word is torn.
    first, last = min(texts), max(texts)
    pairs = enumerate(zip(first, last, strict=False))
    length = next((place for place, (one, other) in pairs if one != other), min(len(first), len(last)))
    return first[: max((place + 1 for place in range(length) if first[place].isspace()), default=0)]


class ConversationWriter:
    """Writes prompts and replies in tokens.

    Args:
        tokenizer: The base model's.
        template: `chat` or `plain`.
        context: How many tokens a prompt may have.

    Raises:
        NotSupported: The base has no chat template, or one that does not take a question and an answer.
    """

    def __init__(self, tokenizer: Any, *, template: str, context: int) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._context = context
        if template == "chat" and not tokenizer.chat_template:
            raise NotSupported(
                "the base model has no chat template, so nobody knows how it wants to be asked; declare it "
                "with template=plain, which hands it the texts alone"
            )
        self._start = self._find_start()
        self._end = self._find_end()

    @property
    def hash(self) -> str:
        """What tells this way to write prompts from others."""
        words = self._tokenizer.chat_template if self._template == "chat" else ""
        return hash_prompts(self._template, words)

    def write_prompt(self, messages: ChatMessages, limit: TextLimit | None = None) -> tuple[list[int], bool]:
        """Return a prompt in tokens, and whether an item's text was cut.

        Without a limit nothing is cut, whatever the context.

        Raises:
            NotSupported: The chat template refuses these messages, or they are over the context without any
                text of an item.
        """
        plain = _plain(messages)
        asked = plain[-1]["content"]
        if limit is None or not limit.fits(asked):
            return self._write(plain), False
        # What stands below an item's text is not its text: neighbors are short, and the best stands last.
        whole, head, neighbors = limit.text_of(asked).partition(_NEIGHBORS)
        pieces = self._encode(whole)
        most = min(len(pieces), limit.tokens)
        while True:
            text = whole if most == len(pieces) else self._decode(pieces[:most])
            plain[-1]["content"] = limit.before + text + head + neighbors + limit.after
            tokens = self._write(plain)
            if len(tokens) <= self._context:
                return tokens, most < len(pieces)
            if not most:
                raise NotSupported(
                    f"a prompt has {len(tokens):,} tokens beside its item's text, but the base model "
                    f"reads {self._context:,}; shorten the instruction, or choose a base that reads more"
                )
            most = max(most - max(len(tokens) - self._context, 1), 0)

    def write_reply(self, reply: str) -> list[int]:
        """Return a reply in tokens, with the one that ends it."""
        return [*self._encode(reply), self._end]

    def write_replies(self, replies: Sequence[str]) -> list[list[int]]:
        """Return many short replies in tokens.

        Raises:
            NotSupported: The tokenizer cannot write one of them.
        """
        written = self._tokenizer(list(replies), add_special_tokens=False).input_ids
        for reply in (replies[0], replies[-1]):
            again = self._decode(self._encode(reply))
            if again.strip() != reply.strip():
                raise NotSupported(
                    f"the base model's tokenizer cannot write a price: {reply!r} becomes {again!r}; choose "
                    "another base model"
                )
        return [[*tokens, self._end] for tokens in written]

    def _write(self, messages: list[dict[str, str]]) -> list[int]:
        return [*self._start, *self._encode(self._render(messages))]

    def _render(self, messages: list[dict[str, str]]) -> str:
        if self._template == "plain":
            text = "\n\n".join(message["content"] for message in messages)
            return text if text.endswith(_MARKS_OF_AN_OPEN_END) else f"{text}\n\n"
        return self._fill_template(messages, add_generation_prompt=True)

    def _fill_template(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=False,  # Qwen's: a price needs none
            )
        except Exception as error:  # a template is a program, and may raise anything
            roles = ", ".join(message["role"] for message in messages)
            raise NotSupported(
                f"the base model's chat template refuses messages of these roles: {roles:.200}; write files "
                "without them, or declare the base with template=plain"
            ) from error
        return text

    def _find_start(self) -> list[int]:
        """Return what the tokenizer writes before any text, which a chat template does by itself."""
        first = self._tokenizer.bos_token_id
        if self._template != "plain" or first is None or self._tokenizer("?").input_ids[0] != first:
            return []
        return [first]

    def _find_end(self) -> int:
        """Return the token that ends a reply: what the template writes behind one, else the usual one."""
        if self._template == "chat":
            said = "7351"  # what no template writes by itself
            turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": said}]
            tail = self._fill_template(turns, add_generation_prompt=False).rpartition(said)[2]
            tokens = self._encode(tail.lstrip())
            if tokens and tokens[0] in self._tokenizer.all_special_ids:
                return int(tokens[0])
        if self._tokenizer.eos_token_id is None:
            raise NotSupported(
                "the base model's tokenizer has no token that ends a reply; choose another base"
            )
        return int(self._tokenizer.eos_token_id)

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return tokens

    def _decode(self, tokens: Sequence[int]) -> str:
        # A letter of several tokens may have been cut in two.
        text: str = self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        return text.rstrip("\ufffd")


def _plain(messages: ChatMessages) -> list[dict[str, str]]:
    """Return messages as templates know them: a role and a text."""
    return [{"role": _role(message), "content": text_of(message)} for message in messages]


def _role(message: Mapping[str, Any]) -> str:
    return "system" if message["role"] == "developer" else str(message["role"])


def hash_prompts(template: str, words: str) -> str:
    """Return what tells a way to write prompts from others: `chat` with a template's words, or `plain`."""
    return hashlib.sha256(f"{template}\n{words}".encode()).hexdigest()
