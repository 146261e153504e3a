"""What whoever hands in foreign rows says about their cells: the currency, decimals, zeros and markup."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from .._format import Unnamed, require_currency
from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

_CURRENCY, _ZERO_IS = b"finetune_pricer.currency", b"finetune_pricer.zero_is"  # in a file's metadata

DecimalMark = Literal[".", ","]
"""What stands before the decimals of prices that are text."""
ZeroIs = Literal["unknown", "price"]
"""What a price of 0 means: that nobody knows the price, or that the product costs nothing."""
Html = Literal["strip", "keep"]
"""What happens to markup in texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRules:
    """How the cells of foreign rows are meant.

    Raises:
        DataError: A value is none of those that are known.
    """

    currency: str | None = None
    """ISO code; None takes what the rows say of themselves, else USD."""
    decimal: DecimalMark | None = None
    """None lets the column show it."""
    zero_is: ZeroIs | None = None
    """None leaves zeros as they are, and whoever would learn from them asks."""
    html: Html = "strip"

    def __post_init__(self) -> None:
        if self.currency is not None:
            require_currency(self.currency)
        for name, known in (("decimal", DecimalMark), ("zero_is", ZeroIs), ("html", Html)):
            value, values = getattr(self, name), get_args(known)
            known_one = isinstance(value, str) and value in values
            if not known_one and (value is not None or name == "html"):
                raise DataError(f"{name} is {' or '.join(map(repr, values))}, not {value!r}")

    def with_notes(self, source: str, metadata: Mapping[bytes, bytes]) -> CellRules:
        """Return the rules with what the rows say of themselves, where they were written here.

        Raises:
            DataError: They say another currency than these rules.
        """
        if _CURRENCY not in metadata:
            return self
        currency = metadata[_CURRENCY].decode() or self.currency
        if self.currency not in {None, currency}:
            raise DataError(
                f"the prices of {source} are in {currency}, as it says itself, and not in {self.currency}; "
                "leave currency= out"
            )
        zero: Any = metadata.get(_ZERO_IS, b"").decode() or None
        # Their texts were read before: what looks like markup in them is meant.
        return replace(self, currency=currency, zero_is=self.zero_is or zero, html="keep")


def write_notes(currency: str, zero_is: ZeroIs | None) -> dict[bytes, bytes]:
    """Return what a Parquet file says of its prices, as `CellRules.with_notes` reads it."""
    notes = {_CURRENCY: b"" if isinstance(currency, Unnamed) else currency.encode()}
    return notes if zero_is is None else notes | {_ZERO_IS: zero_is.encode()}
