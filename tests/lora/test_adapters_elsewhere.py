"""A trained adapter is taken elsewhere: by peft, by this package without a server, and onto Ray."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from importlib.util import find_spec
from subprocess import run
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from finetune_pricer import ChatFormatter, Predictor
from finetune_pricer.cli import cli
from finetune_pricer.errors import DataError, MissingFile, NotSupported
from finetune_pricer.local import AdapterPricer, LocalServer
from finetune_pricer.local.learners.lora.adapter_files import split_revision
from finetune_pricer.local.learners.lora.lora_model import LoraModel
from local_helpers import INSTRUCTION, ask, products
from tiny_language_model import save_base

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    import openai
    from openai.types.fine_tuning import FineTuningJob

    from finetune_pricer.local import LoraLearner

# The libraries' own: one still asks the other for names that it will drop.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
ASKED = [item.prompt for item in products(5, seed=9)]


def asked(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def export(what: str, folder: Path, client: openai.OpenAI, job: FineTuningJob, *more: str) -> None:
    arguments = ["export", str(folder), "--to", what, "--job", job.id, "--base-url", str(client.base_url)]
    done = CliRunner().invoke(cli, [*arguments, *more])
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def adapter(client: openai.OpenAI, tuned: FineTuningJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "adapter"
    export("adapter", folder, client, tuned)
    return folder


@pytest.fixture(scope="module")
def program(client: openai.OpenAI, tuned: FineTuningJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("exported")
    Predictor(client, "tiny", formatter=ChatFormatter(INSTRUCTION.strip())).save(parent / "pricer")
    export("ray", parent / "ray", client, tuned, "--pricer", str(parent / "pricer"))
    return parent / "ray"


# The adapter's files


def test_peft_loads_an_exported_adapter_as_it_is_and_finds_its_base(adapter: Path, base: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    model = AutoPeftModelForCausalLM.from_pretrained(adapter)
    assert model.peft_config["default"].base_model_name_or_path == str(base)
    weights = dict(model.named_parameters())
    assert any(bool(weight.abs().sum() > 0) for name, weight in weights.items() if "lora_B" in name)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    text = tokenizer.apply_chat_template(asked("?"), tokenize=False, add_generation_prompt=True)
    assert text == "<|begin|><|user|>?<|end|><|assistant|>"


def test_what_vllm_asks_of_an_adapter_is_there(adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["bias"], config["use_dora"]) == (
        "LORA",
        4,
        "none",
        False,
    )
    assert isinstance(config["target_modules"], list)
    assert config["modules_to_save"] is None


def test_a_base_is_named_as_peft_and_transformers_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert split_revision("me/base@v2") == ("me/base", "v2")
    assert split_revision("me/base") == ("me/base", None)
    assert split_revision(f"{tmp_path}/a@b") == (f"{tmp_path}/a@b", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "smol").mkdir(parents=True)
    assert split_revision("models/smol") == (str(tmp_path / "models" / "smol"), None)


# Without a server


def test_prices_without_a_server_are_those_of_the_server(
    adapter: Path, server: LocalServer, tuned: FineTuningJob
) -> None:
    ours = AdapterPricer(adapter).price(list(map(asked, ASKED)))
    assert server._runtime is not None
    _, model = server._runtime.state.chat._find_model(tuned.fine_tuned_model or "")
    assert isinstance(model, LoraModel)
    points = model._facts.points.prices
    for place, prompt in enumerate(ASKED):
        below = np.cumsum(model._process.order("ask", model._adapter, messages=asked(prompt)))
        expected = [points[int(np.searchsorted(below, q))] for q in (0.05, 0.5, 0.95)]
        assert [ours[name][place] for name in ("low", "price", "high")] == pytest.approx(expected)
        assert ours["mass"][place] == pytest.approx(1)
    assert len(set(ours["price"])) > 1


def test_it_is_shown_by_its_folder_and_its_base(pricer: AdapterPricer, adapter: Path, base: Path) -> None:
    assert repr(pricer) == f"AdapterPricer({str(adapter)!r}, base={str(base)!r})"


def test_no_conversations_have_no_prices(pricer: AdapterPricer) -> None:
    assert pricer.price([]) == {"price": [], "low": [], "high": [], "mass": []}


def test_draws_of_another_engine_are_read_in_the_form_of_the_training(pricer: AdapterPricer) -> None:
    found = pricer.read_draws([["$10", "$30", " $20\n", "cheap", "2 for $30"], ["no idea"]])
    assert (found["price"][0], found["mass"][0]) == (20, 0.6)
    assert found["low"][0] < 20 < found["high"][0]
    assert np.isnan(found["price"][1])
    assert found["mass"][1] == 0


def test_an_adapter_of_other_weights_or_none_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = save_base(tmp_path / "other", seed=1)
    with pytest.raises(DataError, match="has other weights"):
        AdapterPricer(adapter, base=str(other))
    with pytest.raises(MissingFile, match=r"adapter_config\.json is missing"):
        AdapterPricer(tmp_path / "nowhere")
    shutil.copytree(adapter, tmp_path / "pickled")
    (tmp_path / "pickled" / "adapter_model.safetensors").rename(tmp_path / "pickled" / "adapter_model.bin")
    with pytest.raises(MissingFile, match=r"adapter_model\.safetensors is missing"):
        AdapterPricer(tmp_path / "pickled")


def test_a_prompt_that_is_too_long_is_refused_and_costs_the_others_nothing(
    program: Path, adapter: Path, predict: ModuleType
) -> None:
    pricer = predict.FilePricer("transformers")
    rows = [
        {"id": 1, "text": "A lamp."},
        {"id": 2, "messages": asked("x" * 5_000)},
        {"id": 3, "text": "A mug."},
    ]
    with pytest.raises(NotSupported):
        AdapterPricer(adapter).price([asked("x" * 5_000)])
    found = pricer.price_rows(rows).to_pylist()
    assert [row["price"] is not None for row in found] == [True, False, True]
    assert "tokens" in found[1]["error"]


@pytest.fixture(scope="module")
def pricer(adapter: Path) -> AdapterPricer:
    return AdapterPricer(adapter)


@pytest.fixture(scope="module")
def predict(program: Path) -> ModuleType:
    """The exported program, as a module."""
    spec = importlib.util.spec_from_file_location("exported_predict", program / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# To another server


def test_another_server_offers_the_adapter_and_answers_as_the_one_that_trained_it(
    adapter: Path, learner: LoraLearner, client: openai.OpenAI, tuned: FineTuningJob
) -> None:
    with (
        LocalServer(bases={"small": learner}, adapters={"again": f"small:{adapter}"}) as server,
        server.client(max_retries=0, timeout=120) as other,
    ):
        for prompt in ASKED:
            assert ask(other, "again", prompt) == ask(client, tuned.fine_tuned_model, prompt)


# Onto Ray


def test_texts_are_asked_in_the_words_of_the_training(predict: ModuleType) -> None:
    item = products(1, seed=9)[0]
    assert predict.read_messages({"text": item.text}) == asked(item.prompt)
    assert predict.read_messages({"text": None, "messages": asked("Hm?")}) == asked("Hm?")


def test_the_program_prices_a_file_as_the_adapter_does(
    predict: ModuleType, pricer: AdapterPricer, tmp_path: Path
) -> None:
    texts = [item.text for item in products(5, seed=9)]
    pq.write_table(pa.table({"id": list("abcde"), "text": texts}), tmp_path / "a.parquet")
    assert (
        predict.FilePricer("transformers").price_file(tmp_path / "a.parquet", tmp_path / "out.parquet") == 5
    )
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["price"] for row in rows] == pricer.price(list(map(asked, ASKED)))["price"]
    assert [row["id"] for row in rows] == list("abcde")


@pytest.mark.ray
def test_500_items_are_priced_on_two_actors_twice_without_a_double_row(program: Path, tmp_path: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("ray is not installed: `make test-ray` makes an environment that has it")
    (tmp_path / "products").mkdir()
    for number in range(5):
        items = products(100, seed=number)
        rows = {"id": [f"{number}-{place}" for place in range(100)], "text": [item.text for item in items]}
        pq.write_table(pa.table(rows), tmp_path / "products" / f"{number}.parquet")

    def price() -> tuple[str, dict[str, tuple[int, bytes]]]:
        paths = map(str, (program / "predict.py", tmp_path / "products", tmp_path / "prices"))
        done = run(
            [sys.executable, *paths, "--actors", "2"],
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr
        files = sorted((tmp_path / "prices").iterdir())
        return done.stdout, {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    said, first = price()
    assert "500 rows in 5 files were priced" in said
    said, second = price()
    assert "0 of 5 files are to be priced" in said
    assert first == second
    # A file that is lost is made again, and the others stay.
    (tmp_path / "prices" / "3.parquet").unlink()
    said, third = price()
    assert "100 rows in 1 files were priced" in said
    found = pq.read_table(tmp_path / "prices").to_pylist()
    assert len({row["id"] for row in found}) == len(found) == 500
    assert all(row["price"] > 0 and row["error"] is None for row in found)
    assert third.keys() == first.keys()
