"""What a command will cost, and whether it may: said before anything is bought."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .._format import format_dollars
from ..errors import OverBudget
from .command import NotAgreed, say

if TYPE_CHECKING:
    from collections.abc import Mapping


def require_consent(costs: Mapping[str, float | None], *, yes: bool, budget: float | None) -> None:
    """Say what a command will cost, and ask whether it may; what costs nothing is not asked about.

    Args:
        costs: Dollars for each thing that is to be bought; None where nobody knows.
        yes: Whether somebody has agreed beforehand.
        budget: Dollars that may be spent.

    Raises:
        OverBudget: It costs more.
        NotAgreed: Nobody agrees, or nobody can be asked; or there is a budget and a cost is not known.
    """
    known = [cost for cost in costs.values() if cost is not None]
    is_known, total = len(known) == len(costs), sum(known)
    for what, cost in costs.items():
        say(f"  {what:<28} {format_dollars(cost)}")
    if is_known and not total:
        say("to pay: nothing")
        return
    said = f"{'about ' if is_known else 'at least '}{format_dollars(total)}"
    say(f"to pay: {said if is_known or total else 'unknown'}")
    if budget is not None and total > budget:
        raise OverBudget(
            f"it costs {said}, above the budget of {format_dollars(budget)}; nothing was bought",
            cost=total,
            budget=budget,
        )
    if budget is not None and not is_known:
        raise NotAgreed("what it costs is not known, so that no budget can be held; nothing was bought")
    if yes:
        return
    if not somebody_answers():
        raise NotAgreed("it costs money, and nobody can be asked here: --yes agrees; nothing was bought")
    if not click.confirm("Go on?", err=True):
        raise NotAgreed("not agreed; nothing was bought")


def somebody_answers() -> bool:
    """Whether there is a terminal to ask in."""
    return sys.stdin is not None and sys.stdin.isatty()  # a program without a console has none
