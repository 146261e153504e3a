"""`Predictor`: ask a model for prices, of one item or of many at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from .._progress import track
from .._service.flow import run
from .._service.requests import Reply, send
from ..chat import look_ahead
from ._base import BasePredictor, check_calibration_items
from .batch import BatchRun
from .prediction import Prediction, Predictions
from .runners import run_in_threads
from .saved_pricer import Access, load_kind, save_pricer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from openai import OpenAI

    from ..items import Item
    from ..providers.pricing import TokenPricing
    from ..providers.provider import Provider
    from .engine import Sending


class Predictor(BasePredictor["OpenAI"]):
    """Asks a model for prices, in the words that it was trained on.

    Args:
        client: Any `openai.OpenAI`.
        model: A tuned model's name, such as `job.fine_tuned_model`, or any chat model.
        formatter: The one that wrote the training file.
        decoding: How to take the price from what the model knows. `auto` asks for one reply and its token
            probabilities, and gives their median where they tell amounts (see the how-to page "better prices
            without more training"), else the reply. `median` and `mean` give those of the token
            probabilities, with `samples` those of the samples; where there is no evidence, the reply.
            `greedy` is always the most likely reply.
        samples: How many replies to buy for each item where more than one is needed: with `median` and `mean`
            always, with `auto` for items whose token probabilities tell nothing. With 1 none are bought.
        highest: The highest price that a reply may name, in dollars. Keeps replies short, and below $1,000
            says that a token of three digits is the whole amount.
        concurrency: How many questions are under way at once in `predict_many`, at most. Without it, as many
            as the service answers quickly.
        requests_per_minute: A limit to keep. Without it, what the service's headers and refusals say.
        tokens_per_minute: A limit to keep.
        store: An SQLite file in which every answer is kept as it comes, so that a run that was killed goes on
            where it was, and no question is paid for twice, by several threads and processes either. Keyed by
            service, account, model, messages and parameters. While it cannot be written, answers are held in
            memory; that is logged, and warned of where it lasts to the end of a run.
        provider: Whose service it is, for what that takes and offers. Without it, what the client's address
            says. A service that refuses a parameter all the same is asked otherwise from then on.
        budget: Dollars that this predictor's questions may cost, all in all; kept answers cost nothing. A
            question is sent only when the most that it can cost fits in, beside those that are under way.
            Items that are left carry an error that says so; `predict` raises it.
        pricing: What the service charges for this model, where it is not known here or not right.
        answer_parameters: What each request shall hold beside what is chosen here, such as a service's own
            switch for thinking, `{"chat_template_kwargs": {"enable_thinking": False}}`, or more room for it,
            `{"max_tokens": 8000}`. It goes before our choice; a value of None leaves a parameter of ours out.

    Raises:
        DataError: `model` is empty, as `job.fine_tuned_model` is before the job has succeeded, or a setting
            is out of range; or there is a budget, and nobody knows what a question costs.
        NotConfigured: There is no provider of that name.
        FileAccessError: The store cannot be opened, or is read-only.

    Examples:
        >>> from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue, Predictor, connect
        >>> client = connect("local")
        >>> train, _, test = MadeUpCatalogue().splits(train=30, validation=1, test=2)
        >>> training = JsonlWriter().write(train, "train.jsonl")
        >>> job = FineTuneJob.create(client, training, model="pricer-base", epochs=1, seed=42).wait()
        >>> predictor = Predictor(client, job.fine_tuned_model)
        >>> predictor.predict(test[0]).price > 0
        True
        >>> predictor.predict_many(test)
        Predictions(2 items, 0 without a price)
    """

    _awaits = False

    def predict(self, item: Item | str) -> Prediction:
        """Ask for the price of one item, priced or not, or of a text.

        A reply without a price is a `Prediction` whose price is None and whose `error` says why. The client
        retries as it was set up to.

        Raises:
            InvalidItem: The text is empty.
            OverBudget: The question does not fit into the budget any more; it was not sent.
            ServiceError: The service refuses (such as `ModelNotFound`) or does not answer in time.
        """
        return run(self._client_for_one(), self._dialogue.ask(item), time.sleep)

    def __call__(self, item: Item | str) -> float | None:
        """Return just the price in dollars, or None where the reply holds none."""
        return self.predict(item).price

    def predict_many(self, items: Iterable[Item | str]) -> Predictions:
        """Ask for many prices at once, with a progress bar; the order is kept.

        As fast as the service allows: refusals and faults are waited out and asked again. An item that fails
        all the same carries its error and does not touch the others, nor does a thing that is no item. While
        a service is away nothing new is sent to it, and when it stays away the rest carries its error.

        Raises:
            ServiceError: The model does not exist or the key is refused, and not one answer was received.
                After the first answer such an error is kept with the items that it concerns.
        """
        total = len(items) if isinstance(items, Sized) else None
        found = track(self.iter_predict(items), total=total, doing="pricing", failed=_is_unpriced)
        return Predictions(found)

    def iter_predict(self, items: Iterable[Item | str]) -> Iterator[Prediction]:
        """Yield predictions as answers come, in the items' order; memory does not grow with the items.

        Eight items for each question at once are taken in ahead of the first that is not done. When the
        caller stops, nothing more is asked, and answers that are under way are waited for and kept; after a
        Ctrl-C for five seconds at most.
        """
        choose_client = self._clients_for_many()

        def carry_out(sending: Sending) -> Reply:
            return send(choose_client(), sending.request)

        engine, ahead = self._make_engine(items), look_ahead(self.formatter, items)
        return run_in_threads(engine, ahead, carry_out, self._max_in_flight)

    def calibrate(
        self, items: Iterable[Item], *, coverage: float = 0.9, by: Literal["category", "price"] | None = None
    ) -> Self:
        """Ask for prices that are known, and return a predictor whose predictions have price ranges.

        Use items that the model was neither trained nor chosen on. If new items are like these, the range
        from `low` to `high` holds the true price of at least the share `coverage` of them; with `by`, of each
        category, or of each of four bands of predicted price. It promises nothing for a single item.
        `print(predictor.ranges)` says for which groups the promise is kept, and what can be expected.

        Args:
            items: Items with prices; at least 9 for 90 %, 19 for 95 %, and better hundreds.
            coverage: Share of true prices that the ranges shall hold.
            by: Keep the promise in each group of these. Of a group with too few items for one of its own, and
                of predictions without a distribution where there are too few, `ranges` says what they were
                joined with.

        Raises:
            InvalidItem: An item has no price; nothing was asked.
            DataError: A setting is out of range or there are too few items, and nothing was asked; or too few
                of the predictions have a price.
            ServiceError: As `predict_many`.
        """
        known = check_calibration_items(items, self.formatter, coverage, by)
        return self._with_ranges(self.predict_many(known), known, coverage, by)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write all that makes up this predictor into a folder, so that another program asks as it does.

        That is the model's name and the service's, the formatter with all its parameters, decoding, samples,
        limits, `answer_parameters` and price ranges, as JSON that people can read. It holds no key, no kept
        answer, no budget and no address; a `store=` is named anew when it is loaded.

        Args:
            folder: Made where it is missing; a pricer that was saved there is replaced as a whole.

        Raises:
            NotSupported: The formatter is one of your own; nothing was written.
            DataError: `answer_parameters` hold what looks like a key, or the folder holds a `pricer.json`
                that is no saved pricer's.
            FileAccessError: The folder cannot be written.
        """
        save_pricer(self, folder)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        client: OpenAI | None = None,
        *,
        provider: str | Provider | None = None,
        store: str | os.PathLike[str] | None = None,
        budget: float | None = None,
        pricing: TokenPricing | None = None,
        embed: Callable[..., Any] | None = None,
    ) -> Self:
        """Read what `save` wrote: it asks the same model in the same words, and gives the same ranges.

        Args:
            folder: What `save` wrote.
            client: Any `openai.OpenAI`; without one, `connect` makes one for the service that was saved, with
                the key from the environment. A model of the local server is where its folder is:
                `connect("local", dir=...)`.
            provider: As in `Predictor`.
            store: As in `Predictor`.
            budget: As in `Predictor`.
            pricing: As in `Predictor`.
            embed: The function from texts to vectors, where the formatter has neighbors that were found by
                one.

        Raises:
            MissingFile: There is no saved pricer.
            DataError: What is there is none, another kind, was changed since, or is of a newer version.
            NotConfigured: No client is given, and the service's key is not set, or the service is unknown.
        """
        access = Access(
            client=client, provider=provider, store=store, budget=budget, pricing=pricing, embed=embed
        )
        return cast("Self", load_kind(cls, folder, access))

    def predict_batch(
        self,
        items: Iterable[Item | str],
        *,
        journal: str | os.PathLike[str] | None = None,
        again: bool = False,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> BatchRun:
        """Hand the questions to the Batch API, which answers within a day, at about half the price.

        Called again with the same items, or with others among them, here or in another process, it finds the
        batches that hold the questions and sends only what none of them holds. Each request is noted in the
        journal before it is sent, and sent once. All items are held in memory. A `budget=` counts what is
        sent at the most that it can cost.

        Args:
            items: Items, priced or not, or texts.
            journal: Path of the journal of what was asked for; by default it is in `FINETUNE_PRICER_HOME`,
                else in the user's state folder.
            again: Ask anew for questions whose request was sent, never answered, and is not to be found.
            sleep: How to wait between questions.

        Raises:
            NotSupported: The service has no Batch API.
            OverBudget: What is to be sent does not fit into the budget; nothing was sent.
            ServiceUnavailable: No answer came. Where the request may have been taken, the message says when
                it was sent; calling again looks for it, and does not ask anew without `again`.
            ServiceError: The service refuses.
            FileAccessError: The journal cannot be written; nothing was sent.
        """
        return BatchRun(self._client, self._dialogue, items, journal=journal, again=again, sleep=sleep)

    def write_batch(self, items: Iterable[Item | str], path: str | os.PathLike[str]) -> int:
        """Write the questions as a file in the Batch API's form, for any runner; return how many there are.

        Nothing is sent and nothing counts against a `budget=`. Each line's `custom_id` is a hash of its
        question, by which `read_batch` finds the answer. The same question has one line. What has a kept
        answer in the `store=` has none: with a store, reading and writing again leaves what is still missing,
        and the further questions of items for which `samples` are to be bought. Memory does not grow with the
        items but for a few bytes each, and the file is written as a whole or not at all.

        Args:
            items: Items, priced or not, or texts; an item that cannot be asked about has no line.
            path: Where to write, such as `questions.jsonl`.

        Raises:
            FileAccessError: The path cannot be written; what stood there stays.
        """
        return self._write_batch(items, path)

    def read_batch(
        self,
        items: Iterable[Item | str],
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    ) -> Predictions:
        """Return predictions by what a runner has written of the questions of `write_batch`.

        The answers may stand in any order, and are kept where there is a `store=`. An item without one, or
        whose line holds an error, has no price, and its `error` says why. Answers are read from the disk one
        at a time.

        Args:
            items: Those that were handed to `write_batch`, in any order.
            path: The runner's file, or several, such as a service's output file and its error file.

        Raises:
            MissingFile: There is no such file.
            DataError: A line is cut, two answer the same question, or one answers a question that these items
                do not ask with this model, these words and these settings; the message names the line.
        """
        return self._read_batch(items, path)


def _is_unpriced(prediction: Prediction) -> bool:
    return prediction.price is None
