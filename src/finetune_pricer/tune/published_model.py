"""An adapter as a model of the Hugging Face Hub: what is uploaded, and the card that says what it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .._arguments import refuse, require_flag, require_text
from ..errors import DataError, NotSupported
from ..items.hub import upload_folder

if TYPE_CHECKING:
    from pathlib import Path

    from .records import JobRecord

_CONFIG, _FACTS, _CARD = "adapter_config.json", "pricer.json", "README.md"
# What an earlier push left beside the card must not be loaded together with this one.
_REPLACED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


def require_publication(
    repo: object,
    evaluation: object,
    *,
    base_model: object,
    private: object,
    token: object,
    licence: object,
) -> None:
    """Check what `push_to_hub` is called with, before anything is downloaded."""
    require_text("repo", repo, "give a name such as 'owner/name'")
    if evaluation is not None and not callable(getattr(evaluation, "model_card", None)):
        raise refuse("evaluation", "an Evaluation", evaluation, "Evaluator().evaluate(predictor, items)")
    require_text("base_model", base_model, or_none=True)
    require_flag("private", private)
    require_text("token", token, or_none=True)
    require_text("licence", licence, or_none=True)


def publish_adapter(
    folder: Path,
    job: JobRecord,
    repo: str,
    evaluation: Any,
    *,
    base_model: str | None,
    private: bool,
    token: str | None,
    licence: str | None,
) -> str:
    """Upload the adapter in a folder with a card, and return the address of the model.

    Raises:
        NotSupported: The files are no adapter's.
        DataError: Its base is a folder of one machine, and nobody says what the Hub calls it.
        HubError: The Hub refuses, or does not answer.
    """
    if not (folder / _CONFIG).is_file() or not any(folder.glob("*.safetensors")):
        raise NotSupported(f"the weights of job {job.id!r} are no adapter of an open language model")
    base = _name_base(folder, base_model)
    card = _write_card(base, licence) if evaluation is None else _ask_card(evaluation, base, licence)
    (folder / _CARD).write_text(card, encoding="utf-8")
    return upload_folder(
        folder,
        repo,
        kind="model",
        private=private,
        token=token,
        message="Upload an adapter with finetune_pricer",
        replaced=_REPLACED,
    )


def _name_base(folder: Path, base_model: str | None) -> str:
    """Return the base's name on the Hub, which is written down in place of a folder of one machine."""
    config = json.loads((folder / _CONFIG).read_bytes())
    found = config.get("base_model_name_or_path") or ""
    if base_model is None and (found.count("/") != 1 or found.startswith((".", "/", "~"))):
        raise DataError(
            f"the adapter's base is {found!r}, which is a place on one machine; say what the Hub calls that "
            "model, as by base_model='HuggingFaceTB/SmolLM2-135M-Instruct'"
        )
    if base_model is None:
        return str(found)
    name, _, revision = base_model.partition("@")
    config |= {"base_model_name_or_path": name, "revision": revision or None}
    (folder / _CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    if (folder / _FACTS).is_file():
        facts = json.loads((folder / _FACTS).read_bytes()) | {"base": base_model}
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    return name


def _ask_card(evaluation: Any, base: str, licence: str | None) -> str:
    card: str = evaluation.model_card(base_model=base, license=licence)
    return card


def _write_card(base: str, licence: str | None) -> str:
    from huggingface_hub import ModelCardData

    head = ModelCardData(
        base_model=base, license=licence, library_name="peft", tags=["price-estimation", "finetune-pricer"]
    )
    return (
        f"---\n{head.to_yaml()}\n---\n\nAn adapter (LoRA) that prices products, trained with "
        "`finetune_pricer`. Its errors were not measured, or are not told here.\n"
    )
