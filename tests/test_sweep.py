"""Sweeps on the local server: planned, within budget, killed and gone on with."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune_pricer import (
    ChatFormatter,
    Evaluator,
    Item,
    KeptAnswers,
    MadeUpCatalogue,
    Sweep,
    connect,
    estimate_cost,
)
from finetune_pricer.errors import DataError, EvaluationError, OverBudget
from finetune_pricer.evaluate import Outcome, SweepResult, Trial
from finetune_pricer.local import LocalServer
from finetune_pricer.prepare import TrainingFile

Blink = Callable[[float], None]


@pytest.fixture
def local() -> Iterator[openai.OpenAI]:
    with LocalServer() as server, server.client(max_retries=0) as client:
        yield client


def cent_an_example(file: TrainingFile, trial: Trial) -> float:
    return file.examples * (trial.epochs or 1) / 100


def sweep(client: openai.OpenAI, folder: Path, **settings: Any) -> Sweep:
    train, validation, test = MadeUpCatalogue(seed=3).splits(train=400, validation=20, test=40)
    chosen: dict[str, Any] = {
        "sizes": [30, 100, 300],
        "models": ["pricer-base"],
        "cost_of": cent_an_example,
    } | settings
    return Sweep(
        clients=client,
        train=train,
        test=test,
        validation=validation,
        folder=folder,
        **({"evaluator": Evaluator(rounds=100)} | chosen),
    )


def jobs_of(client: openai.OpenAI) -> int:
    return len(list(client.fine_tuning.jobs.list(limit=100)))


def test_a_sweep_ends_in_a_table_and_a_forecast(local: openai.OpenAI, tmp_path: Path, blink: Blink) -> None:
    found = sweep(local, tmp_path, budget=5.0).run(sleep=blink)
    rows = found.to_markdown().splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["30", "100", "300"]
    assert "| $3.0000 |" in rows[2]
    assert "pricer-base" in rows[0]
    curve = found.forecast(rounds=20)
    assert curve.dollars(500) == pytest.approx(5.0)
    assert len(found.leaderboard()) == 3
    best = found.choose()
    assert best.among == 3
    assert str(found).splitlines()[-1] == f"best: {best}"
    assert "corrected for the choice among 3" in str(found)


def test_a_trial_that_is_silent_is_not_the_best_of_a_sweep() -> None:
    items = [Item(id=str(at), title=f"Thing {at}", price=10.0 * at) for at in range(1, 41)]
    trial = Trial(size=9, model="m", client="", formatter=ChatFormatter())
    prices: dict[str, list[float | None]] = {
        "silent": [item.price if at < 30 else None for at, item in enumerate(items)],
        "honest": [5.0 + 10 * at for at in range(40)],
    }

    def found(median: float | None) -> SweepResult:
        evaluations = [
            replace(Evaluator(rounds=20).score(items, given, name=name), training_median=median)
            for name, given in prices.items()
        ]
        return SweepResult(
            outcomes=tuple(Outcome(trial=trial, evaluation=one, dollars=None) for one in evaluations)
        )

    assert found(20.0).choose().best.name == "honest"
    assert "| 10 (25%) |" in found(20.0).to_markdown()
    assert "| MAE, gaps filled by the training median |" in found(20.0).to_markdown()
    assert "no best one is named: 10 of 40 items are unscored in 'silent'" in str(found(None))
    assert found(None).choose(unscored="skip").best.name == "silent"


def test_the_plan_says_jobs_and_costs_and_asks_no_service(client: openai.OpenAI, tmp_path: Path) -> None:
    plan = sweep(client, tmp_path, epochs=[1, 2], budget=100.0).plan()  # no route of this client is open
    assert [one.dollars for one in plan.jobs] == pytest.approx([0.3, 0.6, 1.0, 2.0, 3.0, 6.0])
    assert plan.dollars == pytest.approx(12.9)
    assert "30 examples (epochs 2)" in str(plan)
    assert "to pay in all: $12.9000 of a budget of $100.00" in str(plan)


def test_nothing_is_asked_for_above_the_budget(client: openai.OpenAI, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cost \$4.30, above the budget of \$4.00"):
        sweep(client, tmp_path, budget=4.0).run()
    with pytest.raises(DataError, match="a budget needs prices"):
        sweep(client, tmp_path, budget=4.0, cost_of=lambda *_: None).run()


def test_without_cost_of_a_known_price_holds_the_budget(tmp_path: Path) -> None:
    model = "gpt-4.1-mini-2025-04-14"
    openais = openai.OpenAI(api_key="sk-none", base_url="https://api.openai.com/v1")  # is asked nothing
    made = sweep(openais, tmp_path, cost_of=None, models=[model], sizes=[30, 100], epochs=[1, 2])
    costs = [one.dollars for one in made.plan().jobs]
    files = sorted(tmp_path.glob("*/train.jsonl"), key=lambda path: path.stat().st_size)
    once = [estimate_cost(path, model=model, epochs=1, provider="openai").training for path in files[::2]]
    assert costs == pytest.approx([cost * epochs for cost in once if cost for epochs in (1, 2)])
    with pytest.raises(DataError, match=r"cost \$0.13, above the budget of \$0.01"):
        replace(made, budget=0.01).run()


def test_a_sweep_on_the_local_server_costs_nothing(tmp_path: Path) -> None:
    assert sweep(connect("local"), tmp_path, cost_of=None, budget=0.0).plan().dollars == 0


def test_a_price_that_nobody_knows_holds_no_budget(client: openai.OpenAI, tmp_path: Path) -> None:
    unknown = sweep(client, tmp_path, cost_of=None, budget=4.0)
    assert "to pay in all: unknown" in str(unknown.plan())
    with pytest.raises(DataError, match=r"30 examples .* no price of 'pricer-base' at .*cost_of=lambda"):
        unknown.run()
    openais = openai.OpenAI(api_key="sk-none", base_url="https://api.openai.com/v1")
    no_epochs = sweep(openais, tmp_path, cost_of=None, budget=4.0, models=["gpt-4.1-mini-2025-04-14"])
    with pytest.raises(DataError, match="its service chooses the epochs; set epochs="):
        no_epochs.run()


def test_a_budget_is_one_over_restarts_extensions_and_trials_that_were_taken_out(
    local: openai.OpenAI, tmp_path: Path, blink: Blink
) -> None:
    one = sweep(local, tmp_path, sizes=[30], cost_of=lambda *_: 1.0, budget=2.0)
    one.run(sleep=blink)
    assert one.run(sleep=blink).outcomes[0].dollars == 1.0
    two = replace(one, sizes=[60])
    assert (two.plan().dollars, two.plan().spent) == (1.0, 1.0)
    assert "of a budget of $2.00, of which $1.0000 are spent" in str(two.plan())
    two.run(sleep=blink)
    for more in ([30, 60, 90], [90]):
        with pytest.raises(DataError, match=r"cost \$1.00 and \$2.00 are spent, above the budget of \$2.00"):
            replace(one, sizes=more).run(sleep=blink)
    assert jobs_of(local) == 2
    replace(one, sizes=[30, 60, 90], budget=3.0).run(sleep=blink)
    assert replace(one, sizes=[90]).plan().spent == 3.0


def test_the_questions_of_an_evaluation_are_in_plan_budget_and_outcome(
    local: openai.OpenAI, tmp_path: Path, blink: Blink
) -> None:
    evaluator = Evaluator(rounds=100, dollars_per_million=(1_000.0, 1_000.0))
    made = sweep(local, tmp_path, sizes=[30], cost_of=lambda *_: 1.0, evaluator=evaluator)
    [planned] = made.plan().jobs
    assert planned.questions is not None
    assert planned.questions > 1  # 40 questions of some 100 bytes
    with pytest.raises(DataError, match=r"with their questions, above the budget of \$1.50"):
        replace(made, budget=1.5).run(sleep=blink)
    assert jobs_of(local) == 0
    budget = 1.0 + planned.questions
    [outcome] = replace(made, budget=budget).run(sleep=blink).outcomes
    assert outcome.evaluation is not None
    assert outcome.evaluation.dollars is not None
    assert outcome.questions == pytest.approx(outcome.evaluation.dollars)
    assert outcome.dollars == pytest.approx(1.0 + outcome.evaluation.dollars)
    assert made.plan().spent == pytest.approx(outcome.dollars)
    assert 0 < outcome.evaluation.dollars < planned.questions


def test_questions_that_come_dearer_than_planned_stop_the_sweep_and_are_kept(
    local: openai.OpenAI, tmp_path: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = Evaluator(rounds=100, dollars_per_million=(1_000.0, 1_000.0))
    made = sweep(local, tmp_path, sizes=[30], cost_of=lambda *_: 1.0, evaluator=evaluator)
    monkeypatch.setattr(Sweep, "_most_for_questions", lambda *_: 0.0)
    with pytest.raises(OverBudget, match="not asked: of the budget"):
        replace(made, budget=2.0).run(sleep=blink)
    [answers] = tmp_path.glob("30-*/answers.sqlite")
    assert 0 < len(KeptAnswers(answers)) < 40
    assert 1 < made.plan().spent <= 2
    assert not list(tmp_path.glob("30-*/evaluation.json"))
    [outcome] = replace(made, budget=20.0).run(sleep=blink).outcomes
    assert outcome.evaluation is not None
    assert jobs_of(local) == 1
    assert len(KeptAnswers(answers)) == 40


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "null", '{"job": 7}', '{"job": ""}', "{}", "\xff"])
def test_a_note_that_cannot_be_read_buys_nothing_twice(
    content: str, local: openai.OpenAI, tmp_path: Path, blink: Blink
) -> None:
    made = sweep(local, tmp_path, sizes=[30], budget=1.0)
    made.run(sleep=blink)
    for name in ("job.json", "evaluation.json"):
        [path] = tmp_path.glob(f"30-*/{name}")
        path.unlink() if name.startswith("eval") else path.write_bytes(content.encode("latin-1"))
    [outcome] = made.run(sleep=blink).outcomes
    assert outcome.evaluation is not None
    assert jobs_of(local) == 1
    assert made.plan().spent == pytest.approx(0.3)


def test_a_sweep_of_an_earlier_version_is_counted_from_its_notes(
    local: openai.OpenAI, tmp_path: Path, blink: Blink
) -> None:
    made = sweep(local, tmp_path, sizes=[30], cost_of=lambda *_: 1.0, budget=1.0)
    made.run(sleep=blink)
    (tmp_path / "ledger.sqlite3").unlink()
    for beside in tmp_path.glob("ledger.sqlite3-*"):
        beside.unlink()
    assert made.plan().spent == 1.0


class Killed(BaseException):
    """What takes a process away, and no handler of errors catches."""


def test_a_killed_sweep_goes_on_and_buys_nothing_twice(
    local: openai.OpenAI, tmp_path: Path, blink: Blink
) -> None:
    asked = 0

    def killed(seconds: float) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise Killed
        blink(seconds)

    made = sweep(local, tmp_path)
    with pytest.raises(Killed):  # noqa: PT012 - whichever of the runs it strikes
        while True:  # the first job may be done before anyone had to wait
            made.run(sleep=killed)
            made = replace(made, seed=made.seed + 1)
    bought = jobs_of(local)
    found = made.run(sleep=blink)
    assert all(one.evaluation is not None for one in found.outcomes)
    done = sum(one.done for one in made.plan().jobs)
    assert done == 3
    assert jobs_of(local) <= bought + 3
    total = jobs_of(local)
    again = made.run(sleep=blink)
    assert jobs_of(local) == total
    assert [one.evaluation for one in again.outcomes] == [one.evaluation for one in found.outcomes]
    assert made.plan().dollars == 0


def test_a_job_known_by_its_id_and_its_answers_are_found_again_and_not_bought(
    local: openai.OpenAI, tmp_path: Path, blink: Blink
) -> None:
    made = sweep(local, tmp_path, sizes=[30])
    made.run(sleep=blink)
    [kept], [answers] = tmp_path.glob("30-*/evaluation.json"), tmp_path.glob("30-*/answers.sqlite")
    paid = KeptAnswers(answers).to_frame()
    kept.unlink()
    made.run(sleep=blink)
    assert jobs_of(local) == 1
    assert kept.exists()
    assert len(paid) == 40
    assert KeptAnswers(answers).to_frame().equals(paid)  # with the times at which they came


def test_a_failed_job_is_a_line_that_says_why(local: openai.OpenAI, tmp_path: Path, blink: Blink) -> None:
    found = sweep(local, tmp_path, sizes=[5, 30]).run(sleep=blink)  # too few examples for the server
    assert found.outcomes[0].evaluation is None
    assert "to train it anew" in (found.outcomes[0].problem or "")
    assert found.outcomes[1].evaluation is not None
    assert "none: job" in str(found)
    with pytest.raises(EvaluationError, match="takes 3 training sizes"):
        found.forecast()


def test_other_items_in_the_same_folder_are_another_sweep(client: openai.OpenAI, tmp_path: Path) -> None:
    one = sweep(client, tmp_path)
    two = replace(one, test=one.test[:20])
    three = replace(one, formatters=[ChatFormatter(reply="20")])
    for made in (one, two, three):
        made.plan()
    assert len(list(tmp_path.glob("30-*"))) == 3


def test_a_sweep_that_makes_no_sense_is_refused(client: openai.OpenAI, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty list"):
        sweep(client, tmp_path, models=[])
    with pytest.raises(DataError, match="cannot train on 401 of 400"):
        sweep(client, tmp_path, sizes=[401])


def test_jobs_of_several_kinds_have_no_single_curve(
    local: openai.OpenAI, tmp_path: Path, blink: Blink
) -> None:
    found = sweep(local, tmp_path, sizes=[30, 60], epochs=[1, 2]).run(sleep=blink)
    with pytest.raises(EvaluationError, match="2 kinds of jobs"):
        found.forecast()
