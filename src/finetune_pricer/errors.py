"""Every error that this package raises, divided by who must act.

```text
PricerError
├── DataError(ValueError)                 fix your data
│   ├── WrongArgument(TypeError)          hand in something else: the message says what
│   ├── InvalidItem                       one product cannot be an item
│   │   └── NotAnItem(WrongArgument)          ... nor was it meant to be: a text, a dictionary
│   ├── InvalidRows                       rows of a table or file cannot be items
│   ├── PriceNotFound                     a text holds no price
│   └── TrainingFileError                 a training file is not what it should be
├── OverBudget(ValueError)                spend less, or raise the budget
├── NotConfigured(LookupError)            set a key, or name a provider
├── MissingExtra(ImportError)             install an optional part
├── NotSupported(NotImplementedError)     this service or package cannot do that
├── FileAccessError(OSError)              a path cannot be read or written
│   └── MissingFile(FileNotFoundError)        there is no file at that path
├── HubError(OSError)                     a data set cannot be loaded from the Hub or a folder
├── ServiceError                          what a service answered
│   ├── ServiceUnavailable(ConnectionError)   try later
│   ├── AccessDenied(PermissionError)         fix the key or its rights
│   │   └── TrainingNotAvailable              ... this account trains no more here
│   ├── RequestRejected(ValueError)           change the request
│   └── NotFound(LookupError)                 the service has no such thing
│       └── ModelNotFound                     ... no such model
├── ModelRetired(ValueError)              the base model is shut down; nothing was sent
├── JobError(RuntimeError)                what became of a fine-tuning job
│   ├── JobFailed                         the service gave up, and says why
│   ├── JobCancelled                      somebody cancelled it
│   └── JobTimeout(TimeoutError)          it goes on; we stopped waiting
└── EvaluationError(ValueError)           there is nothing that could be scored
```

Each is a `PricerError` and the standard-library error that it refines, and survives pickling with its
attributes. Messages name the thing, the fact and the next step; they are for people and may change. The
classes and their attributes are the interface.
"""

# To add one: subclass `PricerError` and the standard error, draw it in the tree above, keep everything but
# the message keyword-only.

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ._escape import escape_text

if TYPE_CHECKING:
    from collections.abc import Sequence


class PricerError(Exception):
    """The base of all errors of this package."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        # What a service or a file said may hold codes that take a terminal over.
        return escape_text(self.message)

    def with_message(self, message: str) -> Self:
        """Return the same error with other words; its attributes stay."""
        error = copy.copy(self)
        error.args = (message,)
        error.message = message
        return error


class DataError(PricerError, ValueError):
    """Something in the caller's data is wrong; the message says what and where."""


class WrongArgument(DataError, TypeError):
    """What was handed in is not what this call takes; nothing was asked and nothing was written."""


class InvalidItem(DataError):
    """One product cannot be an item, or lacks what this step needs (a price, a text)."""


class NotAnItem(InvalidItem, WrongArgument):
    """Something else than an item stands where one is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """Why one row cannot be an item."""

    row: int
    """Position in the table or file, counted from 1."""
    field: str
    """The column at fault."""
    value: str
    """What stood there, as `repr` shows it, shortened."""
    reason: str
    """What is wrong with it."""
    line: int | None = None
    """The file's line on which the row begins, counted from 1; of an .xlsx the sheet's row. None where
    nothing has lines."""

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line not in {None, self.row} else ""
        return f"row {self.row}{line}: {self.field} = {self.value}: {self.reason}"


class InvalidRows(DataError):
    """Rows of a table or file cannot be items; `problems` holds them all, not the first only."""

    shown = 5
    """How many problems the message spells out."""

    def __init__(self, message: str, *, problems: Sequence[RowProblem] = ()) -> None:
        lines = [message, *(f"  {problem}" for problem in problems[: self.shown])]
        if len(problems) > self.shown:
            lines.append(f"  ... and {len(problems) - self.shown:,} more, in `error.problems`")
        super().__init__("\n".join(lines))
        self.problems: tuple[RowProblem, ...] = tuple(problems)


class PriceNotFound(DataError):
    """A text holds no price that can be read; `text` is that text."""

    def __init__(self, message: str, *, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class TrainingFileError(DataError):
    """A training file is empty, or is no longer the file that was checked."""


class OverBudget(PricerError, ValueError):
    """A job or a question would cost more than its budget has left; it was not bought."""

    def __init__(self, message: str, *, cost: float = 0.0, budget: float = 0.0) -> None:
        super().__init__(message)
        self.cost = cost
        """Dollars that it would cost."""
        self.budget = budget

    @property
    def over(self) -> float:
        """By how many dollars."""
        return self.cost - self.budget


class NotConfigured(PricerError, LookupError):
    """Nothing says which service to use, or a named one lacks its key."""


class MissingExtra(PricerError, ImportError):
    """An optional part of the package is needed and not installed."""


class NotSupported(PricerError, NotImplementedError):
    """This package or this service cannot do what was asked."""


class FileAccessError(PricerError, OSError):
    """A path cannot be read or written; what stood there before is unchanged."""


class MissingFile(FileAccessError, FileNotFoundError):
    """There is no file at a path."""


class HubError(PricerError, OSError):
    """A data set cannot be loaded from the Hugging Face Hub or from a folder in its layout."""


class ServiceError(PricerError):
    """What a service answered, or failed to."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status, or None where no answer came."""
        self.code = code
        """The service's own word for the problem, such as `model_not_found`."""
        self.param = param
        """The request parameter that the service points at."""
        self.request_id = request_id
        """What to tell the service's support."""


class ServiceUnavailable(ServiceError, ConnectionError):
    """No answer, too many requests, or a fault on the service's side: trying later may help."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        reached: bool = True,
    ) -> None:
        super().__init__(message, status=status, code=code, param=param, request_id=request_id)
        self.retry_after = retry_after
        """Seconds that the service asks to wait, where it says so."""
        self.reached = reached
        """Whether the service may have seen the request; False only where that is sure."""


class AccessDenied(ServiceError, PermissionError):
    """The key is missing, wrong, or lacks the right (HTTP 401, 403), or the account has no credit (402)."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        out_of_credit: bool = False,
    ) -> None:
        super().__init__(message, status=status, code=code, param=param, request_id=request_id)
        self.out_of_credit = out_of_credit
        """Whether the account's credit or quota is used up, in whatever words the service says so."""


class TrainingNotAvailable(AccessDenied):
    """This account may not train at this service any more, whatever the key (HTTP 403)."""


class RequestRejected(ServiceError, ValueError):
    """The service understood the request and refuses it (HTTP 400, 413, 422)."""


class NotFound(ServiceError, LookupError):
    """The service has no such file, job, model or feature (HTTP 404, 405 and 501)."""


class ModelNotFound(NotFound):
    """The service has no such model, or this key may not use it."""


class ModelRetired(PricerError, ValueError):
    """The base model is shut down, or its service takes no new jobs; nothing was sent."""

    def __init__(self, message: str, *, model: str = "", date: str = "") -> None:
        super().__init__(message)
        self.model = model
        self.date = date
        """Since when, as `YYYY-MM-DD`."""


class JobError(PricerError, RuntimeError):
    """What became of a fine-tuning job."""

    def __init__(
        self,
        message: str,
        *,
        job_id: str = "",
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.code = code
        """The service's word for the problem."""
        self.param = param
        """The job parameter that the service points at, such as `training_file`."""


class JobFailed(JobError):
    """The service gave the job up; the message carries its reason."""


class JobCancelled(JobError):
    """The job was cancelled before it finished."""


class JobTimeout(JobError, TimeoutError):
    """We stopped waiting; the job goes on, and the message says how to attach to it again."""


class EvaluationError(PricerError, ValueError):
    """There is nothing that could be scored, or what was given does not fit together.

    Where a model was asked and not one answer could be scored, `predictions` holds what it answered, in the
    order of the items: it was paid for.
    """

    def __init__(self, message: str, *, predictions: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.predictions = predictions
        """`Predictions` of a predictor, else what a function gave; empty where nobody was asked."""
