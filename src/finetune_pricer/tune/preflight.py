"""The preflight: what is checked about a job before anything is uploaded."""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from .._service.flow import Flow, Work, ask
from .._service.requests import get_model
from ..errors import (
    AccessDenied,
    DataError,
    ModelNotFound,
    ModelRetired,
    NotFound,
    RequestRejected,
    TrainingFileError,
)
from ..prepare.jsonl import TrainingFile
from ..providers.lookup import get_providers
from .cost import estimate_cost, require_within_budget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..providers.provider import Provider, Retirement
    from .records import UploadedFile
    from .spec import JobSpec

_SOON = 90  # days


def preflight(spec: JobSpec, *, force: bool, budget: float | None = None) -> Flow[None]:
    """Make sure that a job can be asked for; nothing is sent but a question about the model.

    Raises:
        TrainingFileError: A file is too small or too large for the service.
        OverBudget: Training costs more than the budget.
        DataError: There is a budget, and no way to work out the cost.
        ModelRetired: The model is shut down, or its service takes no jobs any more; not with `force`.
        ModelNotFound: The service has no such model.
    """
    for file in spec.local_files:
        check_size(file, spec.provider)
    check_count(spec.training, spec.provider)
    if budget is not None:
        yield Work(lambda: check_budget(spec, budget))
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

    Raises:
        OverBudget: It does.
        DataError: Its cost cannot be worked out: the epochs or the price are not known, or a file lies only
            at the service.
    """
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
    for day, what in _list_ends(model, provider, known, announced):
        if day <= today and not force:
            raise ModelRetired(
                f"{what}; it is {today}. {name_alternatives(provider)}; force=True asks all the same",
                model=model,
                date=day.isoformat(),
            )
        if (day - today).days <= _SOON:
            notes.append(what)
    if known is not None and known.existing_customers_only:
        notes.append(
            f"{provider.name!r} trains {model!r} for existing customers only, until {known.training_ends}, "
            f"says {known.source}, read on {provider.as_of}; others are refused"
        )
    if notes:
        warnings.warn(f"{'; '.join(notes)}. {name_alternatives(provider)}", UserWarning, stacklevel=2)


def _list_ends(
    model: str, provider: Provider, known: Retirement | None, announced: date | None
) -> Iterator[tuple[date, str]]:
    stops = f"model {model!r} stops at {provider.name!r} on"
    if announced is not None:
        yield announced, f"{stops} {announced}, says the service"
    elif known is not None and known.training_ends is not None:
        what = f"{stops} {known.training_ends}, says {known.source}, read on {provider.as_of}"
        if known.serving_ends is not None:
            what += f" (and what was tuned on it on {known.serving_ends})"
        yield known.training_ends, what
    if (last := provider.no_new_jobs_after) is not None:
        yield (
            last + timedelta(days=1),
            f"{provider.name!r} takes its last jobs on {last}, read on {provider.as_of}",
        )


def name_alternatives(provider: Provider) -> str:
    """Return a sentence that names where the same files can be trained."""
    places = [
        f"{other.name} ({', '.join(other.trains)})"
        for other in get_providers().values()
        if other.trains and other.name != provider.name
    ]
    return f"The same file can be trained at: {', '.join(places)}"
