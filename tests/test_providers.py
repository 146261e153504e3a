"""Which service is taken, what is said when none can be, and that no file gets a key of the environment."""

import logging
import os
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune_pricer import aconnect, connect
from finetune_pricer._environment import find_state_folder, read_settings
from finetune_pricer.errors import NotConfigured
from finetune_pricer.providers import provider_of

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
        for make in (connect, aconnect):
            with pytest.raises(NotConfigured, match=case.error) as caught:
                make(case.name)
            assert SECRET not in str(caught.value)
    else:
        with connect(case.name) as client:
            assert (str(client.base_url), client.api_key) == (case.url, SECRET)
        other = aconnect(case.name)
        assert isinstance(other, openai.AsyncOpenAI)
        assert (str(other.base_url), other.api_key) == (case.url, SECRET)
        assert provider_of(other) == provider_of(client)
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


# A file that somebody else wrote.

KEY_IN_FILE = "sk-file-0123456789"
STRANGE = "http://stranger.test/v1"
FILES = {
    "an address": f"OPENAI_BASE_URL={STRANGE}",
    "an address and a key": f"OPENAI_BASE_URL={STRANGE}\nOPENAI_API_KEY={KEY_IN_FILE}",
    "an address and the environment's key": (
        f"OPENAI_BASE_URL={STRANGE}\nOPENAI_API_KEY=${{OPENAI_API_KEY}}"
    ),
    "an address and the environment's key by another name": (
        f"OPENAI_BASE_URL={STRANGE}\nMINE='${{OPENAI_API_KEY}}'\nOPENAI_API_KEY=${{MINE}}"
    ),
    "an address and the environment's key or another": (
        f"OPENAI_BASE_URL={STRANGE}\nOPENAI_API_KEY=${{OPENAI_API_KEY:-x}}"
    ),
    "the key in the address": (
        f"OPENAI_BASE_URL={STRANGE}/${{OPENAI_API_KEY}}\nOPENAI_API_KEY={KEY_IN_FILE}"
    ),
    "the key as the organization": "OPENAI_ORG_ID=${OPENAI_API_KEY}",
    "another provider": f"FINETUNE_PRICER_PROVIDER=openai\nexport OPENAI_BASE_URL={STRANGE}",
    "azure": f"FINETUNE_PRICER_PROVIDER=azure\nAZURE_OPENAI_ENDPOINT={STRANGE}",
    "azure with the environment's key": (
        f"FINETUNE_PRICER_PROVIDER=azure\nAZURE_OPENAI_ENDPOINT={STRANGE}\n"
        "AZURE_OPENAI_API_KEY=${OPENAI_API_KEY}"
    ),
}


@pytest.mark.parametrize("dotenv_wins", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_a_key_of_the_environment_goes_to_no_address_of_a_file(
    monkeypatch: pytest.MonkeyPatch, name: str, dotenv_wins: bool
) -> None:
    Path("cloned/deep").mkdir(parents=True)
    Path("cloned/.env").write_text(FILES[name])
    monkeypatch.chdir("cloned/deep")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    if name == "azure":
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", SECRET)
    for service in (None, "azure" if "azure" in name else "openai"):
        if name == "an address and a key" and dotenv_wins:  # the key is the file's too
            with connect(service, dotenv_wins=True) as client:
                assert (client.api_key, str(client.base_url)) == (KEY_IN_FILE, f"{STRANGE}/")
            continue
        with pytest.raises(NotConfigured) as caught:
            connect(service, dotenv_wins=dotenv_wins)
        assert SECRET not in str(caught.value)
        assert str(Path.cwd().parent / ".env") in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "dotenv"),
    [
        ({"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": STRANGE}, "OPENAI_BASE_URL=http://other.test"),
        ({"OPENAI_BASE_URL": STRANGE}, f"OPENAI_API_KEY={SECRET}"),
        ({}, f"OPENAI_API_KEY={SECRET}\nHOST=stranger.test\nOPENAI_BASE_URL=http://${{HOST}}/v1"),
        ({}, f"OPENAI_API_KEY={SECRET}\nOPENAI_BASE_URL=http://${{NOWHERE:-stranger.test}}/v1"),
    ],
    ids=["both of the environment", "the address of the environment", "both of the file", "with a default"],
)
def test_an_address_that_was_asked_for_gets_the_key(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], dotenv: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Path(".env").write_text(dotenv)
    with connect() as client:
        assert (client.api_key, str(client.base_url)) == (SECRET, f"{STRANGE}/")


def test_it_is_said_which_file_was_read(caplog: pytest.LogCaptureFixture) -> None:
    Path(".env").write_text(f"OPENAI_API_KEY={SECRET}\nNEBIUS_API_KEY=\nHF_TOKEN=hf_x\n")
    with caplog.at_level(logging.INFO, "finetune_pricer"):
        connect().close()
    said = [record.message for record in caplog.records if ".env" in record.message]
    assert said == [f"OPENAI_API_KEY is taken from {str(Path.cwd() / '.env')!r}"]
    with pytest.raises(NotConfigured, match=r"\('.*\.env' was read\)"):
        connect("crusoe")
    Path(".env").unlink()
    with pytest.raises(NotConfigured, match="there is none here"):
        connect("crusoe")


@pytest.mark.parametrize("top", ["repository", "home"])
def test_above_a_repository_or_the_home_folder_no_file_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, top: str
) -> None:
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={SECRET}")
    (tmp_path / "top" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "top" / "deep")
    assert read_settings().path == tmp_path / ".env"
    if top == "repository":
        (tmp_path / "top" / ".git").mkdir()
    else:
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "top")
    assert read_settings().path is None
    (tmp_path / "top" / ".env").write_text("")
    assert read_settings().path == tmp_path / "top" / ".env"


def test_a_file_does_not_choose_where_purchases_are_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path(".env").write_text(f"FINETUNE_PRICER_HOME={tmp_path / 'strange'}")
    assert find_state_folder() == tmp_path / "home"
    assert not caplog.text
    monkeypatch.delenv("FINETUNE_PRICER_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("sys.platform", "linux")
    assert find_state_folder() == tmp_path / "state" / "finetune-pricer"
    assert f"FINETUNE_PRICER_HOME in {str(Path.cwd() / '.env')!r} is ignored" in caplog.text


@pytest.mark.parametrize("content", ["\xff", None], ids=["not UTF-8", "unreadable"])
def test_a_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    Path(".env").write_text(content or "A=b", encoding="latin-1")
    if content is None:

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("dotenv.dotenv_values", refuse)
    with pytest.raises(NotConfigured, match=r"\.env' (is not UTF-8 text|: Permission denied)|cannot read"):
        connect()


@pytest.mark.parametrize(
    "case", [case for case in CASES.values() if case.error], ids=lambda case: case.error[:20]
)
def test_what_reports_errors_with_local_values_shows_no_key(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    Path(".env").write_text(f"CRUSOE_TOKEN={KEY_IN_FILE}")
    try:
        connect(case.name)
    except NotConfigured:
        kind, error, trace = sys.exc_info()
        assert kind is not None
        report = traceback.TracebackException(kind, error, trace, capture_locals=True)  # type: ignore[arg-type]
        ours = [frame for frame in report.stack if "finetune_pricer" in frame.filename]
        assert ours
        shown = "".join(str(frame.locals) for frame in ours if "test_" not in frame.filename)
        assert SECRET not in shown
        assert KEY_IN_FILE not in shown
