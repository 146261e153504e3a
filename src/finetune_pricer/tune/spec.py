"""What a job is: its spec, how a service wants to be asked for it, and which job at a service it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._arguments import refuse, require_many, require_mapping, require_text
from .._display import ShortRepr
from .._numbers import read_number, read_whole, to_plain
from ..errors import DataError, NotSupported
from ..prepare.jsonl import TrainingFile

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from openai.types import FileObject

    from ..providers.provider import Provider, Recommendation
    from .records import JobRecord, UploadedFile

    GivenFile: TypeAlias = "TrainingFile | UploadedFile | FileObject | str"

Whole = int | Literal["auto", "recommended"]
"""A whole number, what the service chooses, or what its profile recommends."""
Factor = float | Literal["auto", "recommended"]
"""A number, what the service chooses, or what its profile recommends."""

SPEC_KEY = "finetune_pricer_spec"
"""Under this key a job's metadata holds the hash of its spec."""
TOKEN_KEY = "finetune_pricer_token"  # noqa: S105 - no secret
"""Under this one it holds the journal's word for the one request that asked for it."""
FORMATTER_KEY = "finetune_pricer_formatter"
"""Under this one it holds the fingerprint of the formatter that wrote the training file."""
OUR_KEYS = (SPEC_KEY, TOKEN_KEY, FORMATTER_KEY)
_OURS = "finetune_pricer_"
# The protocol's limits of metadata: keys, characters of a key, characters of a value.
_MOST_KEYS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512
_MOST_INTEGRATIONS = 5
_FILE_ENDS = (".jsonl", ".json", ".gz")
_HOW_TO_GIVE_A_PATH = "a file on this machine becomes a training file by check_jsonl(path).training_file()"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobSpec(ShortRepr):
    """Everything that decides what a job will make, checked against what its service takes."""

    training: TrainingFile | UploadedFile
    validation: TrainingFile | UploadedFile | None
    model: str
    hyperparameters: Mapping[str, Any]
    """Under the service's names, in its units."""
    settings: Mapping[str, Any]
    """`epochs`, `batch_size` and `learning_rate_multiplier` as they are asked for; None is not at all."""
    asked: Mapping[str, Any]
    """The same as the user named them: `"recommended"` is what nobody named."""
    recommendation: Recommendation | None
    """What the profile recommends for such a file."""
    seed: int | None
    suffix: str | None
    provider: Provider
    model_id: str | None = None
    """The service's own id of the model, where jobs name it so."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the user notes on the job; it makes no other job of it."""
    integrations: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """Where the service shall report to, in its own words; these may hold a key."""

    @classmethod
    def make(
        cls,
        training: GivenFile,
        validation: GivenFile | None = None,
        *,
        model: str,
        epochs: Whole | None = "recommended",
        batch_size: Whole | None = "recommended",
        learning_rate_multiplier: Factor | None = "recommended",
        seed: int | None = None,
        suffix: str | None = None,
        method: str = "supervised",
        metadata: Mapping[str, str] | None = None,
        integrations: Sequence[Mapping[str, Any]] | None = None,
        provider: Provider,
    ) -> JobSpec:
        """Check what can be checked without a request, and put it as the service wants it.

        Raises:
            DataError: A file or a setting is not what it should be, or out of the service's range.
            NotSupported: The method is another one than `supervised`.
        """
        require_text("model", model, "name a base model that the service can tune")
        require_text("method", method)
        if method != "supervised":
            raise NotSupported(
                f"method {method!r}: this library trains by supervised examples only; preference and "
                "reinforcement tuning want other data, and the services are closing them"
            )
        if not model:
            raise DataError("model is empty; name a base model that the service can tune")
        seed = _check_seed(seed)
        _check_suffix(suffix, provider)
        asked = {
            "epochs": _check_whole("epochs", epochs),
            "batch_size": _check_whole("batch_size", batch_size),
            "learning_rate_multiplier": _check_factor(learning_rate_multiplier),
        }
        file = _read_file(training)
        recommendation = provider.recommend(mean_tokens_of(file))
        settings = _fill(asked, recommendation)
        return cls(
            training=file,
            validation=None if validation is None else _read_file(validation),
            model=model,
            hyperparameters={**provider.always, **_name_as_service(settings, provider)},
            settings=settings,
            asked=asked,
            recommendation=recommendation,
            seed=seed if provider.seed else None,
            suffix=suffix,
            provider=provider,
            metadata=_check_metadata(metadata),
            integrations=_check_integrations(integrations),
        )

    def require_validation_of_its_own(self) -> None:
        """Make sure that the validation file is another one than the training file.

        Raises:
            DataError: They are one file, or of one content: its loss would look good whatever is learned.
        """
        training, validation = self.training, self.validation
        if validation is None:
            return
        if isinstance(training, TrainingFile) and isinstance(validation, TrainingFile):
            same_path = os.path.realpath(training.path) == os.path.realpath(validation.path)
            if same_path or training.sha256 == validation.sha256:
                raise explain_same_file(repr(str(validation.path)))
        elif _content_of(training) == _content_of(validation):
            raise explain_same_file(f"file {validation.id!r}")  # type: ignore[union-attr]

    @property
    def epochs(self) -> Whole | None:
        """Passes over the examples, as they were asked for, whatever the service calls them."""
        epochs: Whole | None = self.settings["epochs"]
        return epochs

    @property
    def recommended(self) -> dict[str, Any]:
        """Settings that nobody named, and that the profile recommends."""
        return {
            name: value
            for name, value in self.settings.items()
            if self.asked[name] == "recommended" and value is not None
        }

    @property
    def earlier(self) -> tuple[JobSpec, ...]:
        """What the same call asked for when nothing, or something else, was recommended.

        A job that was bought so is the one of this call: what is recommended today buys no second one.
        """
        if "recommended" not in self.asked.values():
            return ()
        mean = mean_tokens_of(self.training)
        before = [each for each in self.provider.recommended_before if self.provider.can_be_used(each, mean)]
        specs = [self._with_recommendation(each) for each in (None, *before)]
        return tuple({spec.hash: spec for spec in specs if spec.hash != self.hash}.values())

    def _with_recommendation(self, recommendation: Recommendation | None) -> JobSpec:
        settings = _fill(self.asked, recommendation)
        sent = {**self.provider.always, **_name_as_service(settings, self.provider)}
        return replace(self, settings=settings, hyperparameters=sent, recommendation=recommendation)

    @property
    def portable(self) -> dict[str, Any]:
        """What means the same at any service, as `FineTuneJob.create` takes it beside file and model.

        The batch size and the learning rate are left out: each service counts them in its own way.
        """
        kept = {
            "validation": self.validation,
            "epochs": self.epochs,
            "seed": self.seed,
            "suffix": self.suffix,
        }
        return {name: value for name, value in kept.items() if value not in (None, "auto")}

    @property
    def hash(self) -> str:
        """Equal for jobs that train the same, whoever asks for them, and whenever.

        2 and 2.0 are the same number, and `"auto"` says what None says too: the service chooses. What nobody
        named counts as what is recommended for it, and as None where nothing is.
        """
        parts = {
            "training": _content_of(self.training),
            "validation": None if self.validation is None else _content_of(self.validation),
            "model": self.model,
            "hyperparameters": {
                name: _normalise(value) for name, value in self.hyperparameters.items() if value != "auto"
            },
            "seed": self.seed,
            "suffix": self.suffix,
            "extra": _normalise(dict(self.provider.extra_body)),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def request(
        self, training_id: str, validation_id: str | None, token: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the request's body: the fields that the openai client has names for, and the rest."""
        body: dict[str, Any] = {"training_file": training_id, "model": self.model_id or self.model}
        extra = dict(self.provider.extra_body)
        method = {"type": "supervised", "supervised": {"hyperparameters": dict(self.hyperparameters)}}
        match self.provider.hyperparameters:
            case "method":
                body["method"] = method
            case "top_level":
                body["hyperparameters"] = dict(self.hyperparameters)
            case "extra_body":
                extra["method"] = method
        optional = {"validation_file": validation_id, "seed": self.seed, "suffix": self.suffix}
        body |= {name: value for name, value in optional.items() if value is not None}
        if self.integrations:
            body["integrations"] = [dict(each) for each in self.integrations]
        body["metadata"] = {**self.metadata, SPEC_KEY: self.hash, TOKEN_KEY: token}
        if self.formatter is not None:
            body["metadata"][FORMATTER_KEY] = self.formatter
        return body, extra

    def body_without_metadata(self, training_id: str, validation_id: str | None) -> dict[str, Any]:
        """Return what a service that says what a job would cost is asked about."""
        body, extra = self.request(training_id, validation_id, token="")
        del body["metadata"]
        body.pop("integrations", None)
        return body | extra

    @property
    def files(self) -> tuple[TrainingFile | UploadedFile, ...]:
        """The training file, and the validation file where there is one."""
        return (self.training,) if self.validation is None else (self.training, self.validation)

    @property
    def formatter(self) -> str | None:
        """The fingerprint of the formatter that wrote the training file, where that is known."""
        return self.training.formatter if isinstance(self.training, TrainingFile) else None

    @property
    def local_files(self) -> tuple[TrainingFile, ...]:
        """Those of the files that are on this machine."""
        return tuple(file for file in self.files if isinstance(file, TrainingFile))

    def describes(self, job: JobRecord) -> bool:
        """Whether a job's metadata says that it is this one."""
        return job.metadata.get(SPEC_KEY) == self.hash

    def looks_like(
        self, job: JobRecord, training_ids: Collection[str], validation_ids: Collection[str]
    ) -> bool:
        """Whether a job without our metadata has this one's files, model and settings.

        For services that drop metadata. Settings that the service does not show, or has chosen itself, count
        as equal.

        Args:
            job: The job at the service.
            training_ids: The service's names for files of this training file's content.
            validation_ids: The same for the validation file; empty where there is none.
        """
        names = [self.model, self.model_id or self.model]
        if SPEC_KEY in job.metadata or not any(_is_model(job.model, name) for name in names):
            return False
        if job.training_file not in training_ids:
            return False
        if self.validation is None:
            if job.validation_file is not None:
                return False
        elif job.validation_file not in validation_ids:
            return False
        shown = job.hyperparameters or read_nested_hyperparameters(job.model_extra or {})
        pairs = [
            (self.seed, job.seed),
            (self.suffix, (job.model_extra or {}).get("user_provided_suffix")),
            *((value, shown.get(name)) for name, value in self.hyperparameters.items()),
        ]
        return all(_is_same(a, b) for a, b in pairs if _is_set(a) and _is_set(b))


def explain_same_file(name: str) -> DataError:
    """Return the error for a validation file that is the training file."""
    return DataError(
        f"validation is the training file ({name}), so its loss would look good whatever is learned: write "
        "other items, such as items.split(test=0).validation, or leave validation= out"
    )


def _read_file(given: GivenFile) -> TrainingFile | UploadedFile:
    """Return a file as it was written here, or as the service names it: by its id, or by an object of it.

    Raises:
        DataError: It is neither, such as a path.
    """
    from .records import UploadedFile  # brings pydantic

    if isinstance(given, TrainingFile | UploadedFile):
        return given
    if isinstance(given, str):
        if not given.strip() or any(mark in given for mark in "/\\") or given.endswith(_FILE_ENDS):
            raise DataError(f"{given!r} is no file id; {_HOW_TO_GIVE_A_PATH}")
        return UploadedFile(id=given)
    # What `client.files.create` and `client.files.retrieve` of the openai client return.
    if getattr(given, "object", None) == "file" and isinstance(given.id, str) and given.id:
        return UploadedFile(id=given.id, filename=given.filename)
    hint = _HOW_TO_GIVE_A_PATH
    if hasattr(given, "training_file"):
        hint = "its .training_file() is one"
    elif hasattr(given, "table") or isinstance(given, list | tuple):
        hint = "JsonlWriter().write(items, path) writes items"
    wanted = (
        "what JsonlWriter.write or upload returned, a file's id at the service, or the service's file object"
    )
    raise refuse("a training file", wanted, given, hint)


def read_nested_hyperparameters(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that stand in a job's `method`; an empty dictionary where there are none."""
    found: Any = extra
    for name in ("method", "supervised", "hyperparameters"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _is_set(value: Any) -> bool:
    # Azure shows -1 where it chooses.
    return value not in (None, "auto", -1)


def _is_same(a: Any, b: Any) -> bool:
    # Some services show numbers as text.
    try:
        return bool(float(a) == float(b))
    except (TypeError, ValueError):
        return bool(a == b)


def _is_model(shown: str | None, model: str) -> bool:
    # Services show the dated version that a name stands for.
    return (
        shown == model
        or re.fullmatch(rf"{re.escape(model)}-\d{{4}}-?\d{{2}}-?\d{{2}}", shown or "") is not None
    )


def _normalise(value: Any) -> Any:
    """Return the same, with each whole number as an integer."""
    if isinstance(value, dict):
        return {name: _normalise(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_normalise(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _content_of(file: TrainingFile | UploadedFile) -> str:
    # By its content, or by its id where only the service has it.
    return f"sha256 {file.sha256}" if isinstance(file, TrainingFile) else f"id {file.id}"


def mean_tokens_of(file: object) -> float | None:
    """Return about how many tokens an example has, at four bytes each; None of what is not a file here."""
    if not isinstance(file, TrainingFile) or not file.examples:
        return None
    return file.bytes / file.examples / 4


def _fill(asked: Mapping[str, Any], recommendation: Recommendation | None) -> dict[str, Any]:
    """Return the settings, with what is recommended in the place of what nobody named."""
    offered = {} if recommendation is None else recommendation.settings
    return {name: offered.get(name) if value == "recommended" else value for name, value in asked.items()}


def _name_as_service(given: Mapping[str, Any], provider: Provider) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for ours, value in given.items():
        if value is None:
            continue
        setting = provider.settings.get(ours)
        if setting is None:
            raise DataError(f"{ours} cannot be chosen at {provider.name!r}; leave it out")
        if value != "auto":
            chosen[setting.name] = setting.check(ours, value, at=f"at {provider.name!r}")
        elif setting.auto:
            chosen[setting.name] = "auto"
    return chosen


def _check_whole(name: str, value: Whole | None) -> Whole | None:
    if isinstance(value, str | None) and value in (None, "auto", "recommended"):
        return value
    count = read_whole(value)
    if count is None or count < 1:
        raise DataError(f"{name} must be at least 1 or 'auto', not {value!r}")
    return count


def _check_seed(seed: int | None) -> int | None:
    if seed is None:
        return None
    number = read_number(seed)
    if number is None or not 0 <= number < 2**31 or not number.is_integer():
        raise DataError(f"seed must be a whole number from 0 to {2**31 - 1}, not {seed!r}")
    return int(number)


def _check_factor(value: Factor | None) -> Factor | None:
    if isinstance(value, str | None) and value in (None, "auto", "recommended"):
        return value
    number = read_number(value)
    if number is None or not 0 < number < float("inf"):
        raise DataError(f"learning_rate_multiplier must be above 0 or 'auto', not {value!r}")
    factor: float = to_plain(value)
    return factor


def _check_suffix(suffix: str | None, provider: Provider) -> None:
    if suffix is None:
        return
    require_text("suffix", suffix)
    at, most = f"at {provider.name!r}", provider.suffix_max
    if most is None:
        raise DataError(f"there are no suffixes {at}; leave it out")
    if not 0 < len(suffix) <= most:
        raise DataError(f"suffix must have 1 to {most} characters, not {len(suffix)}, {at}")
    if provider.suffix_pattern is not None and not re.fullmatch(provider.suffix_pattern, suffix):
        raise DataError(
            f"suffix must be {provider.suffix_rule or provider.suffix_pattern} {at}, not {suffix!r}"
        )


def _check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return a copy of the user's notes on a job, within the limits of the protocol."""
    if metadata is None:
        return {}
    require_mapping("metadata", metadata, "names and texts")
    for name, value in metadata.items():
        if not 0 < len(name) <= _LONGEST_KEY:
            raise DataError(f"a name in metadata must have 1 to {_LONGEST_KEY} characters, not {len(name)}")
        if name.startswith(_OURS):
            raise DataError(f"metadata: names that begin with {_OURS!r} are this library's; choose another")
        require_text(f"metadata[{name!r}]", value, "write it as one")
        if len(value) > _LONGEST_VALUE:
            raise DataError(
                f"metadata[{name!r}] must have at most {_LONGEST_VALUE} characters, not {len(value):,}"
            )
    most = _MOST_KEYS - len(OUR_KEYS)
    if len(metadata) > most:
        raise DataError(
            f"metadata may have {most} names, not {len(metadata)}: the protocol allows {_MOST_KEYS}, and "
            f"{len(OUR_KEYS)} are needed to find the job again"
        )
    return dict(metadata)


def _check_integrations(integrations: Sequence[Mapping[str, Any]] | None) -> tuple[Mapping[str, Any], ...]:
    """Return what a service is told of where to report to; each names its type, and has settings of it."""
    if integrations is None:
        return ()
    hint = "[{'type': 'wandb', 'wandb': {'project': 'prices'}}] is one"
    require_many("integrations", integrations, "a list of integrations", hint)
    found = tuple(integrations)
    for each in found:
        kind = each.get("type") if isinstance(each, Mapping) else None
        if not isinstance(kind, str) or not isinstance(each.get(kind), Mapping):
            raise refuse("an integration", "a dictionary with its type and the settings of that", each, hint)
    if len(found) > _MOST_INTEGRATIONS:
        raise DataError(f"there may be {_MOST_INTEGRATIONS} integrations, not {len(found)}")
    return found
