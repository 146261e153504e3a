"""A pricer in a folder, as `train` leaves it and other commands take it up again."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..predict import Ensemble, Predictor, Usage
from ..predict.saved_pricer import Access, SavedPricer, load_kind
from ..prepare import count_tokens

if TYPE_CHECKING:
    from pathlib import Path

    from ..evaluate import Baseline
    from ..items import ItemDataset
    from .options import Service

    Pricer = Predictor | Ensemble | Baseline

SERVER = "server"
"""The folder of the local server that trained the model, within that of the pricer."""
ANSWERS = "answers.sqlite"
REPORT = "report.html"
EVALUATION = "evaluation.json"
_COUNTED = 200  # products whose tokens are counted


def load(folder: Path, service: Service, *, budget: float | None = None) -> Pricer:
    """Read a saved pricer; the local server that trained it is started where its folder is.

    Answers are kept beside it: a run that was interrupted goes on, and pays for nothing twice.
    """
    server = folder / SERVER
    client = store = None
    if service.base_url is None and server.is_dir():
        client = service.at(server).connect()  # on another port each time, so that no answer could be found
    else:
        client = None if service.base_url is None else service.connect()
        store = folder / ANSWERS
    # As `load_pricer`, which takes no budget.
    access = Access(client=client, store=store, budget=budget)
    return cast("Pricer", load_kind(SavedPricer, folder, access))


def find_cost(pricer: Pricer, items: ItemDataset) -> float | None:
    """Return about how many dollars it costs to price items; None where nobody knows."""
    if isinstance(pricer, Ensemble):
        return None if pricer.cost is None else pricer.cost * len(items) / 1_000
    if not isinstance(pricer, Predictor):
        return 0.0
    million = Usage(prompt_tokens=1_000_000, completion_tokens=1_000_000)
    if not (most := pricer.price_usage(million)):
        return most  # and no token is counted, for which a vocabulary may have to be fetched
    formatter = pricer.formatter
    reply = {"role": "assistant", "content": formatter.reply}
    if not len(items):
        return 0.0
    some = items[:: max(1, len(items) // _COUNTED)]
    count = count_tokens([[*formatter.prompt(item), reply] for item in some])
    share = len(items) / len(some)
    return pricer.price_usage(
        Usage(prompt_tokens=round(count.prompts * share), completion_tokens=round(count.replies * share))
    )
