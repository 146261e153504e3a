"""Reading files of items, beside what pyarrow alone needs to read them and to build the same table.

    python bench/reading.py [rows]

Prints seconds and ratios; both sides run in the same process, turn by turn, and the median ratio counts.
With numeric prices a CSV may take at most 5 times as long, a JSONL 4 times, and a Parquet 2.5 times. Price
texts, titles with HTML and rows without ids are measured too.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from finetune_pricer import ItemDataset
from finetune_pricer.items.tables import item_schema

ROUNDS = 5
AT_MOST = {"csv": 5.0, "jsonl": 4.0, "parquet": 2.5}
READERS: dict[str, Callable[[Path], pa.Table]] = {
    "csv": pyarrow.csv.read_csv,
    "jsonl": pyarrow.json.read_json,
    "parquet": pyarrow.parquet.read_table,
}


def make_rows(count: int) -> pa.Table:
    return pa.table(
        {
            "id": [str(4_006_381_000_000 + n) for n in range(count)],
            "title": [f"Lamp {n}, brass, {n % 97} cm" for n in range(count)],
            "category": [f"category {n % 20}" for n in range(count)],
            "price": [n % 99_991 / 100 for n in range(count)],
        }
    )


def write(table: pa.Table, folder: Path, name: str) -> Iterator[Path]:
    pyarrow.csv.write_csv(table, folder / f"{name}.csv")
    yield folder / f"{name}.csv"
    with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
    yield folder / f"{name}.jsonl"
    pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
    yield folder / f"{name}.parquet"


def build(table: pa.Table) -> pa.Table:
    """Bring what pyarrow read into the schema of items, unchecked."""
    schema = item_schema()
    return pa.table(
        [
            (
                table[field.name].cast(field.type, safe=False)
                if field.name in table.column_names and not is_text_of_price(table, field)
                else pa.nulls(table.num_rows, field.type)
            )
            for field in schema
        ],
        schema=schema,
    )


def is_text_of_price(table: pa.Table, field: pa.Field) -> bool:
    return pa.types.is_floating(field.type) and pa.types.is_string(table[field.name].type)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(what: str, path: Path, at_most: float | None) -> bool:
    read = READERS[path.suffix[1:]]
    pairs = [
        (seconds(lambda: ItemDataset.from_file(path)), seconds(lambda: build(read(path))))
        for _ in range(ROUNDS)
    ]
    ratio = statistics.median(our / their for our, their in pairs)
    our, their = (min(column) for column in zip(*pairs, strict=True))
    bar = "" if at_most is None else f" (at most {at_most})"
    print(
        f"{what}, {path.suffix}: ours {our:.3f} s, pyarrow {their:.3f} s: {ratio:.2f} times{bar}", flush=True
    )
    return at_most is None or ratio <= at_most


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    rows = make_rows(count)
    texts = pa.array([f"${price:,.2f}" for price in rows["price"].to_pylist()])
    marked = pa.array([f"<b>{title}</b> &amp; shade" for title in rows["title"].to_pylist()])
    kinds = {
        "numeric prices": rows,
        "price texts": rows.set_column(rows.column_names.index("price"), "price", texts),
        "HTML": rows.set_column(rows.column_names.index("title"), "title", marked),
        "no ids": rows.drop_columns("id"),
    }
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for name, table in kinds.items():
            for path in write(table, Path(folder), name.replace(" ", "_")):
                bar = AT_MOST[path.suffix[1:]] if name == "numeric prices" else None
                good &= compare(f"{count:,} rows, {name}", path, bar)
                path.unlink()
    sys.exit(not good)


if __name__ == "__main__":
    main()
