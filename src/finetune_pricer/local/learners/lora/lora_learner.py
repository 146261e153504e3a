"""`LoraLearner`: open language models as base models, which jobs train adapters for."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ....errors import DataError
from ..learner import Learner
from .adapter_files import AdapterFacts, find_adapter, is_kept
from .adapter_folder import AdapterFolder, remove_abandoned
from .answering_process import AnsweringProcess
from .base_weights import BaseWeights, require_extra
from .example_set import read_priced
from .lora_model import LoraModel
from .recipe import Recipe, make_recipe
from .training_group import train_in_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ..learner import Model, Report, TrainingJob

_keys = itertools.count(1)


def _count_cores() -> int:
    """Return how many cores this process may use, which a container may hold below those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class LoraLearner(Learner):
    """An open language model, whose adapters are trained on this machine.

    It needs the extra `lora`. What it is trained with is an option of the base, not of a job; a job's
    hyperparameters are those of the protocol.

    Args:
        base: A folder with safetensors, a GGUF file, or a model of the Hub such as
            `HuggingFaceTB/SmolLM2-135M-Instruct@main`. A model's own code is never run.
        preset: A recipe whose values hold where none is given here: `usual`; `course` and `course-full` are
            those of week 7 of the course "LLM Engineering", for 20,000 and for 800,000 products.
        rank: How many columns each adapter has.
        alpha: The weight of an adapter is `alpha / rank`.
        dropout: The share of an adapter's inputs that are left out at random in training.
        targets: Which layers get adapters: `all-linear`, or names such as `q_proj+v_proj`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`, for the frozen weights.
        quantize: `nf4` keeps the frozen weights in 4 bits, which takes a GPU and bitsandbytes; or `none`.
        text_tokens: How many tokens of an item's text are read, in training and in asking alike.
        template: `chat` for the base's own chat template, or `plain` for the texts alone.
        learning_rate: What a `learning_rate_multiplier` of 1 means.
        processes: How many processes train together, each on a GPU of its own; torchrun starts them.

    Raises:
        DataError: There is no such preset, or a value is none that can be trained with.

    Examples:
        >>> from finetune_pricer.local import LoraLearner
        >>> LoraLearner("models/SmolLM2-135M-Instruct", rank=8).description
        'The open language model models/SmolLM2-135M-Instruct; untrained, its prices are guesses.'
    """

    base: str
    preset: str = "usual"
    rank: int | None = None
    alpha: int | None = None
    dropout: float | None = None
    targets: str | None = None
    dtype: str | None = None
    quantize: str | None = None
    text_tokens: int | None = None
    template: str | None = None
    learning_rate: float | None = None
    processes: int | None = None
    recipe: Recipe = field(init=False, repr=False, compare=False)
    """All values, those of the preset among them."""
    weights: BaseWeights = field(init=False, repr=False, compare=False)
    _process: AnsweringProcess = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        of_recipe = {each.name for each in fields(Recipe)}
        changes = {name: value for name, value in self._options.items() if name in of_recipe}
        object.__setattr__(self, "base", str(self.base))
        object.__setattr__(self, "recipe", make_recipe(self.preset, changes))
        object.__setattr__(self, "weights", BaseWeights(self.base))
        object.__setattr__(self, "_process", AnsweringProcess(self._options, self.environment))

    @classmethod
    def from_text(cls, text: str) -> LoraLearner:
        """Return the learner that a text names: `PATH_OR_HUB_ID@REVISION`, then options as `,rank=8`.

        Raises:
            DataError: There is no such option, or its value is of the wrong kind.
        """
        base, *settings = text.split(",")
        known = {each.name: each for each in fields(cls) if each.init and each.name != "base"}
        options: dict[str, Any] = {}
        for setting in settings:
            name, _, value = setting.partition("=")
            if name not in known:
                raise DataError(f"there is no option {name!r:.40} of a base; choose from {', '.join(known)}")
            kind = str(known[name].type)
            try:
                options[name] = int(value) if "int" in kind else float(value) if "float" in kind else value
            except ValueError as error:
                raise DataError(f"the option {name} must be a number, not {value!r:.40}") from error
        return cls(base, **options)

    @property
    def _options(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(LoraLearner) if each.init}

    @property
    def description(self) -> str:
        """What the base model is."""
        return f"The open language model {self.base}; untrained, its prices are guesses."

    @property
    def tuned_description(self) -> str:
        """What a tuned model is."""
        return f"The open language model {self.base} with an adapter that a fine-tuning job trained."

    @property
    def owned_by(self) -> str:
        """Who made the base model, as far as its name says."""
        return self.base.partition("/")[0] if self.base.count("/") == 1 else "local"

    @property
    def context(self) -> int:
        """How many tokens a prompt may have."""
        return self.weights.context

    @property
    def environment(self) -> Mapping[str, str]:
        """All cores, which sleep while they wait: beside other programs that is several times as fast."""
        cores = str(_count_cores())
        return {
            "OMP_NUM_THREADS": cores,
            "MKL_NUM_THREADS": cores,
            "OMP_WAIT_POLICY": "passive",
            # Memory that was freed is used again, rather than given back and asked for at each step.
            "MALLOC_MMAP_MAX_": "0",
            "MALLOC_TRIM_THRESHOLD_": "100000000000",
            "TOKENIZERS_PARALLELISM": "false",
            # What is needed was fetched when the server started; a job asks nobody for anything.
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }

    @property
    def trains_alone(self) -> bool:
        """One training uses all cores, or the GPU."""
        return True

    @property
    def problem(self) -> str | None:
        """What keeps its models from answering."""
        return self._process.problem

    @property
    def descriptors(self) -> list[int]:
        """The file descriptors that lead to the answering process."""
        return self._process.descriptors

    def prepare(self) -> None:
        """Fetch the base model if it is on the Hub, and check it; remove what killed servers have left."""
        remove_abandoned()
        self.weights.fetch()
        self.weights.check(template=self.recipe.template)
        require_extra()

    def check(self, path: Path, *, fewest: int) -> None:
        """Raise `TrainingFileError` where a file has wrong lines, too few examples, or no price."""
        read_priced(path, fewest=fewest)

    def train(self, job: TrainingJob, report: Callable[[Report], None]) -> Mapping[str, str]:
        """Train an adapter to the end; return the files of its model."""
        require_extra()
        if self.recipe.processes > 1:
            return train_in_group(self._options, job, report, processes=self.recipe.processes)
        # It stands on torch, which only a training process loads.
        from .adapter_trainer import AdapterTrainer

        return AdapterTrainer(job, self.weights, self.recipe, report=report).run()

    def load(self, files: Mapping[str, Path]) -> Model:
        """Load a tuned model into the answering process."""
        folder = AdapterFolder(files)
        try:
            facts = AdapterFacts.load(folder.path)
        except BaseException:
            folder.remove()
            raise
        model = LoraModel(self._process, facts, (f"adapter{next(_keys)}", folder))
        model.warm_up()
        return model

    def load_base(self) -> Model:
        """Return the base model itself, whose prices are guesses."""
        return LoraModel(self._process, AdapterFacts.for_base())

    def adopt(self, place: str) -> Mapping[str, Path]:
        """Return the files of an adapter: a folder, or a repository of the Hub with its revision."""
        folder = find_adapter(place)
        AdapterFacts.load(folder).check_weights(self.weights)
        return {path.name: path for path in sorted(folder.iterdir()) if is_kept(path)}

    def close(self) -> None:
        """End the answering process."""
        self._process.close()
