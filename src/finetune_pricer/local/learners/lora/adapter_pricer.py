"""`AdapterPricer`: an adapter that prices in this process, for bulk work without a server."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import NotSupported
from ..reply_format import find_number
from .adapter_files import AdapterFacts, find_adapter
from .base_weights import require_extra
from .conversation import ConversationWriter, hash_prompts
from .lora_learner import LoraLearner

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ..learner import ChatMessages
    from .answering_loop import Answerer

    Floats = npt.NDArray[np.floating[Any]]

_KEY = "adapter"
_COLUMNS = ("price", "low", "high", "mass")
_LOW, _HIGH = 0.05, 0.95  # between these ends lie nine tenths of the model's own distribution


class AdapterPricer:
    """Prices conversations with an adapter, as exactly as the server does, in this process.

    It needs the extra `lora`. Only one thread may use it.

    Args:
        folder: An adapter's files, as `FineTuneJob.download` or `finetune-pricer export` leave them; or what
            `push_to_hub` has made of them, `ORGANISATION/NAME@REVISION`.
        base: Where its base model is, as `serve --base` has it, perhaps with options such as
            `,dtype=float32`; by default where it was when the adapter was trained.

    Raises:
        MissingFile: There is no adapter that a server of this package has trained, or no base model.
        ServiceUnavailable: The Hub does not give one of them.
        MissingExtra: The extra is not installed.
        DataError: The base has other weights, or writes prompts in another way, than the adapter's.
    """

    def __init__(self, folder: str | os.PathLike[str], *, base: str | None = None) -> None:
        require_extra()
        self.folder: Path = find_adapter(str(folder))
        """Where the adapter's files are on this machine."""
        self._facts = AdapterFacts.load(self.folder)
        named = base or self._facts.base
        if self._facts.prompts == hash_prompts("plain", "") and "template=" not in named:
            named += ",template=plain"
        self._learner = LoraLearner.from_text(named)
        self._learner.prepare()
        weights, recipe = self._learner.weights, self._learner.recipe
        self._writer = ConversationWriter(
            weights.load_tokenizer(), template=recipe.template, context=self._learner.context
        )
        self._facts.check_base(weights, self._writer)

    def __repr__(self) -> str:
        return f"AdapterPricer({str(self.folder)!r}, base={self._learner.base!r})"

    @property
    def base_folder(self) -> Path:
        """Where the base model's weights, tokenizer and chat template are on this machine."""
        return self._learner.weights.folder

    @cached_property
    def _answerer(self) -> Answerer:
        # It stands on torch, which whoever only writes prompts does not need.
        from .answering_loop import Answerer

        answerer = Answerer(self._learner)
        answerer.load(_KEY, self.folder)
        return answerer

    def write_prompts(self, conversations: Sequence[ChatMessages]) -> list[list[int]]:
        """Return conversations as the base model's tokens, the texts of their items cut as in training.

        Raises:
            NotSupported: The chat template refuses one, or one is over the context.
        """
        found = [self._writer.write_prompt(messages, self._facts.limit)[0] for messages in conversations]
        longest, context = max(map(len, found), default=0), self._learner.context
        if longest > context:
            raise NotSupported(f"a prompt has {longest:,} tokens, and the base model reads {context:,}")
        return found

    def price(self, conversations: Sequence[ChatMessages]) -> dict[str, list[float]]:
        """Return columns with a number for each conversation, in their order.

        `price` is the median of all prices that the model holds possible, in the currency of its training.
        Nine tenths of the probability lie from `low` to `high`; that is the model's own opinion, and no range
        with a guarantee. `mass` is the probability of all prices that were asked for together.

        Raises:
            NotSupported: As `write_prompts`; or the memory is too small for a single prompt.
        """
        prompts = self.write_prompts(conversations)
        columns: dict[str, list[float]] = {name: [] for name in _COLUMNS}
        # Of like length together: a batch is filled up to its longest prompt.
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        rows = dict(zip(order, self._ask([prompts[place] for place in order]), strict=True))
        for place in range(len(prompts)):
            chances = np.asarray(rows[place], dtype=np.float64)
            ends = [self._find_quantile(chances, q) for q in (0.5, _LOW, _HIGH)]
            _add_row(columns, [*ends, float(chances.sum())])
        return columns

    def read_draws(self, replies: Sequence[Sequence[str]]) -> dict[str, list[float]]:
        """Return the same columns by replies that another engine has drawn, several for each conversation.

        `mass` is the share of draws that named a price in the form of the training. Where none did, it is 0,
        and the others are no numbers (NaN).
        """
        columns: dict[str, list[float]] = {name: [] for name in _COLUMNS}
        for draws in replies:
            prices = [price for reply in draws if (price := self._read(reply)) is not None]
            ends = np.quantile(prices, [0.5, _LOW, _HIGH]) if prices else np.full(3, np.nan)
            _add_row(columns, [*map(float, ends), len(prices) / max(len(draws), 1)])
        return columns

    def _read(self, reply: str) -> float | None:
        """Return the price in a reply; None where it is not written as a price was in training."""
        price, form = find_number(reply), self._facts.form
        return price if price is not None and form.write(price).strip() == reply.strip() else None

    def _ask(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        return self._answerer.ask(_KEY, prompts) if prompts else []

    def _find_quantile(self, chances: Floats, q: float) -> float:
        """Return the first price up to which a share `q` of the probability lies."""
        below = np.cumsum(chances)
        place = int(np.searchsorted(below, q * below[-1]))
        return float(self._facts.points.prices[min(place, len(chances) - 1)])


def _add_row(columns: dict[str, list[float]], values: Sequence[float]) -> None:
    for name, value in zip(_COLUMNS, values, strict=True):
        columns[name].append(value)
