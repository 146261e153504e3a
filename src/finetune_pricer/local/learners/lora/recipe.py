"""`Recipe`: how adapters of a base model are trained, and how its texts are read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ....errors import DataError, NotSupported

ALL_LAYERS = "all-linear"
_HIGHEST_RATE = 2  # times the usual rate; three times it undid what the weights knew (SmolLM2-135M, 1e-3)
_TOKENS_AT_ONCE = 1_024  # that are in memory at once: 3 GB for a model of 135M parameters
_TOKENS_AT_ONCE_ON_GPU = 16_384  # where a model of a billion parameters or more keeps few activations


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a base model's entry may say beside its weights."""

    rank: int = 16
    """How many columns each adapter has."""
    alpha: int | None = None
    """The weight of an adapter is `alpha / rank`; twice the rank by default."""
    dropout: float = 0.0
    targets: str = ALL_LAYERS
    """Which layers get adapters: `all-linear`, or names such as `q_proj+v_proj`."""
    dtype: str = "auto"
    """`float32`, `bfloat16` or `float16`; by default as fine as the weights and fast on this machine."""
    quantize: str = "none"
    """`nf4` keeps the frozen weights in 4 bits, which takes a GPU and bitsandbytes."""
    text_tokens: int = 256
    """How many tokens of an item's text are read, in training and in asking; the rest is cut off."""
    template: str = "chat"
    """`chat` for the base's own chat template, `plain` for the texts alone."""
    learning_rate: float | None = None
    """What a `learning_rate_multiplier` of 1 means; by default by the size of the model."""
    schedule: str = "linear"
    """How the learning rate falls: `linear` or `cosine`."""
    warmup: float = 5
    """Steps over which it rises at first, or below 1 a share of all steps."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """The largest norm of a gradient."""
    batch_size: int | None = None
    n_epochs: int | None = None
    processes: int = 1
    """How many processes train together, by torchrun: one for each GPU."""

    @property
    def layers(self) -> str | list[str]:
        """The targets as peft takes them."""
        return self.targets if self.targets == ALL_LAYERS else self.targets.split("+")

    @property
    def scale(self) -> int:
        """The alpha, in a number."""
        return 2 * self.rank if self.alpha is None else self.alpha

    def choose_epochs(self, requested: int | None, examples: int) -> int:
        """Return the number of epochs: what was asked for, or fewer the more examples there are."""
        return requested or self.n_epochs or (3 if examples < 1_000 else 2 if examples < 5_000 else 1)

    def choose_batch(self, requested: int | None, examples: int) -> int:
        """Return how many examples make a step, at most all; LoRA learns less from large batches.

        Raises:
            NotSupported: The processes cannot share it evenly.
        """
        chosen = requested or self.batch_size or max(min(16, examples // 8), 1)
        if requested and requested % self.processes:
            raise NotSupported(
                f"{self.processes} processes cannot share batches of {requested} examples; choose a "
                f"batch_size that is a multiple of {self.processes}"
            )
        held = min(chosen, examples)
        return max(held - held % self.processes, self.processes)

    def choose_rate(self, multiplier: float | None, parameters: int) -> tuple[float, float]:
        """Return the learning rate, and its multiplier, which is held to what did not break a model."""
        usual = self.learning_rate or (1e-3 if parameters < 0.5e9 else 2e-4 if parameters < 8e9 else 1e-4)
        held = min(1.0 if multiplier is None else multiplier, _HIGHEST_RATE)
        return usual * held, held

    def count_warmup(self, steps: int) -> int:
        """Return over how many of the steps the learning rate rises."""
        if self.warmup < 1:
            return math.ceil(self.warmup * steps)
        return min(int(self.warmup), steps // 10)


_COURSE = Recipe(
    rank=32,
    alpha=64,
    dropout=0.1,
    targets="q_proj+k_proj+v_proj+o_proj",
    quantize="nf4",
    text_tokens=110,
    template="plain",
    learning_rate=1e-4,
    schedule="cosine",
    warmup=0.01,
    weight_decay=0.001,
    clip=0.3,
    batch_size=32,
    n_epochs=1,
)
RECIPES = {
    "usual": Recipe(),
    # The recipe of week 7 of the course "LLM Engineering", on 20,000 products and on 800,000.
    "course": _COURSE,
    "course-full": replace(
        _COURSE,
        rank=256,
        alpha=512,
        targets="q_proj+k_proj+v_proj+o_proj+gate_proj+up_proj+down_proj",
        batch_size=256,
        n_epochs=3,
    ),
}
_CHOICES = {
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "quantize": ("none", "nf4"),
    "template": ("chat", "plain"),
    "schedule": ("linear", "cosine"),
}
_LOWEST = {"rank": 1, "alpha": 1, "text_tokens": 1, "processes": 1}


def make_recipe(preset: str, changes: dict[str, Any]) -> Recipe:
    """Return the recipe of that name, with what is given in the place of its own.

    Raises:
        DataError: There is no such recipe, or a value is none that can be trained with.
    """
    if preset not in RECIPES:
        raise DataError(f"there is no preset {preset!r:.40}; choose one of {', '.join(RECIPES)}")
    given = {name: value for name, value in changes.items() if value is not None}
    for name, value in given.items():
        if name in _CHOICES and value not in _CHOICES[name]:
            raise DataError(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r:.40}")
        if name in _LOWEST and not (isinstance(value, int) and value >= _LOWEST[name]):
            raise DataError(f"{name} must be a whole number of at least {_LOWEST[name]}, not {value!r:.40}")
    if not 0 <= given.get("dropout", 0) < 1:
        raise DataError(f"dropout must be from 0 to below 1, not {given['dropout']!r:.40}")
    if not 0 < given.get("learning_rate", 1e-3) < 1:
        raise DataError(f"learning_rate must be between 0 and 1, not {given['learning_rate']!r:.40}")
    recipe = RECIPES[preset]
    if "rank" in given and "alpha" not in given:
        given["alpha"] = given["rank"] * recipe.scale // recipe.rank
    return replace(recipe, **given)


def split_batch(batch_size: int, *, longest: int, on_gpu: bool = False) -> tuple[int, int]:
    """Return into how many examples at once, and how many such pieces, a batch is cut to fit into memory.

    `longest` is the most tokens that one of them has.
    """
    most = max((_TOKENS_AT_ONCE_ON_GPU if on_gpu else _TOKENS_AT_ONCE) // longest, 1)
    piece = next(size for size in range(min(batch_size, most), 0, -1) if batch_size % size == 0)
    return piece, batch_size // piece
