"""Which service is taken, and what is said when none can be."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from finetune_pricer import connect
from finetune_pricer.errors import NotConfigured

SECRET = "sk-secret-0123456789"


@dataclass(frozen=True)
class Case:
    name: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    dotenv: str = ""
    url: str = ""
    error: str = ""


AZURE = {"AZURE_OPENAI_API_KEY": SECRET, "AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com/"}
CASES = {
    "named": Case("nebius", {"NEBIUS_API_KEY": SECRET}, url="https://api.tokenfactory.nebius.com/v1/"),
    "the only one": Case(
        None, {"CRUSOE_API_KEY": SECRET}, url="https://api.intelligence.crusoecloud.com/v1/"
    ),
    "from .env": Case(None, {}, f"OPENAI_API_KEY={SECRET}\n", url="https://api.openai.com/v1/"),
    "an empty value counts as none": Case(
        None,
        {"NEBIUS_API_KEY": "", "OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": ""},
        url="https://api.openai.com/v1/",
    ),
    "a base URL of its own": Case(
        "openai",
        {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "http://proxy.test/v1"},
        url="http://proxy.test/v1/",
    ),
    "azure": Case("azure", AZURE, url="https://mine.openai.azure.com/openai/v1/"),
    "several, one chosen": Case(
        None,
        {"FINETUNE_PRICER_PROVIDER": "azure", "OPENAI_API_KEY": SECRET, **AZURE},
        url="https://mine.openai.azure.com/openai/v1/",
    ),
    "several, one chosen in .env": Case(
        None,
        {"OPENAI_API_KEY": SECRET, "NEBIUS_API_KEY": SECRET},
        "FINETUNE_PRICER_PROVIDER=openai",
        url="https://api.openai.com/v1/",
    ),
    "the name goes before the variable": Case(
        "openai",
        {"FINETUNE_PRICER_PROVIDER": "azure", "OPENAI_API_KEY": SECRET},
        url="https://api.openai.com/v1/",
    ),
    "none": Case(error=r'set one of OPENAI_API_KEY, .*NEBIUS_API_KEY.*connect\("local"\)'),
    "several": Case(
        None,
        {"OPENAI_API_KEY": SECRET, "NEBIUS_API_KEY": SECRET},
        error=r"several providers are set \(openai, nebius\).*FINETUNE_PRICER_PROVIDER",
    ),
    "unknown": Case("acme", {"OPENAI_API_KEY": SECRET}, error="no provider 'acme'; known: openai, .*local"),
    "a key is missing": Case("nebius", {"OPENAI_API_KEY": SECRET}, error="'nebius' needs NEBIUS_API_KEY"),
    "azure without its endpoint": Case(
        "azure", {"AZURE_OPENAI_API_KEY": SECRET}, error="'azure' needs AZURE_OPENAI_ENDPOINT"
    ),
    "a key with a line break": Case(
        "openai", {"OPENAI_API_KEY": SECRET + "\n"}, error="OPENAI_API_KEY begins or ends with a space"
    ),
    "a key of foreign letters": Case("openai", {"OPENAI_API_KEY": SECRET + "é"}, error="copy the key again"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_service_is_chosen_or_the_error_says_what_to_set(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    Path(".env").write_text(case.dotenv)
    if case.error:
        with pytest.raises(NotConfigured, match=case.error) as caught:
            connect(case.name)
        assert SECRET not in str(caught.value)
    else:
        with connect(case.name) as client:
            assert (str(client.base_url), client.api_key) == (case.url, SECRET)
    assert SECRET not in caplog.text


def test_the_only_provider_is_said_at_info(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NEBIUS_API_KEY", SECRET)
    with caplog.at_level(logging.INFO, "finetune_pricer"):
        connect().close()
    assert [record.levelname for record in caplog.records if "nebius" in record.message] == ["INFO"]


def test_the_environment_goes_before_the_file_unless_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    Path(".env").write_text("OPENAI_API_KEY=from-file")
    with connect("openai") as client:
        assert client.api_key == "from-environment"
    with connect("openai", dotenv_wins=True) as client:
        assert client.api_key == "from-file"
    assert os.environ["OPENAI_API_KEY"] == "from-environment"


def test_the_nearest_env_file_above_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=from-above")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    with connect() as client:
        assert client.api_key == "from-above"
    assert "OPENAI_API_KEY" not in os.environ


def test_an_env_file_that_is_no_text_is_named() -> None:
    Path(".env").write_bytes(b"OPENAI_API_KEY=\xe9")
    with pytest.raises(NotConfigured, match=r"\.env' is not UTF-8 text"):
        connect()


def test_a_folder_belongs_to_the_local_provider_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(NotConfigured, match="dir= belongs to the provider 'local'"):
        connect("openai", dir="somewhere")
