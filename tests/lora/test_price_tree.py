"""The tree of prices gives what one forward pass for each price gives, whatever the tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from finetune_pricer.errors import NotSupported
from finetune_pricer.local.learners.lora.price_tree import PriceTree, TreeAsker
from tiny_language_model import NO_TORCH, make_model, make_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiny_language_model import Digits

torch = pytest.importorskip("torch", reason=NO_TORCH)

TOKENIZERS: list[Digits] = ["single", "threes", "with the dollar"]
# For each form of a reply, how a price is written, and which prices: dollars, and those that differ in cents.
FORMS: dict[str, tuple[Callable[[float], str], list[float]]] = {
    "20": ("{:.0f}".format, [float(price) for price in range(130)]),
    "$20": ("${:.0f}".format, [float(price) for price in range(1, 130)]),
    "$1,199": ("${:,.0f}".format, [1, 9, 10, 19, 99, 100, 119, 199, 999, 1_000, 1_099, 1_199, 9_999, 10_199]),
    "$19.99": ("${:.2f}".format, [d + c for d in range(1, 25) for c in (0.0, 0.5, 0.95, 0.99)]),
}
PROMPTS = ["How much is a lamp?", "A desk of oak, and a long text beside it, costs ", "?"]


def written(form: str, tokenizer: Any) -> tuple[list[list[int]], list[int]]:
    """The replies in tokens with their end, and the number of the dollars that each names."""
    write, prices = FORMS[form]
    texts = [write(price) for price in prices]
    replies = tokenizer(texts, add_special_tokens=False).input_ids
    dollars = sorted({int(price) for price in prices})
    return [[*reply, tokenizer.eos_token_id] for reply in replies], [dollars.index(int(p)) for p in prices]


def by_brute_force(model: Any, prompt: list[int], replies: list[list[int]], prices: list[int]) -> Any:
    """One pass for each reply, and at each token the model's probabilities among those that lead on."""
    total: dict[int, set[tuple[int, ...]]] = {}
    chances = np.zeros(max(prices) + 1)
    for reply, price in zip(replies, prices, strict=True):
        total.setdefault(price, set()).add(tuple(reply))
    for price, group in total.items():
        # The shortest beginnings of its replies that no other price shares: what follows does not matter.
        others = {reply[:n] for p, g in total.items() if p != price for reply in g for n in range(len(reply))}
        heads = {next(reply[:n] for n in range(1, 99) if reply[:n] not in others) for reply in group}
        for head in heads:
            with torch.inference_mode():
                logits = model(torch.tensor([[*prompt, *head]])).logits[0].double().numpy()
            chance = 1.0
            for place, token in enumerate(head):
                onward = sorted({r[place] for r in map(tuple, replies) if r[:place] == head[:place]})
                row = logits[len(prompt) - 1 + place]
                chance *= np.exp(row[token]) / np.exp(row[onward]).sum()
            chances[price] += chance
    return np.log(chances)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("digits", TOKENIZERS)
def test_one_pass_gives_what_a_pass_for_each_price_gives(digits: Digits, form: str) -> None:
    tokenizer = make_tokenizer(digits)
    model = make_model(len(tokenizer))
    replies, prices = written(form, tokenizer)
    prompts = tokenizer(PROMPTS, add_special_tokens=False).input_ids

    found = TreeAsker(model, PriceTree.from_replies(replies, prices)).ask(prompts)

    for prompt, row in zip(prompts, found, strict=True):
        assert row == pytest.approx(by_brute_force(model, prompt, replies, prices), abs=1e-4)
        assert np.exp(row).sum() == pytest.approx(1)
        assert row.max() - row.min() > 1  # the model really prefers some


def test_digits_alone_take_a_node_for_each_beginning_and_digits_in_threes_none() -> None:
    single, threes = (make_tokenizer(digits) for digits in TOKENIZERS[:2])

    def tree(tokenizer: Any) -> PriceTree:
        replies = tokenizer([str(n) for n in range(1, 1_000)], add_special_tokens=False).input_ids
        return PriceTree.from_replies([[*r, tokenizer.eos_token_id] for r in replies], range(999))

    assert (tree(single).size, len(tree(single).vocabulary)) == (99, 11)
    assert tree(threes).size == 0


def test_prices_that_are_written_alike_are_refused() -> None:
    with pytest.raises(NotSupported, match="two prices with the same tokens"):
        PriceTree.from_replies([[1, 2], [1, 2]], [0, 1])


def test_one_price_is_certain() -> None:
    tree = PriceTree.from_replies([[1, 2, 3], [1, 2, 4]], [0, 0])

    assert tree.size == 0
    assert tree.log_probabilities(np.zeros((2, 0, 1))).tolist() == [[0.0], [0.0]]


def test_what_an_architecture_does_with_its_logits_is_done() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer = make_tokenizer("single")
    torch.manual_seed(1)
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=2.0,
        initializer_range=0.5,
    )
    model = Gemma2ForCausalLM(config).eval()
    replies, prices = written("$20", tokenizer)
    (prompt,) = tokenizer(PROMPTS[:1], add_special_tokens=False).input_ids

    (row,) = TreeAsker(model, PriceTree.from_replies(replies, prices)).ask([prompt])

    assert row == pytest.approx(by_brute_force(model, prompt, replies, prices), abs=1e-4)
