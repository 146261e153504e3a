"""A language model small enough to train in a test: random weights, and tokenizers that are made here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

NO_TORCH = "torch is not installed: `make test-lora` makes an environment that has it"
Digits = Literal["single", "threes", "with the dollar"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] "
    "+ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_MARKS = ["<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def make_tokenizer(digits: Digits, *, chat_template: str | None = CHAT_TEMPLATE) -> Any:
    """Return a tokenizer of bytes that cuts digits alone, in threes from the left, or merges `$1`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = list(letters)
    merges: list[tuple[str, str]] = []
    if digits == "threes":
        pairs = [(a, b) for a in "0123456789" for b in "0123456789"]
        threes = [(pair, digit) for pair in map("".join, pairs) for digit in "0123456789"]
        # Either pair of `123` may be merged first.
        merges = pairs + threes + [(pair[0], pair[1] + digit) for pair, digit in threes]
    elif digits == "with the dollar":
        merges = [("$", "1"), ("$1", "9"), (".", "9"), (".9", "9")]
    words += dict.fromkeys(a + b for a, b in merges)
    tokenizer = Tokenizer(models.BPE(vocab={word: place for place, word in enumerate(words)}, merges=merges))
    cut = r"\d{1,3}|\D" if digits == "threes" else r"\d|\D" if digits == "single" else r"[^\d]*\d+|\D+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(cut), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_MARKS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template=chat_template,
    )


def make_model(vocabulary: int, *, seed: int = 0, context: int = 512) -> Any:
    """Return a Llama of two layers with random weights, in float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        # Larger than usual, so that the tokens before one matter to it.
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def save_base(
    folder: Path,
    *,
    digits: Digits = "single",
    seed: int = 0,
    context: int = 512,
    chat_template: str | None = CHAT_TEMPLATE,
) -> Path:
    """Write a base model into a folder, and return the folder."""
    tokenizer = make_tokenizer(digits, chat_template=chat_template)
    model = make_model(len(tokenizer), seed=seed, context=context)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
