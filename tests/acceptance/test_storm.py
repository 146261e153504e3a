"""schemathesis against the server's own OpenAPI document: nothing found in ten minutes."""

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from finetune_pricer.local import Faults, LocalServer
from local_helpers import finished, jsonl, products, upload

pytestmark = pytest.mark.acceptance
SECONDS = int(os.environ.get("FINETUNE_PRICER_STORM", "600"))
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
