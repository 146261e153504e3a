"""Tests leave neither the loopback nor a trace: no network, no keys, no shared folders."""

# respx patches httpx, and openai speaks httpx2: the alias must stand before anything imports either.
import httpx2

httpx2.alias_httpx()

import os  # noqa: E402

# A worker for each core runs tests: numpy's own threads would only get into their way. It reads this when it
# is first imported, and so do the examples' processes.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import socket  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import openai  # noqa: E402
import pytest  # noqa: E402
import respx  # noqa: E402
from hypothesis import settings  # noqa: E402

BASE_URL = "https://service.test/v1"
KEY = "sk-test-0123456789"


def pytest_configure(config: pytest.Config) -> None:
    # Read when huggingface_hub is first imported, so before any test.
    hub_home = tempfile.TemporaryDirectory(prefix="finetune-pricer-tests-")
    config.add_cleanup(hub_home.cleanup)
    os.environ["HF_HOME"] = hub_home.name
    # For what is made for a whole file of tests, before any test has a folder of its own.
    os.environ["FINETUNE_PRICER_HOME"] = str(Path(hub_home.name) / "state")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    # The same commit gives the same result; `make soak` is what looks for new cases.
    settings.register_profile("repeatable", derandomize="FINETUNE_PRICER_RUNS" not in os.environ)
    settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Any connection but to the loopback fails, whatever asks for it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test wanted to connect to {address!r}")
        connect(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys from outside, no `.env`, and whatever is written lands in the test's own folder."""
    for name in list(os.environ):
        chosen = name in {"HF_TOKEN", "FINETUNE_PRICER_PROVIDER"}
        if chosen or name.endswith(("_API_KEY", "_BASE_URL", "_ENDPOINT")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_PRICER_HOME", str(tmp_path / "home"))


@pytest.fixture
def client() -> Iterator[openai.OpenAI]:
    """A plain client of a service that only respx answers for."""
    with openai.OpenAI(api_key=KEY, base_url=BASE_URL, max_retries=0) as made:
        yield made


@pytest.fixture
def service() -> Iterator[respx.MockRouter]:
    """The service's routes; a request that no route expects fails the test."""
    with respx.mock(base_url=BASE_URL, assert_all_called=False) as router:
        yield router


@pytest.fixture
def naps() -> list[float]:
    """The pauses that were asked for; hand `naps.append` in as `sleep`."""
    return []


@pytest.fixture(scope="session")
def blink() -> Callable[[float], None]:
    """A pause for tests that wait for a real server: short, however long a pause was asked for."""
    return lambda seconds: time.sleep(min(seconds, 0.01))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real items, or a skip that says how to get the test to run."""
    folder = Path(os.environ.get("FINETUNE_PRICER_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real items in {folder}; set FINETUNE_PRICER_DATA to their folder")
    return folder
