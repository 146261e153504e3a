"""The road from the shell: one export in, a saved pricer and its report, and prices for what has none."""

import csv
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from finetune_pricer import (
    AnswerStore,
    AuditReport,
    ChatFormatter,
    Evaluation,
    ItemDataset,
    MadeUpCatalogue,
    Predictor,
    connect,
    load_pricer,
)
from finetune_pricer import audit as audit_items
from finetune_pricer.cli import cli
from finetune_pricer.cli.command import INPUT, MONEY, SETUP, USAGE
from finetune_pricer.cli.consent import require_consent
from finetune_pricer.cli.options import Reading
from finetune_pricer.cli.train import divide
from finetune_pricer.errors import MissingExtra, OverBudget
from finetune_pricer.evaluate import MedianBaseline
from finetune_pricer.items import SeenItems
from finetune_pricer.local import LocalServer
from finetune_pricer.providers import TokenPricing, pricing

COLUMNS = ("--columns", "Name=title", "Desc=summary", "Price=price")
NAMES = {"title": "Name", "summary": "Desc", "price": "Price"}


def run(*arguments: object, **settings: Any) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False, **settings)


def run_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def write_shop(path: Path, count: int = 90, *, seed: int = 3) -> Path:
    """Write a shop's export in which each tenth product has no price, and one a price of 0."""
    frame = MadeUpCatalogue(seed=seed).items(count).to_pandas().rename(columns=NAMES)
    prices = [f"${price:,.2f}" for price in frame["Price"]]
    prices[9::10] = [""] * len(prices[9::10])
    prices[5], prices[6] = "on request", "0.00"
    frame["Price"] = prices
    frame[list(NAMES.values())].to_csv(path, index=False)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("road")


@pytest.fixture(scope="module")
def shop(folder: Path) -> Path:
    return write_shop(folder / "shop.csv")


@pytest.fixture(scope="module")
def trained(folder: Path, shop: Path) -> Result:
    """The first of the two commands, on the local server; what costs nothing needs no vocabulary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetune_pricer.cli.train.estimate_cost", None)
        return run("train", shop, *COLUMNS, "--out", folder / "pricer", "--epochs", "2")


@pytest.fixture(scope="module")
def free(folder: Path, shop: Path) -> Path:
    """A pricer without a model."""
    out = folder / "free"
    assert run("train", shop, *COLUMNS, "--out", out, "--method", "baseline").exit_code == 0
    return out


def test_train_says_that_it_costs_nothing_and_leaves_a_pricer_and_its_report(
    trained: Result, folder: Path
) -> None:
    assert trained.exit_code == 0, trained.output
    assert "to pay: nothing" in trained.stderr
    assert "row 6 (line 7): price = 'on request'" in trained.stderr
    assert f"next: finetune-pricer price {folder / 'shop.csv'} priced.csv" in trained.stdout
    assert re.search(r"MAE \$\d+\.\d\d \(95% CI", trained.stdout)
    page = (folder / "pricer" / "report.html").read_text(encoding="utf-8")
    assert "on request" in page
    assert len(Evaluation.load(folder / "pricer" / "evaluation.json").baselines) == 5
    client = connect("local", dir=folder / "pricer" / "server")
    assert load_pricer(folder / "pricer", client).predict("A brass lamp").price


def test_price_needs_no_word_on_columns_and_starts_the_models_server(
    trained: Result, folder: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    priced = tmp_path / "priced.csv"
    monkeypatch.setattr("finetune_pricer.cli.saved.count_tokens", None)
    done = run("price", shop, priced, "--pricer", folder / "pricer")
    assert (done.exit_code, done.stdout) == (0, f"10 products priced in {priced}\n"), trained.output
    rows = rows_of(priced)
    assert all(float(row["low"]) <= float(row["price"]) <= float(row["high"]) for row in rows)
    wanted = [row["Name"] for row in rows_of(shop) if row["Price"] in {"", "0.00"}]
    assert [row["title"] for row in rows] == wanted


def test_a_file_without_a_column_of_prices_is_priced(free: Path, shop: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("Name,Desc\nA lamp,of brass\nA shelf,of oak\n")
    found = run_json("price", new, tmp_path / "priced.csv", "--pricer", free)
    assert (found["products"], found["without_a_price"], found["rows_left_out"]) == (2, 0, 0)

    new.write_text("Title,Desc\nA lamp,of brass\n")
    assert run("price", new, tmp_path / "priced.csv", "--pricer", free, "--force").exit_code == INPUT
    told = run("price", new, tmp_path / "priced.csv", "--pricer", free, "--columns", "Title=title", "--force")
    assert told.exit_code == 0


def test_the_encoding_of_the_first_file_is_not_put_upon_another_in_utf8(tmp_path: Path) -> None:
    pricer, new = tmp_path / "pricer", tmp_path / "new.csv"
    MedianBaseline(19.5).save(pricer)
    Reading(columns={"Name": "title"}, encoding="cp1252").save(pricer)
    arguments = ("price", new, tmp_path / "priced.csv", "--pricer", pricer, "--force")
    for encoding, given in (("utf-8", ()), ("cp1252", ()), ("cp850", ("--encoding", "cp850"))):
        new.write_bytes("Name\nGrüner Löffel\n".encode(encoding))
        assert run(*arguments, *given).exit_code == 0
        assert [row["title"] for row in rows_of(tmp_path / "priced.csv")] == ["Grüner Löffel"]


def test_all_prices_what_has_a_price_and_without_it_that_is_refused(free: Path, tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("Name,Desc,Price\nA lamp,of brass,5.00\nA shelf,of oak,auf Anfrage\n")
    arguments = ("price", known, tmp_path / "priced.csv", "--pricer", free)
    error = run_json(*arguments, code=INPUT)["error"]
    assert "--all prices them" in error["message"]
    found = run_json(*arguments, "--all")
    assert (found["products"], found["rows_left_out"]) == (1, 1)  # the one on request is named on stderr
    assert "'auf Anfrage'" in run(*arguments, "--all", "--force").stderr
    assert run(*arguments, "--all", "--force", "--strict").exit_code == INPUT


def test_a_file_is_never_replaced_by_its_prices(free: Path, shop: Path) -> None:
    before = shop.read_bytes()
    assert run("price", shop, shop.parent / "." / "shop.csv", "--pricer", free).exit_code == USAGE
    assert shop.read_bytes() == before


def test_prices_that_are_there_already_are_replaced_only_when_told_to(
    free: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    priced = tmp_path / "priced.csv"
    priced.write_text("prices that somebody has worked on\n")
    arguments = ("price", shop, priced, "--pricer", free)
    with monkeypatch.context() as patch:
        patch.setattr("finetune_pricer.cli.price.load", None)  # nothing is read, asked or paid before
        error = run_json(*arguments, code=INPUT)["error"]
    assert (error["kind"], "--force replaces it" in error["message"]) == ("FileAccessError", True)
    assert priced.read_text() == "prices that somebody has worked on\n"
    assert run(*arguments, "--force").exit_code == 0
    assert len(rows_of(priced)) == 10


def test_a_free_method_that_is_not_installed_is_named_once(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    done = run("train", shop, *COLUMNS, "--out", tmp_path / "pricer", "--method", "baseline", "--json")
    assert done.stderr.count("not compared: ridge on words") == 1
    assert done.stderr.count("pip install 'finetune-pricer[evaluate]'") == 1
    assert [*json.loads(done.stdout)["evaluation"]["left_out"]] == ["ridge on words"]


def test_what_is_no_pricer_is_refused(shop: Path, tmp_path: Path, free: Path) -> None:
    done = run("price", shop, tmp_path / "priced.csv", "--pricer", tmp_path / "nothing")
    assert (done.exit_code, done.stderr[:34]) == (INPUT, "Error: there is no saved pricer in")
    assert not (tmp_path / "priced.csv").exists()
    kept = (free / "reading.json").read_bytes()
    (free / "reading.json").write_text("{")
    assert run("price", shop, tmp_path / "priced.csv", "--pricer", free).exit_code == INPUT
    (free / "reading.json").write_bytes(kept)


def test_a_method_without_a_model_makes_no_server_and_asks_nobody(free: Path, shop: Path) -> None:
    assert not (free / "server").exists()
    assert load_pricer(free).predict("A brass lamp").low is not None


def test_too_few_prices_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    small = write_shop(tmp_path / "small.csv", 40)
    error = run_json("train", small, *COLUMNS, "--out", tmp_path / "pricer", code=INPUT)["error"]
    assert error["message"].startswith("34 of 39 products have a price, and at least 70 are needed")
    assert not (tmp_path / "pricer").exists()


def test_the_same_product_at_two_prices_is_not_asked_about_twice(tmp_path: Path) -> None:
    shop = write_shop(tmp_path / "shop.csv")
    items = Reading(columns=dict(pair.split("=") for pair in COLUMNS[1:])).read(shop)
    twice = [replace(item, price=(item.price or 0) + 1, id="") for item in items if item.price is not None]
    parts = divide(items + ItemDataset.from_items(twice), seed=1)
    everything = [(part, SeenItems.of(part)) for part in parts]
    for number, (part, _) in enumerate(everything):
        assert len(part) >= 10
        assert not any(seen.find(part) for _, seen in everything[:number])


def test_a_file_of_which_leaks_leave_too_little_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    frame = MadeUpCatalogue(seed=3).items(30).to_pandas().rename(columns=NAMES)[list(NAMES.values())]
    lines = frame.to_csv(index=False, lineterminator="\n").splitlines()
    (tmp_path / "shop.csv").write_text("\n".join([lines[0], *lines[1:] * 4]), encoding="utf-8")
    done = run("train", tmp_path / "shop.csv", *COLUMNS, "--out", tmp_path / "pricer")
    assert (done.exit_code, (tmp_path / "pricer").exists()) == (INPUT, False), done.output
    assert "Error: too few products are left once those that leak are taken out" in done.stderr


def test_without_the_extra_for_twins_all_else_is_looked_for_and_it_is_said_once(
    free: Path, shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = audit_items

    def refuse(train: ItemDataset, *, similarity: float | None, **others: Any) -> AuditReport:
        if similarity is not None:
            raise MissingExtra("it needs the extra `audit`")
        return real(train, similarity=None, **others)

    monkeypatch.setattr("finetune_pricer.cli.audit.audit_items", refuse)
    done = run("audit", shop, *COLUMNS)
    assert (done.exit_code, "near-duplicates are not looked for" in done.stderr) == (0, True)
    divide(ItemDataset.from_items(MadeUpCatalogue().items(200)), seed=1)
    assert capsys.readouterr().err.count("near-duplicates are not looked for") == 1


def test_foreign_names_are_refused_with_the_option_that_maps_them(shop: Path) -> None:
    done = run("audit", shop)
    assert (done.exit_code, "--columns theirs=ours" in done.stderr) == (INPUT, True)


def test_prices_of_another_currency_are_left_out_with_the_option_that_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text("Name;Price\nLampe;20,50\nStuhl;80,00 €\n", encoding="utf-8")
    columns = ("--columns", "Name=title", "Price=price")
    assert "read in USD; another currency is named so: --currency EUR" in run("audit", path, *columns).stderr
    assert "left out" not in run("audit", path, *columns, "--currency", "EUR").stderr

    path.write_text("Name;Price\nStuhl;80,00 €\n", encoding="utf-8")
    nothing_left = run("audit", path, *columns)
    assert (nothing_left.exit_code, nothing_left.stdout) == (INPUT, "")
    assert f"no row of {str(path)!r} can be an item" in nothing_left.stderr


# What costs money


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """A service of whose prices only this test knows."""
    known = TokenPricing(provider="127.0.0.1", train=1.0, input=1.0, output=1.0)
    monkeypatch.setattr(pricing, "TOKEN_PRICINGS", (known, *pricing.TOKEN_PRICINGS))
    with LocalServer() as running:
        yield running


def test_a_service_is_paid_only_with_consent_and_within_the_budget(
    server: LocalServer, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, priced = tmp_path / "pricer", tmp_path / "priced.csv"
    where = ("--base-url", server.url, "--model", "pricer-base-mini", "--method", "model")
    files = ("train", shop, *COLUMNS, "--out", out, *where)
    assert "--epochs: say how many" in run(*files).stderr
    base = (*files, "--epochs", "2")
    assert run_json(*base, code=MONEY)["error"]["kind"] == "NotAgreed"
    assert run_json(*base, "--yes", "--budget", "0.001", code=MONEY)["error"]["kind"] == "OverBudget"
    with server.client() as client:
        assert not client.fine_tuning.jobs.list().data
        assert not client.files.list().data

    done = run(*base, "--yes", "--budget", "1")
    assert done.exit_code == 0, done.output
    assert re.search(r"training +\$0\.00\d+\n +40 questions +\$0\.00\d+\n", done.stderr)
    monkeypatch.setattr("finetune_pricer.cli.consent.somebody_answers", lambda: True)
    asked = ("price", shop, priced, "--pricer", out, "--base-url", server.url)
    refused = run(*asked, input="n\n")
    assert (refused.exit_code, "to pay: about $0.000" in refused.stderr) == (MONEY, True)
    assert not priced.exists()
    with AnswerStore(out / "answers.sqlite") as store:
        before = len(store)
    agreed = run(*asked, "--budget", "0.5", input="y\n")
    assert (agreed.exit_code, len(rows_of(priced))) == (0, 10), agreed.output
    with AnswerStore(out / "answers.sqlite") as store:
        assert len(store) == before + 10
    assert "--model: name a base model" in run("train", shop, "--out", out, *where[:2]).stderr


@pytest.mark.parametrize("yes", [True, False])
def test_more_than_the_budget_is_refused_before_anybody_is_asked(*, yes: bool) -> None:
    with pytest.raises(OverBudget, match=r"it costs about \$2\.00, above the budget of \$1\.50") as caught:
        require_consent({"training": 1.25, "questions": 0.75}, yes=yes, budget=1.5)
    assert (caught.value.cost, caught.value.budget) == (2.0, 1.5)


def test_a_cost_that_nobody_knows_is_said_and_held_to_no_budget(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    base = ("train", shop, *COLUMNS, "--out", tmp_path / "pricer", "--provider", "openai", "--model", "new")
    done = run(*base)
    assert (done.exit_code, "to pay: unknown" in done.stderr) == (MONEY, True)
    done = run(*base, "--budget", "5", "--yes")
    assert (done.exit_code, "no budget can be held" in done.stderr) == (MONEY, True)


def test_a_service_whose_models_must_be_deployed_is_refused_before_it_is_paid(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEBIUS_API_KEY", "sk-test")
    where = ("--provider", "nebius", "--model", "meta-llama/Llama-3.1-8B-Instruct", "--yes")
    done = run("train", shop, *COLUMNS, "--out", tmp_path / "pricer", *where)
    assert (done.exit_code, "must be deployed" in done.stderr) == (SETUP, True)


def test_a_pricer_of_a_paid_service_asks_nothing_without_consent(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    model = "ft:gpt-4.1-mini-2025-04-14:shop::abc"
    Predictor(connect("openai"), model, formatter=ChatFormatter()).save(tmp_path / "pricer")
    done = run("price", shop, tmp_path / "priced.csv", "--pricer", tmp_path / "pricer", *COLUMNS)
    assert done.exit_code == MONEY
    assert re.search(r"questions +\$0\.00\d\d\nto pay: about \$0\.00\d\d\n", done.stderr)


# How wrong it is


def test_evaluate_judges_a_pricer_on_products_that_it_has_not_seen(
    free: Path, shop: Path, tmp_path: Path
) -> None:
    others = write_shop(tmp_path / "others.csv", 40, seed=9)
    saved, report = tmp_path / "evaluation.json", tmp_path / "report.html"
    found = run_json("evaluate", others, "--pricer", free, "--save", saved, "--report", report)
    assert (found["n"], found["unscored"]) == (34, 0)
    assert found["metrics"]["mae"]["low"] < found["metrics"]["mae"]["value"]
    assert Evaluation.load(saved).mae == found["metrics"]["mae"]["value"]
    assert report.exists()
    assert "5 products of" in run("evaluate", others, "--pricer", free, "--size", "20").stderr

    refused = run("evaluate", shop, "--pricer", free)
    assert (refused.exit_code, "on items that it has not seen" in refused.stderr) == (INPUT, True)


def test_evaluate_judges_prices_made_elsewhere(tmp_path: Path) -> None:
    items, prices = tmp_path / "items.csv", tmp_path / "elsewhere.csv"
    items.write_text("id,title,price\na,lamp,10\nb,shelf,20\nc,chair,30\n")
    prices.write_text("item_id,price\nc,33.00\na,$11\n")
    found = run_json("evaluate", items, "--predictions", prices)
    assert (found["name"], found["n"], found["unscored"]) == ("elsewhere", 2, 1)
    assert found["metrics"]["mae"]["value"] == 2.0
    for text, words in {
        "id,cost\na,1\n": "must have the columns",
        "id,price\na,1\na,2\n": "stands there twice",
        "id,price\nz,1\n": "not one id",
        "id,price\na,cheap\n": "no price",
    }.items():
        prices.write_text(text)
        assert words in run_json("evaluate", items, "--predictions", prices, code=INPUT)["error"]["message"]


def test_evaluate_wants_one_thing_to_judge(shop: Path, free: Path) -> None:
    assert run("evaluate", shop).exit_code == USAGE
    assert run("evaluate", shop, "--pricer", free, "--predictions", shop).exit_code == USAGE


def test_evaluate_judges_a_model_of_a_service_beside_simple_methods(server: LocalServer, shop: Path) -> None:
    arguments = ("evaluate", shop, *COLUMNS, "--model", "none-such", "--base-url", server.url)
    assert run(*arguments).exit_code == MONEY
    assert run_json(*arguments, "--yes", code=4)["error"]["kind"] == "ModelNotFound"


def test_a_report_that_cannot_be_drawn_loses_no_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, prices = tmp_path / "items.csv", tmp_path / "prices.csv"
    items.write_text("id,title,price\na,lamp,10\nb,shelf,20\n")
    prices.write_text("id,price\na,11\nb,19\n")
    monkeypatch.setitem(__import__("sys").modules, "plotly", None)
    monkeypatch.setitem(__import__("sys").modules, "plotly.graph_objects", None)
    saved = tmp_path / "evaluation.json"
    arguments = ("evaluate", items, "--predictions", prices, "--save", saved)
    done = run(*arguments, "--report", tmp_path / "report.html")
    assert (done.exit_code, "no report: " in done.stderr) == (0, True)
    assert saved.exists()


def test_prices_of_a_saved_baseline_are_those_of_python(shop: Path, tmp_path: Path) -> None:
    MedianBaseline(19.5).save(tmp_path / "pricer")
    assert run("price", shop, tmp_path / "p.csv", "--pricer", tmp_path / "pricer", *COLUMNS).exit_code == 0
    assert {row["price"] for row in rows_of(tmp_path / "p.csv")} == {"19.5"}
