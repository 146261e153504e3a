"""`finetune-pricer compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..evaluate import Comparison, Evaluation, Leaderboard
from ..evaluate import compare as compare_evaluations
from .command import Answer, Command
from .options import FILE

if TYPE_CHECKING:
    from pathlib import Path


@click.command(cls=Command)
@click.argument("evaluations", type=FILE, nargs=-1, required=True)
@click.option("--leaderboard", is_flag=True, help="Rank all of them and their baselines in one table.")
@click.option("--report", type=FILE, help="Write a page on it there.")
@click.option(
    "--allow-different", is_flag=True, help="Compare on the products in common, where the files differ."
)
def compare(
    *, evaluations: tuple[Path, ...], leaderboard: bool, report: Path | None, allow_different: bool
) -> Answer:
    """Find out whether one of several evaluations is better.

    EVALUATIONS are files that `evaluate --save` or `train` wrote. The first is compared with each of the
    others, product by product.
    """
    found = [Evaluation.load(path) for path in evaluations]
    if leaderboard:
        board = Leaderboard(found, allow_different=allow_different)
        if report is not None:
            board.to_html(report)
        return Answer(str(board), {"standings": [_describe_standing(one) for one in board]})
    if len(found) == 1:
        raise click.UsageError("name at least two evaluations, or --leaderboard")
    comparison = compare_evaluations(*found, allow_different=allow_different)
    if report is not None:
        comparison.to_html(report)
    each = [_describe(one) for one in (comparison, *comparison.further)]
    return Answer(str(comparison), {"comparisons": each})


def _describe(comparison: Comparison) -> dict[str, Any]:
    better = comparison.better
    return {
        "a": comparison.a.name,
        "b": comparison.b.name,
        "better": None if better is None else better.name,
        "difference": comparison.difference,
        "p_value": comparison.p_value,
        "adjusted_for": comparison.adjusted_for,
        "smallest_detectable": comparison.smallest_detectable,
        "win_rate": comparison.win_rate,
        "sentence": comparison.sentence,
    }


def _describe_standing(one: Any) -> dict[str, Any]:
    return {
        "rank": one.rank,
        "tied": one.tied,
        "name": one.evaluation.name,
        "mae": one.evaluation.mae,
        "unscored": one.evaluation.unscored,
        "p_against_first": one.p_against_first,
    }
