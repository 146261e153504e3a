"""The examples run as a user runs them, and the demo is the first of them."""

import csv
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from example_outputs import read_index
from finetune_pricer import MadeUpCatalogue
from finetune_pricer.cli import cli
from finetune_pricer.cli.demo import EXAMPLES as SHOWN
from finetune_pricer.evaluate import FITTED
from finetune_pricer.local import LocalServer
from stub_service import Behaviour, StubService

EXAMPLES = Path(__file__).parents[1] / "examples"
MODEL_BASELINES_ENSEMBLE_BEST = 1 + len(FITTED) + 1 + 1


def run_first(*arguments: str, **environment: str) -> str:
    command = [sys.executable, str(EXAMPLES / "01_first_job.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def maes(output: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"MAE \$([\d,.]+)", output)]


def test_the_index_says_of_every_example_what_it_shows_and_what_it_printed() -> None:
    index = read_index()
    assert {name: shows for name, (shows, _) in index.items()} == SHOWN, "python tests/example_outputs.py"
    for name, (_, rest) in index.items():
        assert name.endswith(".ipynb") or re.match(
            rf"```console\n\$ python examples/{name}.*\n```\n\n```text\n.{{40,}}```\n", rest, re.DOTALL
        )


def test_the_first_example_beats_the_median_and_prices_what_has_no_price() -> None:
    output = run_first("--train", "1000", "--test", "100")
    model, median, *_, best = maes(output)
    assert best < model < 0.7 * median
    assert len(re.findall(r"^  \$\d+\.\d\d \(median", output, re.MULTILINE)) == 2
    last = output.splitlines()[-1]
    assert re.match(
        r"advice: use .*, which (asks no service|reads \d+ tokens an item).*on 100 items\)$", last
    )
    assert re.search(r"^ensemble of 6.*\n  MAE \$", output, re.MULTILINE)
    assert "ensemble of 6" in Path("report.html").read_text()
    assert "plotly" in Path("report.html").read_text()


def test_the_first_example_speaks_to_any_service_through_a_plain_client() -> None:
    with LocalServer(key="sk-of-a-service") as server:
        output = run_first(
            "--base-url", server.url, "--train", "300", "--test", "50", OPENAI_API_KEY="sk-of-a-service"
        )
        assert len(maes(output)) == MODEL_BASELINES_ENSEMBLE_BEST
        with server.client() as client:
            assert [job.status for job in client.fine_tuning.jobs.list()] == ["succeeded"]


def test_the_first_example_asks_for_a_model_where_none_can_be_meant() -> None:
    command = [sys.executable, str(EXAMPLES / "01_first_job.py"), "--provider", "openai"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--model" in done.stderr


def test_the_demo_without_the_extra_for_reports_shows_all_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for library in ("plotly", "plotly.graph_objects"):
        monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    result = CliRunner().invoke(cli, ["demo", "--train", "100", "--test", "20", "--epochs", "1"])
    output = result.output + capsys.readouterr().out
    assert (result.exit_code, "no report: figures need plotly" in output) == (0, True), output
    assert "Products without a price:" in output
    assert output.count("not compared: ridge on words") == 1


def test_the_demo_command_runs_the_first_example(capsys: pytest.CaptureFixture[str]) -> None:
    result = CliRunner().invoke(cli, ["demo", "--train", "300", "--test", "50"], catch_exceptions=False)
    assert result.exit_code == 0
    assert len(maes(result.output + capsys.readouterr().out)) == MODEL_BASELINES_ENSEMBLE_BEST


def test_another_provider_is_one_word_away_and_the_file_stays_the_same() -> None:
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / "04_another_provider.py"), "--train", "300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\w+): a learning rate is", done.stdout, re.MULTILINE) == [
        "openai",
        "azure",
        "nebius",
        "crusoe",
    ]
    assert len(maes(done.stdout)) == 4
    assert len(set(re.findall(r"ftjob-\w+", done.stdout))) == 4
    assert [path.name for path in Path("jsonl").iterdir()] == ["train.jsonl"]


def catalogue_command(*arguments: str) -> list[str]:
    script = str(EXAMPLES / "05_price_a_catalogue.py")
    return [sys.executable, script, "catalogue.csv", "priced.csv", *arguments]


@pytest.mark.parametrize("count", [500, pytest.param(5_000, marks=pytest.mark.acceptance)])
def test_a_catalogue_is_priced_although_the_run_is_killed_half_way(count: int) -> None:
    with StubService(Behaviour(latency=0.005)) as service:
        command = catalogue_command("--make", str(count), "--base-url", service.url, "--model", "m")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while service.sent < count // 2:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert not Path("priced.csv").exists()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
        under_way_at_most = 64
        assert service.stats()["answered_again"] <= under_way_at_most
    with Path("priced.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(number) for number in range(count)]
    assert all(float(row["price"]) > 0 for row in rows)


def test_a_shops_own_catalogue_is_priced_by_a_model_of_its_own_goods_with_ranges() -> None:
    goods = MadeUpCatalogue(seed=3).items(400)
    names = {"id": "SKU", "title": "Name", "summary": "Text", "price": "Cost"}
    shop = goods.to_pandas().rename(columns=names)[list(names.values())]
    shop["Name"] += " of a length that no label has, told to its very end, for people who read it"
    shop[:300].to_csv("train.csv", index=False)
    shop[300:360].to_csv("known.csv", index=False)
    shop[360:].drop(columns="Cost").to_csv("catalogue.csv", index=False)
    columns = [f"{theirs}={ours}" for ours, theirs in names.items()]
    command = catalogue_command("--train", "train.csv", "--known", "known.csv", "--columns", *columns)

    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        for _ in range(2)
    )

    assert re.findall("ftjob-[^ ]* learns from 300 items", first) == re.findall("ftjob-.*300 items", second)
    with Path("priced.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["title"] for row in rows] == list(shop["Name"][360:])
    assert all(float(row["low"]) < float(row["price"]) < float(row["high"]) for row in rows)


def test_a_model_of_made_up_goods_prices_no_goods_of_a_shop() -> None:
    Path("catalogue.csv").write_text("title\nA lamp\n")
    for arguments, words in (
        ((), "--train: name a CSV of your items"),
        (("--make", "5"), "name another file"),
    ):
        done = subprocess.run(catalogue_command(*arguments), capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        assert words in done.stderr
    assert Path("catalogue.csv").read_text() == "title\nA lamp\n"


def test_the_third_example_forecasts_and_shows_what_came() -> None:
    command = [sys.executable, str(EXAMPLES / "03_is_it_worth_it.py"), "--test", "100", "--target", "600"]
    done = subprocess.run(
        [*command, "--sizes", "50", "100", "200"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "to pay in all: $0.0595 of a budget of $5.00" in done.stdout
    assert "rank  model" in done.stdout
    assert re.search(r"forecast at 600: \$\d+\.\d\d, 80% band", done.stdout)
    assert re.search(r"what came: MAE .* - (inside|OUTSIDE) the band", done.stdout)
    assert Path("worth_it.html").exists()


def test_the_sixth_example_leaves_a_service_whose_models_die_at_a_date() -> None:
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / "06_leaving_openai.py")]
    done = subprocess.run(
        [*command, "--train", "200", "--products", "60"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "no new job: training_not_available" in said
    assert re.search(
        r"fetched ftjob-\w+: leaving[/\\\\].*\.jsonl, {'epochs': 3, 'seed': 42, 'suffix': 'pricer'}", said
    )
    assert re.search(r"priced by 'ft:pricer-base.*', and not known to be true: 60 of 60 items", said)
    assert re.search(r"a new question: .*does not exist", said)
    assert "kept answers: 60 of 60" in said
    assert re.findall(r"training pricer-base on (\d+) examples: ftjob-", said) == ["200", "260"]
    assert re.findall(r"n=(\d+), 0 unscored", said) == ["100", "100"]


def test_the_seventh_example_weighs_several_pricers_and_prices_with_what_it_has_saved() -> None:
    command = [sys.executable, str(EXAMPLES / "07_neighbours_and_ensemble.py"), "--train", "200"]
    done = subprocess.run([*command, "--test", "60"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ensemble of 6.* on \d+ items", done.stdout, re.MULTILINE)
    assert "rank  model" in done.stdout
    assert "90% ranges from" in done.stdout
    assert len(re.findall(r"^  \$[\d,.]+ \(.*\$[\d,.]+ to \$[\d,.]+", done.stdout, re.MULTILINE)) == 3
    assert Path("pricer/pricer.json").exists()
