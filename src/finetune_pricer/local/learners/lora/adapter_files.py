"""The files of a trained adapter: peft's own, the tokenizer's, and what it takes to name prices with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ....errors import DataError, MissingFile, ServiceUnavailable
from ..reply_format import ReplyForm
from .conversation import TextLimit
from .dollar_points import DollarPoints

if TYPE_CHECKING:
    from .base_weights import BaseWeights
    from .conversation import ConversationWriter
    from .example_set import ExampleSet

WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_FACTS = "pricer.json"
_PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
_VERSION = 1


def find_adapter(name: str) -> Path:
    """Return the folder of an adapter: a folder, or `ORGANISATION/NAME@REVISION` of the Hub, fetched there.

    Pickled weights, which can carry code, are neither fetched nor taken for an adapter's.

    Raises:
        MissingFile: There is none, or it was not trained by a server of this package.
        ServiceUnavailable: The Hub cannot be reached, or does not give it.
    """
    place = Path(name).expanduser()
    repository, revision = split_revision(name)
    if not place.exists() and repository.count("/") == 1 and not name.startswith((".", "/", "~")):
        place = _download(repository, revision)
    for needed in (_CONFIG, WEIGHTS, _FACTS):
        if not (place / needed).is_file():
            raise MissingFile(
                f"there is no adapter of ours at {name}: {needed} is missing; name what "
                "FineTuneJob.download, push_to_hub or `finetune-pricer export` has written"
            )
    return place


def is_kept(path: Path) -> bool:
    """Whether a file beside an adapter is one of those that are fetched and kept: no code, and no page."""
    return path.is_file() and any(map(path.match, _PATTERNS))


def _download(repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(_PATTERNS)))
    except Exception as error:  # of three libraries, none of which names its errors
        raise ServiceUnavailable(
            f"the adapter {repository} is not here, and the Hugging Face Hub does not give it "
            f"({type(error).__name__}); check its name and network, and for a private one set HF_TOKEN"
        ) from error


def split_revision(base: str) -> tuple[str, str | None]:
    """Return a model's name as peft notes it, a folder's in full, and the revision of one on the Hub."""
    repository, _, revision = base.partition("@")
    is_place = Path(base).exists() or base.count("/") != 1 or base.startswith((".", "/", "~"))
    return (str(Path(base).expanduser().absolute()), None) if is_place else (repository, revision or None)


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """What is known of an adapter beside its weights, and of a base model that has none."""

    form: ReplyForm
    points: DollarPoints
    limit: TextLimit | None = None
    base: str = ""
    fingerprint: str = ""
    """Of the base model's weights."""
    prompts: str = ""
    """The hash of the way in which prompts are written."""

    @classmethod
    def for_base(cls) -> AdapterFacts:
        """Return the facts of a base model itself, which is asked for whole dollars."""
        return cls(form=ReplyForm(before="$", decimals=0), points=DollarPoints.from_prices([], decimals=0))

    @classmethod
    def of(cls, examples: ExampleSet, base: BaseWeights, writer: ConversationWriter) -> AdapterFacts:
        """Return the facts of an adapter that these examples train."""
        return cls(
            form=examples.form,
            points=examples.points,
            limit=examples.limit,
            base=base.name,
            fingerprint=base.fingerprint,
            prompts=writer.hash,
        )

    @property
    def replies(self) -> list[str]:
        """The replies that name its prices."""
        return [self.form.write(float(price)) for price in self.points.prices]

    def check_base(self, base: BaseWeights, writer: ConversationWriter) -> None:
        """Raise `DataError` where the adapter was trained on another base, or asked in other words."""
        self.check_weights(base)
        if self.prompts != writer.hash:
            raise DataError(
                f"this model was trained with another chat template than the base {base.name} has now; start "
                "the server with the revision and the template option that it was trained with"
            )

    def check_weights(self, base: BaseWeights) -> None:
        """Raise `DataError` where the adapter was trained on another base."""
        if self.fingerprint != base.fingerprint:
            raise DataError(
                f"this model was trained on the weights of {self.base}, and the base {base.name} has "
                "other weights; start the server with the base that it was trained on"
            )

    def save(self, folder: Path) -> None:
        """Write the facts beside an adapter."""
        stored: dict[str, Any] = {
            "version": _VERSION,
            "base": self.base,
            "fingerprint": self.fingerprint,
            "prompts": self.prompts,
            "form": asdict(self.form),
            "points": self.points.to_dict(),
            "limit": None if self.limit is None else asdict(self.limit),
        }
        (folder / _FACTS).write_bytes(orjson.dumps(stored))

    @classmethod
    def load(cls, folder: Path) -> AdapterFacts:
        """Read the facts beside an adapter; `DataError` where they are damaged or of another version."""
        try:
            return cls._read(orjson.loads((folder / _FACTS).read_bytes()))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"the {_FACTS} beside the adapter is damaged ({type(error).__name__}); fetch it again"
            ) from error

    @classmethod
    def _read(cls, stored: dict[str, Any]) -> AdapterFacts:
        if stored.pop("version", None) != _VERSION:
            raise DataError("this adapter was saved by another version of finetune-pricer; train it again")
        limit = stored.pop("limit")
        return cls(
            form=ReplyForm(**stored.pop("form")),
            points=DollarPoints.from_dict(stored.pop("points")),
            limit=None if limit is None else TextLimit(**limit),
            **stored,
        )
