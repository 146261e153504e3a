"""The rules of the house: order between and inside rooms, names, public paths, one place for one decision."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import finetune_pricer

PACKAGE = "finetune_pricer"
SOURCE = Path(finetune_pricer.__file__).parent
ROOT = Path(__file__).parents[1]
# What the command line hands out as a program of the user's is no module of ours.
FILES = sorted(path for path in SOURCE.rglob("*.py") if "templates" not in path.parts)

# Data flows down this list; a room imports from its own line and from those above it.
FLOW = [
    {"_escape"},
    {"errors"},
    {
        "_amounts",
        "_chat_protocol",
        "_currencies",
        "_csv_file",
        "_durations",
        "_arguments",
        "_display",
        "_reasoning",
        "_environment",
        "_files",
        "_format",
        "_lazy",
        "_methods",
        "_numbers",
        "_progress",
        "_sqlite",
        "_vectors",
        "prices",
    },
    {"providers"},
    {"_service"},
    {"items"},
    {"retrieval"},
    {"chat"},
    {"prepare"},
    {"tune"},
    {"predict"},
    {"evaluate"},
    {"aio"},
    {"integrations"},
    {"machines"},
    {"_canned_service"},
    {"testing"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(FLOW) for room in rooms}
# The server and the pipeline meet at HTTP alone.
MAY_IMPORT_LOCAL = {"providers.connect", "cli.serve", "testing"}
LOCAL_MAY_IMPORT = {"errors", "prices", "_chat_protocol", "_lazy", "_methods"}
ROOMS = [
    "evaluate",
    "integrations",
    "items",
    "local",
    "machines",
    "predict",
    "prepare",
    "providers",
    "testing",
    "tune",
]
PUBLIC_FILES = ["aio", "errors", "prices", "retrieval"]

# Methods that reach down to what renders them, to the next step of the road, or to all that can be loaded:
# the only imports against the order.
FACADES = {
    ("evaluate.compare", "evaluate.report.html"),
    ("evaluate.evaluation", "evaluate.report.content"),
    ("evaluate.evaluation", "evaluate.report.figures"),
    ("evaluate.evaluation", "evaluate.report.html"),
    ("evaluate.evaluation", "evaluate.report.markdown"),
    ("evaluate.forecast", "evaluate.report.figures"),
    ("evaluate.leaderboard", "evaluate.report.html"),
    ("evaluate.leaderboard", "evaluate.report.markdown"),
    ("evaluate.sweep", "evaluate.report.markdown"),
    ("predict.saved_pricer", "evaluate.baselines"),
    ("predict.saved_pricer", "predict.ensemble"),
    ("tune.job", "predict.predictor"),
    ("tune.job", "predict.round_trip"),
}
# What a function body may import: what costs too much when the public names are imported. Of the standard
# library that is asyncio and importlib.metadata.
HEAVY = set(
    """accelerate asyncio bitsandbytes bpe_openai charset_normalizer datasets dotenv filelock fsspec httpx2
    huggingface_hub importlib jinja2 mlflow numpy openai orjson pandas peft plotly polars pyarrow
    python_calamine rensa safetensors scipy sklearn starlette tenacity tiktoken torch tqdm transformers trl
    usearch uvicorn""".split()
)
# Own modules that a body imports, each with its reason.
LATE = {
    ("providers.connect", "local"): "the server is an extra",
    ("cli.serve", "local"): "the server is an extra",
    ("testing", "local"): "the server is an extra, and pytest loads the file in every project",
    ("testing", "_canned_service"): "pytest loads the file in every project",
    ("local.server", "local.api.app"): "it stands on starlette, which is an extra",
    ("local.server", "local.api.middleware"): "it stands on starlette, which is an extra",
    (
        "local.learners.lora.lora_learner",
        "local.learners.lora.adapter_trainer",
    ): "it stands on torch, an extra",
    (
        "local.learners.lora.adapter_pricer",
        "local.learners.lora.answering_loop",
    ): "it stands on torch, an extra",
    ("providers.lookup", "providers.known"): "pydantic costs as much to import as all else here",
    (
        "providers.lookup",
        "providers.provider",
    ): "pydantic costs as much to import as all else here",
    ("_service.requests", "_service.connections"): "it stands on httpx2, which only who asks a service needs",
    ("tune.queries", "tune.records"): "pydantic costs as much to import as all else here",
    ("tune.spec", "tune.records"): "pydantic costs as much to import as all else here",
    ("retrieval", "_methods.features"): "it stands on scipy, which is an extra",
    ("retrieval", "_methods.nearest"): "it stands on scipy, which is an extra",
    ("retrieval", "_methods.twins"): "it stands on scipy, which is an extra",
    ("evaluate.baselines", "_methods.features"): "it stands on scipy, which is an extra",
    ("evaluate.baselines", "_methods.nearest"): "it stands on scipy, which is an extra",
    ("predict.ensemble", "_methods.blend"): "it computes with numpy, which the public names do not load",
    ("evaluate.baselines", "_methods.network"): "it computes with numpy, which the public names do not load",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
# The two services speak the other side of the protocol.
PIPELINE = [name for name in MODULES if name.split(".")[0] not in {"local", "_canned_service", "cli", ""}]


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def imports_of(name: str) -> Iterator[tuple[str, bool]]:
    """Our own modules that a file imports, but for types; and whether a function does it."""
    path = MODULES[name]
    package = [PACKAGE, *path.relative_to(SOURCE).parent.parts]

    def visit(node: ast.AST, *, in_body: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom):
                for target in targets(child):
                    yield target, in_body
            inside = in_body or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from visit(child, in_body=inside)

    def targets(node: ast.ImportFrom) -> Iterator[str]:
        base = package[: len(package) - node.level + 1] if node.level else []
        full = [*base, *(node.module or "").split(".")] if node.module else base
        for alias in node.names:
            longer, shorter = ".".join([*full, alias.name]), ".".join(full)
            for whole in (longer, shorter):
                inner = whole.removeprefix(PACKAGE).removeprefix(".")
                if whole.startswith(PACKAGE) and inner in MODULES:
                    yield inner
                    break

    yield from visit(tree_of(name), in_body=False)


def room_of(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_room_imports_only_from_rooms_above_it(name: str) -> None:
    for target, _ in imports_of(name):
        room, other = room_of(name), room_of(target)
        if room == "local":
            assert other in LOCAL_MAY_IMPORT | {"local"}, f"{name} imports {target}"
        elif other == "local":
            assert name in MAY_IMPORT_LOCAL, f"{name} imports {target}"
        elif (name, target) not in FACADES:
            assert LEVEL[other] <= LEVEL[room], f"{name} imports {target}, which stands below it"


def test_there_is_no_circle_of_imports_but_by_a_facade() -> None:
    arrows = {
        name: {target for target, _ in imports_of(name) if (name, target) not in FACADES and target != name}
        for name in MODULES
    }
    done: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for target in arrows[name]:
                # A room's list of names imports its files; a file that asks the room for a name is no circle.
                if not name.startswith(f"{target}."):
                    follow(target, (*way, name))
            done.add(name)

    for name in MODULES:
        follow(name, ())


def test_every_facade_is_one() -> None:
    real = {(name, target) for name in MODULES for target, in_body in imports_of(name) if in_body}
    assert real >= FACADES


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_own_modules_are_imported_at_the_top(name: str) -> None:
    for target, in_body in imports_of(name):
        if in_body:
            assert (name, target) in FACADES | LATE.keys(), f"{name} imports {target} in a body"


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_body_imports_only_what_is_heavy(name: str) -> None:
    for function in functions_of(name):
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                packages = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                packages = {(node.module or "").split(".")[0]}
            else:
                continue
            assert packages <= HEAVY | {PACKAGE}, f"{name}.{function.name} imports {packages}"


def functions_of(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("name", MODULES)
def test_a_body_holds_one_idea(name: str) -> None:
    for node in functions_of(name):
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        assert lines <= 40, f"{name}: {node.name} has {lines} lines"


IRREGULAR = set(
    """begun bought built chosen done drawn driven found given gone heard held hidden kept known left lost
    made met paid said seen sent shown sold sought spent spoken struck taken taught thought told torn
    understood woken won worn written""".split()
)
# These end like participles and are verbs or nouns.
NO_PARTICIPLE = {"seed", "feed", "speed", "need", "embed"} | {"deployed"}  # `with job.deployed():`


def test_no_function_is_named_by_a_bare_participle() -> None:
    named = []
    for name in MODULES:
        for node in functions_of(name):
            word = (
                node.name.strip("_").removeprefix("a") if node.name.startswith("a") else node.name.strip("_")
            )
            decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
            is_attribute = bool(decorators & {"property", "cached_property"})
            is_participle = word in IRREGULAR or (word.endswith("ed") and "_" not in word)
            if is_participle and word not in NO_PARTICIPLE and not is_attribute:
                named.append(f"{name}.{node.name}")
    assert not named


def test_no_file_name_stands_twice() -> None:
    aside = {"__init__", "__main__", "_base", "records"}
    for half in (PIPELINE, [n for n in MODULES if room_of(n) == "local" and ".routes." not in n]):
        names = Counter(MODULES[name].stem for name in half)
        assert not [name for name, count in names.items() if count > 1 and name not in aside]


# What is decided once, as a pattern of code, and the only file where it may stand. `local` is another
# program: it speaks the other side of the protocol.
DECIDED_ONCE = {
    "what openai's errors mean": (r"openai\.API\w*Error", {"_service.error_mapping"}),
    "how long a service wants us to wait": (r"(?i)retry-after(?!`)", {"_service.headers"}),
    "whether a list goes on": (r"has_more\b", {"_service.flow"}),
    "what a driver does with an error": (r"\.throw\(", {"_service.flow"}),
    "how polling pauses": (r"Retrying\(|wait_exponential", {"_service.flow"}),
    "the text of a message": (r"def text_of\b", {"_chat_protocol"}),
    "what a metric is": (r"^METRICS\b.*=", {"evaluate.metrics"}),
    "how money is written": (r"(?:\$|\{mark_of\(\w+\)\})\{[^{}]*:[,.]", {"_format"}),
}


@pytest.mark.parametrize(("pattern", "places"), DECIDED_ONCE.values(), ids=DECIDED_ONCE)
def test_what_is_decided_stands_in_one_place(pattern: str, places: set[str]) -> None:
    found = {name for name in PIPELINE if any(re.search(pattern, line) for line in code_lines(name))}
    assert found == places


def code_lines(name: str) -> list[str]:
    """A file's lines without comments and docstrings."""
    lines = MODULES[name].read_text().splitlines()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                lines[number - 1] = ""
    return [line.partition("  # ")[0] for line in lines if not line.lstrip().startswith("#")]


# Other systems.


def test_text_is_read_and_written_in_a_named_encoding() -> None:
    for name in MODULES:
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_text(node):
                named = {keyword.arg for keyword in node.keywords}
                assert "encoding" in named, f"{name}, line {node.lineno}: what encoding?"


def is_text(call: ast.Call) -> bool:
    """Whether a method is called that reads or writes a file as text."""
    word = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    first = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
    is_mode = word == "open" and isinstance(first, str) and re.fullmatch(r"[rwax]\+?t?", first) is not None
    return is_mode or word in {"read_text", "write_text"}


def test_each_place_that_handles_a_system_is_there() -> None:
    places = re.findall(r"`([\w/]+\.py):(\w+)` \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert len(places) >= 12
    for file, word in places:
        path = SOURCE / file if (SOURCE / file).exists() else ROOT / file
        assert re.search(rf"^\s*(async )?(def|class) {word}\b", path.read_text(), re.MULTILINE), (file, word)


def test_the_workflow_runs_the_tests_on_three_systems() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    systems = workflow["jobs"]["tests"]["strategy"]["matrix"]["os"]
    assert [system.partition("-")[0] for system in systems] == ["ubuntu", "macos", "windows"]
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any("pytest" in step for step in steps)


# Public names.


def room(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name}")


def test_the_public_names_are_all_there_and_each_comes_from_its_room() -> None:
    typed = {
        alias.name: str(node.module)
        for node in ast.walk(tree_of(""))
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    # A function after which a file is named comes from its own file, or the reference would show the file.
    assert {name: module.split(".")[0] for name, module in typed.items()} == finetune_pricer._HOMES
    assert sorted(typed) == finetune_pricer.__all__
    assert set(finetune_pricer.__all__) <= set(dir(finetune_pricer))
    for name, home in finetune_pricer._HOMES.items():
        assert getattr(finetune_pricer, name) is getattr(room(home), name)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_lists_its_public_names(name: str) -> None:
    for public in room(name).__all__:
        # Not the file of the same name, which importing it would put in the place of the function.
        assert not isinstance(getattr(room(name), public), ModuleType) or public in {
            *("baselines", "decoding", "metrics"),
        }
    assert (room(name).__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pricer'"):
        finetune_pricer.Pricer  # noqa: B018


def test_the_names_of_earlier_versions_still_work() -> None:
    assert finetune_pricer.PriceRow is finetune_pricer.TokenPricing
    assert finetune_pricer.KeptAnswers is finetune_pricer.AnswerStore


def pages() -> str:
    return (
        "".join(page.read_text() for page in sorted((ROOT / "docs").rglob("*.md")))
        + (ROOT / "README.md").read_text()
    )


def test_every_public_name_stands_in_the_reference_once_by_a_path_that_users_type() -> None:
    entries = re.findall(r"^::: finetune_pricer\.([\w.]+)$", pages(), re.MULTILINE)
    assert len(entries) == len(set(entries))
    public = {*finetune_pricer.__all__, *PUBLIC_FILES} | {
        f"{name}.{each}" for name in [*ROOMS, "aio"] for each in room(name).__all__
    }
    # A class of many methods has some of them on a page of their own, each with an entry.
    methods = {entry for entry in set(entries) - public if is_method(entry)}
    assert not set(entries) - public - methods
    documented = {entry.rpartition(".")[2] for entry in set(entries) - methods}
    for name in ["", *ROOMS, "aio"]:
        assert not set((room(name) if name else finetune_pricer).__all__) - documented, name


def is_method(entry: str) -> bool:
    name, _, method = entry.partition(".")
    return name in finetune_pricer.__all__ and callable(getattr(getattr(finetune_pricer, name), method, None))


PATH = re.compile(r"(?:from|import) finetune_pricer\.(?P<file>[\w.]+)(?: import (?P<names>\(?[\w, \n]+\)?))?")


def used_paths(text: str) -> Iterator[tuple[str, str]]:
    for match in PATH.finditer(text):
        for name in re.findall(r"\w+", match["names"] or ""):
            yield match["file"], name


def test_docs_and_examples_import_from_the_top_or_from_a_room() -> None:
    texts = [pages(), *(path.read_text() for path in sorted((ROOT / "examples").glob("*.py")))]
    for text in texts:
        for file, name in used_paths(text):
            assert file in {*ROOMS, *PUBLIC_FILES}, f"{file}.{name}"


def test_tests_import_public_names_from_the_top_or_from_a_room() -> None:
    public = {name: set(room(name).__all__) for name in ROOMS}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for file, name in used_paths(path.read_text()):
            first, _, deeper = file.partition(".")
            is_file = deeper and MODULES[file].stem != "__init__"
            assert not is_file or name not in public.get(first, set()), f"{path.name}: {file}.{name}"


# What importing costs.


def loaded_by(code: str) -> set[str]:
    program = (
        f"{code}\nimport json, sys; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


TOO_HEAVY = set(
    """asyncio charset_normalizer datasets huggingface_hub httpx2 jinja2 numpy openai pandas plotly pyarrow
    peft pydantic python_calamine scipy sklearn tenacity tiktoken torch tqdm transformers trl""".split()
)


def test_importing_the_package_loads_nothing() -> None:
    assert not (TOO_HEAVY | {"click"}) & loaded_by("import finetune_pricer")


def test_importing_the_public_names_loads_nothing_heavy() -> None:
    assert not TOO_HEAVY & loaded_by("from finetune_pricer import *")


def test_the_package_knows_its_version_and_is_typed() -> None:
    from importlib.metadata import version

    assert finetune_pricer.__version__ == version("finetune-pricer")
    assert (SOURCE / "py.typed").exists()
