"""An item as chat messages, the same for training and for asking."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections import deque
from collections.abc import Sized
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Self

from ._arguments import refuse, require_text
from ._chat_protocol import NEIGHBORS_HEAD
from ._display import ShortRepr
from ._escape import escape_text
from ._format import agree_on_currency, mark_of, require_currency
from .errors import DataError, InvalidItem, PriceNotFound
from .items import (
    SHOWN_FIELDS,
    Item,
    check_fields,
    require_item,
    require_item_text,
    require_items,
    require_price,
    write_text,
)
from .prices import PriceForm, parse_price
from .providers.lookup import get_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._service.requests import Message
    from .providers.provider import Provider
    from .retrieval import Neighbor, Neighbors

COURSE = "Estimate the price of this product. Respond with the price, no explanation"
"""The instruction of the course "LLM Engineering", from which this library grew."""


_AT_ONCE = 500  # items whose neighbors are looked up together
_LONGEST_NAME = 80  # characters of a neighbor in a prompt, which are paid for in each


class _Unsaid(str):
    """A default form of replies, whose mark follows the currency."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, repr=False)
class ChatFormatter(ShortRepr):
    r"""How an item is asked about, and how a price is answered.

    The prompt is written in one place: `example` is `prompt` with the answer, so a model is asked exactly as
    it was trained.

    Args:
        instruction: The text above the item's own text.
        system: A system message before everything else, if wanted.
        reply: A price that shows the form of the replies: `"$1,199.99"`, `"$19.99"`, `"19,99 €"` or `"20"`.
            The default has the mark of `currency`, such as `"€1,199.99"`. Below $1,000 the first two write
            the same.
        currency: ISO code of the prices' currency: that of the items.
        fields: What is shown of an item, from top to bottom: some of `title`, `category`, `summary` and
            `full`. `summary` is the description: the whole listing of an item that has no summary. The title
            is left out where the first line of the description holds it already, or begins with `Title:`.
        shots: Priced items shown as solved examples before the question.
        neighbors: Finds items like the one that is asked about. Below its text stand their titles (or the
            first line of their texts) and prices, the most similar last: in training examples, in questions,
            and in the solved examples. Nothing stands there of an item that is like no other.
        think_block: What stands before the price in training examples, for base models that think: their
            thinking, left empty. `for_base` knows it.

    Raises:
        DataError: `reply` shows no form, or one that cannot be read again in `currency`; or `fields` names
            none, or what is no text; or the neighbors' prices are in another currency.
        InvalidItem: A shot has no price, or none of the fields.

    Examples:
        >>> from finetune_pricer import Item
        >>> formatter = ChatFormatter("How much is it?")
        >>> for message in formatter.example(Item(title="Grand piano", price=12500)):
        ...     print(message["role"], repr(message["content"]))
        user 'How much is it?\n\nGrand piano'
        assistant '$12,500.00'
        >>> formatter.read("about $12,000")
        12000.0
    """

    instruction: str = COURSE
    system: str | None = field(default=None, kw_only=True)
    reply: str = field(default=_Unsaid("$1,199.99"), kw_only=True)
    currency: str = field(default="USD", kw_only=True)
    fields: Sequence[str] = field(default=SHOWN_FIELDS, kw_only=True)
    shots: Sequence[Item] = field(default=(), kw_only=True)
    neighbors: Neighbors | None = field(default=None, kw_only=True)
    think_block: str = field(default="", kw_only=True)
    _lead: str = field(init=False, repr=False, compare=False)
    _write: Callable[[float], str] = field(init=False, repr=False, compare=False)
    _before: tuple[Message, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        self._require_kinds()
        put("fields", check_fields(self.fields))
        put("shots", tuple(self.shots))
        require_currency(self.currency)
        if isinstance(self.reply, _Unsaid):
            number = "".join(character for character in self.reply if character in "0123456789.,")
            put("reply", _Unsaid(mark_of(self.currency) + number))
        for shot in self.shots:
            require_price(shot, "a solved example")
        put("_lead", f"{self.instruction}\n\n" if self.instruction else "")
        put("_write", PriceForm.like(self.reply).write)
        self._require_readable()
        before: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        for shot in self.shots:
            before += [self._question(shot), self._answer(shot)]
        put("_before", tuple(before))

    def prompt(self, item: Item | str) -> list[Message]:
        """Return the messages that ask for the price of an item, or of a text.

        Raises:
            InvalidItem: The text is empty, or the item has none of the fields.
        """
        require_item(item, or_text=True)
        if not self._before:
            return [self._question(item)]
        return [*(message.copy() for message in self._before), self._question(item)]

    def example(self, item: Item) -> list[Message]:
        """Return the messages of one training example: the prompt for an item, and its price as the answer.

        Raises:
            InvalidItem: The item has no price, or none of the fields.
        """
        require_item(item)
        answer = self._answer(item)
        if self.think_block:
            answer["content"] = self.think_block + answer["content"]
        return [*(message.copy() for message in self._before), self._question(item), answer]

    def preview(self, item: Item | str) -> str:
        """Return what a model sees of an item, and what it is to answer, as text to be printed.

        Raises:
            InvalidItem: The text is empty, or the item has none of the fields.

        Examples:
            >>> print(ChatFormatter("How much?").preview(Item(title="Mug", summary="Of clay.", price=7)))
            the item's text (title, summary), 12 characters:
                Mug
                Of clay.
            what is asked:
              user:
                How much?
            <BLANKLINE>
                Mug
                Of clay.
            what is learned:
              assistant:
                $7.00
        """
        asked = [_show_message(message) for message in self.prompt(item)]
        if isinstance(item, str):
            return "\n".join(
                [f"the text, {len(item):,} characters:", _indent(item), "what is asked:", *asked]
            )
        text = require_item_text(item, tuple(self.fields))
        head = f"the item's text ({', '.join(self.fields)}), {len(text):,} characters:"
        learned = []
        if item.price is not None:
            learned = ["what is learned:", _show_message(self.example(item)[-1])]
        return "\n".join([head, _indent(text), "what is asked:", *asked, *learned])

    def for_base(self, model: str, provider: str | Provider | None = None) -> ChatFormatter:
        r"""Return the formatter whose training examples suit a base model.

        Some models that think want an empty think block before each answer that they learn: without it, one
        that was tuned may think aloud again. What is known of that stands in the profile's `thinking`.

        Args:
            model: The base model's name.
            provider: Whose service trains it; without one, what holds wherever open models are trained.

        Raises:
            NotConfigured: There is no provider of that name.

        Examples:
            >>> ChatFormatter().for_base("Qwen/Qwen3-8B", "nebius").example(Item(title="Mug", price=7))[-1]
            {'role': 'assistant', 'content': '<think>\n\n</think>\n\n$7.00'}
        """
        require_text("model", model)
        known = get_provider(provider).thinking_of(model)
        return replace(self, think_block=known.empty_block if known else "")

    def read(self, reply: str) -> float:
        """Return the price in a reply, in dollars (or the unit of `currency`).

        Raises:
            PriceNotFound: The reply holds no price.
        """
        require_text("reply", reply)
        return parse_price(reply, self.currency)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that shapes the messages; equal formatters have equal ones."""
        shots = [[self._question(shot), self._answer(shot)] for shot in self.shots]
        parts: list[object] = [self.instruction, self.system, self.reply, self.currency, shots]
        if self.think_block:
            parts.append(self.think_block)
        if self.fields != SHOWN_FIELDS:
            parts.append({"fields": self.fields})
        if self.neighbors is not None:
            parts.append({"neighbors": self.neighbors.fingerprint})
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def _require_kinds(self) -> None:
        require_text("instruction", self.instruction)
        require_text("system", self.system, or_none=True)
        require_text("reply", self.reply, "show a price in the form of the replies, such as '$1,199.99'")
        require_text("currency", self.currency, "give an ISO code, such as 'USD'")
        require_text("think_block", self.think_block)
        require_items(self.shots, "shots")
        if self.neighbors is not None:
            if not all(hasattr(self.neighbors, name) for name in ("of", "look_up", "fingerprint")):
                hint = "Neighbors(items, k=5) makes them"
                raise refuse("neighbors", "Neighbors of priced items", self.neighbors, hint)
            agree_on_currency({"the neighbors": self.neighbors.currency, "the formatter": self.currency})

    def _require_readable(self) -> None:
        # Noticed here, and not when a model that was paid for answers in a form that cannot be read.
        for price in (7.0, 1234.0):
            reply = self._write(price)
            try:
                read = self.read(reply)
            except PriceNotFound as error:
                raise DataError(
                    f"reply={self.reply!r} with currency={self.currency!r} cannot be read again: {error}"
                ) from error
            if read != price:
                raise DataError(f"reply={self.reply!r}: {reply!r} would be read as {read:g}, not {price:g}")

    def _question(self, item: Item | str) -> Message:
        if not isinstance(item, str):
            text = require_item_text(item, tuple(self.fields))
        elif (text := item).isspace() or not text:
            raise InvalidItem("an empty text cannot be priced; give a title or a description")
        return {"role": "user", "content": self._lead + text + self._write_neighbors(item)}

    def _write_neighbors(self, item: Item | str) -> str:
        """Return what stands below an item's text: items like it, the most similar last."""
        found = () if self.neighbors is None else self.neighbors.of(item)
        if not found:
            return ""
        lines = [self._write_neighbor(near) for near in reversed(found)]
        return "\n\n" + "\n".join([NEIGHBORS_HEAD, *lines])

    def _write_neighbor(self, near: Neighbor) -> str:
        item = near.item
        named = item.title if "title" in self.fields else None
        if not named or named.isspace():
            named = (write_text(item, tuple(self.fields)) or item.text).strip().partition("\n")[0]
        words = " ".join(named.split())  # one line each, which nobody can take for several
        if len(words) > _LONGEST_NAME:
            cut = words[: _LONGEST_NAME - 3]
            words = f"{cut.rpartition(' ')[0] or cut}..."
        return f"- {words}: {self._write(require_price(item, 'a neighbor'))}"

    def _answer(self, item: Item) -> Message:
        price = item.price
        if price is None:
            price = require_price(item, "a training example")
        return {"role": "assistant", "content": self._write(price)}


class LookAhead:
    """Items, in their order, of which many at once have their neighbors looked up before they are handed out.

    Args:
        neighbors: Where they are looked up.
        items: The items, or whatever stands among them.
    """

    def __init__(self, neighbors: Neighbors, items: Iterable[Item | str]) -> None:
        self._neighbors = neighbors
        self._rest = iter(items)
        self._ready = deque[Item | str]()
        self._has_ended = False

    @property
    def is_ready(self) -> bool:
        """Whether the next item, or the end, comes without waiting."""
        return bool(self._ready) or self._has_ended

    def fetch(self) -> None:
        """Make the next items ready, where none is."""
        if not self.is_ready:
            some = list(islice(self._rest, _AT_ONCE))
            self._neighbors.look_up(some)
            self._has_ended = not some
            self._ready.extend(some)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item | str:
        self.fetch()
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()


def look_ahead(formatter: ChatFormatter, items: Iterable[Item | str]) -> Iterable[Item | str] | LookAhead:
    """Return the same items, for whose prompts the formatter then has at hand what takes longer one by one.

    Only of a list, or what else has all items already: whoever makes items one by one may wait for the
    answer to one before making the next.
    """
    neighbors: Neighbors | None = getattr(formatter, "neighbors", None)
    return items if neighbors is None or not isinstance(items, Sized) else LookAhead(neighbors, items)


def _show_message(message: Message) -> str:
    return f"  {message['role']}:\n{_indent(message['content'])}"


def _indent(text: str) -> str:
    return textwrap.indent(escape_text(text), "    ")
