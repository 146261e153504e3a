from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from finetune_pricer._methods.features import TextFeatures
from finetune_pricer._methods.network import Hyperparameters, TrainingRun, price_bins
from finetune_pricer.errors import TrainingFileError
from finetune_pricer.local.learners import HyperparametersChosen, Report, StepDone
from finetune_pricer.local.learners.reply_format import ReplyForm, find_number, tokenize
from finetune_pricer.local.learners.sparse.dataset import CONTEXT, Example, TrainingSet, read_examples
from finetune_pricer.local.learners.sparse.model import PriceModel
from finetune_pricer.local.learners.sparse.pool import Pool
from finetune_pricer.local.learners.sparse.prompt_features import PromptFeatures, PromptTemplate
from finetune_pricer.local.learners.sparse.trainer import Trainer
from local_helpers import INSTRUCTION, Product, products

if TYPE_CHECKING:
    from pathlib import Path


def examples_of(items: list[Product]) -> list[Example]:
    return [Example(prompt=i.prompt, reply=f"${i.price:.2f}", price=i.price) for i in items]


def trainer(
    folder: Path, count: int, *, seed: int = 0, report: Any = lambda _: None, **requested: Any
) -> Trainer:
    data = TrainingSet.prepare(examples_of(products(count)), [])
    hyperparameters = Hyperparameters.resolve(requested, examples=count)
    return Trainer(folder, data, hyperparameters, seed=seed, report=report)


@pytest.fixture
def trained(tmp_path: Path) -> Any:
    made = 0

    def train(count: int, *, seed: int = 0, **asked: Any) -> PriceModel:
        nonlocal made
        made += 1
        folder = tmp_path / f"job-{made}"
        folder.mkdir()
        return trainer(folder, count, seed=seed, **asked).run()

    return train


def error_of(model: PriceModel, items: list[Product]) -> float:
    return float(np.mean([abs(model.median(item.prompt) - item.price) for item in items]))


TEST = products(200, seed=99)


@pytest.mark.parametrize(
    ("count", "asked"), [(200, {}), (1_500, {"n_epochs": 5}), (1_000, {"n_epochs": 1, "batch_size": 1})]
)
def test_it_prices_far_better_than_always_the_median(trained: Any, count: int, asked: dict[str, Any]) -> None:
    median = np.median([item.price for item in products(count)])
    constant = np.mean([abs(median - item.price) for item in TEST])

    assert error_of(trained(count, **asked), TEST) < 0.8 * constant


def test_one_epoch_on_ten_examples_is_no_worse_than_the_median(trained: Any) -> None:
    median = np.median([item.price for item in products(10)])
    constant = float(np.mean([abs(median - item.price) for item in TEST]))

    assert error_of(trained(10, n_epochs=1, batch_size=1), TEST) < 1.1 * constant


def test_the_same_seed_gives_the_same_model_and_another_gives_another(trained: Any) -> None:
    first, same, other = (trained(100, seed=seed).probabilities(TEST[0].prompt) for seed in (3, 3, 4))

    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-6


def test_training_loss_falls_and_each_epoch_ends_with_a_validation_loss(tmp_path: Path) -> None:
    data = TrainingSet.prepare(examples_of(products(160)), examples_of(products(60, seed=3)))
    hyperparameters = Hyperparameters(n_epochs=4, batch_size=16, learning_rate_multiplier=1)
    reports: list[Report] = []

    Trainer(tmp_path, data, hyperparameters, seed=0, report=reports.append).run()

    steps = [report for report in reports if isinstance(report, StepDone)]
    assert [step.step for step in steps] == list(range(1, 41))
    assert {step.total_steps for step in steps} == {40}
    assert [step.step for step in steps if step.metrics.valid_loss is not None] == [10, 20, 30, 40]
    losses = [step.metrics.train_loss for step in steps]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


def test_a_higher_learning_rate_learns_more_in_the_same_steps(tmp_path: Path) -> None:
    losses = []
    for rate in (0.01, 2):
        reports: list[Report] = []
        folder = tmp_path / str(rate)
        folder.mkdir()
        trainer(folder, 200, report=reports.append, n_epochs=1, learning_rate_multiplier=rate).run()
        steps = [report for report in reports if isinstance(report, StepDone)]
        losses.append(np.mean([step.metrics.train_loss for step in steps[-5:]]))

    assert losses[1] < losses[0]


def test_training_goes_on_from_any_step_as_if_nothing_had_happened() -> None:
    data = TrainingSet.prepare(examples_of(products(100)), []).training
    chosen = Hyperparameters(n_epochs=3, batch_size=16, learning_rate_multiplier=1)
    whole = TrainingRun(data, chosen, epochs=3, seed=5)
    list(whole.steps())

    for stop in (1, 7, 8, 20):
        first = TrainingRun(data, chosen, epochs=3, seed=5)
        for _ in zip(range(stop), first.steps(), strict=False):
            pass
        again = TrainingRun(data, chosen, epochs=3, seed=5)
        again.restore({name: array.copy() for name, array in first.state().items()})
        list(again.steps())

        np.testing.assert_array_equal(again.history, whole.history)
        np.testing.assert_array_equal(again.network.inputs, whole.network.inputs)


def test_a_training_that_is_killed_at_any_step_ends_with_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_pricer.local.learners.sparse.trainer.EPOCH_CANDIDATES", (2, 4, 6))

    class KilledError(Exception):
        pass

    def run(name: str, deaths: list[int]) -> PriceModel:
        folder = tmp_path / name
        folder.mkdir()
        data = TrainingSet.prepare(examples_of(products(60)), [])
        hyperparameters = Hyperparameters.resolve({}, examples=60)
        saved = 0
        for death in [*deaths, 0]:
            training = Trainer(folder, data, hyperparameters, seed=1, save_every=0)
            save = training._save

            def dying(*arguments: Any, save: Any = save, death: int = death) -> None:
                nonlocal saved
                save(*arguments)
                saved += 1
                if saved == death:
                    raise KilledError

            training._save = dying  # type: ignore[assignment]
            try:
                return training.run()
            except KilledError:
                continue
        raise AssertionError("never ended")

    undisturbed, killed = run("one", []), run("two", [3, 12, 13, 40, 60, 75, 76])

    for item in TEST[:20]:
        np.testing.assert_array_equal(
            undisturbed.probabilities(item.prompt), killed.probabilities(item.prompt)
        )


def test_equal_prices_and_equal_texts_are_learned_without_complaint(tmp_path: Path) -> None:
    same = [Product("A mug.", 9.0)] * 12
    data = TrainingSet.prepare(examples_of(same), [])

    model = Trainer(tmp_path, data, Hyperparameters.resolve({}, examples=12), seed=0).run()

    assert model.median(same[0].prompt) == pytest.approx(9, abs=0.01)


def test_a_stored_model_gives_the_same_prices_and_holds_no_pickle(trained: Any) -> None:
    model = trained(100)
    files = model.save()

    again = PriceModel.load(files)

    assert [again.median(i.prompt) for i in TEST[:20]] == [model.median(i.prompt) for i in TEST[:20]]
    assert b"pickle" not in b"".join(files.values())


def test_a_model_of_another_version_is_refused(trained: Any) -> None:
    files = {
        name: content.replace(b'"version": 4', b'"version": 9')
        for name, content in trained(30).save().items()
    }

    with pytest.raises(ValueError, match="version 9"):
        PriceModel.load(files)


def test_a_model_that_was_saved_when_there_were_only_words_still_answers(trained: Any) -> None:
    newer = trained(100)
    words = TextFeatures.fit([item.text for item in products(100)])
    features = PromptFeatures(template=newer.features.template, text=words, lines=None)
    network = replace(newer.network, inputs=newer.network.inputs[: features.width])
    pool = Pool(network_width=0.2)
    model = replace(newer, features=features, network=network, companions=None, pool=pool)
    files = model.save()
    facts = json.loads(files["model.json"])
    del facts["pool"], facts["lines"]
    archive = io.BytesIO()
    with np.load(io.BytesIO(files["model.npz"])) as arrays:
        np.savez(archive, spread=np.array(0.2), **arrays)

    again = PriceModel.load(
        {"model.npz": archive.getvalue(), "model.json": json.dumps(facts | {"version": 3}).encode()}
    )

    assert [again.median(i.prompt) for i in TEST[:20]] == [model.median(i.prompt) for i in TEST[:20]]


def build(count: int, *, seed: int) -> list[Product]:
    """Building sets: their price is that of their pieces, whose number hardly ever occurs twice."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        pieces, figures = int(np.exp(random.uniform(3, 8))), int(random.integers(1, 12))
        price = (0.1 * pieces + 3 * figures) * float(np.exp(random.normal(0, 0.05)))
        made.append(
            Product(f"A set, number {random.integers(9_999)}, {pieces} pieces, {figures} figures", price)
        )
    return made


def test_numbers_tell_their_size_also_those_that_were_never_seen(tmp_path: Path) -> None:
    data = TrainingSet.prepare(examples_of(build(600, seed=1)), [])
    unseen = build(200, seed=2)
    constant = np.mean([abs(np.median([item.price for item in unseen]) - item.price) for item in unseen])

    model = Trainer(tmp_path, data, Hyperparameters.resolve({"n_epochs": 6}, examples=600), seed=0).run()

    assert error_of(model, unseen) < 0.25 * constant


def test_few_examples_are_trained_for_more_epochs_than_many(tmp_path: Path) -> None:
    epochs = []
    for count in (150, 1_500):
        reports: list[Report] = []
        (tmp_path / str(count)).mkdir()
        trainer(tmp_path / str(count), count, report=reports.append).run()
        epochs += [report.n_epochs for report in reports if isinstance(report, HyperparametersChosen)]

    assert epochs[0] > epochs[1]


def test_a_model_is_as_sure_as_it_is_right(trained: Any) -> None:
    model, within = trained(600), []
    for item in TEST:
        heights = np.cumsum(model.probabilities(item.prompt))
        low, high = (model.points.prices[np.searchsorted(heights, share)] for share in (0.1, 0.9))
        within.append(low <= item.price <= high)

    assert 0.65 < np.mean(within) < 0.97


def test_it_names_prices_that_it_has_seen(tmp_path: Path) -> None:
    shop = [Product(item.text, np.floor(item.price) + 0.99) for item in products(300)]
    data = TrainingSet.prepare(examples_of(shop), [])
    model = Trainer(tmp_path, data, Hyperparameters.resolve({"n_epochs": 5}, examples=300), seed=0).run()

    drawn = {
        "".join(
            token.token for token in model.distribution(item.prompt).sample(random=np.random.default_rng(1))
        )
        for item in TEST
    }

    assert len(drawn) > 20
    assert all(reply.endswith(".99") for reply in drawn)


def test_the_instruction_does_not_matter(trained: Any) -> None:
    model = trained(100)

    assert model.features.template.before == INSTRUCTION + "A "
    assert model.median(TEST[0].prompt) == pytest.approx(model.median(TEST[0].text), rel=0.3)


def test_a_template_is_what_all_prompts_share_on_both_sides_in_whole_words() -> None:
    prompts = ["Price this: lamp large now please?", "Price this: lantern now please?"]
    template = PromptTemplate.from_prompts(prompts)

    assert template == PromptTemplate(before="Price this: ", after=" now please?")
    assert template.remove_from("Price this: desk now please?") == "desk"
    assert template.remove_from("Something else") == "Something else"


@pytest.mark.parametrize(
    ("examples", "asked", "epochs", "batch"),
    [
        (5_000, {}, None, 32),
        (500, {"n_epochs": None}, None, 8),
        (10, {"n_epochs": 3, "batch_size": 2}, 3, 2),
    ],
)
def test_what_is_asked_for_counts_and_the_rest_suits_the_number_of_examples(
    examples: int, asked: dict[str, object], epochs: int | None, batch: int
) -> None:
    chosen = Hyperparameters.resolve(asked, examples=examples)

    assert (chosen.n_epochs, chosen.batch_size) == (epochs, batch)


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("$19.99", 19.99),
        ("$1,199.99", 1199.99),
        ("20", 20),
        ("Price is $5 or so", 5),
        ("none", None),
        (".50", 0.5),
        ("19,99 \u20ac", 19.99),
        ("1.199,99 \u20ac", 1199.99),
        ("1 199,99 kr", 1199.99),
        ("1 199 kr", 1199),
        ("1 234 567 kr", 1234567),
        ("5 1995", 5),
        ("CHF 1'199.95", 1199.95),
        ("$1,199", 1199),
        ("2.500.000 \u20ab", 2_500_000),
        ("2.500.000,50", 2_500_000.5),
        ("12.500 KD", 12.5),
    ],
)
def test_the_first_number_of_a_reply_is_its_price(reply: str, number: float | None) -> None:
    assert find_number(reply) == number


@pytest.mark.parametrize(
    ("replies", "written"),
    [
        (["$19.99", "$5.00"], "$1,234.50"),
        (["$1199.99", "$5.00"], "$1234.50"),
        (["20", "1199", "7"], "1234"),
        (["20", "7"], "1234"),
        (["$1,199.99", "$5.00", "$7.25"], "$1,234.50"),
        (["Price is $3.10.", "Price is $4.20."], "Price is $1,234.50."),
        (["no idea"], "$1,234.50"),
        (["19,99 \u20ac", "5,00 \u20ac"], "1.234,50 \u20ac"),
        (["1.199,99 \u20ac", "5,00 \u20ac"], "1.234,50 \u20ac"),
        (["1 199,99 kr", "5,00 kr", "7,00 kr"], "1 234,50 kr"),
        (["1 199 kr", "5 kr", "7 kr"], "1 234 kr"),
        (["1199,99 kr", "5,00 kr"], "1234,50 kr"),
        (["CHF 1'199.95", "CHF 5.00"], "CHF 1'234.50"),
        (["2.500.000 \u20ab", "75.500 \u20ab"], "1.234 \u20ab"),
    ],
)
def test_it_writes_prices_as_it_has_seen_them(replies: list[str], written: str) -> None:
    assert ReplyForm.from_replies(replies).write(1234.5) == written


@pytest.mark.parametrize(
    ("replies", "numbers"),
    [
        (["2.500.000 \u20ab", "75.500 \u20ab"], [2_500_000, 75_500]),
        (["1.250 \u20ac", "950 \u20ac"], [1250, 950]),
        (["12.500 KD", "1,250.500 KD"], [12.5, 1250.5]),
        (["12.500 KD", "0.750 KD", "3 KD"], [12.5, 0.75, 3]),
        (["$1.125", "$19.99", "$5"], [1.125, 19.99, 5]),
    ],
)
def test_what_a_single_point_means_the_other_replies_say(replies: list[str], numbers: list[float]) -> None:
    form = ReplyForm.from_replies(replies)
    assert [form.read(reply) for reply in replies] == numbers


def test_a_model_of_prices_in_millions_learns_them_whole_also_those_that_stand_in_prompts() -> None:
    examples = [
        Example(prompt=f"- like it: {near}\nlamp {number}", reply=reply, price=find_number(reply))
        for number in range(10)
        for reply, near in (("2.500.000 \u20ab", "75.500 \u20ab"), ("75.500 \u20ab", "2.500.000 \u20ab"))
    ]
    data = TrainingSet.prepare(examples, examples[:2])
    assert np.unique(np.round(np.expm1(data.logs))).tolist() == [75_500, 2_500_000]
    assert data.features.lines is not None
    assert data.features.lines.split(examples[0].prompt)[1] == [75_500]


def test_tokens_put_together_are_the_text_and_digits_come_in_threes() -> None:
    assert tokenize("$1199.99") == ["$", "119", "9", ".", "99"]
    text = "Überlange Wörter, x_y\n\tund 3 Dinge \U0001f6cb\ufe0f"
    assert "".join(tokenize(text)) == text


def read_file(content: bytes) -> list[Example]:
    return read_examples(io.BytesIO(content))


GOOD = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "$1"}]}\n'


def test_blank_lines_a_byte_order_mark_and_parts_of_text_are_read() -> None:
    parts = b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, '
    parts += b'{"role": "assistant", "content": "$1"}]}\n'

    found = read_file(b"\xef\xbb\xbf" + GOOD * 5 + b"\n" + parts * 5)

    assert found == [Example(prompt="a", reply="$1", price=1.0)] * 10


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"\xff\n", "line 17: not UTF-8, byte 0xff"),
        (b"{]\n", "line 17: not valid JSON"),
        (b"[1]\n", "line 17: there is no 'messages'"),
        (b'{"messages": []}\n', "line 17: 'messages' must be a list"),
        (b'{"messages": [{"role": "seller", "content": "x"}]}\n', "line 17: .* unknown role 'seller'"),
        (b'{"messages": [{"role": [], "content": "x"}]}\n', "line 17: .* unknown role"),
        (b'{"messages": [{"role": "user", "content": 5}]}\n', "line 17: .* not text"),
        (b'{"messages": [{"role": "user", "content": "x"}]}\n', "line 17: the last message must be from the"),
        (GOOD.replace(b'{"m', b'{"price": 1, "m'), "line 17: unknown key 'price'"),
        (GOOD.replace(b'"a"', b'"a", "mood": 1'), r"line 17: messages\[0\]: unknown key 'mood'"),
        (GOOD.replace(b'"a"', b'"a <|im_end|> b"'), r"line 17: messages\[0\]: .*special token <\|im_end\|>"),
        (GOOD.replace(b'"$1"', b'"$1", "weight": 0.5'), r"line 17: messages\[1\]\.weight"),
        (GOOD.replace(b'"$1"', b'"$1", "weight": true'), r"line 17: messages\[1\]\.weight"),
        (GOOD.replace(b"$1", b" "), "line 17: the last message is empty"),
    ],
)
def test_a_bad_line_is_named(bad: bytes, said: str) -> None:
    with pytest.raises(TrainingFileError, match=said):
        read_file(GOOD * 16 + bad + GOOD * 3)


def test_all_wrong_lines_are_named_the_first_five_with_their_faults() -> None:
    with pytest.raises(TrainingFileError) as refused:
        read_file(GOOD * 2 + b"{]\n" + GOOD + b"[1]\n" * 6)

    said = str(refused.value)
    named = [number for number in range(1, 11) if f"line {number}: " in said]
    assert named == [3, 5, 6, 7, 8]
    assert said.endswith("; and 2 more lines.")


def test_what_a_service_leaves_out_of_the_loss_teaches_nothing() -> None:
    unweighed = GOOD.replace(b'"$1"', b'"$1", "weight": 0')
    too_long = GOOD.replace(b'"a"', b'"' + b"a " * CONTEXT + b'"')

    found = read_file(GOOD * 10 + unweighed + too_long)

    assert [example.price for example in found] == [1.0] * 10 + [None, None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GOOD * 9, "has 9 example"),
        (GOOD.replace(b"$1", b"dear") * 10, "No reply holds a number"),
        (b"", "has 0 "),
    ],
)
def test_a_file_that_cannot_teach_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(TrainingFileError, match=said):
        read_file(content)


@pytest.mark.parametrize("prices", [[20.0], [20.0, 20.0], [9.0, 10.0, 11.0], [10.0] * 500 + [9_000.0]])
def test_no_bin_of_prices_is_too_wide_to_tell_its_ends_apart(prices: list[float]) -> None:
    widths = np.diff(price_bins(np.log1p(prices)))
    assert len(widths) > 0
    assert widths.min() > 0
    assert widths.max() <= 0.25 + 1e-9


def test_the_dearest_prices_are_as_many_bins_as_it_takes() -> None:
    logs = np.random.default_rng(1).normal(4, 1.2, 4000)
    edges = price_bins(logs)
    assert (edges[0], edges[-1]) == (logs.min(), logs.max())
    assert np.diff(edges).max() <= 0.25
    assert len(edges) < 90
