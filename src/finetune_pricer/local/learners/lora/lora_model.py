"""`LoraModel`: a base model with or without an adapter, as the server asks it."""

from __future__ import annotations

import contextlib
import weakref
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..learner import Model, Reply
from ..reply_format import tokenize
from ..reply_trie import ReplyTrie

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..learner import ChatMessages, Sampling
    from .adapter_files import AdapterFacts
    from .adapter_folder import AdapterFolder
    from .answering_process import AnsweringProcess


class LoraModel(Model):
    """Asks another process how likely each price is, and speaks the replies in the server's usual tokens.

    So draws, temperature, the likeliest tokens and their probabilities agree, whatever the base model's own
    tokens are.
    """

    def __init__(
        self, process: AnsweringProcess, facts: AdapterFacts, adapter: tuple[str, AdapterFolder] | None = None
    ) -> None:
        self._process = process
        self._facts = facts
        self._adapter = None if adapter is None else (adapter[0], adapter[1].path)
        if adapter is not None:
            weakref.finalize(self, _let_go, process, *adapter)

    @cached_property
    def _trie(self) -> ReplyTrie:
        return ReplyTrie([tokenize(reply) for reply in self._facts.replies])

    def warm_up(self) -> None:
        """Load the adapter now, so that what keeps it from answering is known."""
        self.count_tokens([{"role": "user", "content": "?"}])

    def count_tokens(self, messages: ChatMessages) -> int:
        """Return how many tokens the base model reads of a prompt."""
        return int(self._process.order("count", self._adapter, messages=messages))

    def reply(self, messages: ChatMessages, sampling: Sampling) -> Sequence[Reply]:
        """Return replies; each names a price in few tokens, so that none is cut here."""
        chances = self._process.order("ask", self._adapter, messages=messages)
        return self._trie.distribution(np.array(chances, dtype=np.float64)).reply(sampling)


def _let_go(process: AnsweringProcess, key: str, folder: AdapterFolder) -> None:
    with contextlib.suppress(Exception):  # the process may be gone
        process.drop(key)
    folder.remove()
