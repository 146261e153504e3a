"""Many evaluations of the same items in one table: error with its interval, cost, and ties shown as ties."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from .._files import replacing
from ..errors import EvaluationError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from .evaluation import Evaluation

_LEVEL = 0.05
_ROUNDS = 10_000
_NOTE = (
    "A rank is one more than the number of models that are better beyond chance (paired permutation test, "
    "Holm over all pairs, 5 %); a rank with = is shared by models that these items do not tell apart."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One line of a leaderboard."""

    rank: int
    """One more than the number of models that are better beyond chance."""
    tied: bool
    """Whether another model has the same rank."""
    evaluation: Evaluation
    p_against_first: float | None
    """Chance of so large a difference to the line with the lowest MAE, adjusted; None for that line."""


class Leaderboard:
    """Ranks evaluations of the same items by MAE, and gives no rank that chance could have given.

    Args:
        evaluations: At least one, with different names. Their baselines join, each name once.
        allow_different: Compare pairs on the items that they have in common where the sets differ.
        rounds: Tosses of the test.
        seed: Of the test.

    Raises:
        EvaluationError: There is none, two have the same name, or they are not of the same items.
    """

    def __init__(
        self,
        evaluations: Iterable[Evaluation],
        *,
        allow_different: bool = False,
        rounds: int = _ROUNDS,
        seed: int = 42,
    ) -> None:
        given = tuple(evaluations)
        if not given:
            raise EvaluationError("a leaderboard needs an evaluation")
        named = {one.name: one for one in given}
        if len(named) < len(given):
            raise EvaluationError(
                "two evaluations have the same name; give evaluate(name=...) different ones"
            )
        for one in given:
            for baseline in one.baselines:
                named.setdefault(baseline.name, baseline)
        self.standings = _ranked(list(named.values()), allow_different, rounds, seed)
        """The lines, the best first."""

    def __len__(self) -> int:
        return len(self.standings)

    def __iter__(self) -> Iterator[Standing]:
        return iter(self.standings)

    def __str__(self) -> str:
        rows = [_HEAD, *(_cells(one) for one in self)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column == 1 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )

    def to_frame(self) -> pd.DataFrame:
        """Give one row per line, with plain numbers."""
        import pandas as pd

        return pd.DataFrame([_plain(one) for one in self])

    def to_markdown(self) -> str:
        """Give a Markdown table and what a rank means."""
        from .report.markdown import table

        return f"{table(_HEAD, [_cells(one) for one in self])}\n{_NOTE}\n"

    def _repr_html_(self) -> str:
        from .report.page import table

        return f"{table(_HEAD, [_cells(one) for one in self], text_columns=2)}<p>{_NOTE}</p>"

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the table as a page that needs no network.

        Raises:
            FileAccessError: The path cannot be written; what stood there stays.
        """
        from .report.page import page

        with replacing(path) as file:
            file.write(page("Leaderboard", f"<h1>Leaderboard</h1>{self._repr_html_()}").encode())


_HEAD = ("rank", "model", "MAE", "95 % interval", "median error", "n", "unscored", "cost", "p against first")


def _ranked(
    evaluations: list[Evaluation], allow_different: bool, rounds: int, seed: int
) -> tuple[Standing, ...]:
    from .paired import adjusted, differences, side_by_side

    ordered = sorted(evaluations, key=lambda one: one.mae.value)
    pairs = list(combinations(range(len(ordered)), 2))
    found = differences(
        side_by_side(ordered, allow_different=allow_different),
        pairs,
        names=[one.name for one in ordered],
        rounds=rounds,
        seed=seed,
    )
    chance = dict(zip(pairs, adjusted(found), strict=True))
    ranks = [1] * len(ordered)
    for (a, b), one in zip(pairs, found, strict=True):
        if chance[a, b] < _LEVEL:
            ranks[b if one.mean < 0 else a] += 1
    standings = [
        Standing(
            rank=ranks[at],
            tied=ranks.count(ranks[at]) > 1,
            evaluation=one,
            p_against_first=chance.get((0, at)),
        )
        for at, one in enumerate(ordered)
    ]
    return tuple(sorted(standings, key=lambda one: (one.rank, one.evaluation.mae.value)))


def _cells(one: Standing) -> tuple[str, ...]:
    from .report.markdown import dollars, interval

    found = one.evaluation
    return (
        f"{one.rank}{' =' if one.tied else ''}",
        found.name,
        dollars(found.mae.value),
        interval(found.mae, "$"),
        dollars(found.median_absolute_error.value),
        f"{found.n:,}",
        f"{found.unscored:,}{' (!)' if found.warning else ''}",
        "unknown" if found.dollars is None else f"${found.dollars:,.4f}",
        "" if one.p_against_first is None else f"{one.p_against_first:.3f}",
    )


def _plain(one: Standing) -> dict[str, Any]:
    found = one.evaluation
    return {
        "rank": one.rank,
        "tied": one.tied,
        "model": found.name,
        "mae": found.mae.value,
        "mae_low": found.mae.low,
        "mae_high": found.mae.high,
        "median_absolute_error": found.median_absolute_error.value,
        "n": found.n,
        "unscored": found.unscored,
        "dollars": found.dollars,
        "p_against_first": one.p_against_first,
    }
