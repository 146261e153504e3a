"""`finetune-pricer export` takes a trained adapter out of a server's folder, and replaces nothing."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from finetune_pricer import ChatFormatter, Item, Neighbors, Predictor
from finetune_pricer.cli import cli
from finetune_pricer.local import LocalServer
from finetune_pricer.local.records import StoredCheckpoint, StoredModel
from local_helpers import finished, jsonl, products, upload

if TYPE_CHECKING:
    from pathlib import Path

    import openai

FILES = {
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": b"weights",
    "chat_template.jinja": b"{{ messages }}",
    "pricer.json": b"{}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that has stopped, with a job on a statistical base."""
    place = tmp_path_factory.mktemp("stopped") / "server"
    with LocalServer(place) as server, server.client() as client:
        file = upload(client, jsonl(products(20)))
        hyperparameters = {"n_epochs": 1}
        job = client.fine_tuning.jobs.create(
            model="pricer-base-mini",
            training_file=file.id,
            hyperparameters=hyperparameters,  # type: ignore[arg-type]
        )
        (place / "job").write_text(finished(client, job.id).id)
    return place


@pytest.fixture(scope="module")
def with_adapter(folder: Path) -> Path:
    """Another server's folder, as if the job had trained an adapter there."""
    place = folder.with_name("with-adapter")
    shutil.copytree(folder, place)
    with LocalServer(place) as server, ExitStack() as held:
        assert server._runtime is not None
        database, job = server._runtime.state.database, (place / "job").read_text()
        kept = {name: held.enter_context(database.keep_blob(each)).sha256 for name, each in FILES.items()}
        database.add_model(StoredModel(id="adapter", base="smol", job=job, created_at=1, files=kept))
        database.add_checkpoint(
            StoredCheckpoint(
                id="ftckpt_last", job=job, created_at=1, step=99, model="adapter", metrics={"step": 99}
            ),
            keep=9,
        )
    return place


def export(what: str, target: Path, folder: Path, *more: str, job: str | None = None) -> Result:
    job = job or (folder / "job").read_text()
    arguments = ["export", str(target), "--to", what, "--job", job, "--dir", str(folder), "--json", *more]
    return CliRunner().invoke(cli, arguments)


def test_a_job_on_a_statistical_base_has_no_adapter_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    done = export("adapter", tmp_path / "out", folder)
    assert done.exit_code == 4
    assert "has no adapter to be exported" in done.output
    assert not (tmp_path / "out").exists()


def test_an_adapter_comes_out_as_it_was_kept(with_adapter: Path, tmp_path: Path) -> None:
    done = export("adapter", tmp_path / "out", with_adapter)
    assert done.exit_code == 0, done.output
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == FILES


def test_the_program_comes_with_its_adapter_and_the_words_of_a_pricer(
    with_adapter: Path, tmp_path: Path, client: openai.OpenAI
) -> None:
    shots = [Item(title="a mug", price=5.0)]
    Predictor(client, "m", formatter=ChatFormatter("Guess.", system="Sell.", shots=shots)).save(
        tmp_path / "p"
    )
    done = export(
        "ray", tmp_path / "out", with_adapter, "--pricer", str(tmp_path / "p"), "--base", "me/smol@v2"
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").read_bytes() == b"weights"
    assert b"def main()" in (tmp_path / "out" / "predict.py").read_bytes()
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["base"] == "me/smol@v2"
    assert [message["role"] for message in settings["prompt"]["messages"]] == ["system", "user", "assistant"]
    assert (settings["prompt"]["before"], settings["prompt"]["after"]) == ("Guess.\n\n", "")


def test_a_pricer_with_neighbors_has_no_words_for_texts_alone(
    with_adapter: Path, tmp_path: Path, client: openai.OpenAI
) -> None:
    near = Neighbors([Item(title=f"mug {number}", price=5.0) for number in range(5)], k=2)
    Predictor(client, "m", formatter=ChatFormatter(neighbors=near)).save(tmp_path / "p")
    done = export("ray", tmp_path / "out", with_adapter, "--pricer", str(tmp_path / "p"))
    assert done.exit_code == 3
    assert "neighbors of each item" in done.output


def test_nothing_is_written_over_and_no_server_is_begun_by_a_typing_error(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("x")
    assert "holds something already" in export("adapter", tmp_path, folder).output
    done = export("adapter", tmp_path / "out", tmp_path / "typo", job="ftjob-1")
    assert "there is no folder" in done.output
    assert not (tmp_path / "typo").exists()
