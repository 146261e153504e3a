"""What a report says first: one number, one direction, one p-value with its name, and words for everybody."""

from dataclasses import replace

import numpy as np
import pytest

from evaluate_helpers import evaluated
from finetune_pricer import Evaluation, Evaluator, Item, ItemDataset, Leaderboard, compare
from finetune_pricer.errors import EvaluationError
from finetune_pricer.evaluate.metrics import absolute_error_quantile
from finetune_pricer.evaluate.report.content import collect_evaluation, overview_table
from finetune_pricer.evaluate.report.verdict import Verdict, reach_verdict

ERRORS = 40 + 10 * np.abs(np.random.default_rng(3).standard_normal(120))


def beside(**errors: float) -> Evaluation:
    """A model of known errors, beside methods that err by so much more."""
    rivals = [evaluated(ERRORS + more, name=name.replace("_", " ")) for name, more in errors.items()]
    return replace(evaluated(ERRORS, name="ft:pricer"), baselines=tuple(rivals))


def verdict(**errors: float) -> Verdict:
    return reach_verdict(beside(**errors))


def test_the_verdict_is_always_seen_from_the_model() -> None:
    found = verdict(median=30, ridge=-5, network=20)
    assert found.summary == "This model is worse than ridge; it is better than median and network."
    assert found.evidence[0].startswith(
        "Against the best of them, ridge: $5.00 further from the price on average "
        "(95 % interval $5.00 to $5.00"
    )
    assert "nearer on 0% of 120 items" in found.evidence[0]


def test_the_verdict_has_one_p_value_with_its_name() -> None:
    said = " ".join(verdict(median=30, ridge=-5, network=20).sentences)
    assert said.count("p<") + said.count("p=") == 1
    assert "p<0.001 by Holm for 3 comparisons, sign-flip permutation test" in said
    alone = " ".join(verdict(ridge=-5).sentences)
    assert "p<0.001, sign-flip permutation test" in alone
    assert "Holm" not in alone


def test_what_these_items_leave_open_is_said_with_what_they_could_have_shown() -> None:
    noise = np.random.default_rng(1).normal(0, 50, ERRORS.size)
    model = replace(evaluated(ERRORS), baselines=(evaluated(ERRORS + noise, name="ridge"),))
    found = reach_verdict(model)
    assert found.summary == "This model cannot be told apart from ridge."
    assert "could easily be missed with these items" in found.evidence[-1]


def test_a_model_that_beats_all_is_said_to_without_their_names() -> None:
    assert verdict(a=9, b=8, c=7).summary == "This model is better than each of the 3 methods beside it."
    assert verdict(a=9).summary == "This model is better than a."
    assert "whether a simpler one would do is not known" in verdict().summary


def test_methods_of_the_same_prices_are_one_and_cost_no_p_value() -> None:
    model = beside(median=30, ridge=-5)
    twin = replace(model.baselines[0], name="the category's median")
    found = reach_verdict(replace(model, baselines=(*model.baselines, twin)))
    assert found.summary.endswith("it is better than median = the category's median.")
    assert len(found.comparisons) == 2
    assert "by Holm for 2 comparisons" in found.evidence[0]


def test_the_median_of_items_without_categories_is_listed_once() -> None:
    items = [Item(title=f"Thing {at}", price=float(at)) for at in range(1, 41)]
    found = Evaluator(baselines=ItemDataset.from_items(items), rounds=50).score(items, [20.0] * 40, name="m")
    names = [row[0] for row in overview_table(collect_evaluation(found).models).rows]
    assert names[:2] == ["m", "always the training median = the category's training median"]
    table = next(line for line in found.to_markdown().splitlines() if line.startswith("|"))
    assert table.count("the category's training median") == 1


def test_an_ensemble_that_is_one_member_is_not_listed_beside_itself() -> None:
    model = beside(median=30)
    member = replace(evaluated(ERRORS, name="ridge"))
    content = collect_evaluation(replace(model, baselines=(*model.baselines, member)))
    assert [row[0] for row in overview_table(content.models).rows] == ["ft:pricer = ridge", "median"]
    assert content.verdict.evidence[0] == "It gives the very same prices as ridge."
    board = Leaderboard([model, member], rounds=50)
    assert len(board) == 3
    assert "ft:pricer = ridge" in board.to_markdown()
    assert len(str(board).splitlines()) == 3


def test_a_sentence_for_everybody_stands_below_the_number() -> None:
    errors = [-float(at) for at in range(1, 101)]
    content = collect_evaluation(evaluated(errors))
    assert content.number == "$50.50"
    assert content.plainly == (
        "Half of the prices are within $50 of the true price; one in ten is off by more than $90; "
        "on average they are $50 too low."
    )
    few = collect_evaluation(evaluated([1.0, -1.5, 2.0])).plainly
    assert few == "Half of the prices are within $1.50 of the true price."
    assert collect_evaluation(evaluated([1.0])).plainly == ""
    even = collect_evaluation(evaluated([20.0, -20.0] * 20)).plainly
    assert "too" not in even


def test_the_sentence_counts_items_by_their_weights() -> None:
    items = [Item(title=f"Thing {at}", price=100.0) for at in range(20)]
    errors = [100.0 + at for at in range(20)]
    heavy = Evaluator(rounds=50).score(items, errors, weights=[100.0] + [1.0] * 19)
    assert "within $0.00 of" in collect_evaluation(heavy).plainly
    assert "one in ten is off by more than $8.00" in collect_evaluation(heavy).plainly


def test_the_quantile_of_errors_is_numpys_and_weights_count_like_copies() -> None:
    truth, price = np.zeros(57), np.random.default_rng(2).normal(0, 9, 57)
    for share in (0.1, 0.5, 0.9, 1.0):
        theirs = np.quantile(np.abs(price), share, method="inverted_cdf")
        assert absolute_error_quantile(truth, price, share) == theirs
    copied = absolute_error_quantile([0, 0, 0, 0], [5, 5, 5, 9], 0.75)
    assert absolute_error_quantile([0, 0], [5, 9], 0.75, [3, 1]) == copied == 5.0
    with pytest.raises(EvaluationError, match="truth is empty"):
        absolute_error_quantile([], [], 0.5)


def test_a_comparison_is_seen_from_the_first_model_also_where_it_is_worse() -> None:
    worse, better = evaluated(ERRORS + 7, name="a"), evaluated(ERRORS, name="b")
    said = str(compare(worse, better, rounds=200))
    assert said.startswith(
        "a is worse than b: $7.00 further from the price on average (95% CI $7.00 to $7.00"
    )
    assert "nearer on 0% of 120 items" in said
    both = compare(worse, better, evaluated(ERRORS + 9, name="c"), rounds=200)
    assert (both.adjusted_for, compare(worse, better, rounds=200).adjusted_for) == (2, 1)
    assert str(both).count("by Holm for 2 comparisons") == 2
