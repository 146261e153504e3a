"""The built docs: each link leads somewhere, each public name has its place, a browser finds its way."""

import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import griffe
import pytest
from filelock import FileLock

from browser import Browser
from docs_site import (
    ROOT,
    build_site,
    find_dead_links,
    read_inventory,
    read_search_titles,
    serve_site,
)
from look_at_pages import WIDTHS, find_faults
from package_check import find_relative_links

ROOMS = [
    "evaluate",
    "integrations",
    "items",
    "local",
    "predict",
    "prepare",
    "providers",
    "testing",
    "tune",
    "aio",
]
# What classes have because they are read by pydantic from what a service sends.
OF_MODELS = {"model_config", "noun", "read"}
LOOKED_AT = ["", "tutorials/first-job/", "reference/tune/", "reference/known-services/"]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The docs, built once for all workers."""
    here = tmp_path_factory.getbasetemp()
    folder = (here if worker_id == "master" else here.parent) / "docs-site"
    with FileLock(f"{folder}.lock"):
        return folder if (folder / "sitemap.xml").exists() else build_site(folder)


def public_names() -> Iterator[tuple[str, object]]:
    """The public names by the paths that users type, each once."""
    seen = set()
    for room in ["", *ROOMS]:
        module = importlib.import_module(f"finetune_pricer.{room}".rstrip("."))
        for name in module.__all__:
            if room or name not in {"audit", "best_checkpoint", "compare", "forecast"}:
                found = getattr(module, name)
                seen.add(name)
                yield f"{module.__name__}.{name}", found
    assert len(seen) > 100


def test_no_link_of_the_site_is_dead(site: Path) -> None:
    assert not find_dead_links(site)


def test_a_dead_link_a_dead_place_and_a_missing_picture_are_found(tmp_path: Path) -> None:
    links = [
        "b/",
        "b/#there",
        "b/#gone",
        "c/",
        "x.png",
        "https://example.com/",
        "/b/",
        "b/#only-dark",
        "#here",
    ]
    body = "".join(f'<a href="{link}">x</a>' for link in links)
    (tmp_path / "b").mkdir()
    (tmp_path / "index.html").write_text(f'<p id="here">{body}</p><img src="y.png">')
    (tmp_path / "b" / "index.html").write_text('<p id="there"></p>')
    dead = [line.removeprefix("index.html: ") for line in find_dead_links(tmp_path)]
    assert dead == ["b/#gone", "c/", "x.png", "y.png"]


def test_no_link_of_the_readme_is_dead() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = find_relative_links(text)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_of_pypi_has_no_link_to_a_file_and_no_leftovers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for each in hook["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    assert find_relative_links(text) == []
    assert "--8<--" not in text
    assert "What is promised (`docs/explanation/what-is-promised.md`)" in text
    assert "`CONTRIBUTING.md`, `SECURITY.md`" in text


def test_every_public_name_and_each_of_its_attributes_has_its_place(site: Path) -> None:
    known = {name.removeprefix("finetune_pricer.") for name in read_inventory(site)}
    missing = {path for path, _ in public_names() if not places_of(path) & known}
    kinds = {found: path for path, found in public_names() if inspect.isclass(found)}
    for kind, path in kinds.items():
        # What a public base has is told of there.
        homes = {place for base in kind.__mro__ for place in places_of(kinds.get(base, path))}
        for name in attributes_of(kind):
            if not {f"{home}.{name}" for home in homes} & known:
                missing.add(f"{path}.{name}")
    assert not missing


def places_of(path: str) -> set[str]:
    """Where the reference may have a name: as the room's, or as the package's own."""
    return {path.removeprefix("finetune_pricer."), path.rpartition(".")[2]}


@cache
def read_package() -> griffe.Object | griffe.Alias:
    return griffe.load("finetune_pricer", search_paths=[ROOT / "src"], resolve_aliases=True)


def attributes_of(kind: type) -> Iterator[str]:
    """The attributes and methods of a class that have no underscore, those of bases of ours included."""
    for base in kind.__mro__:
        if base.__module__.startswith("finetune_pricer."):
            path = f"{base.__module__.removeprefix('finetune_pricer.')}.{base.__name__}"
            names = read_package()[path].members
            yield from (name for name in names if not name.startswith("_") and name not in OF_MODELS)


def test_every_place_of_the_reference_is_something_that_exists(site: Path) -> None:
    ours = [name for name in read_inventory(site) if name.startswith("finetune_pricer.")]
    assert len(ours) > 500
    for name in ours:
        assert read_package()[name.removeprefix("finetune_pricer.")] is not None


def test_no_signature_shows_a_private_constant_as_its_default() -> None:
    for name, found in public_names():
        if inspect.isroutine(found) or inspect.isclass(found):
            path = f"{found.__module__.removeprefix('finetune_pricer.')}.{found.__name__}"
            told = read_package()[path] if found.__module__.startswith("finetune_pricer") else None
            for function in [told, *(told.members.values() if told else [])]:
                defaults = [str(each.default) for each in getattr(function, "parameters", [])]
                assert not [default for default in defaults if re.fullmatch(r"_[A-Z_]+", default)], name


def test_the_search_finds_every_public_name(site: Path) -> None:
    titles = read_search_titles(site)
    names = {path.rpartition(".")[2] for path, _ in public_names()}
    modules = {"decoding", "metrics"}  # shown as sections, by their titles
    assert not names - titles - modules


def test_each_variable_that_the_package_reads_stands_on_the_page_of_variables() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    read = set(re.findall(r"\bFINETUNE_PRICER_[A-Z_]+", source))
    read |= set(re.findall(r"\b[A-Z_]+_(?:API_KEY|BASE_URL|ENDPOINT|PROJECT_ID|ORG_ID)\b", source))
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    assert len(read) > 8
    assert {name for name in read if f"`{name}`" not in page} == set()


def test_each_extra_stands_on_the_installation_page() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE)) - {"dev", "docs"}
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `\[(\w+)\]` \|", page, re.MULTILINE)) == extras


def test_the_readme_installs_what_shows_every_free_rival() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    installs = re.findall(r"^pip install 'finetune-pricer\[(.*)\]'$", text, re.MULTILINE)
    assert installs
    assert all({"local", "plots", "evaluate"} <= set(extras.split(",")) for extras in installs)
    assert ".[local,plots,evaluate]" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_a_reader_walks_from_the_front_page_to_the_tutorial_and_finds_a_name_by_the_search(
    site: Path,
) -> None:
    with serve_site(site) as address, Browser() as browser:
        browser.visit(address, width=1280, rest=50)
        browser.run("document.querySelector('article a[href$=\"tutorials/first-job/\"]').click()")
        browser.wait_for("document.title.startsWith('Your first pricing model')")
        browser.wait_for("document.readyState == 'complete'")
        browser.run("document.querySelector('label[for=__search].md-header__button').click()")
        browser.wait_for("document.querySelector('.md-search__input') !== null")
        browser.run(
            "{const box = document.querySelector('.md-search__input'); box.focus(); "
            "box.value = 'AnswerStore'; box.dispatchEvent(new Event('keyup', {bubbles: true}));"
            "box.dispatchEvent(new Event('input', {bubbles: true}))}"
        )
        result = '.md-search-result__link[href*="reference/batches/"]'
        browser.wait_for(f"document.querySelector('{result}') !== null")
        browser.run(f"document.querySelector('{result}').click()")
        browser.wait_for("location.pathname.endsWith('/reference/batches/')")
        assert not browser.errors


def test_what_is_too_wide_too_tall_cut_or_broken_is_found(tmp_path: Path) -> None:
    page = tmp_path / "reference" / "bad"
    page.mkdir(parents=True)
    code = f"<article><pre><code style='display: block; overflow: auto'>{'x' * 999}</code></pre>"
    wide = "<div style='width: 3000px; height: 9000px'></div><img src='gone.png'></article>"
    (page / "index.html").write_text(f"<!doctype html>{code}{wide}")
    with serve_site(tmp_path) as address, Browser() as browser:
        faults = "\n".join(find_faults(browser, address, "reference/bad/", width=1280))
    for words in (
        "pixels wider than",
        "code must be scrolled",
        "a broken picture",
        "pixels tall",
        "the browser says",
    ):
        assert words in faults, faults


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_a_screen_and_a_telephone(site: Path, width: int) -> None:
    """Those most likely not to; `make look` looks at all of them, light and dark."""
    with serve_site(site) as address, Browser() as browser:
        for page in LOOKED_AT:
            assert not list(find_faults(browser, address, page, width=width)), page
