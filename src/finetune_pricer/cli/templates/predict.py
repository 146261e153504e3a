"""Price Parquet files of products with an adapter, on Ray Data: a file of prices for each file of products.

    pip install 'finetune-pricer[lora]' 'ray[data]'
    python predict.py products/ prices/ --engine transformers --actors 2

`finetune-pricer export --to ray` wrote this; it is yours to read and to change.

In: files `*.parquet` with a column `id`, and one of `messages` (a list of `role` and `content`, as a
formatter's `prompt` gives it) or `text` (an item's text, if the export knew the words around it: --pricer).
Out: files of the same names with the columns `id`, `price`, `low`, `high`, `mass` and `error`, a row for each
row. Nine tenths of what the model holds possible lie from `low` to `high`; `mass` is the share of its
probability, or of its draws, that named a price; a row that cannot be priced has an `error` in its place.

A file of prices gets its name when it is whole. So a run that was killed, by whatever, is started again by
the same command: what is there is left alone, and nothing stands there twice. One actor works at a file, so
cut the products into more files than there are actors. On a cluster, all its machines must see both folders.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from finetune_pricer.errors import NotSupported

HERE = Path(__file__).resolve().parent
ADAPTER = HERE / "adapter"
SETTINGS: dict[str, Any] = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))
"""`base`: where the base model is, or null for where it was; `adapter`: the hash of its weights; `prompt`:
the messages before a prompt's last one, and the last one's words around an item's text, or null."""
ROWS = 500  # that are read and priced at a time, which bounds the memory
DRAWS = 20  # replies that vLLM draws for each product
COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("price", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("mass", pa.float64()),
        ("error", pa.string()),
    ]
)
Messages = list[dict[str, str]]


class Engine(Protocol):
    """Prices conversations: for each the price, the ends of its range, and the mass."""

    def price(self, conversations: list[Messages]) -> dict[str, list[float]]: ...


class Transformers:
    """Asks the model how likely every price is, exactly, in one pass; on the CPU or one GPU."""

    def __init__(self) -> None:
        from finetune_pricer.local import AdapterPricer

        self._pricer = AdapterPricer(ADAPTER, base=SETTINGS["base"])

    def price(self, conversations: list[Messages]) -> dict[str, list[float]]:
        return self._pricer.price(conversations)


class Vllm:
    """Takes the median of draws from vLLM, which needs a GPU: nearly as good, and many times as fast."""

    def __init__(self) -> None:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest

        from finetune_pricer.local import AdapterPricer

        self._pricer = AdapterPricer(ADAPTER, base=SETTINGS["base"])  # it only writes the prompts here
        config = json.loads((ADAPTER / "adapter_config.json").read_text(encoding="utf-8"))
        self._model = LLM(
            str(self._pricer.base_folder),
            enable_lora=True,
            # One of those that vLLM has.
            max_lora_rank=next(rank for rank in (8, 16, 32, 64, 128, 256, 512) if rank >= config["r"]),
        )
        self._adapter = LoRARequest("pricer", 1, str(ADAPTER))
        self._sampling = SamplingParams(n=DRAWS, temperature=1.0, max_tokens=24, seed=0)

    def price(self, conversations: list[Messages]) -> dict[str, list[float]]:
        prompts = [{"prompt_token_ids": tokens} for tokens in self._pricer.write_prompts(conversations)]
        found = self._model.generate(prompts, self._sampling, lora_request=self._adapter, use_tqdm=False)
        return self._pricer.read_draws([[draw.text for draw in each.outputs] for each in found])


ENGINES: dict[str, type[Engine]] = {"transformers": Transformers, "vllm": Vllm}


class FilePricer:
    """Prices whole files; each actor has one, and loads the model once."""

    def __init__(self, engine: str) -> None:
        self._engine = ENGINES[engine]()
        self._schema = COLUMNS.with_metadata(make_notes(engine))

    def __call__(self, files: dict[str, Any]) -> dict[str, Any]:
        """Price the files of a batch, and return how many rows they have."""
        pairs = zip(files["source"], files["target"], strict=True)
        return {"rows": np.array([self.price_file(Path(source), Path(target)) for source, target in pairs])}

    def price_file(self, source: Path, target: Path) -> int:
        """Price one file, under a name of its own until it is whole."""
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        try:
            with pq.ParquetFile(source) as rows, pq.ParquetWriter(part, self._schema) as out:
                for batch in rows.iter_batches(batch_size=ROWS):
                    out.write_table(self.price_rows(batch.to_pylist()))
                count: int = rows.metadata.num_rows
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return count

    def price_rows(self, rows: list[dict[str, Any]]) -> pa.Table:
        """Return the prices of some rows; one that cannot be priced costs no other its price."""
        made: list[dict[str, Any]] = []
        places: list[int] = []
        asked: list[Messages] = []
        for place, row in enumerate(rows):
            made.append({"id": None if row["id"] is None else str(row["id"])})
            try:
                asked.append(read_messages(row))
                places.append(place)
            except ValueError as error:
                made[place]["error"] = str(error)
        for place, values in zip(places, self._ask(asked), strict=True):
            made[place] |= values
        return pa.Table.from_pylist(made, self._schema)

    def _ask(self, conversations: list[Messages]) -> list[dict[str, Any]]:
        if not conversations:
            return []
        try:
            columns = self._engine.price(conversations)
        except NotSupported as error:  # one of them is too long, or its roles are not the template's
            if len(conversations) == 1:
                return [{"error": str(error)}]
            half = len(conversations) // 2
            return self._ask(conversations[:half]) + self._ask(conversations[half:])
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return [row if row["mass"] > 0 else {"mass": 0.0, "error": "no draw named a price"} for row in rows]


def make_notes(engine: str) -> dict[bytes, bytes]:
    """Return what is written into a file of prices, by which it is known again."""
    return {b"adapter": SETTINGS["adapter"].encode(), b"engine": engine.encode()}


def read_messages(row: dict[str, Any]) -> Messages:
    """Return the conversation of a row; raise `ValueError` where it has none."""
    if row.get("messages"):
        messages = [{"role": each.get("role"), "content": each.get("content")} for each in row["messages"]]
        if not all(isinstance(value, str) for message in messages for value in message.values()):
            raise ValueError("a message lacks its role or its content")
        return messages
    text, prompt = row.get("text"), SETTINGS["prompt"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the row has neither messages nor a text")
    if prompt is None:
        raise ValueError("nobody said in which words texts are asked (export --pricer); give messages")
    asked = {"role": "user", "content": prompt["before"] + text + prompt["after"]}
    return [*prompt["messages"], asked]


def find_work(source: Path, target: Path, engine: str) -> list[dict[str, str]]:
    """Return the files that are still to be priced; stop where what is there is of another run."""
    files = sorted(source.glob("*.parquet"))
    if not files:
        sys.exit(f"there are no files *.parquet in {source}")
    work = []
    for file in files:
        names, done = set(pq.read_schema(file).names), target / file.name
        if "id" not in names or not names & {"messages", "text"}:
            sys.exit(f"{file} needs a column id, and messages or text; it has {', '.join(sorted(names))}")
        if not done.exists():
            work.append({"source": str(file), "target": str(done)})
            continue
        if not make_notes(engine).items() <= (pq.read_schema(done).metadata or {}).items():
            sys.exit(f"{done} was priced by another adapter or engine; name another folder, or remove it")
        if pq.read_metadata(done).num_rows != pq.read_metadata(file).num_rows:
            sys.exit(f"{done} has other rows than {file} has now; remove it to have that priced again")
    print(f"{len(work):,} of {len(files):,} files are to be priced", flush=True)
    return work


def share_cpus(actors: int, cpus: float) -> float:
    """Return how many CPUs each actor may claim: one is left for Ray's own tasks, or nothing ever moves."""
    share = max(cpus - 1, 0.5) / actors
    return float(int(share)) if share >= 1 else max(int(share * 100) / 100, 0.01)


def main() -> None:
    """Price what is not priced yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="the folder with files of products")
    parser.add_argument("target", type=Path, help="the folder for files of prices")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="transformers")
    parser.add_argument("--actors", type=int, default=1, help="copies of the model, side by side")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs for each actor")
    given = parser.parse_args()
    given.target.mkdir(parents=True, exist_ok=True)
    work = find_work(given.source, given.target.resolve(), given.engine)
    if not work:
        return
    price_on_ray(work, given.engine, actors=max(1, min(given.actors, len(work))), gpus=given.gpus)


def price_on_ray(work: list[dict[str, str]], engine: str, *, actors: int, gpus: float) -> None:
    """Hand the files to actors, each with a model of its own."""
    import ray

    # Threads that wait in a loop take the CPU from the other actors.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # A cluster where RAY_ADDRESS names one, else this machine.
    ray.init(**({} if os.environ.get("RAY_ADDRESS") else {"num_cpus": max(os.cpu_count() or 1, 2)}))
    cpus = share_cpus(actors, float(ray.cluster_resources().get("CPU", 1)))
    files = ray.data.from_items(work, override_num_blocks=len(work))
    done = files.map_batches(
        FilePricer,
        fn_constructor_kwargs={"engine": engine},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    rows = sum(int(row["rows"]) for row in done.iter_rows())
    print(f"{rows:,} rows in {len(work):,} files were priced", flush=True)


if __name__ == "__main__":
    main()
