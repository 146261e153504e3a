"""Asking a model for prices: one item, or many at once."""

from __future__ import annotations

import codecs
import csv
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, overload

from .. import _wire
from .._files import replacing
from .._progress import track
from ..chat import ChatFormatter
from ..errors import AccessDenied, DataError, NotFound, PriceNotFound, PricerError
from ..items import Item

if TYPE_CHECKING:
    import os

    import pandas as pd
    from openai import OpenAI

_END: Any = object()
_REPLY_TOKENS = 12  # "$999,999.99" is 6 tokens of o200k; a reply form of words needs a few more
_CONCURRENCY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that one answer cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model said about one item."""

    item_id: str
    price: float | None
    """Dollars (or the formatter's currency); None when the reply holds no price. Never 0 for want of one."""
    text: str | None = None
    """The reply as it came; None when none came."""
    low: float | None = None
    """Lower end of the price range; None without calibration."""
    high: float | None = None
    """Upper end of the price range; None without calibration."""
    decoding: str = "greedy"
    """How the price was taken from the model: `greedy` is its most likely reply."""
    usage: Usage = field(default_factory=Usage)
    latency: float = 0.0
    """Seconds from question to answer."""
    error: str | None = None
    """Why there is no price."""


class Predictions(Sequence[Prediction]):
    """Predictions in the order of their items."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        self._predictions = tuple(predictions)

    def to_frame(self) -> pd.DataFrame:
        """Give a frame with one row per prediction and one column per field of `Prediction`."""
        import pandas as pd

        return pd.DataFrame([_row(prediction) for prediction in self], columns=_COLUMNS)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the columns of `to_frame` to a CSV file in UTF-8; a missing price is an empty cell.

        Raises:
            FileAccessError: The path cannot be written; what stood there stays.
        """
        with replacing(path) as file:
            writer = csv.DictWriter(codecs.getwriter("utf-8")(file), _COLUMNS)
            writer.writeheader()
            writer.writerows(_row(prediction) for prediction in self)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        found = self._predictions[index]
        return Predictions(found) if isinstance(found, tuple) else found

    def __len__(self) -> int:
        return len(self._predictions)

    def __repr__(self) -> str:
        unpriced = sum(prediction.price is None for prediction in self)
        return f"Predictions({len(self):,} items, {unpriced:,} without a price)"


_COLUMNS = [
    name
    for entry in fields(Prediction)
    for name in (["prompt_tokens", "completion_tokens"] if entry.name == "usage" else [entry.name])
]


def _row(prediction: Prediction) -> dict[str, Any]:
    row = asdict(prediction)
    usage: dict[str, Any] = row.pop("usage")
    return row | usage


class _Halt:
    """The error after which asking on is useless, once it has come."""

    error: PricerError | None = None


class Predictor:
    """Asks a model for prices, in the words that it was trained on.

    Args:
        client: Any `openai.OpenAI`.
        model: A tuned model's name, such as `job.fine_tuned_model`, or any chat model.
        formatter: The one that wrote the training file.
        concurrency: How many questions are under way at once in `predict_many`.

    Raises:
        DataError: `model` is empty, as `job.fine_tuned_model` is before the job has succeeded.
    """

    def __init__(
        self,
        client: OpenAI,
        model: str | None,
        *,
        formatter: ChatFormatter | None = None,
        concurrency: int | None = None,
    ) -> None:
        if not model:
            raise DataError(
                "a predictor needs a model; job.fine_tuned_model is None until job.wait() has returned"
            )
        if concurrency is not None and concurrency < 1:
            raise DataError(f"concurrency must be at least 1, not {concurrency}")
        self._client = client
        self.model = model
        self.formatter = formatter or ChatFormatter()
        self.concurrency = concurrency or _CONCURRENCY

    def predict(self, item: Item | str) -> Prediction:
        """Ask for the price of one item, priced or not, or of a text.

        A reply without a price is a `Prediction` whose price is None and whose `error` says why.

        Raises:
            InvalidItem: The text is empty.
            ServiceError: The service refuses (such as `ModelNotFound`) or does not answer.
        """
        messages = self.formatter.prompt(item)
        asked = time.perf_counter()
        answer = _wire.chat(self._client, self.model, messages, temperature=0, max_tokens=_REPLY_TOKENS)
        return self._read(_id_of(item), answer, time.perf_counter() - asked)

    def __call__(self, item: Item | str) -> float | None:
        """Give just the price in dollars, or None where the reply holds none."""
        return self.predict(item).price

    def predict_many(self, items: Iterable[Item | str]) -> Predictions:
        """Ask for many prices at once, with a progress bar; the order is kept.

        An item that fails carries its error and does not touch the others.

        Raises:
            ServiceError: The model does not exist or the key is refused, and not one answer was received.
                After the first answer such an error is kept with the items that it struck.
        """
        total = len(items) if isinstance(items, Sized) else None
        return Predictions(track(self.iter_predict(items), total=total, doing="pricing"))

    def iter_predict(self, items: Iterable[Item | str]) -> Iterator[Prediction]:
        """Do the same one after the other as answers come, in order; memory does not grow with the items."""
        from concurrent.futures import Future, ThreadPoolExecutor

        halt, answered = _Halt(), False
        pending: deque[Future[Prediction]] = deque()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="finetune-pricer")
        try:
            waiting = iter(items)
            while True:
                # A few more than are under way, so that one slow answer at the head does not idle the others.
                while len(pending) < 4 * self.concurrency and (item := next(waiting, _END)) is not _END:
                    pending.append(pool.submit(self._kept, item, halt))
                if not pending:
                    return
                prediction = pending.popleft().result()
                answered = answered or prediction.text is not None
                if halt.error is not None and not answered:
                    # An item further on may have been answered meanwhile, and no answer is thrown away.
                    answered = any(later.result().text is not None for later in pending)
                    if not answered:
                        raise halt.error
                yield prediction
        finally:
            pool.shutdown(cancel_futures=True)

    def _kept(self, item: Item | str, halt: _Halt) -> Prediction:
        if halt.error is not None:
            return Prediction(item_id=_id_of(item), price=None, error=str(halt.error))
        try:
            return self.predict(item)
        except PricerError as error:
            if isinstance(error, AccessDenied | NotFound):
                halt.error = error
            return Prediction(item_id=_id_of(item), price=None, error=str(error))

    def _read(self, item_id: str, answer: _wire.Answer, latency: float) -> Prediction:
        choice = (answer.get("choices") or [{}])[0]
        message, used = choice.get("message") or {}, answer.get("usage") or {}
        text, price, error = message.get("content"), None, None
        if text is not None and not isinstance(text, str):
            text, error = None, f"the reply is no text but {type(text).__name__}"
        elif not text or text.isspace():
            error = message.get("refusal") or "the reply is empty"
        elif choice.get("finish_reason") == "length" and text.rstrip()[-1:] in "0123456789.,":
            error = f"the reply was cut inside a number: {text!r}"
        else:
            try:
                price = self.formatter.read(text)
            except PriceNotFound as unread:
                error = str(unread)
        usage = Usage(
            prompt_tokens=used.get("prompt_tokens") or 0, completion_tokens=used.get("completion_tokens") or 0
        )
        return Prediction(item_id=item_id, price=price, text=text, usage=usage, latency=latency, error=error)


def _id_of(item: Item | str) -> str:
    if isinstance(item, Item):
        return item.id
    return Item(title=item).id if item.strip() else ""
