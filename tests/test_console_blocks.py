"""The commands that README and docs show are run, one after the other, as somebody would type them."""

import re
import shlex
import shutil
from pathlib import Path

from click.testing import CliRunner

from finetune_pricer import JsonlWriter, MadeUpCatalogue
from finetune_pricer.cli import cli
from page_outputs import PAGES

BLOCK = re.compile(r"^```(?P<language>sh|console)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)
NOT_RUN = {
    "make ": "the first two commands of CI",
    "pip install ": "would change the environment that runs the tests",
    "finetune-pricer demo": "tests/test_examples.py runs it",
    "finetune-pricer train shop.csv --out paid/": "is paid; tests/test_shell_road.py walks it at a stand-in",
    "finetune-pricer jobs watch ftjob-abc": "asks OpenAI; tests/test_command_line.py watches a job here",
    "finetune-pricer serve": "ends when it is told to; tests/local/test_local_process.py starts and stops it",
    "_FINETUNE_PRICER_COMPLETE": "changes the shell that is typed into",
    "curl ": "tests/local/test_local_faults.py sends the same",
    "python examples/": "tests/test_examples.py runs the examples",
    "jupyter execute": "tests/test_notebook.py runs a notebook",
    "docker ": "needs docker; tests/test_commands_of_pages.py reads what the image is told",
    "finetune-pricer export": "needs an adapter; tests/local/test_export.py exports one",
    "python -c ": "needs torch; tests/lora/test_adapters_elsewhere.py loads an adapter with peft",
    "python pricer-on-ray/": "needs Ray; `make test-ray` runs it",
    "vllm ": "needs a GPU",
    "hf download": "fetches from the Hub",
    "launch --on hf-jobs": "is paid; tests/test_launch_hf_jobs.py launches at a stand-in",
    "kept=": "names a folder of a server that was launched",
    "export FINETUNE_PRICER_SERVER_KEY": "reads the key of a server that was launched",
    "https://JOB_ID": "asks such a server; tests/test_launch_process.py asks one of this machine",
}
DONE, LOOKED_AT_AND_BAD = 0, 1


def shown_commands() -> list[str]:
    """The commands of all pages in their order, each once."""
    found = []
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if block["text"].startswith("#!"):
                continue  # tests/test_commands_of_pages.py runs the scripts
            lines = block["text"].replace("\\\n", " ").splitlines()
            prompt = "$ " if block["language"] == "console" else ""
            found += [line.removeprefix(prompt) for line in lines if line.strip() and line.startswith(prompt)]
    return list(dict.fromkeys(" ".join(line.partition("  #")[0].split()) for line in found))


COMMANDS = shown_commands()
RUN = [line for line in COMMANDS if not any(part in f"{line} " for part in NOT_RUN)]


def test_each_reason_not_to_run_a_command_has_its_command() -> None:
    assert all(any(part in f"{line} " for line in COMMANDS) for part in NOT_RUN)
    assert len(RUN) >= 10
    assert all(line.startswith("finetune-pricer ") for line in RUN)


def write_files(folder: Path) -> None:
    """What the commands take: a shop's export, what was sold since, and a training file."""
    catalogue = MadeUpCatalogue(seed=3)
    frame = catalogue.items(100).to_pandas()
    frame["price"] = [None if number % 10 == 9 else price for number, price in enumerate(frame["price"])]
    columns = {"title": "Name", "summary": "Desc", "price": "Price"}
    for name, rows in (("shop", frame), ("sold", catalogue.items(40, start=1000).to_pandas())):
        rows.rename(columns=columns)[list(columns.values())].to_csv(folder / f"{name}.csv", index=False)
    JsonlWriter().write(catalogue.items(20), folder / "train.jsonl")


def test_the_commands_of_the_docs_do_what_they_are_shown_for(tmp_path: Path) -> None:
    write_files(tmp_path)
    for line in RUN:
        command, _, into = line.partition(" > ")
        if "today.json other.json" in command:
            shutil.copy("today.json", "other.json")
        if "priced.csv" in command:
            Path("priced.csv").unlink(missing_ok=True)  # what stands there is never replaced
        done = CliRunner().invoke(cli, shlex.split(command)[1:], catch_exceptions=False)
        looks = command.split()[1] in {"audit", "check", "doctor"}
        assert done.exit_code in {DONE, LOOKED_AT_AND_BAD if looks else DONE}, f"{line}\n{done.output}"
        if into:
            Path(into).write_text(done.stdout, encoding="utf-8")
            assert done.stdout.startswith("{")
    made = {"pricer/report.html", "priced.csv", "today.json", "today.html", "run.json", "check.json"}
    assert all(Path(name).exists() for name in made)
