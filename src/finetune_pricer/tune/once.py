"""Asking once for what is paid for or kept: noted before and after, looked for when the answer was lost."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol, TypeVar

from .._service.flow import Flow, Pause
from .._service.polling import LONGEST_ASKED
from ..errors import PricerError, ServiceError, ServiceUnavailable

if TYPE_CHECKING:
    from .journal import Account, Entry

_log = logging.getLogger("finetune_pricer")

_GRACE = (0.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each look: a slow gateway may pass a request on late
_SENDS = 3


class Record(Protocol):
    """What a service made."""

    @property
    def id(self) -> str:
        """The service's name for it."""


T = TypeVar("T", bound=Record, covariant=True)  # noqa: PLC0105 - one letter, as everywhere


class Order(Protocol[T]):
    """A file or a job that shall be at the service once."""

    @property
    def kind(self) -> str:
        """`file` or `job`."""

    @property
    def what(self) -> str:
        """The hash of what it is made of."""

    def kept(self, id_: str) -> Flow[T | None]:
        """Give what was made before, if it is still there and worth having."""

    def elsewhere(self) -> Flow[T | None]:
        """Give the same thing where this journal knows nothing of it."""

    def look(self, entry: Entry) -> Flow[T | None]:
        """Give what one request made whose answer was lost."""

    def prepare(self) -> Flow[None]:
        """Do what must be done before the request, such as checks."""

    def send(self, entry: Entry) -> Flow[T]:
        """Send the request."""


def once(account: Account, order: Order[T], *, again: bool = False) -> Flow[T]:
    """Give what was ordered: what is at the service already, else what one request makes.

    Other processes that order the same wait meanwhile. With `again`, what is known to be there does not
    count, but a request of which nobody knows what became still does.
    """
    with (yield from account.lock(order.kind, order.what)):
        entry = account.find(order.kind, order.what)
        resolved = False
        if entry is not None and entry.id is None:
            entry, resolved = (yield from _resolved(account, order, entry)), True
        if entry is not None and entry.id is not None and (resolved or not again):
            kept = yield from order.kept(entry.id)
            if kept is not None:
                return kept
        if not again:
            found = yield from order.elsewhere()
            if found is not None:
                account.found(order.kind, order.what, found.id)
                return found
        yield from order.prepare()
        return (yield from _sent(account, order))


def _resolved(account: Account, order: Order[T], entry: Entry) -> Flow[Entry | None]:
    """Find out what became of a request that an earlier process sent, or meant to send."""
    found = yield from _looked_for(order, entry)
    if found is None:
        account.forget(entry)
        return None
    account.answered(entry, found.id)
    return account.find(order.kind, order.what)


def _looked_for(order: Order[T], entry: Entry) -> Flow[T | None]:
    for pause in _GRACE:
        if pause:
            yield Pause(pause)
        found = yield from order.look(entry)
        if found is not None:
            return found
    return None


def _sent(account: Account, order: Order[T]) -> Flow[T]:
    entry = account.intend(order.kind, order.what)
    left = _SENDS
    while True:
        left -= 1
        try:
            made = yield from order.send(entry)
        except ServiceUnavailable as error:
            lost = yield from _after_a_loss(account, order, entry, error, last=not left)
            if lost is None:
                continue
            made = lost
        except ServiceError:
            account.forget(entry)  # refused: nothing came of it
            raise
        account.answered(entry, made.id)
        return made


def _after_a_loss(
    account: Account, order: Order[T], entry: Entry, error: ServiceUnavailable, *, last: bool
) -> Flow[T | None]:
    """Give what the request made after all, or None when it is to be sent again."""
    untouched = not error.reached or error.status == 429
    _log.info("no answer to the request for a %s (%s); looking for what came of it", order.kind, error)
    if not untouched:
        try:
            found = yield from _looked_for(order, entry)
        except PricerError as second:
            raise _unsettled(order, error) from second
        if found is not None:
            return found
    if last:
        if untouched:
            account.forget(entry)
        raise _unsettled(order, error) from error
    yield Pause(min(error.retry_after or 1.0, LONGEST_ASKED))
    return None


def _unsettled(order: Order[Record], error: ServiceUnavailable) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"{error}; call again with the same arguments: it looks for the {order.kind} before it asks for one",
        status=error.status,
        code=error.code,
        param=error.param,
        request_id=error.request_id,
        retry_after=error.retry_after,
        reached=error.reached,
    )
