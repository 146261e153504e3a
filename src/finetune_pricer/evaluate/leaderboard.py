"""Many evaluations of the same items in one table: errors with intervals, costs, and ties shown as ties."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from .._arguments import require_flag, require_many, require_whole
from .._display import PrintsAsPage
from .._escape import escape_line
from .._format import format_dollars, format_money
from ..errors import EvaluationError
from .evaluation import require_evaluation
from .paired import adjust, align_entrants, measure_differences
from .report.format import Table, format_interval, format_metric, format_p, format_unscored
from .same_prices import name_once
from .unscored import best_first, enter

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from .evaluation import Evaluation
    from .unscored import Entrant, Unscored

_LEVEL = 0.05
_NOTE = (
    "A rank is one more than the number of models that are better beyond chance (paired permutation test, "
    "Holm over all pairs, 5 %), and never better than that of a model with a smaller error; a rank with = is "
    "shared by models that these items do not tell apart. p is of the difference to the first line."
)
_NOTE_ON_FILLED = (
    " The MAE is that of the items that a model priced; 'MAE, all' has the training median in the place of "
    "each price that is missing. Ranks and p go by it, so that leaving hard items out is no advantage."
)
_NOTE_ON_SKIPPED = " Unscored items were left out, so that leaving hard items out may be an advantage."


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One line of a leaderboard."""

    rank: int
    """One more than the number of models that are better beyond chance, and never better than the rank of a
    model with a smaller error."""
    tied: bool
    """Whether another model has the same rank."""
    evaluation: Evaluation
    p_against_first: float | None
    """How often chance alone makes such a difference to the first line, 0 to 1, adjusted; None for that
    line."""


class Leaderboard(PrintsAsPage):
    """Ranks evaluations of the same items by MAE. Models that these items do not tell apart share a rank.

    Where a model gave no price, the median of the training items stands in for it.

    Args:
        evaluations: At least one, with different names. Their baselines join, each name once.
        allow_different: Compare pairs on the items that they have in common where the sets differ.
        unscored: What an item without a price counts: `"fill"` puts the training median in its place, which
            an evaluation knows by `Evaluator(baselines=train)`; `"skip"` leaves it out, so that silence may
            be an advantage.
        rounds: Tosses of the test.
        seed: Seed of the test.

    Raises:
        EvaluationError: There is no evaluation, two have the same name, or they are not of the same items; or
            an item is unscored and no training median is known.

    Examples:
        >>> from finetune_pricer import Evaluator, Item, Leaderboard
        >>> items = [Item(title=f"Lamp {number}", price=10.0 * number) for number in range(1, 41)]
        >>> board = Leaderboard(
        ...     Evaluator().evaluate(price, items, name=name)
        ...     for name, price in {
        ...         "double": lambda item: item.price * 2,
        ...         "a dollar more": lambda item: item.price + 1,
        ...         "a dollar less": lambda item: item.price - 1,
        ...     }.items()
        ... )
        >>> for standing in board:
        ...     print(standing.rank, standing.tied, standing.evaluation.name)
        1 True a dollar more
        1 True a dollar less
        3 False double
    """

    def __init__(
        self,
        evaluations: Iterable[Evaluation],
        *,
        allow_different: bool = False,
        unscored: Unscored = "fill",
        rounds: int = 10_000,
        seed: int = 42,
    ) -> None:
        require_many("evaluations", evaluations, "a list of evaluations")
        rivals = tuple(evaluations)
        for number, one in enumerate(rivals, start=1):
            require_evaluation(one, f"evaluation {number}")
        require_flag("allow_different", allow_different)
        require_whole("rounds", rounds, low=1)
        require_whole("seed", seed, low=0)
        if not rivals:
            raise EvaluationError(
                "a leaderboard needs an evaluation, and there is none; hand in at least one"
            )
        named = {one.name: one for one in rivals}
        if len(named) < len(rivals):
            raise EvaluationError(
                "two evaluations have the same name; give evaluate(name=...) different ones"
            )
        for one in rivals:
            for baseline in one.baselines:
                named.setdefault(baseline.name, baseline)
        entrants = best_first(enter(list(named.values()), unscored))
        self._unscored: Unscored = unscored
        self.standings: tuple[Standing, ...] = _rank(entrants, allow_different, rounds, seed)
        """The lines, the best first."""

    def __len__(self) -> int:
        return len(self.standings)

    def __iter__(self) -> Iterator[Standing]:
        return iter(self.standings)

    def __str__(self) -> str:
        table = self._table
        rows = [tuple(map(escape_line, row)) for row in (table.head, *table.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(table.head))]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 1 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        # Of what the note says, a table without gaps needs no word to be read rightly.
        return "\n".join(lines if self._note == _NOTE else [*lines, "", self._note])

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with one row per line, in plain numbers."""
        import pandas as pd

        return pd.DataFrame([_to_plain(one) for one in self])

    def to_markdown(self) -> str:
        """Return a Markdown table, and below it what a rank means."""
        from .report.markdown import render_table

        return f"{render_table(self._table)}\n{self._note}\n"

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the table as a page that needs no network.

        Raises:
            MissingExtra: Jinja2 is not installed.
            FileAccessError: The path cannot be written; what stood there stays.
        """
        from .report import html

        html.write_table(self._table, path, title="Leaderboard", note=self._note)

    def _repr_html_(self) -> str:
        from .report import html

        return html.render_table(self._table, note=self._note, text=str(self))

    @property
    def _table(self) -> Table:
        filled = self._has_filled
        head = (*_HEAD[:4], "MAE, all", *_HEAD[4:]) if filled else _HEAD
        # Of lines with the very same prices a table shows the first, under all their names.
        labels = {id(one.evaluation): one.label for one in name_once(each.evaluation for each in self)}
        rows = [
            _to_cells(one, labels[id(one.evaluation)], with_filled=filled)
            for one in self
            if id(one.evaluation) in labels
        ]
        return Table(head, rows, text_columns=2, spare=_SPARE)

    @property
    def _has_filled(self) -> bool:
        return self._unscored == "fill" and any(one.evaluation.unscored for one in self)

    @property
    def _note(self) -> str:
        if not any(one.evaluation.unscored for one in self):
            return _NOTE
        return _NOTE + (_NOTE_ON_FILLED if self._has_filled else _NOTE_ON_SKIPPED)


_HEAD = ("rank", "model", "MAE", "95 % interval", "median error", "n", "unscored", "cost", "p against first")
_SPARE = frozenset({"MAE, all", "median error", "n", "unscored", "cost"})  # on a phone


def _rank(entrants: list[Entrant], allow_different: bool, rounds: int, seed: int) -> tuple[Standing, ...]:
    """Rank entrants that are sorted by their MAE."""
    pairs = list(combinations(range(len(entrants)), 2))
    differences = measure_differences(
        align_entrants(entrants, allow_different=allow_different),
        pairs,
        names=[one.name for one in entrants],
        rounds=rounds,
        seed=seed,
    )
    p_values = dict(zip(pairs, adjust(differences), strict=True))
    ranks = [1] * len(entrants)
    for (a, b), difference in zip(pairs, differences, strict=True):
        if p_values[a, b] < _LEVEL:
            ranks[b if difference.mean < 0 else a] += 1
    for (a, b), difference in sorted(zip(pairs, differences, strict=True), key=lambda pair: pair[0][1]):
        # Who is beaten beyond chance must not stand above somebody with a smaller error who is, too.
        if difference.mean <= 0:
            ranks[b] = max(ranks[b], ranks[a])
    order = sorted(range(len(entrants)), key=lambda at: ranks[at])  # of one rank, the order of the MAE stays
    first = order[0]
    return tuple(
        Standing(
            rank=ranks[at],
            tied=ranks.count(ranks[at]) > 1,
            evaluation=entrants[at].evaluation,
            p_against_first=p_values.get((min(first, at), max(first, at))),
        )
        for at in order
    )


def _to_cells(one: Standing, label: str, *, with_filled: bool) -> tuple[str, ...]:
    evaluation = one.evaluation
    filled = evaluation.mae_filled
    return (
        f"{one.rank}{' =' if one.tied else ''}",
        label,
        format_money(evaluation.mae.value, evaluation.currency, 2),
        format_interval(evaluation.mae, "$", evaluation.currency),
        *(["" if filled is None else format_metric(filled, "$", evaluation.currency)] if with_filled else []),
        format_money(evaluation.median_absolute_error.value, evaluation.currency, 2),
        f"{evaluation.n:,}",
        format_unscored(evaluation),
        format_dollars(evaluation.dollars, 4),
        "" if one.p_against_first is None else format_p(one.p_against_first),
    )


def _to_plain(one: Standing) -> dict[str, Any]:
    evaluation = one.evaluation
    return {
        "rank": one.rank,
        "tied": one.tied,
        "model": evaluation.name,
        "mae": evaluation.mae.value,
        "mae_low": evaluation.mae.low,
        "mae_high": evaluation.mae.high,
        "median_absolute_error": evaluation.median_absolute_error.value,
        "n": evaluation.n,
        "unscored": evaluation.unscored,
        "share_unscored": evaluation.share_unscored,
        "mae_filled": None if evaluation.mae_filled is None else evaluation.mae_filled.value,
        "currency": evaluation.currency,
        "dollars": evaluation.dollars,
        "p_against_first": one.p_against_first,
    }
