"""Asking several predictors about the same items side by side, item by item."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, closing
from numbers import Real
from typing import TYPE_CHECKING, cast

from .._arguments import refuse
from ..errors import DataError, ServiceError
from ..items import Item, require_item
from .dialogue import id_of
from .prediction import Prediction

if TYPE_CHECKING:
    from .prediction import PricesMany

_AT_ONCE = 500  # items of a member that takes many at once only
_log = logging.getLogger("finetune_pricer")


def ask_side_by_side(
    members: Sequence[tuple[str, PricesMany]], items: Iterable[Item | str], *, strict: bool
) -> Iterator[tuple[Item | str, list[Prediction]]]:
    """Yield each item with what each member says of it; memory does not grow with the items.

    Predictors have questions under way, in threads of their own, while others are waited for. When the caller
    stops, nothing more is asked, and answers that are under way are waited for and kept.

    Args:
        members: Their names, for messages, and they themselves.
        items: Items or texts.
        strict: Whether a member whose service fails ends it all. Else it has no price for the items that are
            left, and only when no member can be asked any more it ends.

    Raises:
        ServiceError: A member cannot be asked, or none can.
        WrongArgument: A member gives what is no prediction, or a price that is no number.
        DataError: A member gives more or fewer predictions than one for each item, or in another order.
    """
    first, *copies = _copy(items, len(members) + 1)
    with ExitStack() as stack:
        streams = [
            stack.enter_context(closing(_Stream(name, member, source, strict=strict)))
            for (name, member), source in zip(members, copies, strict=True)
        ]
        for row, item in enumerate(first, start=1):
            require_item(item, row, or_text=True)
            found = [stream.take(item) for stream in streams]
            if all(stream.error is not None for stream in streams):
                raise cast("ServiceError", streams[0].error)
            yield item, found


class _Stream:
    """What one member says, item by item; once its service has failed, that it has."""

    def __init__(
        self, name: str, member: PricesMany | None, items: Iterable[Item | str], strict: bool
    ) -> None:
        self.error: ServiceError | None = None
        self._name, self._strict = name, strict
        self._found = _predict(cast("PricesMany", member), name, items)

    def take(self, item: Item | str) -> Prediction:
        """Return the prediction of the next item, which is this one."""
        item_id = id_of(item)
        if self.error is None:
            try:
                found = next(self._found, None)
            except ServiceError as error:
                if self._strict:
                    raise
                self.error = error
                _log.warning(
                    "%s cannot be asked, and the other members price without it: %s", self._name, error
                )
            else:
                self._require_prediction(found)
                if found is None or found.item_id not in {item_id, ""}:
                    raise DataError(
                        f"{self._name} gave no prediction for item {item_id!r} where it was asked for one; "
                        "predict_many returns one for each item, in their order"
                    )
                return found
        return Prediction(item_id=item_id, price=None, error=str(self.error))

    def _require_prediction(self, found: object) -> None:
        if found is None:
            return  # it gave too few
        if not isinstance(found, Prediction):
            hint = "Prediction(item_id=item.id, price=5.0) makes one"
            raise refuse(f"what {self._name} gives for an item", "a Prediction", found, hint)
        is_number = isinstance(found.price, Real) and not isinstance(found.price, bool)
        if found.price is not None and not is_number:
            raise refuse(f"the price that {self._name} gives", "a number or None", found.price)

    def close(self) -> None:
        """End it: nothing more is asked."""
        self._found.close()


def _predict(member: PricesMany, name: str, items: Iterable[Item | str]) -> Generator[Prediction]:
    if (iter_predict := getattr(member, "iter_predict", None)) is not None:
        yield from iter_predict(items)
        return
    rest = iter(items)
    while some := list(itertools.islice(rest, _AT_ONCE)):
        found = member.predict_many(some)
        if not isinstance(found, Sized):
            raise refuse(f"what {name}.predict_many returns", "a list of predictions", found)
        if len(found) != len(some):
            raise DataError(
                f"{name} gave {len(found):,} predictions for {len(some):,} items; give one for each"
            )
        yield from found


def _copy(items: Iterable[Item | str], count: int) -> Sequence[Iterable[Item | str]]:
    """Return the items so many times; of what can be gone through once only, what is needed is held."""
    return [items] * count if isinstance(items, Sequence) else itertools.tee(items, count)
