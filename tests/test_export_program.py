"""The program that `export --to ray` writes: one whole file of prices for each file of products."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from importlib.resources import files
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_pricer.errors import NotSupported

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

PROMPT = {"messages": [{"role": "system", "content": "Sell."}], "before": "What does ", "after": " cost?"}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with an engine that finds the length of the last message, and `long` too long."""
    folder = tmp_path / "program"
    folder.mkdir()
    settings = {"base": None, "adapter": "abc", "prompt": PROMPT}
    (folder / "settings.json").write_text(json.dumps(settings))
    with (folder / "predict.py").open("wb") as copy:
        copy.write(files("finetune_pricer.cli").joinpath("templates", "predict.py").read_bytes())
    spec = importlib.util.spec_from_file_location("exported_program", folder / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ENGINES["transformers"] = Engine
    monkeypatch.setattr(module, "ROWS", 4)
    return module


class Engine:
    broken = False

    def price(self, conversations: list[list[dict[str, str]]]) -> dict[str, list[float]]:
        if self.broken:
            raise RuntimeError("the GPU is gone")
        words = [messages[-1]["content"] for messages in conversations]
        if any("long" in said for said in words):
            raise NotSupported("a prompt has 9,999 tokens")
        silent = [0.0 if "silent" in said else 1.0 for said in words]
        prices = [float(len(said)) for said in words]
        return {"price": prices, "low": prices, "high": prices, "mass": silent}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "products"
    folder.mkdir()
    for name, count in (("a", 10), ("b", 3)):
        write(folder / f"{name}.parquet", [{"id": f"{name}{n}", "text": "x" * n + "y"} for n in range(count)])
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def price(program: ModuleType, source: Path, target: Path, engine: str = "transformers") -> int:
    """Do what actors do, one file after the other; return how many rows were priced."""
    target.mkdir(exist_ok=True)
    work = program.find_work(source, target, engine)
    pricer = program.FilePricer("transformers")
    columns = {name: [each[name] for each in work] for name in ("source", "target")}
    return int(pricer(columns)["rows"].sum()) if work else 0


def test_each_file_of_products_gets_one_of_prices_and_a_second_run_changes_nothing(
    program: ModuleType, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "prices"
    assert price(program, source, target) == 13
    before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    assert before.keys() == {"a.parquet", "b.parquet"}
    assert price(program, source, target) == 0
    assert {path.name: path.stat().st_mtime_ns for path in target.iterdir()} == before
    rows = pq.read_table(target / "a.parquet").to_pylist()
    assert [row["id"] for row in rows] == [f"a{n}" for n in range(10)]
    assert rows[3] == {"id": "a3", "price": 20.0, "low": 20.0, "high": 20.0, "mass": 1.0, "error": None}


def test_a_run_that_broke_off_leaves_no_half_file_and_is_gone_on_with(
    program: ModuleType, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "prices"
    target.mkdir()
    program.FilePricer("transformers").price_file(source / "a.parquet", target / "a.parquet")
    monkeypatch.setattr(Engine, "broken", True)
    with pytest.raises(RuntimeError, match="GPU"):
        price(program, source, target)
    assert [path.name for path in target.iterdir()] == ["a.parquet"]
    monkeypatch.setattr(Engine, "broken", False)
    assert price(program, source, target) == 3


def test_a_row_that_cannot_be_priced_says_why_and_costs_no_other_its_price(
    program: ModuleType, tmp_path: Path
) -> None:
    source = tmp_path / "products"
    source.mkdir()
    asked = [{"role": "user", "content": "Hm?"}]
    half = [{"role": "user", "content": None}]
    rows: list[dict[str, Any]] = [
        {"id": 1, "text": "a mug", "messages": None},
        {"id": 2, "text": "a long text", "messages": None},
        {"id": None, "text": " ", "messages": None},
        {"id": 4, "text": None, "messages": asked},
        {"id": 5, "text": "silent", "messages": None},
        {"id": 6, "text": None, "messages": half},
    ]
    write(source / "a.parquet", rows)
    assert price(program, source, tmp_path / "prices") == 6
    found = pq.read_table(tmp_path / "prices" / "a.parquet").to_pylist()
    assert [row["id"] for row in found] == ["1", "2", None, "4", "5", "6"]
    assert [row["price"] is not None for row in found] == [True, False, False, True, False, False]
    assert [row["error"] for row in found[1:3]] == [
        "a prompt has 9,999 tokens",
        "the row has neither messages nor a text",
    ]
    assert found[4]["error"] == "no draw named a price"
    assert "lacks" in found[5]["error"]


def test_a_text_stands_between_the_words_of_the_formatter(program: ModuleType) -> None:
    assert program.read_messages({"text": "{after}"}) == [
        {"role": "system", "content": "Sell."},
        {"role": "user", "content": "What does {after} cost?"},
    ]
    program.SETTINGS["prompt"] = None
    with pytest.raises(ValueError, match="give messages"):
        program.read_messages({"text": "a mug"})


def test_prices_of_another_adapter_engine_or_of_other_rows_are_not_taken_for_these(
    program: ModuleType, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "prices"
    price(program, source, target)
    with pytest.raises(SystemExit, match="another adapter or engine"):
        program.find_work(source, target, "vllm")
    write(source / "b.parquet", [{"id": "b0", "text": "x"}])
    with pytest.raises(SystemExit, match="other rows"):
        program.find_work(source, target, "transformers")
    program.SETTINGS["adapter"] = "def"
    with pytest.raises(SystemExit, match="another adapter"):
        program.find_work(source, target, "transformers")


def test_a_folder_without_products_or_with_other_columns_is_refused(
    program: ModuleType, source: Path, tmp_path: Path
) -> None:
    write(source / "c.parquet", [{"id": "c0", "title": "x"}])
    with pytest.raises(SystemExit, match="needs a column id, and messages or text; it has id, title"):
        program.find_work(source, tmp_path, "transformers")
    shutil.rmtree(source)
    source.mkdir()
    with pytest.raises(SystemExit, match="no files"):
        program.find_work(source, tmp_path, "transformers")


@pytest.mark.parametrize(
    ("actors", "cpus", "share"),
    [(2, 2, 0.5), (2, 1, 0.25), (1, 8, 7), (4, 64, 15), (100, 2, 0.01), (3, 2, 0.33)],
)
def test_actors_leave_ray_a_cpu(program: ModuleType, actors: int, cpus: float, share: float) -> None:
    found = program.share_cpus(actors, cpus)
    assert found == share
    assert actors * found <= max(cpus - 1, 1)
    assert found < 1 or found == int(found)  # as Ray wants it


def test_vllm_gets_the_prompts_in_tokens_with_the_adapter_and_its_draws_are_read(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}

    class Pricer:
        base_folder = "/models/smol"

        def __init__(self, folder: Path, base: str | None) -> None:
            made["pricer"] = (folder.name, base)

        def write_prompts(self, conversations: list[Any]) -> list[list[int]]:
            return [[1, 2, 3] for _ in conversations]

        def read_draws(self, replies: list[list[str]]) -> list[list[str]]:
            return replies

    class Model:
        def __init__(self, model: str, **settings: Any) -> None:
            made["model"] = (model, settings)

        def generate(self, prompts: list[Any], sampling: Any, **settings: Any) -> list[Any]:
            assert prompts == [{"prompt_token_ids": [1, 2, 3]}] * 2
            made["asked"] = settings
            return [SimpleNamespace(outputs=[SimpleNamespace(text="$5")] * sampling["n"]) for _ in prompts]

    fake = {"LLM": Model, "SamplingParams": lambda **settings: settings}
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(**fake))
    monkeypatch.setitem(sys.modules, "vllm.lora", SimpleNamespace())
    request = SimpleNamespace(LoRARequest=lambda *given: given)
    monkeypatch.setitem(sys.modules, "vllm.lora.request", request)
    monkeypatch.setattr("finetune_pricer.local.AdapterPricer", Pricer, raising=False)
    program.ADAPTER.mkdir()
    (program.ADAPTER / "adapter_config.json").write_text(json.dumps({"r": 12}))
    asked = [{"role": "user", "content": "?"}]
    assert program.Vllm().price([asked, asked]) == [["$5"] * 20] * 2
    assert made["pricer"] == ("adapter", None)
    assert made["model"] == ("/models/smol", {"enable_lora": True, "max_lora_rank": 16})
    assert made["asked"]["lora_request"] == ("pricer", 1, str(program.ADAPTER))


def test_the_program_runs_on_the_engine_that_is_named(
    program: ModuleType, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[int, str, int]] = []

    def run(work: list[Any], engine: str, *, actors: int, gpus: float) -> None:
        ran.append((len(work), engine, actors))

    monkeypatch.setattr(program, "price_on_ray", run)
    monkeypatch.setattr(sys, "argv", ["predict.py", str(source), str(tmp_path / "p"), "--actors", "9"])
    program.main()
    assert ran == [(2, "transformers", 2)]
