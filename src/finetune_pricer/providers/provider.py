"""What a service is: where it answers, how it wants to be asked, what is known of it."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads it
from datetime import date  # noqa: TC003 - pydantic reads it
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from .._arguments import explain_invalid
from .._display import ShortModelRepr
from ..errors import DataError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass as _ModelMeta
else:
    _ModelMeta = type(BaseModel)

SETTINGS = ("epochs", "batch_size", "learning_rate_multiplier")
"""The settings that every service has, by our names."""


class _Refusing(_ModelMeta):
    """Says in one line, and by an error of ours, what is wrong with the fields that somebody hands in.

    Here and not in an `__init__` of the models: pydantic would call that for what it validates itself, too.
    """

    def __call__(self, *values: Any, **fields: Any) -> Any:
        try:
            return super().__call__(*values, **fields)
        except ValidationError as error:
            known: Mapping[str, Any] = vars(self)["__pydantic_fields__"]
            raise explain_invalid(self.__name__, error, known=known) from None


class _Fact(ShortModelRepr, BaseModel, metaclass=_Refusing):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class _DatedFact(_Fact):
    as_of: date | None = None
    """When the fact was gathered."""
    confirmed_on: date | None = None
    """When somebody last found that its source still says so; None where nobody has looked again."""
    source: str = ""
    """Where it was read."""


class Setting(_Fact):
    """How a service takes one of our settings."""

    name: str
    """The service's name for it."""
    low: float | None = None
    high: float | None = None
    choices: tuple[int, ...] = ()
    """The only values that it takes; empty where every value in the range will do."""
    auto: bool = True
    """Whether it takes `"auto"`. Where not, `"auto"` is not sent, which comes to the same."""
    scale: float | None = None
    """What our factor is multiplied by, where the service wants an absolute number."""

    def check(self, ours: str, value: float, *, at: str) -> float:
        """Return the value as the service wants it.

        Raises:
            DataError: It is out of the service's range; the message names the range.
        """
        whole = self.scale is None and isinstance(value, int)
        if isinstance(value, bool) or value != value:  # noqa: PLR0124 - NaN
            raise DataError(f"{ours} must be a number, not {value!r}")
        too_low = self.low is not None and value < self.low
        if (
            too_low
            or (self.high is not None and value > self.high)
            or (self.choices and value not in self.choices)
        ):
            raise DataError(f"{ours} must be {self._range()} {at}, not {value!r}{self._hint(value)}")
        return value if whole or self.scale is None else float(f"{value * self.scale:.6g}")

    def _range(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.low is None or self.high is None:
            return f"at least {self.low:g}" if self.high is None else f"at most {self.high:g}"
        return f"{self.low:g} to {self.high:g}"

    def _hint(self, value: float) -> str:
        if self.scale is None or value <= 0:
            return ""
        return f" (a factor on {self.scale:g}; for a rate of {value:g} give {value / self.scale:g})"


class Retirement(_DatedFact):
    """When base models stop; `models` are names, or patterns with `*`."""

    models: tuple[str, ...]
    training_ends: date | None = None
    serving_ends: date | None = None
    """When tuned models stop answering; for a model that cannot be tuned, when it stops itself."""
    is_earliest: bool = False
    """Whether the service says "no earlier than": nobody is refused on such a date, only warned."""
    existing_customers_only: bool = False
    """Whether the service says that only those may still train who did so before."""


class Doubt(_DatedFact):
    """What could not be established about a service, and what its sources say."""

    about: str
    """What is in doubt, in a sentence."""


class Recommendation(_DatedFact):
    """Settings that suit short examples, such as those of prices, better than the service's own."""

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    why: str
    """What the service's own settings would come to."""
    most_tokens: float = 1_000
    """How long an example may be on average; for longer ones the service's own settings stand."""
    only_with: Mapping[str, Any] = {}
    """Hyperparameters that must be among those that are always sent, such as a LoRA switched on."""

    @property
    def settings(self) -> dict[str, float]:
        """What is recommended, under our names."""
        values = {name: getattr(self, name) for name in SETTINGS}
        return {name: value for name, value in values.items() if value is not None}


class Serving(_DatedFact):
    """How a tuned model comes to answer, and what that costs."""

    how: Literal["at_once", "custom_models", "loras", "by_hand"] = "at_once"
    """`at_once`: by its name, with no further step. `custom_models` and `loras`: `deploy` does it, as Nebius
    or as Crusoe wants it. `by_hand`: `deploy` gives the steps."""
    deploys_at: str = ""
    """Where `loras` are loaded; `{project}` is filled in."""
    project_variable: str = ""
    """The environment variable that names the project."""
    answers_at: str | None = None
    """Where a deployed model answers; None where that is the address of everything else."""
    steps: str = ""
    """What to do by hand; `{model}` and `{name}` are filled in."""
    steps_of_bases: Mapping[str, str] = {}
    """The same for bases that are served otherwise, by a pattern of their names."""
    idle_cost_per_hour: float | None = None
    """USD for an hour in which nobody asks; None where it is not known."""
    cost: str = ""
    """The same in words."""
    bases: Mapping[str, str] = {}
    """Base models whose tuned models can be deployed, with the name that serving has for each. Empty: all."""

    def describe_steps(self, base: str | None, **names: str | None) -> str:
        """Return what to do by hand for a tuned model of a base, with the names filled in."""
        chosen = (steps for pattern, steps in self.steps_of_bases.items() if fnmatchcase(base or "", pattern))
        return next(chosen, self.steps).format(**names)


class Thinking(_Fact):
    """Models that think before they answer, and how to ask them for the answer alone."""

    models: tuple[str, ...]
    """Names, or patterns with `*`; lower and upper case are the same."""
    off: Mapping[str, Any] = {}
    """What a request holds that switches thinking off, or down to its least; empty where nothing does."""
    from_the_start: bool = True
    """Whether that is sent at once, and not only after the model was seen thinking."""
    always: bool = False
    """Whether the model thinks all the same, and gets room for that from the start."""
    room: int = 4096
    """Tokens to think, where it cannot be switched off; they are billed."""
    empty_block: str = ""
    """What stands before the answer in training data of such a base model: its thinking, left empty."""
    source: str = ""


_NO_TEMPLATE_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
OPEN_MODELS = (
    Thinking(models=("*qwen3*instruct*", "*qwen3*-base"), from_the_start=False, off=_NO_TEMPLATE_THINKING),
    Thinking(
        models=("*qwen3*", "*qwen-3*"),
        off=_NO_TEMPLATE_THINKING,
        empty_block="<think>\n\n</think>\n\n",
        source="https://github.com/nebius/token-factory-cookbook, read 2026-11-26; QwenLM/Qwen3 on GitHub",
    ),
    Thinking(
        models=("*gemma-4*", "*gemma4*"),
        off=_NO_TEMPLATE_THINKING,
        source="https://github.com/ml-explore/mlx-lm/issues/1352, read 2026-11-26",
    ),
    Thinking(
        models=("*gpt-oss*",),
        off={"reasoning_effort": "low"},
        always=True,
        source="https://github.com/openai/gpt-oss: low, medium and high; from memory, 2026-11-26",
    ),
    Thinking(models=("*deepseek-r1*", "*deepseek-reasoner*", "*magistral*", "*qwq*"), always=True),
    # The most common switch of servers of open weights (vLLM, SGLang, llama.cpp), for tuned models' names.
    Thinking(models=("*",), from_the_start=False, off=_NO_TEMPLATE_THINKING),
)
"""What is known of open models, wherever they are served."""


class Provider(_DatedFact):
    """A service: where it answers, how it wants to be asked, and what is known of it.

    Take one of `PROVIDERS`, change it with `model_copy(update={...})`, or make one for a service of your own:
    the defaults are the protocol as OpenAI documents it.
    """

    name: str

    key_variable: str = ""
    """The environment variable with the key; a provider is configured when it is set."""
    base_url: str | None = None
    """Where the service answers; None where each user has an address of their own."""
    base_url_variable: str | None = None
    """The environment variable that says where, or overrides it."""
    base_url_path: str = ""
    """Added to what `base_url_variable` says, where it names a resource and not the API."""
    hosts: tuple[str, ...] = ()
    """Hosts by which a client of it is recognised; `*` stands for anything."""

    hyperparameters: Literal["method", "top_level", "extra_body"] = "method"
    """Where they stand in the request: in `method`, in the older `hyperparameters`, or in the `method` of a
    body that the client does not check."""
    settings: Mapping[str, Setting] = {
        "epochs": Setting(name="n_epochs", low=1),
        "batch_size": Setting(name="batch_size", low=1),
        "learning_rate_multiplier": Setting(name="learning_rate_multiplier"),
    }
    """How `epochs`, `batch_size` and `learning_rate_multiplier` are called, and what they may be."""
    learning_rate: str = "a factor on a rate that the service chooses"
    """What a learning rate means there."""
    always: Mapping[str, Any] = {}
    """Hyperparameters that are always sent."""
    recommended: Recommendation | None = None
    """Settings that a job gets where its user names none; None leaves all to the service."""
    recommended_before: tuple[Recommendation, ...] = ()
    """What was recommended earlier: a job that was bought with it is still the one of its call."""
    lora: Mapping[str, Setting] = {}
    """How `rank`, `alpha` and `dropout` of a LoRA are called; empty where they cannot be chosen."""
    extra_body: Mapping[str, Any] = {}
    """Further fields of the request."""
    context_length: Setting | None = None
    """How the length of an example is chosen; None where it cannot be."""

    file_encoding: Literal["utf-8", "utf-8-sig"] = "utf-8"
    """`utf-8-sig` puts a byte order mark before the file as it is sent."""
    min_examples: int = 1
    max_file_bytes: int = 512 * 2**20
    max_example_tokens: int = 65_536
    """Tokens that an example may have, unless a longer context is asked for.

    OpenAI cuts a longer one at its end, where the price stands."""
    suffix_max: int | None = 64
    """Characters that a suffix may have; None where there are no suffixes."""
    suffix_pattern: str | None = None
    """What a suffix must match."""
    suffix_rule: str = ""
    """The same in words."""
    seed: bool = True

    statuses: Mapping[str, str] = {}
    """The service's own words for a job's state, and the protocol's word for each."""
    idempotency: bool = False
    """Whether it makes one job of all requests with the same `Idempotency-Key`, however late they come."""
    events_in_order: bool = True
    """Whether events of the same second come newest first; else they are put in order by their ids."""
    metrics_from: tuple[Literal["events", "result_files", "endpoint", "checkpoints"], ...] = (
        "events",
        "result_files",
    )
    """Where to look for metrics, one after the other."""
    metrics_path: str | None = None
    """The service's own endpoint of metrics, where `{job}` is the job's id."""
    checkpoint_model_fields: tuple[str, ...] = ("fine_tuned_model_checkpoint",)
    """Which field of a checkpoint names a model that can be asked; empty where it must be deployed first."""
    pause: bool = True
    """Whether a job can be paused and resumed."""
    lists_bases: bool = False
    """Whether a base model that `GET /models` does not know cannot be trained."""
    names_models_by_id: bool = False
    """Whether jobs name a base model by the service's own id, which `GET /models` gives for its name."""
    estimate_path: str | None = None
    """Where the service says what a job would cost; it is asked where there is a budget."""
    gives_weights: bool = False
    """Whether the files of a checkpoint are the weights, so that they can be downloaded."""
    reply_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The parameter that limits a reply's tokens; reasoning models take the second everywhere."""
    most_logprobs: int = Field(default=20, validation_alias=AliasChoices("most_logprobs", "logprobs"))
    """How many alternatives per token an answer may show; 0 is none. It was called `logprobs`."""
    batch_api: bool = True
    batch_requests: int = 50_000
    """Requests that a file for the Batch API may hold."""
    batch_bytes: int = 200_000_000
    """Bytes that it may have."""

    thinking: tuple[Thinking, ...] = OPEN_MODELS
    """Its models that think before they answer; the first that fits a name counts."""
    serving: Serving = Serving()
    trains: tuple[str, ...] = ()
    """Base models to start with, for somebody who comes from another service."""
    no_new_jobs_after: date | None = None
    """The last day on which the service surely takes jobs."""
    retirements: tuple[Retirement, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    """What could not be established, with what the sources say."""

    def with_lora(
        self, *, rank: int | None = None, alpha: float | None = None, dropout: float | None = None
    ) -> Self:
        """Return the same provider, with these LoRA settings sent under the service's own names.

        Raises:
            DataError: One is out of the service's range, or the service does not let it be chosen.
        """
        asked = {"rank": rank, "alpha": alpha, "dropout": dropout}
        chosen = {}
        for ours, value in asked.items():
            if value is None:
                continue
            if ours not in self.lora:
                raise DataError(f"the LoRA's {ours} cannot be chosen at {self.name!r}")
            theirs = self.lora[ours]
            chosen[theirs.name] = theirs.check(f"the LoRA's {ours}", value, at=f"at {self.name!r}")
        return self.model_copy(update={"always": {**self.always, **chosen}})

    def with_context_length(self, tokens: int) -> Self:
        """Return the same provider, with a context of so many tokens asked for.

        Raises:
            DataError: It is out of the service's range, or the service does not let it be chosen.
        """
        if self.context_length is None:
            raise DataError(f"the context length cannot be chosen at {self.name!r}")
        length = self.context_length.check("the context length", tokens, at=f"at {self.name!r}")
        always = {**self.always, self.context_length.name: length}
        return self.model_copy(update={"always": always, "max_example_tokens": tokens})

    def recommend(self, mean_tokens: float | None) -> Recommendation | None:
        """Return what is recommended for examples of a mean length in tokens; None of it is not known."""
        found = self.recommended
        return found if found is not None and self.can_be_used(found, mean_tokens) else None

    def can_be_used(self, recommendation: Recommendation, mean_tokens: float | None) -> bool:
        """Whether a recommendation is for such examples, and for what is always sent."""
        is_sent = all(self.always.get(name) == value for name, value in recommendation.only_with.items())
        return is_sent and (mean_tokens is None or mean_tokens <= recommendation.most_tokens)

    def thinking_of(self, model: str) -> Thinking | None:
        """Return what is known of a model's thinking, by its name or by that of its base."""
        name = (model.split(":")[1] if model.startswith("ft:") and ":" in model[3:] else model).lower()
        for known in self.thinking:
            if any(fnmatchcase(name, pattern.lower()) for pattern in known.models):
                return known
        return None

    def retirement(self, model: str) -> Retirement | None:
        """Return what is known of a base model's end; a tuned model's end is its base's."""
        base = model.split(":")[1] if model.startswith("ft:") and ":" in model[3:] else model
        for known in self.retirements:
            if any(fnmatchcase(base, pattern) for pattern in known.models):
                return known
        return None
