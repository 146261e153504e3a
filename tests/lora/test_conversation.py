"""What a base model reads of a conversation, in training and in asking alike, and never without its price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from finetune_pricer._chat_protocol import NEIGHBORS_HEAD
from finetune_pricer.errors import NotSupported, TrainingFileError
from finetune_pricer.local.learners.lora.conversation import ConversationWriter, TextLimit
from finetune_pricer.local.learners.lora.example_set import ExampleSet
from local_helpers import line
from tiny_language_model import CHAT_TEMPLATE, NO_TORCH, make_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("torch", reason=NO_TORCH)

LIMIT = TextLimit(before="What is it worth?\n\n", after="\n\nPrice is $", tokens=12)


def writer(template: str = "chat", *, context: int = 400, chat_template: str | None = CHAT_TEMPLATE) -> Any:
    tokenizer = make_tokenizer("single", chat_template=chat_template)
    return ConversationWriter(tokenizer, template=template, context=context), tokenizer


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_prompt_is_what_the_chat_template_makes_of_it_and_a_reply_ends_as_the_template_ends_it() -> None:
    write, tokenizer = writer()
    messages = [{"role": "developer", "content": "Be brief."}, *asked("A lamp?")]

    prompt, is_cut = write.write_prompt(messages)

    assert (
        tokenizer.decode(prompt) == "<|begin|><|system|>Be brief.<|end|><|user|>A lamp?<|end|><|assistant|>"
    )
    assert not is_cut
    assert tokenizer.decode(write.write_reply("$20")) == "$20<|end|>"


def test_the_text_of_an_item_is_cut_and_what_stands_around_it_stays() -> None:
    write, tokenizer = writer()
    prompt, is_cut = write.write_prompt(asked(LIMIT.before + "0123456789abcdef" + LIMIT.after), LIMIT)

    assert is_cut
    content = "What is it worth?\n\n0123456789ab\n\nPrice is $"
    assert tokenizer.decode(prompt) == f"<|begin|><|user|>{content}<|end|><|assistant|>"
    _, is_cut = write.write_prompt(asked(LIMIT.before + "0123456789ab" + LIMIT.after), LIMIT)
    assert not is_cut


def test_neighbors_below_a_text_are_no_part_of_it_and_stay() -> None:
    write, tokenizer = writer()
    lines = f"\n\n{NEIGHBORS_HEAD}\n- A desk lamp of brass: $40\n- A floor lamp of oak: $65"
    prompt, is_cut = write.write_prompt(asked(LIMIT.before + "0123456789abcdef" + lines + LIMIT.after), LIMIT)

    assert is_cut
    assert f"0123456789ab{lines}{LIMIT.after}" in tokenizer.decode(prompt)


def test_a_letter_of_several_tokens_is_not_cut_in_two() -> None:
    write, tokenizer = writer()
    prompt, _ = write.write_prompt(asked(LIMIT.before + "0123456789aé" + LIMIT.after), LIMIT)

    assert "0123456789a\n\nPrice" in tokenizer.decode(prompt)


def test_a_text_is_cut_further_to_fit_into_the_context_and_refused_where_nothing_is_left_to_cut() -> None:
    long = TextLimit(before=LIMIT.before, after=LIMIT.after, tokens=500)
    write, _ = writer(context=60)
    tokens, is_cut = write.write_prompt(asked(long.before + "x" * 400 + long.after), long)

    assert is_cut
    assert len(tokens) == 60
    with pytest.raises(NotSupported, match=r"a prompt has \d+ tokens beside its item's text.*reads 20"):
        writer(context=20)[0].write_prompt(asked(long.before + "x" + long.after), long)


def test_a_plain_prompt_is_the_texts_alone() -> None:
    write, tokenizer = writer("plain", chat_template=None)

    assert tokenizer.decode(write.write_prompt(asked("Price is $"))[0]) == "Price is $"
    assert tokenizer.decode(write.write_prompt([*asked("One."), *asked("Two.")])[0]) == "One.\n\nTwo.\n\n"
    assert tokenizer.decode(write.write_reply("20.00")) == "20.00<|end|>"


def test_a_base_without_a_chat_template_and_one_that_refuses_a_role_say_so() -> None:
    with pytest.raises(NotSupported, match=r"no chat template.*template=plain"):
        writer(chat_template=None)
    picky = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('private') }}{% endif %}" + CHAT_TEMPLATE
    )
    with pytest.raises(NotSupported, match="refuses messages of these roles: system, user") as refused:
        writer(chat_template=picky)[0].write_prompt([{"role": "system", "content": "x"}, *asked("?")])
    assert "private" not in str(refused.value)


def test_a_tokenizer_that_cannot_write_a_price_is_refused() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(vocab={"<unk>": 0, "<end>": 1, "lamp": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<unk>")

    with pytest.raises(NotSupported, match=r"cannot write a price: '\$1' becomes '<unk>"):
        ConversationWriter(tokenizer, template="plain", context=99).write_replies(["$1", "$2"])


# Training files


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("\n".join(line(LIMIT.before + text + LIMIT.after, reply) for text, reply in rows))
    return path


def test_every_example_keeps_its_whole_reply_however_long_its_text_is(tmp_path: Path) -> None:
    write, tokenizer = writer()
    rows = [(f"{place} {'long ' * (place * 5)}item {place}", f"${place}.99") for place in range(1, 13)]
    examples = ExampleSet.read(write_rows(tmp_path / "t.jsonl", rows), None, write, text_tokens=12)

    taught = [[token for token in labels if token != -100] for labels in examples.training["labels"]]
    assert [tokenizer.decode(tokens) for tokens in taught] == [f"{reply}<|end|>" for _, reply in rows]
    assert all(
        tokens[-len(reply) :] == reply
        for tokens, reply in zip(examples.training["input_ids"], taught, strict=True)
    )
    (note,) = examples.notes
    assert note.startswith(
        "The texts of 12 of 12 examples were cut at 12 tokens, or at what the base model reads"
    )
    assert (examples.limit.before, examples.limit.after) == (LIMIT.before, LIMIT.after)
    assert (examples.form.before, examples.form.decimals) == ("$", 2)


def test_examples_without_a_price_are_left_out_and_counted(tmp_path: Path) -> None:
    write, _ = writer()
    rows = [("a", "$5")] * 9 + [("b", "I do not know")] * 2
    examples = ExampleSet.read(write_rows(tmp_path / "t.jsonl", rows), None, write, text_tokens=50)

    assert examples.count == 9
    assert examples.notes == ["2 example(s) without a price in the reply were left out"]
    with pytest.raises(TrainingFileError, match="No reply holds a number"):
        ExampleSet.read(write_rows(tmp_path / "n.jsonl", rows[9:] * 6), None, write, text_tokens=50)


def test_bare_numbers_are_remarked_on_unless_a_mark_stands_before_them(tmp_path: Path) -> None:
    write, _ = writer()

    def notes(*, reply: str, end: str) -> list[str]:
        rows = [line(f"What is it worth?\n\nlamp {place}{end}", reply) for place in range(10)]
        path = tmp_path / "train.jsonl"
        path.write_text("\n".join(rows))
        return ExampleSet.read(path, None, write, text_tokens=50).notes

    (note,) = notes(reply="20", end="")
    assert note.startswith("The replies are bare numbers")
    assert notes(reply="20", end="\n\nPrice is $") == []
    assert notes(reply="$20", end="") == notes(reply="20 €", end="") == []
