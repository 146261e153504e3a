"""The price column of foreign rows: numbers and texts -> prices, batch by batch.

What `1.299` means depends on the column's other prices, which may stand millions of rows further on. So a
text that a decimal point and a decimal comma read differently is kept in both readings until the last row was
seen; `settle` then says which one holds. Where nothing does, these rows are a question to the user.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, get_args

from .._format import format_money
from ..errors import PriceNotFound, RowProblem
from ..prices import find_decimal_mark, parse_amount
from .cell_rules import CellRules, DecimalMark
from .cells import is_mixed, unmix
from .item import read_price
from .spool import Spool
from .tables import BATCH, is_text, item_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

OTHER_PRICE = "price with a decimal comma"
"""The column that holds the second reading of prices until the source was read."""

# Texts that are the same number by every rule, so that they need not be read one by one.
_PLAIN = {None: r"^[0-9]{1,15}(\.[0-9]{1,2})?$", ".": r"^[0-9]{1,15}(\.[0-9]{1,9})?$", ",": "^[0-9]{1,15}$"}
_POINTS: tuple[DecimalMark, DecimalMark] = get_args(DecimalMark)


class PriceColumn:
    """Reads the prices of one source.

    Args:
        rules: How cells are meant.
        priced: Whether each row must have a price.
    """

    def __init__(self, rules: CellRules, *, priced: bool) -> None:
        self._currency = rules.currency or "USD"
        self._decimal: DecimalMark | None = rules.decimal
        self._zero_is = rules.zero_is
        self._priced = priced
        self._shown: dict[DecimalMark, tuple[int, str]] = {}
        """For each mark the first row whose price only this mark can read."""
        self._open: list[tuple[int, str, float, float]] = []
        """Rows that the two marks read differently, until a row shows the mark."""
        # By the currency's own writing `1.234` is a number with decimals, or it may be one of thousands.
        self._has_point = _writes_point(self._currency)
        self._any_others = False
        self._lines: dict[int, int] = {}
        """The file's lines of rows that may have to be told."""
        self.zeros = 0
        """How many prices of 0 there were."""

    def read(
        self,
        column: pa.ChunkedArray | None,
        n: int,
        first: int,
        problems: list[RowProblem],
        find_lines: Callable[[list[int]], list[int]] | None = None,
    ) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """Return the prices of a batch, and its prices if decimals stand behind a comma where that differs.

        Args:
            column: The batch's cells; None where there is no such column.
            n: How many rows the batch has.
            first: The number of the batch's first row.
            problems: Where rows without a good price are noted, numbered from 1 in this batch.
            find_lines: Gives the file's lines on which rows of the batch begin, where there is a file.
        """
        import pyarrow as pa

        cells: Any = pa.chunked_array([pa.nulls(n, pa.float64())]) if column is None else column
        prices, others = self._read_cells(cells, first, problems)
        self._note_lines(first, find_lines)
        prices = self._take_zeros(prices)
        if self._priced and prices.null_count:
            known = {problem.row for problem in problems}
            why = "has no price" + (" (0 is unknown)" if self._zero_is == "unknown" else "")
            for row, (price, cell) in enumerate(zip(prices.to_pylist(), cells, strict=True), start=1):
                if price is None and row not in known:
                    value = repr(cell.as_py())[:60]
                    problems.append(RowProblem(row=row, field="price", value=value, reason=why))
        return prices, others

    def settle(self) -> tuple[DecimalMark | None, list[RowProblem]]:
        """Return the column's decimal mark, and the rows that it does not settle, or that contradict it.

        The mark is None where some rows have a decimal point and others a decimal comma.
        """
        try:
            mark = find_decimal_mark([text for _, text in self._shown.values()], self._currency)
        except PriceNotFound:
            return None, [
                RowProblem(
                    row=row,
                    field="price",
                    value=repr(text)[:60],
                    reason=f"has decimals behind {mark!r}",
                    line=self._lines.get(row),
                )
                for mark, (row, text) in self._shown.items()
            ]
        return mark or ".", [self._ask(*cell) for cell in self._open]

    def history(self, mark: DecimalMark) -> list[str]:
        """Return what was done to the column, a sentence each."""
        done = ["prices read with a decimal comma"] if mark == "," else []
        if self.zeros and self._zero_is == "unknown":
            done.append(f"{self.zeros:,} price{'s' if self.zeros > 1 else ''} of 0 read as unknown")
        return done

    def write(self, table: pa.Table, mark: DecimalMark) -> pa.Table:
        """Return the table of items with the prices that the mark gives, less the rows left open.

        Args:
            table: Items, and in the column `OTHER_PRICE` the readings with a decimal comma.
            mark: What `settle` returned.
        """
        import pyarrow.compute as pc

        schema = item_schema()
        if not self._any_others or (mark == "." and not self._open):
            return table.select(schema.names)
        at = table.column_names.index("price")
        with Spool(schema) as spool:
            for start in range(0, table.num_rows, BATCH):
                part = table.slice(start, BATCH)
                if self._open:
                    part = part.filter(pc.is_null(part[OTHER_PRICE]))
                elif mark == ",":
                    part = part.set_column(at, "price", pc.coalesce(part[OTHER_PRICE], part["price"]))
                spool.write(part.select(schema.names).combine_chunks())
            return spool.table()

    def _read_cells(
        self, column: pa.ChunkedArray, first: int, problems: list[RowProblem]
    ) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = column.type
        others = pa.nulls(len(column), pa.float64())
        if pa.types.is_floating(kind) or pa.types.is_integer(kind):
            prices = column.cast(pa.float64(), safe=False)
            if pc.all(pc.and_(pc.is_finite(prices), pc.greater_equal(prices, 0))).as_py() is not False:
                return prices, pa.chunked_array([others])
        if pa.types.is_dictionary(kind) and is_text(kind.value_type):
            column = column.cast(kind.value_type)
        if is_text(column.type):
            return self._read_texts(column.cast(pa.string()), first, problems)
        values = iter(unmix(column)) if is_mixed(kind) else (scalar.as_py() for scalar in column)
        prices, others = self._read_values(values, range(1, len(column) + 1), first, problems)
        return pa.chunked_array([pa.array(prices, pa.float64())]), pa.chunked_array(
            [pa.array(others, pa.float64())]
        )

    def _read_texts(
        self, column: pa.ChunkedArray, first: int, problems: list[RowProblem]
    ) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """Read texts that are a plain number together, and the others one by one."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        plain = pc.fill_null(pc.match_substring_regex(column, _PLAIN[self._decimal]), False)
        numbers = pc.if_else(plain, column, None).cast(pa.float64())
        self._note_points(column, plain, first)
        rest = np.flatnonzero(~np.asarray(pc.or_(plain, pc.is_null(column))))
        if not len(rest):
            return numbers, pa.chunked_array([pa.nulls(len(column), pa.float64())])
        texts = column.take(pa.array(rest)).to_pylist()
        read, open_ = self._read_values(texts, (rest + 1).tolist(), first, problems)
        prices = numbers.to_numpy(zero_copy_only=False).copy()
        prices[rest] = [np.nan if price is None else price for price in read]
        others = np.full(len(column), np.nan)
        others[rest] = [np.nan if other is None else other for other in open_]
        return _with_nulls(prices), _with_nulls(others)

    def _note_points(self, column: pa.ChunkedArray, plain: pa.ChunkedArray, first: int) -> None:
        import pyarrow.compute as pc

        if self._decimal is not None or "." in self._shown:
            return
        row = pc.index(pc.and_(plain, pc.fill_null(pc.match_substring(column, "."), False)), True).as_py()
        if row >= 0:
            self._note_mark(".", first + row, column[row].as_py())

    def _note_mark(self, mark: DecimalMark, row: int, text: str) -> None:
        self._shown.setdefault(mark, (row, text))
        self._open.clear()

    def _read_values(
        self, values: Iterable[Any], rows: Iterable[int], first: int, problems: list[RowProblem]
    ) -> tuple[list[float | None], list[float | None]]:
        known: dict[str, tuple[float | None, float | None]] = {}  # prices repeat
        prices, others = list[float | None](), list[float | None]()
        for row, value in zip(rows, values, strict=True):
            price, other = None, None
            try:
                if not isinstance(value, str):
                    price = None if _is_nan(value) else read_price(value)
                elif value in known:
                    price, other = known[value]
                else:
                    price, other = known[value] = self._read_text(value, first + row - 1)
                if other is not None:
                    self._keep_open(first + row - 1, value, price or 0.0, other)
            except ValueError as error:
                problems.append(RowProblem(row=row, field="price", value=repr(value)[:60], reason=str(error)))
            prices.append(price)
            others.append(other)
        return prices, others

    def _read_text(self, text: str, row: int) -> tuple[float | None, float | None]:
        """Return a text's price with a decimal point, and with a decimal comma where that is another."""
        if self._decimal is not None or not ("." in text or "," in text):
            return read_price(text, self._currency, self._decimal), None
        read: dict[DecimalMark, float | None] = {}
        reasons = list[ValueError]()
        for mark in _POINTS:
            try:
                read[mark] = read_price(text, self._currency, mark)
            except ValueError as error:
                reasons.append(error)
        if not read:
            read_price(text, self._currency)  # its reason is the plainer one, where it has one
            raise reasons[-1]
        if len(read) == 1:
            [(mark, price)] = read.items()
            self._note_mark(mark, row, text)
            return price, None
        return read["."], None if read["."] == read[","] else read[","]

    def _take_zeros(self, prices: pa.ChunkedArray) -> pa.ChunkedArray:
        import pyarrow.compute as pc

        zero = pc.equal(prices, 0)
        zeros = pc.sum(zero).as_py() or 0
        self.zeros += zeros
        return (
            pc.if_else(pc.fill_null(zero, False), None, prices)
            if zeros and self._zero_is == "unknown"
            else prices
        )

    def _note_lines(self, first: int, find_lines: Callable[[list[int]], list[int]] | None) -> None:
        told = {*(row for row, _ in self._shown.values()), *(cell[0] for cell in self._open)}
        if find_lines and (rows := sorted(row for row in told if row >= first)):
            self._lines |= zip(rows, find_lines([row - first + 1 for row in rows]), strict=True)

    def _keep_open(self, row: int, text: str, point: float, comma: float) -> None:
        self._any_others = True
        if not (self._shown or self._has_point):
            self._open.append((row, text, point, comma))

    def _ask(self, row: int, text: str, point: float, comma: float) -> RowProblem:
        one, other = (
            f"{format_money(price, self._currency, 3 if price % 1 else 0)} with decimal={mark!r}"
            for price, mark in ((point, "."), (comma, ","))
        )
        reason = f"is {one} and {other}, and no other price of the column shows which: say one of them"
        line = self._lines.get(row)
        return RowProblem(row=row, field="price", value=repr(text)[:60], reason=reason, line=line)


def _writes_point(currency: str) -> bool:
    try:
        return parse_amount("1.234", currency) != 1234
    except PriceNotFound:
        return False


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _with_nulls(numbers: npt.NDArray[np.float64]) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([pa.array(numbers, pa.float64(), from_pandas=True)])  # nan is null
