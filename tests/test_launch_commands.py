"""`finetune-pricer launch`: what it says, what it asks, and how it ends."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import finetune_pricer.cli.launch as command
from finetune_pricer.cli import cli
from finetune_pricer.cli.command import INPUT, MONEY, SERVICE, SETUP, USAGE
from finetune_pricer.machines import LaunchedServer, own_process
from finetune_pricer.machines.target import Instance, Machine

PROGRAM = "import sys; sys.stdin.readline(); "


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["launch", *map(str, arguments)], catch_exceptions=False)


def run_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.fixture
def priced_jobs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The Hub says what a machine costs, and what would be started there is only noted."""
    from finetune_pricer.machines.hf_jobs import HfJobs

    noted: list[dict[str, Any]] = []
    monkeypatch.setattr(HfJobs, "find_machine", lambda *_: Machine("l4x1", 0.81))
    monkeypatch.setattr(HfJobs, "find", lambda *_: None)
    instance = Instance(id="j1", url="https://j1--8000.hf.jobs/v1", settings="", log="hf jobs logs j1")

    def start(on: str, **given: Any) -> LaunchedServer:
        noted.append(given)
        return LaunchedServer(on, given["name"], instance, "sk-secret")

    monkeypatch.setattr(command, "start_server", start)
    return noted


def test_a_dry_run_shows_the_script_and_starts_nothing(tmp_path: Path) -> None:
    done = run("--on", "process", "--dry-run", "--base", "smol=Some/Model@main,rank=8")
    assert done.exit_code == 0
    assert done.stdout.startswith("#!/bin/sh\n")
    assert "--base smol=Some/Model@main,rank=8 --limit 14400s\n" in done.stdout
    assert "price: nothing" in done.stderr
    assert not (tmp_path / "home").exists()
    told = run_json("--on", "process", "--dry-run")
    assert (told["per_hour"], told["cost"], told["limit"], told["written"]) == (0.0, 0.0, 14_400.0, [])


def test_written_files_are_named_and_nothing_is_started(tmp_path: Path) -> None:
    done = run("--on", "docker", "--write", tmp_path / "files")
    assert done.stdout.split() == [
        str(tmp_path / "files" / name) for name in ("process.sh", "docker.sh", "hf-jobs.sh", "sky.yaml")
    ]
    assert not own_process._started


def test_a_rent_is_agreed_to_or_not_started(priced_jobs: list[dict[str, Any]]) -> None:
    arguments = ("--on", "hf-jobs", "--gpu", "l4", "--limit", "2h")
    done = run(*arguments)
    assert (done.exit_code, priced_jobs) == (MONEY, [])
    assert "price: $0.81 an hour" in done.stderr
    assert "2 h of l4x1" in done.stderr
    assert "--yes agrees" in done.stderr

    assert run(*arguments, "--budget", "1.61", "--yes").exit_code == MONEY
    assert run(*arguments, "--budget", "1.61", "--dry-run").exit_code == MONEY
    assert not priced_jobs

    done = run(*arguments, "--budget", "1.62", "--yes", "--bucket", "me/pricer")
    assert done.exit_code == 0
    assert "pricer on hf-jobs answers at https://j1--8000.hf.jobs/v1" in done.stdout
    assert "finetune-pricer launch --on hf-jobs --name pricer --stop" in done.stdout
    assert "sk-secret" not in done.output
    ((given),) = priced_jobs
    assert (given["budget"], given["bucket"], given["limit"]) == (1.62, "me/pricer", "2h")


def test_an_unknown_price_is_not_agreed_to_within_a_budget(
    priced_jobs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_pricer.machines.hf_jobs import HfJobs

    monkeypatch.setattr(HfJobs, "find_machine", lambda *_: Machine("l4x1", None, "not known"))
    assert run("--on", "hf-jobs", "--budget", 5, "--yes").exit_code == MONEY
    assert not priced_jobs


@pytest.mark.skipif(os.name != "posix", reason="modes of this kind are posix")
def test_a_server_is_told_with_where_its_key_is_and_stopped(
    monkeypatch: pytest.MonkeyPatch, blink: Callable[[float], None]
) -> None:
    monkeypatch.setattr(own_process, "_PROGRAM", PROGRAM + "import time; time.sleep(60)")
    done = run("--on", "process", "--wait", "0.2s", "--keep")
    assert (done.exit_code, "was not ready after 0.2 seconds" in done.stderr) == (SERVICE, True)
    found = LaunchedServer.find("process")
    assert found is not None
    assert stat.S_IMODE(found.key_file.stat().st_mode) == 0o600
    key = found.key_file.read_text().strip()
    assert key not in done.output

    assert run_json("--on", "process", "--stop") == {"on": "process", "name": "pricer", "stopped": True}
    assert not found.is_running()
    done = run("--on", "process", "--stop")
    assert (done.exit_code, done.stdout) == (0, "no server pricer runs on process\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), USAGE),
        (("--on", "modal"), USAGE),
        (("--on", "process", "--base", "smol"), USAGE),
        (("--on", "process", "--name", "../x"), INPUT),
        (("--on", "process", "--stop", "--name", "../x"), INPUT),
        (("--on", "process", "--limit", "soon"), INPUT),
        (("--on", "process", "--bucket", "me/x"), INPUT),
        (("--on", "hf-jobs", "--stop"), SETUP),
    ],
)
def test_what_is_wrong_has_its_exit_code(arguments: tuple[str, ...], code: int) -> None:
    assert run(*arguments).exit_code == code


def test_without_docker_it_is_a_matter_of_setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("--on", "docker").exit_code == SETUP
