"""What strangers send: schemathesis against the server's own document, and odd bytes, cells and replies.

Nothing is found in ten minutes of each: no error of the server's, no error that is not ours, and no time that
grows faster than what is read.
"""

import contextlib
import gzip
import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from finetune_pricer import ItemDataset
from finetune_pricer.errors import PricerError
from finetune_pricer.local import Faults, LocalServer
from finetune_pricer.prices import find_decimal_mark, format_price, marked_prices, parse_amount, parse_price
from local_helpers import finished, jsonl, products, upload

pytestmark = pytest.mark.acceptance
SECONDS = int(os.environ.get("FINETUNE_PRICER_STORM", "600"))
FUZZ_MINUTES = float(os.environ.get("FINETUNE_PRICER_FUZZ", "10"))
MOVES = "/(cancel|pause|resume)$"
FAULTS = "/local/faults"
# What is right by the document is refused where a job has ended, or where two faults exclude each other.
MAY_REFUSE = ("--exclude-checks", "positive_data_acceptance")


def tool() -> str:
    installed = Path(__file__).parents[2] / "build" / "clients" / "schemathesis" / "bin" / "st"
    found = os.environ.get("FINETUNE_PRICER_SCHEMATHESIS") or (
        str(installed) if installed.exists() else shutil.which("st")
    )
    if found is None:
        pytest.skip("schemathesis is not installed; `make storm` installs it")
    return found


def storm(
    server: LocalServer, folder: Path, known: dict[str, str | None], *options: str, seconds: int
) -> None:
    """Let it send what it likes for some seconds, and fail with its report where it finds something."""
    lines = [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in known.items()]
    (folder / "schemathesis.toml").write_text("[parameters]\n" + "\n".join(lines) + "\n")
    document = server.url.removesuffix("/v1") + "/openapi.json"
    command = [
        *(tool(), "--config-file", str(folder / "schemathesis.toml"), "run", document, *options),
        *("--phases", "examples,coverage,fuzzing", "--max-time", str(seconds), "--continue-on-failure"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 300)
    print(done.stdout[-1_500:])
    assert done.returncode == 0, done.stdout[-8_000:]


def test_schemathesis_finds_nothing_in_ten_minutes(tmp_path: Path) -> None:
    tool()
    with LocalServer(tmp_path / "kept") as server, server.client() as client:
        file = upload(client, jsonl(products(60)))
        job = finished(client, client.fine_tuning.jobs.create(model="pricer-base", training_file=file.id).id)
        requests = client.files.create(file=("b.jsonl", b"{}\n"), purpose="batch")
        batch = client.batches.create(
            input_file_id=requests.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        known = {
            "path.file_id": file.id,
            "path.model": job.fine_tuned_model,
            "path.fine_tuning_job_id": job.id,
            "path.batch_id": batch.id,
        }
        storm(server, tmp_path, known, "--exclude-path-regex", f"{FAULTS}|{MOVES}", seconds=SECONDS)
        storm(server, tmp_path, known, "--include-path-regex", MOVES, *MAY_REFUSE, seconds=SECONDS // 20)
        # Last: the faults that it sets would strike its other requests.
        storm(server, tmp_path, known, "--include-path-regex", FAULTS, *MAY_REFUSE, seconds=SECONDS // 20)
        server.faults = Faults()

        assert client.models.list().data
    database = sqlite3.connect(tmp_path / "kept" / "server.sqlite3")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


# Bytes, cells and replies

CURRENCIES = ["USD", "EUR", "INR", "JPY", "KWD", "CHF", "SEK"]
DECIMALS = [None, ".", ","]
SCRAPS = [
    *"0123456789.,'-+$%#@/()[]{}\\*`~_=:;|\"&<> \t\n\r",
    *"\u00a0\u202f\u2013\u20ac\u00a3\u00a5\u20b9\u00bd\u00b2\ufe0f\u200f\ufffd\u0661\uff11\u5186\u00df",
    *(
        "USD",
        "EUR",
        "CAD",
        "US$",
        "C$",
        "kr",
        "dollars",
        "cents",
        "to",
        "and",
        "between",
        "was",
        "MSRP",
        "k",
        "m",
    ),
    *(
        "million",
        "lakh",
        "$1,299.00",
        "1.299,00",
        "12,34,567.89",
        "1e5",
        "1E+02",
        "nan",
        "inf",
        "null",
        "9" * 30,
    ),
    *(
        "\\boxed{",
        "{,}",
        "```json",
        '{"price": 5}',
        '"price":',
        "Price (USD): ",
        "/-",
        "--",
        "x" * 50,
        "\x00",
        "\ud800",
    ),
]
HEADS = [
    b"title,price\nLamp,12\nMat,$3.50\n",
    b"title;price\nLampe;12,50\nTisch;1.299,00\n",
    b'id\ttitle\tprice\n1\t"Lamp"\t12\n',
    b'{"title": "Lamp", "price": 12}\n{"title": "Mat", "price": "$3.50", "id": 4006381333931}\n',
    b'[{"title": "Lamp", "price": 12}]',
    "title,price\nLamp,12\n".encode("utf-16"),
    b"PAR1\x15\x04PAR1",
    b"PK\x03\x04",
    b"",
]
SUFFIXES = [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx", ".csv.gz", ".jsonl.gz", ".txt"]
# What may be said to a reader, and the values of it; a new option is one more line.
OPTIONS: dict[str, Sequence[object]] = {
    "on_error": ["raise", "skip"],
    "priced": [True, False],
    "columns": [None, {"title": "summary"}, {"nothing": "title"}],
    "encoding": [None, "utf-8", "cp1252", "utf-16", "nothing"],
    "delimiter": [None, ",", ";", "|", "ab"],
    "currency": [None, "EUR", "INR", "KWD", "nothing"],
    "decimal": [None, ".", ","],
    "zero_is": [None, "unknown", "price"],
    "html": ["strip", "keep"],
}


def odd_text(draw: random.Random, longest: int = 40) -> str:
    return "".join(draw.choices(SCRAPS, k=draw.randint(0, longest)))


def odd_bytes(draw: random.Random) -> bytes:
    """A small file with some of its bytes changed, doubled, cut out or replaced by odd text."""
    content = bytearray(draw.choice(HEADS) * draw.choice([1, 1, 1, 2, 50]))
    for _ in range(draw.randint(0, 6)):
        at = draw.randint(0, len(content))
        content[at : at + draw.randint(0, 4)] = draw.choice(
            [
                draw.randbytes(draw.randint(0, 3)),
                odd_text(draw, 4).encode("utf-8", "surrogatepass"),
                bytes(content[: draw.randint(0, 60)]),
            ]
        )
    return bytes(content)


def fuzz_replies(draw: random.Random, folder: Path) -> None:
    text, currency = odd_text(draw), draw.choice(CURRENCIES)
    with contextlib.suppress(PricerError):
        assert 0 <= parse_price(text, currency) < float("inf")
    for value, shown in marked_prices(text, currency):
        assert 0 <= value < float("inf")
        assert shown


def fuzz_cells(draw: random.Random, folder: Path) -> None:
    text, currency = odd_text(draw, 6), draw.choice(CURRENCIES)
    with contextlib.suppress(PricerError):
        assert 0 <= parse_amount(text, currency, decimal=draw.choice(DECIMALS)) < float("inf")  # type: ignore[arg-type]
    with contextlib.suppress(PricerError):
        assert find_decimal_mark([odd_text(draw, 4) for _ in range(4)], currency) in DECIMALS


def fuzz_forms(draw: random.Random, folder: Path) -> None:
    with contextlib.suppress(PricerError):
        assert format_price(draw.choice([0, 0.005, 19.99, 1234567.89, 1e15]), odd_text(draw, 5))


def fuzz_files(draw: random.Random, folder: Path) -> None:
    path, content = folder / f"odd{draw.choice(SUFFIXES)}", odd_bytes(draw)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" and draw.random() < 0.9 else content)
    said = {name: draw.choice(values) for name, values in OPTIONS.items() if draw.random() < 0.5}
    with contextlib.suppress(PricerError):
        for item in ItemDataset.from_file(path, **said):  # type: ignore[arg-type]
            assert item.text
            assert item.price is None or 0 <= item.price < float("inf")


def fuzz_time(draw: random.Random, folder: Path) -> None:
    """Odd text over and over: of eight times the length it takes no more than some eight times as long."""
    piece = odd_text(draw, 5) or " "
    short, long = (piece * (length // len(piece) + 1) for length in (1_000, 8_000))
    assert seconds_to_read(long) < 32 * max(seconds_to_read(short), 0.002), piece


def seconds_to_read(text: str) -> float:
    best = float("inf")
    for _ in range(3):  # what else the machine does only adds
        started = time.thread_time()
        with contextlib.suppress(PricerError):
            parse_price(text)
        with contextlib.suppress(PricerError):
            parse_amount(text)
        list(marked_prices(text))
        best = min(best, time.thread_time() - started)
    return best


FUZZ: list[Callable[[random.Random, Path], None]] = [
    *(fuzz_replies, fuzz_cells, fuzz_forms, fuzz_files, fuzz_time),
]


@pytest.mark.parametrize("fuzz", FUZZ)
def test_odd_input_is_read_or_refused_and_never_ends_otherwise(
    fuzz: Callable[[random.Random, Path], None], tmp_path: Path
) -> None:
    """Each run starts from a seed that is named in the failure, so that it can be run again alone."""
    end = time.monotonic() + 60 * FUZZ_MINUTES / len(FUZZ)
    first = random.SystemRandom().randrange(10**9)
    for seed in itertools.count(first):
        try:
            fuzz(random.Random(seed), tmp_path)
        except Exception as error:
            raise AssertionError(f"{fuzz.__name__}(random.Random({seed}), folder)") from error
        if time.monotonic() > end:
            print(f"{fuzz.__name__}: {seed - first + 1:,} inputs")
            return
