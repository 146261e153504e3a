"""Adapters that were trained elsewhere are offered beside the server's own models, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import huggingface_hub
import openai
import pytest
from click.testing import CliRunner

from finetune_pricer import FineTuneJob
from finetune_pricer.cli import cli
from finetune_pricer.errors import DataError, MissingFile, ServiceUnavailable
from finetune_pricer.local import LocalServer, LoraLearner
from finetune_pricer.local.learners.lora import base_weights
from finetune_pricer.local.learners.lora.adapter_files import AdapterFacts

if TYPE_CHECKING:
    from pathlib import Path

    from openai.types.fine_tuning import FineTuningJob


@pytest.fixture(autouse=True)
def _with_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra were installed: nothing of it is needed before a model answers."""
    monkeypatch.setattr(base_weights, "_NEEDED", ())


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "smol")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return write_adapter(tmp_path / "adapter", base)


def write_base(folder: Path, *, weights: bytes = b"\0" * 8) -> Path:
    folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def write_adapter(folder: Path, base: Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("a card")
    (folder / "run_me.py").write_text("print('?')")
    made, weights = AdapterFacts.for_base(), LoraLearner(str(base)).weights
    facts = replace(made, base=str(base), fingerprint=weights.fingerprint)
    facts.save(folder)
    return folder


def test_an_adapter_is_offered_as_a_model_and_stays_in_the_folder(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    bases, folder = {"smol": str(base)}, tmp_path / "server"
    for adapters in ({"pricer": f"smol:{adapter}"}, {"pricer": f"smol:{adapter}"}, None):
        with LocalServer(folder, bases=bases, adapters=adapters) as server, server.client() as client:
            assert "pricer" in [model.id for model in client.models.list()]
            assert server._runtime is not None
            stored = server._runtime.state.database.find_model("pricer")
    assert stored is not None
    assert stored.base == "smol"
    assert sorted(stored.files) == ["adapter_config.json", "adapter_model.safetensors", "pricer.json"]


def test_a_newer_adapter_of_the_same_name_takes_the_place_of_the_older(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    found = []
    for content in (b"old", b"new"):
        (adapter / "adapter_model.safetensors").write_bytes(content)
        adapters = {"pricer": f"smol:{adapter}"}
        with LocalServer(tmp_path / "server", bases={"smol": str(base)}, adapters=adapters) as server:
            assert server._runtime is not None
            found.append(server._runtime.state.database.find_model("pricer"))
    first, second = found
    assert first is not None
    assert second is not None
    assert first.files["pricer.json"] == second.files["pricer.json"]
    assert first.files["adapter_model.safetensors"] != second.files["adapter_model.safetensors"]


def test_an_adapter_of_another_base_is_refused_when_the_server_starts(adapter: Path, tmp_path: Path) -> None:
    other = write_base(tmp_path / "other", weights=b"1" * 8)
    server = LocalServer(bases={"smol": str(other)}, adapters={"pricer": f"smol:{adapter}"})
    with pytest.raises(DataError, match="has other weights"):
        server.start()


@pytest.mark.parametrize(
    ("adapters", "said"),
    [
        ({"pricer": "qwen:x"}, "'qwen', which is not declared"),
        ({"pricer": "no colon"}, "write BASE:FOLDER"),
        ({"pricer": "smol:"}, "write BASE:FOLDER"),
        ({"smol": "smol:x"}, "is a base model"),
    ],
)
def test_a_wrong_declaration_is_refused_at_once(base: Path, adapters: dict[str, str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        LocalServer(bases={"smol": str(base)}, adapters=adapters)


def test_a_statistical_base_takes_in_no_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not declared"):
        LocalServer(adapters={"pricer": f"pricer-base:{adapter}"})


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "pricer.json"])
def test_a_folder_without_a_whole_adapter_is_refused(base: Path, adapter: Path, name: str) -> None:
    (adapter / name).unlink()
    with pytest.raises(MissingFile, match=f"{name} is missing"):
        LoraLearner(str(base)).adopt(str(adapter))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 1}', b'{"version": 7}'])
def test_damaged_facts_are_refused(base: Path, adapter: Path, content: bytes) -> None:
    (adapter / "pricer.json").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged|another version"):
        LoraLearner(str(base)).adopt(str(adapter))


def test_an_adapter_of_the_hub_is_fetched_by_its_revision_and_without_code(
    base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def fetch(repository: str, **settings: Any) -> str:
        asked.append((repository, settings["revision"]))
        assert not {"*", "*.bin", "*.py", "*.pt"} & set(settings["allow_patterns"])
        return str(adapter)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    files = LoraLearner(str(base)).adopt("me/pricer@v2")
    assert asked == [("me/pricer", "v2")]
    assert "run_me.py" not in files


def test_an_adapter_that_the_hub_does_not_give_is_an_error_that_says_so(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: Any, **__: Any) -> str:
        raise OSError("offline, with a token hf_secret")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(ServiceUnavailable, match=r"me/pricer.*does not give it") as caught:
        LoraLearner(str(base)).adopt("me/pricer")
    assert "hf_secret" not in str(caught.value)


def test_the_command_says_how_an_adapter_is_named() -> None:
    done = CliRunner().invoke(cli, ["serve", "--adapter", "pricer"])
    assert done.exit_code == 2
    assert "write NAME=BASE:ADAPTER" in done.output


# Out of the server


def test_the_files_of_a_model_are_downloaded_from_the_server_that_trained_it(
    client: openai.OpenAI, tuned: FineTuningJob, tmp_path: Path
) -> None:
    job = FineTuneJob.attach(client, tuned.id, provider="local")
    before = [file.id for file in client.files.list()]
    paths = job.download(tmp_path / "weights")
    assert paths
    checkpoint = job.checkpoints()[-1]
    assert [path.name for path in paths] == [id_.split("-", 2)[2] for id_ in checkpoint.result_files]
    for id_, path in zip(checkpoint.result_files, paths, strict=True):
        assert client.files.retrieve(id_).bytes == path.stat().st_size > 0
    assert [file.id for file in client.files.list()] == before


def test_a_models_file_is_no_file_that_can_be_deleted_or_trained_on(
    client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    file = FineTuneJob.attach(client, tuned.id, provider="local").checkpoints()[-1].result_files[0]
    with pytest.raises(openai.NotFoundError):
        client.files.delete(file)
    with pytest.raises(openai.APIStatusError):
        client.fine_tuning.jobs.create(model="pricer-base", training_file=file)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(f"{file}x")
