from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetune_pricer.errors import TrainingFileError
from finetune_pricer.local.examples import Example, read_examples
from finetune_pricer.local.learner import Hyperparameters, Step, Stopped, train
from finetune_pricer.local.model import Frame, PriceModel
from finetune_pricer.local.replies import ReplyForm, number_in, tokens_of
from local_helpers import INSTRUCTION, Product, products


def examples_of(items: list[Product]) -> list[Example]:
    return [Example(prompt=i.prompt, reply=f"${i.price:.2f}", price=i.price) for i in items]


def trained(count: int, *, seed: int = 0, **asked: Any) -> PriceModel:
    chosen = Hyperparameters.resolve(asked, examples=count)
    return train(examples_of(products(count)), [], chosen, seed=seed)


def error_of(model: PriceModel, items: list[Product]) -> float:
    return float(np.mean([abs(model.median(item.prompt) - item.price) for item in items]))


TEST = products(200, seed=99)


@pytest.mark.parametrize(
    ("count", "asked"), [(200, {}), (1_500, {}), (1_000, {"n_epochs": 1, "batch_size": 1})]
)
def test_it_prices_far_better_than_always_the_median(count: int, asked: dict[str, Any]) -> None:
    median = np.median([item.price for item in products(count)])
    constant = np.mean([abs(median - item.price) for item in TEST])

    assert error_of(trained(count, **asked), TEST) < 0.8 * constant


def test_one_epoch_on_ten_examples_is_no_worse_than_the_median() -> None:
    median = np.median([item.price for item in products(10)])
    constant = float(np.mean([abs(median - item.price) for item in TEST]))

    assert error_of(trained(10, n_epochs=1, batch_size=1), TEST) < 1.1 * constant


def test_the_same_seed_gives_the_same_model_and_another_gives_another() -> None:
    first, same, other = (trained(100, seed=seed).median(TEST[0].prompt) for seed in (3, 3, 4))

    assert first == same != other


def test_training_loss_falls_and_each_epoch_ends_with_a_validation_loss() -> None:
    steps: list[Step] = []
    chosen = Hyperparameters(n_epochs=4, batch_size=16, learning_rate_multiplier=1)

    train(examples_of(products(160)), examples_of(products(40, seed=3)), chosen, seed=0, on_step=steps.append)

    assert [step.step for step in steps] == list(range(1, 41))
    assert {step.total_steps for step in steps} == {40}
    assert [step.step for step in steps if step.valid_loss is not None] == [10, 20, 30, 40]
    assert np.mean([s.train_loss for s in steps[-10:]]) < np.mean([s.train_loss for s in steps[:10]])


def test_a_higher_learning_rate_learns_more_in_the_same_steps() -> None:
    slow, fast = (
        error_of(trained(200, n_epochs=1, learning_rate_multiplier=rate), TEST) for rate in (0.01, 2)
    )

    assert fast < slow


def test_training_stops_when_it_is_told_to() -> None:
    chosen = Hyperparameters(n_epochs=5, batch_size=8, learning_rate_multiplier=1)

    with pytest.raises(Stopped):
        train(examples_of(products(50)), [], chosen, seed=0, should_stop=lambda: True)


def test_equal_prices_and_equal_texts_are_learned_without_complaint() -> None:
    same = [Product("A mug.", 9.0)] * 12
    chosen = Hyperparameters.resolve({}, examples=12)

    model = train(examples_of(same), [], chosen, seed=0)

    assert model.median(same[0].prompt) == pytest.approx(9, abs=0.01)


def test_a_stored_model_gives_the_same_prices_and_holds_no_pickle() -> None:
    model = trained(100)
    arrays, rest = model.save()

    again = PriceModel.load(arrays, rest)

    assert [again.median(i.prompt) for i in TEST[:20]] == [model.median(i.prompt) for i in TEST[:20]]
    assert b"pickle" not in arrays + rest


def test_draws_at_a_temperature_spread_and_their_middle_is_the_median() -> None:
    model = trained(300)
    prompt = TEST[0].prompt

    draws = model.draw(prompt, temperature=1, count=2_000, seed=1)

    assert len(set(draws)) > 100
    assert np.median(draws) == pytest.approx(model.median(prompt), rel=0.05)
    assert draws == model.draw(prompt, temperature=1, count=2_000, seed=1)
    assert set(model.draw(prompt, temperature=0, count=3, seed=None)) == {model.median(prompt)}


def test_the_instruction_does_not_matter() -> None:
    model = trained(100)

    assert model.frame.before == INSTRUCTION + "A "
    assert model.median(TEST[0].prompt) == pytest.approx(model.median(TEST[0].text), rel=0.3)


def test_a_frame_is_what_all_prompts_share_on_both_sides_in_whole_words() -> None:
    frame = Frame.around(["Price this: lamp large now please?", "Price this: lantern now please?"])

    assert frame == Frame(before="Price this: ", after=" now please?")
    assert frame.inside("Price this: desk now please?") == "desk"
    assert frame.inside("Something else") == "Something else"


@pytest.mark.parametrize(
    ("examples", "asked", "epochs", "batch"),
    [(5_000, {}, 5, 32), (500, {"n_epochs": "auto"}, 20, 8), (10, {"n_epochs": 3, "batch_size": 2}, 3, 2)],
)
def test_auto_becomes_a_number_that_suits_the_number_of_examples(
    examples: int, asked: dict[str, object], epochs: int, batch: int
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
    ],
)
def test_the_first_number_of_a_reply_is_its_price(reply: str, number: float | None) -> None:
    assert number_in(reply) == number


@pytest.mark.parametrize(
    ("replies", "written"),
    [
        (["$19.99", "$5.00"], "$1234.50"),
        (["20", "1199", "7"], "1234"),
        (["$1,199.99", "$5.00", "$7.25"], "$1,234.50"),
        (["Price is $3.10.", "Price is $4.20."], "Price is $1234.50."),
        (["no idea"], "$1234.50"),
    ],
)
def test_it_writes_prices_as_it_has_seen_them(replies: list[str], written: str) -> None:
    assert ReplyForm.seen_in(replies).write(1234.5) == written


def test_tokens_put_together_are_the_text_and_digits_come_in_threes() -> None:
    assert tokens_of("$1199.99") == ["$", "119", "9", ".", "99"]
    text = "Überlange Wörter, x_y\n\tund 3 Dinge \U0001f6cb\ufe0f"
    assert "".join(tokens_of(text)) == text


GOOD = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "$1"}]}\n'


def test_blank_lines_a_byte_order_mark_and_parts_of_text_are_read() -> None:
    parts = b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, '
    parts += b'{"role": "assistant", "content": "$1"}]}\n'

    found = read_examples(b"\xef\xbb\xbf" + GOOD * 5 + b"\n" + parts * 5)

    assert found == [Example(prompt="a", reply="$1", price=1.0)] * 10


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"\xff\n", "not UTF-8: line 17"),
        (b"{]\n", "line 17 is not valid JSON"),
        (b"[1]\n", "line 17 has no 'messages'"),
        (b'{"messages": []}\n', "line 17: 'messages' must be a list"),
        (b'{"messages": [{"role": "seller", "content": "x"}]}\n', "line 17: .* unknown role 'seller'"),
        (b'{"messages": [{"role": [], "content": "x"}]}\n', "line 17: .* unknown role"),
        (b'{"messages": [{"role": "user", "content": 5}]}\n', "line 17: .* not text"),
        (b'{"messages": [{"role": "user", "content": "x"}]}\n', "line 17: the last message must be from the"),
    ],
)
def test_a_bad_line_is_named(bad: bytes, said: str) -> None:
    with pytest.raises(TrainingFileError, match=said):
        read_examples(GOOD * 16 + bad + GOOD * 3)


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
        read_examples(content)
