"""The command line: what each command answers to people and to programs, and how it ends."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import respx
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from command_line_page import commands
from finetune_pricer import ChatFormatter, Evaluator, FineTuneJob, JsonlWriter, MadeUpCatalogue, Sweep
from finetune_pricer.cli import cli, main
from finetune_pricer.cli.command import BUG, INPUT, INTERRUPTED, MONEY, SERVICE, SETUP, USAGE
from finetune_pricer.cli.demo import EXAMPLES
from finetune_pricer.cli.doctor import PURPOSES
from finetune_pricer.evaluate import Outcome, SweepResult, Trial
from finetune_pricer.local import LocalServer
from helpers import job_body, page, priced, refusal

ROOT = Path(__file__).parents[1]
COLUMNS = ("--columns", "Name=title", "Desc=summary", "Price=price")
SERVICE_URL = "https://service.test/v1"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)


def run_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    """The one object that a command writes to stdout."""
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shop's export: most products have a price, and one price cannot be read."""
    frame = MadeUpCatalogue(seed=3).items(40).to_pandas()
    frame = frame.rename(columns={"title": "Name", "summary": "Desc", "price": "Price"})
    frame["Price"] = [f"${price:,.2f}" for price in frame["Price"]]
    frame.loc[9, "Price"] = ""
    frame.loc[5, "Price"] = "on request"
    frame[["Name", "Desc", "Price"]].to_csv(tmp_path / "shop.csv", index=False)
    return tmp_path / "shop.csv"


@pytest.fixture
def training(tmp_path: Path) -> Path:
    return JsonlWriter().write(priced(12), tmp_path / "train.jsonl").path


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server with one job that has succeeded."""
    with LocalServer() as running:
        yield running


@pytest.fixture(scope="module")
def job(server: LocalServer, tmp_path_factory: pytest.TempPathFactory, blink: Callable[[float], None]) -> str:
    file = JsonlWriter().write(priced(20), tmp_path_factory.mktemp("jobs") / "train.jsonl")
    with server.client() as client:
        return FineTuneJob.create(client, file, model="pricer-base", epochs=1, seed=1).wait(sleep=blink).id


# What holds for every command.


@pytest.mark.parametrize(("name", "found"), [*commands()], ids=[name for name, _ in commands()])
def test_every_command_has_help_that_exits_with_0(name: str, found: click.Command) -> None:
    if name.endswith(" demo"):  # whose help is that of the example
        return
    done = run(*name.split()[1:], "--help")
    assert done.exit_code == 0
    assert done.stdout.startswith("Usage: ")


def test_the_list_of_commands_says_what_each_command_says() -> None:
    listed = run("--help").stdout
    listed = " ".join(listed[listed.index("Commands:") :].split())
    for name, found in commands():
        if name.count(" ") == 1:
            first = " ".join((found.help or "").partition("\n\n")[0].split())
            assert f"{name.split()[1]} {first}" in listed


def test_the_list_of_commands_loads_nothing_heavy() -> None:
    program = "import sys; from finetune_pricer.cli import cli; cli(['--help'], standalone_mode=False); "
    program += "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(re.findall(r"'(\w+)'", done.stdout.splitlines()[-1]))
    assert "click" in loaded
    assert not loaded & {"openai", "pydantic", "numpy", "pandas", "pyarrow", "datasets", "tiktoken", "scipy"}


def test_the_package_is_a_program() -> None:
    command = [sys.executable, "-m", "finetune_pricer", "check", "absent.jsonl", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == INPUT
    assert done.stderr == "Error: cannot read 'absent.jsonl': No such file or directory\n"
    assert json.loads(done.stdout)["error"]["kind"] == "MissingFile"


def test_a_wrong_usage_is_2_and_an_object_for_programs() -> None:
    assert run("check").exit_code == USAGE
    error = run_json("check", code=USAGE)["error"]
    assert (error["kind"], error["exit_code"]) == ("MissingParameter", USAGE)
    assert run("chekc").exit_code == USAGE


@pytest.mark.parametrize(
    ("name", "found"),
    [(name, found) for name, found in commands() if not isinstance(found, click.Group)],
    ids=[name for name, found in commands() if not isinstance(found, click.Group)],
)
def test_an_option_that_no_command_has_is_2_for_each_of_them(name: str, found: click.Command) -> None:
    words = name.split()[1:]
    if words == ["demo"]:  # whose options are those of the example
        return
    assert run(*words, "--no-such-option").exit_code == USAGE
    if any(option.name == "as_json" for option in found.params):
        assert run_json(*words, "--no-such-option", code=USAGE)["error"]["exit_code"] == USAGE


@pytest.mark.parametrize(
    "words",
    [
        ("train", "absent.csv", "--out", "pricer"),
        ("price", "absent.csv", "priced.csv", "--pricer", "absent"),
        ("evaluate", "absent.csv", "--predictions", "absent.csv"),
        ("compare", "absent.json", "absent.json"),
        ("audit", "absent.csv"),
        ("check", "absent.jsonl"),
        ("estimate", "absent.csv", "--model", "gpt-4.1-mini-2025-04-14", "--provider", "openai"),
        ("sweep", "absent.csv", "--test", "absent.csv", "--out", "sweep", "--models", "m", "--sizes", "10"),
    ],
    ids=lambda words: words[0],
)
def test_a_file_that_is_not_there_is_3_for_each_command_that_reads_one(words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == INPUT
    error = run_json(*words, code=INPUT)["error"]
    assert (error["kind"], error["exit_code"]) == ("MissingFile", INPUT)
    assert not list(Path().iterdir())


def test_a_server_that_strangers_could_reach_without_a_key_is_not_started() -> None:
    done = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert (done.exit_code, "key" in done.stderr) == (SETUP, True)


def test_a_fault_of_ours_does_not_end_like_a_finding(
    training: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("finetune_pricer.cli.check.check_jsonl", lambda *_, **__: 1 // 0)
    with pytest.raises(SystemExit) as ended:
        main(["check", str(training)])
    assert ended.value.code == BUG
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_an_interruption_ends_with_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, server: LocalServer, job: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FineTuneJob, "stream_events", interrupt)
    done = run("jobs", "watch", job, "--base-url", server.url)
    assert done.exit_code == INTERRUPTED
    assert done.stderr.endswith(f"Interrupted. The job goes on; `jobs watch {job}` finds it again.\n")


@pytest.mark.parametrize(("no_color", "is_plain"), [("", False), ("1", True)])
def test_an_error_has_colour_in_a_terminal_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, *, no_color: str, is_plain: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    done = CliRunner().invoke(cli, ["check", "absent.jsonl"], color=True)
    assert ("\x1b[" not in done.stderr) == is_plain
    assert "\x1b[" not in run("check", "absent.jsonl").stderr


def test_a_shell_completes_commands_and_options() -> None:
    shell = ShellComplete(cli, {}, "finetune-pricer", "_FINETUNE_PRICER_COMPLETE")
    assert [found.value for found in shell.get_completions([], "d")] == ["demo", "doctor"]
    assert "--zero-is" in [found.value for found in shell.get_completions(["audit"], "--z")]


def test_v_says_what_was_found_out_on_the_way(shop: Path) -> None:
    semicolons = shop.with_name("semicolons.csv")
    semicolons.write_text("Name;Price\nA lamp;5.00\nA shelf;7.00\n")
    arguments = ("audit", semicolons, "--columns", "Name=title", "Price=price")
    assert "';'" in run("-v", *arguments).stderr
    assert "';'" not in run(*arguments).stderr


def test_a_warning_is_a_line_that_no_terminal_obeys(training: Path) -> None:
    program = "import sys, warnings; from finetune_pricer.cli import check, main\n"
    program += "check.check_jsonl = lambda *_, **__: warnings.warn('look \x1b[2J') or sys.exit(0)\n"
    program += f"main(['check', {str(training)!r}])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "Warning: look \\x1b[2J\n"


# Files


def test_check_tells_a_good_file_from_a_bad_one(training: Path) -> None:
    assert run("check", training).exit_code == 0
    assert run_json("check", training)["examples"] == 12

    with training.open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "How much is a lamp?"}]}\n')
    done = run("check", training)
    assert (done.exit_code, "end with the reply to learn" in done.stdout) == (1, True)
    found = run_json("check", training, code=1)
    assert [(problem["code"], problem["lines"]) for problem in found["problems"]] == [("last", [13])]

    fixed = training.with_name("fixed.jsonl")
    assert run_json("check", training, "--fix", fixed) | {"left_out": [13], "ok": True} == run_json(
        "check", training, "--fix", fixed
    )
    assert run("check", fixed).exit_code == 0


@pytest.mark.parametrize(
    "columns",
    [
        COLUMNS,
        ("--columns=Name=title", "--columns", "Desc=summary", "--columns", "Price=price"),
        ("--columns", "Name=title", "--columns", "Desc=summary", "Price=price"),
    ],
)
def test_columns_are_given_one_by_one_or_together(shop: Path, columns: tuple[str, ...]) -> None:
    assert run_json("audit", shop, *columns)["ok"]
    assert run("audit", *columns, "--", shop).exit_code == 0


@pytest.mark.parametrize("column", ["Name", "=title", "Name=titel"])
def test_a_column_that_is_none_of_ours_is_refused(shop: Path, column: str) -> None:
    done = run("audit", shop, "--columns", column)
    assert done.exit_code == USAGE
    assert "THEIRS=OURS" in done.stderr


def test_audit_names_rows_that_cannot_be_read_and_ends_with_1_where_something_leaks(shop: Path) -> None:
    done = run("audit", shop, *COLUMNS)
    assert (done.exit_code, done.stdout.startswith("ok: train 39")) == (0, True)
    assert "row 6 (line 7): price = 'on request'" in done.stderr
    assert (
        "row 6 (line 7)" in run_json("audit", shop, *COLUMNS, "--strict", code=INPUT)["error"]["problems"][0]
    )

    found = run_json("audit", shop, *COLUMNS, "--test", shop, code=1)
    assert found["counts"]["duplicate across splits"] == 39


def test_estimate_takes_products_or_examples(shop: Path, training: Path) -> None:
    chosen = ("--model", "gpt-4.1-mini-2025-04-14", "--provider", "openai", "--predictions", "10")
    examples, products = (
        run_json("estimate", training, *chosen),
        run_json("estimate", shop, *COLUMNS, *chosen),
    )
    assert (examples["tokens"]["examples"], products["tokens"]["examples"]) == (12, 38)
    assert 0 < examples["training"] < products["training"]
    done = run("estimate", shop, *COLUMNS, *chosen)
    assert "training            $0." in done.stdout
    assert "2 products of" in done.stderr or "1 products of" in done.stderr


def test_compare_says_which_of_two_evaluations_is_better(tmp_path: Path) -> None:
    items = priced(40)
    for name, error in {"near": 1, "far": 9}.items():
        guesses = [(item.price or 0) + error for item in items]
        found = Evaluator().score(items, guesses, name=name)
        found.save(tmp_path / f"{name}.json")
    files = (tmp_path / "near.json", tmp_path / "far.json")

    assert run("compare", *files).stdout.startswith("near is better than far: $8.00 nearer")
    (found,) = run_json("compare", *files)["comparisons"]
    assert (found["better"], found["difference"]["value"]) == ("near", -8.0)
    assert [one["name"] for one in run_json("compare", *files, "--leaderboard")["standings"]] == [
        "near",
        "far",
    ]
    assert run("compare", files[0]).exit_code == USAGE
    assert run("compare", files[0], __file__).exit_code == INPUT


# Services


def test_jobs_are_listed_shown_and_watched(server: LocalServer, job: str) -> None:
    where = ("--base-url", server.url)
    assert [one["id"] for one in run_json("jobs", "list", *where)["jobs"]] == [job]
    assert run("jobs", "list", *where).stdout.startswith(f"{job}  succeeded")

    shown = run_json("jobs", "show", job, *where)
    assert shown["fine_tuned_model"].startswith("ft:pricer-base")
    assert shown["metrics"][-1]["train_loss"] > 0
    assert f"step {shown['metrics'][-1]['step']}" in run("jobs", "show", job, *where).stdout

    watched = run("jobs", "watch", job, *where)
    assert watched.exit_code == 0
    assert "succeeded" in watched.stdout
    assert len(watched.stderr.splitlines()) > 3
    assert run_json("jobs", "watch", job, "--timeout", "1", *where)["is_final"]


def test_a_job_that_has_ended_cannot_be_cancelled(server: LocalServer, job: str) -> None:
    assert (
        run_json("jobs", "cancel", job, "--base-url", server.url, code=SERVICE)["error"]["exit_code"]
        == SERVICE
    )


def test_the_jobs_of_a_folder_need_no_server_that_runs(tmp_path: Path) -> None:
    assert run("jobs", "list", "--provider", "local", "--dir", tmp_path / "server").stdout == "no jobs\n"
    assert run("jobs", "list", "--provider", "local").exit_code == USAGE
    assert run("jobs", "list", "--provider", "local", "--base-url", "http://x").exit_code == USAGE


def test_a_job_is_cancelled(service: respx.MockRouter) -> None:
    service.get("/fine_tuning/jobs/ftjob-1").respond(json=job_body())
    service.post("/fine_tuning/jobs/ftjob-1/cancel").respond(json=job_body("cancelled"))
    assert run_json("jobs", "cancel", "ftjob-1", "--base-url", SERVICE_URL)["status"] == "cancelled"


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_watching_a_job_that_comes_to_nothing_ends_with_1(service: respx.MockRouter, status: str) -> None:
    body = job_body(status, error={"message": "no price in line 3", "code": "x", "param": None})
    service.get("/fine_tuning/jobs/ftjob-1").respond(json=body)
    service.get("/fine_tuning/jobs/ftjob-1/events").mock(return_value=page([]))
    error = run_json("jobs", "watch", "ftjob-1", "--timeout", "1", "--base-url", SERVICE_URL, code=1)["error"]
    assert error["kind"] == ("JobFailed" if status == "failed" else "JobCancelled")


def test_a_service_that_refuses_is_4_and_a_key_that_is_missing_6(service: respx.MockRouter) -> None:
    service.get("/fine_tuning/jobs").mock(return_value=refusal(401))
    assert run("jobs", "list", "--base-url", SERVICE_URL).exit_code == SERVICE
    done = run("jobs", "list")
    assert (done.exit_code, done.stderr.count("\n")) == (SETUP, 1)
    assert done.stderr.startswith("Error: no provider is configured")
    assert run("jobs", "list", "--provider", "openai").exit_code == SETUP


def test_only_the_servers_own_key_goes_to_an_address_of_the_command_line(
    service: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    route = service.get("/fine_tuning/jobs").mock(return_value=page([]))
    for key in ("none", "our-own"):
        if key != "none":
            monkeypatch.setenv("FINETUNE_PRICER_SERVER_KEY", key)
        assert run("jobs", "list", "--base-url", SERVICE_URL).exit_code == 0
        assert route.calls.last.request.headers["authorization"] == f"Bearer {key}"


def test_a_sweep_says_what_it_costs_and_buys_nothing_without_consent(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    model = ("--provider", "openai", "--models", "gpt-4.1-mini-2025-04-14", "--epochs", "1")
    files = ("sweep", shop, *COLUMNS, "--test", shop, "--out", tmp_path / "sweep")
    base = (*files, *model, "--sizes", "10,20")

    planned = run_json(*base, "--plan")
    assert len(planned["jobs"]) == 2
    assert 0 < planned["to_pay"] < 0.1
    done = run(*base)
    assert done.exit_code == MONEY
    assert re.search(r"to pay: about \$0\.0\d", done.stderr)
    assert "nobody can be asked here: --yes agrees" in done.stderr
    assert run_json(*base, code=MONEY)["error"]["kind"] == "NotAgreed"
    assert run_json(*base, "--budget", "0.0001", "--yes", code=MONEY)["error"]["kind"] == "OverBudget"

    monkeypatch.setattr("finetune_pricer.cli.consent.somebody_answers", lambda: True)
    refused = CliRunner().invoke(cli, list(map(str, base)), input="n\n")
    assert (refused.exit_code, "Go on?" in refused.stderr) == (MONEY, True)


def test_a_sweep_that_costs_nothing_is_not_asked_about(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(size=20, model="pricer-base-mini", client="", formatter=ChatFormatter())
    outcome = Outcome(trial=trial, evaluation=None, dollars=0.0, problem="it failed")
    monkeypatch.setattr(Sweep, "run", lambda _: SweepResult(outcomes=(outcome,)))
    base = ("sweep", shop, *COLUMNS, "--test", shop, "--out", tmp_path / "sweep")
    found = run_json(*base, "--models", "pricer-base-mini", "--sizes", "20")
    assert (found["to_pay"], found["outcomes"][0]["problem"]) == (0.0, "it failed")
    assert (tmp_path / "sweep" / "server").is_dir()


def test_a_list_with_something_else_in_it_is_refused(shop: Path, tmp_path: Path) -> None:
    base = ("sweep", shop, "--test", shop, "--out", tmp_path, "--models", "m")
    done = run(*base, "--sizes", "10,many")
    assert (done.exit_code, "is not a list such as 100,300" in done.stderr) == (USAGE, True)


# What is known, and what is set up here


def test_providers_shows_all_or_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEBIUS_API_KEY", "sk-secret")
    rows = run_json("providers")["providers"]
    assert {row["name"]: row["key_is_set"] for row in rows} == {
        **dict.fromkeys(("openai", "azure", "crusoe"), False),
        **dict.fromkeys(("nebius", "local"), True),
    }
    assert run_json("providers", "nebius")["settings"]["epochs"]["name"]
    for name in ("openai", "azure", "nebius", "crusoe", "local"):
        done = run("providers", name)
        assert (done.exit_code, "\n  source        " in done.stdout) == (0, True)
        assert "sk-secret" not in done.stdout
    assert run("providers", "nobody").exit_code == SETUP


def test_doctor_tells_which_keys_are_there_and_never_shows_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    (tmp_path / ".env").write_text("NEBIUS_API_KEY=sk-also-secret\n")
    done = run("doctor")
    assert done.exit_code == 0
    assert "secret" not in done.output
    assert "openai   OPENAI_API_KEY is set (environment)" in done.stdout
    assert f"nebius   NEBIUS_API_KEY is set ({tmp_path / '.env'})" in done.stdout
    assert "azure    AZURE_OPENAI_API_KEY is not set" in done.stdout
    found = run_json("doctor")
    assert found["vocabulary"] in {"tiktoken", "bpe_openai"}
    assert {key["provider"]: key["answers"] for key in found["keys"]} == dict.fromkeys(
        ("openai", "azure", "nebius", "crusoe")
    )
    assert "secret" not in json.dumps(found)


def test_doctor_asks_services_only_when_told_to(
    monkeypatch: pytest.MonkeyPatch, service: respx.MockRouter
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", SERVICE_URL)
    route = service.get("/fine_tuning/jobs").mock(return_value=page([]))
    assert run("doctor").exit_code == 0
    assert not route.called
    assert "OPENAI_API_KEY is set (environment); it answers" in run("doctor", "--ask").stdout

    route.mock(return_value=refusal(401, "no such key"))
    done = run("doctor", "--ask")
    assert (done.exit_code, "Problem: openai: " in done.stdout) == (1, True)
    assert run_json("doctor", "--ask", code=1)["problems"]


def test_doctor_finds_a_key_that_no_service_could_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRUSOE_API_KEY", "sk-secret ")
    found = run_json("doctor", code=1)
    assert found["problems"][0].startswith("CRUSOE_API_KEY: CRUSOE_API_KEY begins or ends with a space")
    assert "secret" not in json.dumps(found)


def test_doctor_finds_what_is_missing_and_what_will_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "finetune_pricer.cli.doctor.requires",
        lambda _: ["click>=8", "python-calamine>=0.4; extra == 'excel'", "no-such>=1; extra == 'plots'"],
    )
    monkeypatch.setattr("finetune_pricer.cli.doctor._is_installed", lambda package: package != "no-such")
    monkeypatch.setattr("finetune_pricer.cli.doctor.find_vocabulary", lambda: None)
    done = run("doctor")
    assert "plots     lacks no-such: reports and figures; pip install 'finetune-pricer[plots]'" in done.stdout
    assert "excel     is there: reading .xlsx files" in done.stdout
    assert "vocabulary   not here" in done.stdout
    for ending in run_json("doctor")["endings"]:
        assert max(filter(None, (ending["training_ends"], ending["serving_ends"])))


def test_every_extra_has_a_purpose() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    assert extras - {"all", "dev", "docs"} <= PURPOSES.keys()


def test_the_demo_names_every_example() -> None:
    assert [*EXAMPLES] == sorted(path.name for path in (ROOT / "examples").glob("[0-9]*"))
    done = run("demo", "--list")
    assert all(f"{name:<30} {shows}" in done.stdout for name, shows in EXAMPLES.items())
