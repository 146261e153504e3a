"""The preflight: what is checked about a job before anything is uploaded, and of its cost just after that."""

from __future__ import annotations

import logging
import math
import warnings
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from .._service.flow import Flow, Work, ask
from .._service.requests import get_model, get_path, post_path
from ..errors import (
    AccessDenied,
    DataError,
    ModelNotFound,
    ModelRetired,
    NotFound,
    NotSupported,
    OverBudget,
    RequestRejected,
    TrainingFileError,
)
from ..prepare.jsonl import TrainingFile
from ..providers.lookup import SOON, get_providers
from ..providers.pricing import find_pricing
from .cost import estimate_cost, explain_over_budget, require_amount, require_within_budget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from ..providers.provider import Provider, Retirement
    from .records import UploadedFile
    from .spec import JobSpec

_log = logging.getLogger("finetune_pricer")
_FIRST_LINE = 2**20  # bytes of it that are read


def preflight(spec: JobSpec, *, force: bool, budget: float | None = None) -> Flow[None]:
    """Make sure that a job can be asked for; nothing is sent but a question about the model.

    Raises:
        TrainingFileError: A file is too small or too large for the service.
        OverBudget: Training costs more than the budget.
        DataError: There is a budget, and no way to work out the cost.
        ModelRetired: The model is shut down, or its service takes no jobs any more; not with `force`.
        ModelNotFound: The service has no such model, or says that it cannot be tuned; the latter not with
            `force`.
    """
    for file in spec.local_files:
        check_size(file, spec.provider)
    check_count(spec.training, spec.provider)
    if budget is not None:
        yield Work(lambda: check_budget(spec, budget))
    _say_what_is_recommended(spec)
    _warn_of_missing_block(spec)
    if not force:
        yield from _require_tunable(spec)
    today = datetime.now(UTC).date()
    try:
        announced = yield from _ask_shutdown_date(spec)
    except ModelNotFound:
        # A model that was shut down may be unknown by now; its date says more than that.
        check_dates(spec.model, spec.provider, announced=None, today=today, force=force)
        if not force:
            raise
    else:
        check_dates(spec.model, spec.provider, announced=announced, today=today, force=force)


def check_budget(spec: JobSpec, budget: float) -> None:
    """Refuse a job whose training costs more than a budget in dollars.

    Where its cost cannot be worked out here, and the service says what a job costs, `check_estimate` holds
    the budget.

    Raises:
        OverBudget: It does.
        DataError: Its cost cannot be worked out: the epochs or the price are not known, or a file lies only
            at the service.
    """
    budget = require_amount(budget)
    if spec.provider.estimate_path is not None and not _is_countable(spec):
        return
    if not isinstance(spec.epochs, int):
        raise DataError(f"a budget needs to know the epochs, not {spec.epochs!r}: hand in epochs=1 or more")
    training, validation = spec.training, spec.validation
    if not isinstance(training, TrainingFile) or not isinstance(validation, TrainingFile | None):
        raise DataError("a budget needs files that can be counted: hand in what JsonlWriter.write returned")
    estimate = estimate_cost(
        training,
        model=spec.model,
        epochs=spec.epochs,
        validation=validation,
        provider=spec.provider.name,
    )
    require_within_budget(estimate, budget)


def _say_what_is_recommended(spec: JobSpec) -> None:
    """Log the settings that nobody named, before anything is sent."""
    why = spec.recommendation
    if why is not None and spec.recommended:
        _log.info(
            "settings that you did not name are those recommended for short examples at %r: %s; None leaves "
            "one to the service. Why: %s (%s, read on %s)",
            spec.provider.name,
            ", ".join(f"{name}={value:g}" for name, value in spec.recommended.items()),
            why.why,
            why.source,
            why.confirmed_on or why.as_of,
        )


def _warn_of_missing_block(spec: JobSpec) -> None:
    """Warn where a base model that thinks learns from answers without the empty think block it wants."""
    known = spec.provider.thinking_of(spec.model)
    file = spec.training
    if known is None or not known.empty_block or not isinstance(file, TrainingFile):
        return
    with suppress(OSError), file.path.open("rb") as opened:
        if known.empty_block.split()[0].encode() not in opened.readline(_FIRST_LINE):
            _log.warning(
                "%r thinks, and the answers in %r begin with no empty think block: once tuned, it may think "
                "aloud again; ChatFormatter().for_base(%r, %r) writes them with it",
                spec.model,
                str(file.path),
                spec.model,
                spec.provider.name,
            )


def _is_countable(spec: JobSpec) -> bool:
    row = find_pricing(spec.provider.name, spec.model)
    is_priced = row is not None and row.train is not None
    return is_priced and isinstance(spec.epochs, int) and len(spec.local_files) == len(spec.files)


def check_estimate(spec: JobSpec, body: Mapping[str, Any], budget: float) -> Flow[None]:
    """Ask the service what a job would cost, where it can say so, and refuse one over the budget in dollars.

    Args:
        spec: The job; its files are at the service.
        body: The request that would be sent.
        budget: Dollars that it may cost.

    Raises:
        OverBudget: It costs more.
        DataError: The service does not say, and the cost could not be worked out here either.
    """
    path = spec.provider.estimate_path
    if path is None:
        return
    try:
        cost = _read_estimate((yield from ask(post_path(path, body))))
    except (NotFound, NotSupported, RequestRejected) as error:
        _log.info("%r does not say what the job would cost: %s", spec.provider.name, error)
        cost = None
    if cost is None and not _is_countable(spec):
        raise DataError(
            f"{spec.provider.name!r} does not say what training {spec.model!r} would cost, so no budget "
            "can be held: look up the price and leave out budget="
        )
    if cost is not None and cost > budget:
        costs = explain_over_budget(cost, budget)
        raise OverBudget(
            f"training {spec.model!r} {costs}, says {spec.provider.name!r}; use fewer examples or epochs, or "
            "raise the budget",
            cost=cost,
            budget=budget,
        )


def _read_estimate(answer: Mapping[str, Any]) -> float | None:
    """Return the dollars of an estimate; the field's name is not documented."""
    for name, value in answer.items():
        if "price" in name.lower() or "cost" in name.lower():
            try:
                dollars = float(value.strip().lstrip("$") if isinstance(value, str) else value)
            except (TypeError, ValueError):
                continue
            if not isinstance(value, bool) and math.isfinite(dollars) and dollars >= 0:
                return dollars
    return None


def name_model(spec: JobSpec) -> Flow[JobSpec]:
    """Return the spec with the service's own id of its model, where jobs name it so.

    Where the service's list has no such model, the job names it as the user did.
    """
    if not spec.provider.names_models_by_id:
        return spec
    row = yield from _find_in_catalogue(spec)
    return spec if row is None else replace(spec, model_id=str(row["id"]))


def _require_tunable(spec: JobSpec) -> Flow[None]:
    if spec.provider.names_models_by_id:
        row = yield from _find_in_catalogue(spec)
        if row is not None and row.get("fine_tuning_available") is False:
            raise ModelNotFound(
                f"{spec.provider.name!r} says that {spec.model!r} cannot be tuned; GET /models shows those "
                "that can be, as fine_tuning_available; force=True asks all the same"
            )


def _find_in_catalogue(spec: JobSpec) -> Flow[Mapping[str, Any] | None]:
    """Return what `GET /models` says of a base model, which goes by its id or its public name."""
    try:
        answer = yield from ask(get_path("models"))
    except (NotFound, NotSupported, AccessDenied, RequestRejected) as error:
        _log.info("%r does not list its models: %s", spec.provider.name, error)
        return None
    listed = answer.get("data")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    wanted = spec.model.lower()
    for row in rows:
        names = {str(row.get("id")).lower(), str(row.get("model_name")).lower()}
        if row.get("id") and wanted in names and row.get("model_type") in (None, "base_model"):
            return row
    return None


def check_size(file: TrainingFile, provider: Provider) -> None:
    """Refuse a file that is too large for the service.

    Raises:
        TrainingFileError: It is.
    """
    if file.bytes > provider.max_file_bytes:
        raise TrainingFileError(
            f"{str(file.path)!r} has {file.bytes:,} bytes; {provider.name!r} takes at most "
            f"{provider.max_file_bytes:,}: write fewer items"
        )


def check_count(file: TrainingFile | UploadedFile, provider: Provider) -> None:
    """Refuse too few examples to train on.

    Raises:
        TrainingFileError: There are fewer than the service wants.
    """
    if isinstance(file, TrainingFile) and file.examples < provider.min_examples:
        raise TrainingFileError(
            f"{str(file.path)!r} has {file.examples} examples; {provider.name!r} wants at least "
            f"{provider.min_examples}: write more items"
        )


def _ask_shutdown_date(spec: JobSpec) -> Flow[date | None]:
    """Ask the service when the model stops; None where it does not say."""
    try:
        answer = yield from ask(get_model(spec.model))
    except (NotFound, AccessDenied, RequestRejected) as error:
        # Some services list only what answers questions, not what can be trained, or take no slash in a name.
        if isinstance(error, ModelNotFound) and spec.provider.lists_bases:
            raise
        return None
    try:
        return date.fromisoformat(str(answer.get("shutdown_date"))[:10])
    except ValueError:
        return None


def check_dates(model: str, provider: Provider, *, announced: date | None, today: date, force: bool) -> None:
    """Refuse a model that is shut down, and warn of one that soon will be.

    Args:
        model: A base model, or a tuned one to train on.
        provider: What is known of the service.
        announced: The date that the service itself gives; it wins over what is known.
        today: The day to compare with.
        force: Warn where one would refuse.

    Raises:
        ModelRetired: The message says since when, by whose word, and where else one can train.
    """
    known = provider.retirement(model)
    notes = []
    for day, what, is_sure in _list_ends(model, provider, known, announced):
        if day <= today and is_sure and not force:
            raise ModelRetired(
                f"{what}; it is {today}. {name_alternatives(provider)}; force=True asks all the same",
                model=model,
                date=day.isoformat(),
            )
        if (day - today).days <= SOON:
            notes.append(what)
    if known is not None and known.existing_customers_only:
        notes.append(
            f"{provider.name!r} trains {model!r} for existing customers only, says {known.source}, read on "
            f"{_read_on(known, provider)}; others may be refused"
        )
    if notes:
        warnings.warn(f"{'; '.join(notes)}. {name_alternatives(provider)}", UserWarning, stacklevel=2)


def _list_ends(
    model: str, provider: Provider, known: Retirement | None, announced: date | None
) -> Iterator[tuple[date, str, bool]]:
    stops = f"model {model!r} stops at {provider.name!r}"
    if announced is not None:
        yield announced, f"{stops} on {announced}, says the service", True
    elif known is not None and known.training_ends is not None:
        when = "no earlier than" if known.is_earliest else "on"
        what = (
            f"{stops} {when} {known.training_ends}, says {known.source}, read on {_read_on(known, provider)}"
        )
        if known.serving_ends is not None:
            what += f" (and what was tuned on it {when} {known.serving_ends})"
        yield known.training_ends, what, not known.is_earliest
    if (last := provider.no_new_jobs_after) is not None:
        yield (
            last + timedelta(days=1),
            f"{provider.name!r} takes its last jobs on {last}, read on {provider.as_of}",
            True,
        )


def _read_on(known: Retirement, provider: Provider) -> date | None:
    return known.confirmed_on or known.as_of or provider.as_of


def name_alternatives(provider: Provider) -> str:
    """Return a sentence that names where the same files can be trained."""
    places = [
        f"{other.name} ({', '.join(other.trains)})"
        for other in get_providers().values()
        if other.trains and other.name != provider.name
    ]
    return f"The same file can be trained at: {', '.join(places)}"
