"""A budget for questions: what was spent, what those under way may cost at most, and when to stop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .._format import format_dollars
from .._numbers import read_number
from ..errors import DataError, OverBudget, ServiceError, ServiceUnavailable
from ..providers.pricing import TokenPricing, find_pricing
from .parameters import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..items import Item
    from .dialogue import Dialogue, Question
    from .prediction import Usage

_MILLION = 1_000_000
_AROUND_MESSAGE = 16  # tokens that a chat template puts around a message, at most
_NO_ANSWER_IN_TIME = {408, 502, 504, 524}  # by which a gateway says so; behind it there may be one
_AROUND_PROMPT = 64  # and around all of them, such as a system message of its own


class Budget:
    """Dollars that may be spent on questions. For several threads at once.

    A question is sent only when the most that it can cost fits in beside what was spent and the most that
    those under way can cost. No token is shorter than a byte, so a prompt has at most as many as bytes.

    Args:
        dollars: The limit.
        model: The model that is asked.
        pricing: What a million tokens cost, asked and answered.

    Raises:
        DataError: The limit is no amount, or a price is not known.
    """

    def __init__(self, dollars: float, model: str, pricing: TokenPricing | None) -> None:
        limit = read_number(dollars)
        if limit is None or not 0 <= limit < float("inf"):
            raise DataError(f"budget must be a number of dollars of at least 0, not {dollars!r}")
        known = pricing or TokenPricing()
        if known.input is None or known.output is None:
            raise DataError(
                f"what asking {model!r} costs is not known, so no budget can be held: hand in "
                "pricing=TokenPricing(input=<dollars per million tokens>, output=<the same>), or leave out "
                "budget="
            )
        self.dollars = limit
        self._model, self._pricing = model, known
        self._asked, self._answered = known.input / _MILLION, known.output / _MILLION
        self._in_batches: set[str] = set()  # questions that a batch was sent with
        self._lock = threading.Lock()
        self.spent: float = 0.0
        """Dollars for what was answered, and for what may have been answered and was lost."""
        self._reserved, self._under_way = 0.0, 0
        self.problem: OverBudget | None = None
        """Why a question was left out for want of dollars."""

    @property
    def has_reserved(self) -> bool:
        """Whether questions are under way, which may cost less than was reserved for them."""
        return self._under_way > 0

    def most_for(self, dialogue: Dialogue, question: Question) -> float:
        """Return the most dollars that a question can cost."""
        asked, answered = _most_tokens(dialogue, question)
        return asked * self._asked + answered * self._answered

    def most_for_items(self, dialogue: Dialogue, items: Iterable[Item]) -> float:
        """Return the most dollars that a first question about each item can cost."""
        return sum(self.most_for(dialogue, next(dialogue.questions(item, item.id))) for item in items)

    def spend_on_batch(self, dialogue: Dialogue, questions: Mapping[str, Question]) -> None:
        """Count the most that questions of a batch can cost, each once, by its key.

        Raises:
            OverBudget: They do not fit in; nothing is to be sent.
            DataError: What questions of a batch cost is not known.
        """
        pricing = self._pricing
        if pricing.batch_input is None or pricing.batch_output is None:
            raise DataError(
                f"what a batch of questions to {self._model!r} costs is not known, so no budget can be held: "
                "hand in pricing=TokenPricing(batch_input=..., batch_output=...) with the others"
            )
        most = 0.0
        for key, question in questions.items():
            if key not in self._in_batches:  # or it has had no answer, which costs nothing
                asked, answered = _most_tokens(dialogue, question)
                most += (asked * pricing.batch_input + answered * pricing.batch_output) / _MILLION
        if not self.reserve(most):
            raise self.make_error(most)
        self.settle(most, most)
        self._in_batches |= questions.keys()

    def reserve(self, dollars: float) -> bool:
        """Set dollars aside for a question that is sent now; return False where they do not fit in."""
        with self._lock:
            # Sums of many small numbers: a millionth of a cent is no excess.
            if self.spent + self._reserved + dollars > self.dollars + 1e-9:
                return False
            self._reserved += dollars
            self._under_way += 1
            return True

    def reserve_or_raise(self, dialogue: Dialogue, question: Question) -> float:
        """Set dollars aside for a question and return them.

        Raises:
            OverBudget: They do not fit in.
        """
        most = self.most_for(dialogue, question)
        if not self.reserve(most):
            raise self.make_error(most)
        return most

    def settle(self, reserved: float, dollars: float) -> None:
        """Count what a question cost, in place of what was reserved for it."""
        with self._lock:
            self._under_way -= 1
            # From nothing again, where nothing is under way: sums of floats leave crumbs.
            self._reserved = self._reserved - reserved if self._under_way else 0.0
            self.spent += dollars

    def cost_of(self, usage: Usage, reserved: float) -> float:
        """Return what an answer cost; where the service does not say, what was reserved."""
        if not usage.prompt_tokens:
            return reserved
        return self.price(usage)

    def price(self, usage: Usage) -> float:
        """Return what so many tokens cost."""
        return usage.prompt_tokens * self._asked + usage.completion_tokens * self._answered

    def make_error(self, most: float) -> OverBudget:
        """Return the error for a question that does not fit in any more."""
        self.problem = OverBudget(
            f"not asked: of the budget of {format_dollars(self.dollars)}, {format_dollars(self.spent)} are "
            f"spent, and what is next can cost {format_dollars(most)}; with a larger budget= (and with "
            "store=, which gives what was answered for nothing) the same call goes on",
            cost=self.spent + most,
            budget=self.dollars,
        )
        return self.problem


def make_budget(
    dollars: float | None, model: str, provider: str, pricing: TokenPricing | None
) -> Budget | None:
    """Return the budget for asking a model; None without a limit.

    Raises:
        DataError: The limit is no amount, or a price is not known.
    """
    return None if dollars is None else Budget(dollars, model, pricing or find_pricing_of(model, provider))


def find_pricing_of(model: str, provider: str) -> TokenPricing | None:
    """Return what asking a model costs; a tuned model, `ft:base:...`, costs what its base does when tuned."""
    parts = model.split(":")
    return find_pricing(provider, parts[1] if parts[0] == "ft" and len(parts) > 1 else model)


def may_be_billed(error: BaseException) -> bool:
    """Whether a question that failed may have been answered at the service's side all the same."""
    if isinstance(error, ServiceUnavailable):
        return error.reached and (error.status is None or error.status in _NO_ANSWER_IN_TIME)
    return not isinstance(error, ServiceError) or error.status is None


def _most_tokens(dialogue: Dialogue, question: Question) -> tuple[int, int]:
    """Return the most tokens that a question can have, and its answer."""
    chosen = dialogue.choose_parameters(question)
    texts = [message["content"].encode() for message in question.messages]
    asked = _AROUND_PROMPT + sum(_AROUND_MESSAGE + len(text) for text in texts)
    most = max(chosen.get(name, 0) for name in LIMITS)
    return asked, most * chosen.get("n", 1)
