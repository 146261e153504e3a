"""What would start, what it costs, and the files that start it by hand, each read by who will read it."""

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_pricer import launch
from finetune_pricer.errors import DataError, FileAccessError, MissingExtra, NotConfigured, OverBudget
from finetune_pricer.machines import LaunchPlan, launch_plan, plan_launch

KEY = "FINETUNE_PRICER_SERVER_KEY"
SHELL = pytest.mark.skipif(os.name != "posix", reason="there is no sh here")
HF = shutil.which("hf", path=str(Path(sys.executable).parent))
ODD = {"it's": 'Some/Model@main,rank=8;rm -rf $HOME `id` "x" # y'}


def make(on: str = "hf-jobs", **given: Any) -> LaunchPlan:
    return plan_launch(on, **{"gpu": "l4", **given})


def test_a_plan_takes_what_a_launch_takes() -> None:
    planned, launched = (inspect.signature(each).parameters for each in (plan_launch, launch))
    for name, parameter in planned.items():
        assert launched[name] == parameter
    assert launched.keys() - planned.keys() == {"budget", "key", "wait", "keep", "sleep"}


def test_a_plan_says_what_starts_and_what_it_costs() -> None:
    plan = replace(make(bucket="me/pricer", bases={"qwen": "Qwen/Qwen3-1.7B"}), per_hour=0.81, notes=())
    assert str(plan).splitlines() == [
        "pricer on hf-jobs (l4x1), its folder in me/pricer",
        "price: $0.81 an hour",
        "ends by itself after 4 h, so that it costs at most $3.24",
        "offers qwen: Qwen/Qwen3-1.7B",
    ]
    assert plan.cost == pytest.approx(3.24)
    plan.require_budget(3.24)
    with pytest.raises(OverBudget, match=r"4 h of l4x1 cost \$3\.24, above the budget of \$3\.23"):
        plan.require_budget(3.23)
    assert "price: nothing" in str(make("process"))
    assert make("process").cost == 0


def test_settings_are_the_machine_the_bases_and_the_folder_and_nothing_else() -> None:
    plan = make()
    same = [make(limit="9h"), make(port=8123), make(package="x"), make(image="y")]
    others = [make(gpu="a100"), make(bases={"a": "b"}), make(bucket="me/x")]
    assert {each.settings for each in same} == {plan.settings}
    assert len({plan.settings, *(each.settings for each in others)}) == 4


@pytest.mark.parametrize(("limit", "serving"), [("4h", 14_340), ("10m", 540), ("100s", 90), (1, 1)])
def test_a_server_in_a_container_closes_its_folder_before_the_end(limit: str | float, serving: int) -> None:
    assert make(limit=limit).container_command()[2] == str(serving)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "My Pricer"}, "name must be small letters"),
        ({"name": "../other"}, "name must be small letters"),
        ({"name": "x" * 41}, "at most 40"),
        ({"limit": "4"}, "limit must be a time"),
        ({"limit": "31d"}, "at most 30 days"),
        ({"dir": "x"}, "dir= belongs to another target; this one keeps its folder by bucket="),
        ({"volume": "x"}, "volume= belongs to another target"),
        ({"bases": {"smol": "/models/smol"}}, "is a path of this machine"),
        ({"bases": {"smol": "./smol"}}, "is a path of this machine"),
        ({"bases": {"a=b": "x"}}, "needs a name without ="),
        ({"bases": {"a": ""}}, "needs a name without ="),
        ({"bases": {"a": None}}, "must be a text"),
        ({"bases": {"a": "b\0"}}, "needs a name without ="),
        ({"gpu": " "}, "gpu must be a line of text"),
        ({"image": ""}, "image must be a line of text"),
        ({"package": "a\nb"}, "package must be a line of text"),
        ({"port": 65_536}, "from 0 to 65535"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        make(**given)


def test_paths_may_be_bases_where_they_are() -> None:
    assert make("process", bases={"smol": "/models/smol"}).bases == {"smol": "/models/smol"}
    assert make(bases={"smol": "/pricer/smol"}).bases == {"smol": "/pricer/smol"}


@pytest.mark.parametrize("key", ["", " sk", "sk\n", "schlüssel"])
def test_a_key_that_no_header_could_carry_is_refused(key: str) -> None:
    with pytest.raises(NotConfigured, match="printable ASCII"):
        launch("process", key=key)


# The files.


@pytest.mark.parametrize("on", ["hf-jobs", "docker", "process"])
@SHELL
def test_files_are_written_for_every_target_and_hold_no_key(
    on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "sk-secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    plan = make(on)
    written = plan.write(tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["process.sh", "docker.sh", "hf-jobs.sh", "sky.yaml"]
    own = next(path for path in written if path.stem == on)
    assert own.read_text() == plan.script
    for path in written:
        assert "secret" not in path.read_text().replace("secrets", "").replace("--secret ", "")
        if path.suffix == ".sh":
            subprocess.run(["sh", "-n", str(path)], check=True)
    assert plan.write(tmp_path / "new" / "folder") == written


@SHELL
@pytest.mark.parametrize("on", ["hf-jobs", "docker", "process"])
def test_whatever_stands_in_a_file_is_quoted(on: str, tmp_path: Path) -> None:
    plan = make(on, bases=ODD, package="a b; $(id)", image="im'age", port=8123)
    for name in ("hf", "docker", "finetune-pricer"):
        (tmp_path / name).write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
        (tmp_path / name).chmod(0o700)
    environment = {KEY: "x", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", plan.script], env=environment, capture_output=True, text=True, check=True
    )
    words = done.stdout.split("\0")
    ((name, model),) = ODD.items()
    assert f"{name}={model}" in words
    if on != "process":
        assert words[words.index("--with") + 1] == "a b; $(id)"
        assert "im'age" in words


def test_the_file_for_skypilot_says_the_same(tmp_path: Path) -> None:
    plan = make(bases=ODD, bucket="me/pricer")
    path = next(path for path in plan.write(tmp_path) if path.suffix == ".yaml")
    task = yaml.safe_load(path.read_text())
    assert task["resources"] == {"accelerators": "L4:1", "autostop": {"idle_minutes": 10, "down": True}}
    assert task["file_mounts"]["/pricer"]["source"] == "hf://buckets/me/pricer"
    assert task["secrets"] == {KEY: None, "HF_TOKEN": None}
    # On the machine's own loopback, since its ports are open to all and not encrypted.
    assert shlex.split(task["run"]) == plan.container_command("127.0.0.1")
    without = yaml.safe_load(
        next(p for p in make(gpu=None).write(tmp_path) if p.suffix == ".yaml").read_text()
    )
    assert "accelerators" not in without["resources"]


@pytest.mark.parametrize(
    ("gpu", "found"),
    [("l4", "L4:1"), ("l4x4", "L4:4"), ("a100-large", "A100:1"), ("H100", "H100:1"), (None, "")],
)
def test_skypilot_is_told_a_gpu_in_its_words(gpu: str | None, found: str) -> None:
    assert launch_plan.guess_accelerator(gpu) == found


@SHELL
@pytest.mark.skipif(HF is None, reason="the hf command is not installed beside this Python")
def test_the_script_of_a_job_is_accepted_by_hf_jobs_own_dry_run(tmp_path: Path) -> None:
    plan = make(bases={"qwen": "Qwen/Qwen3-1.7B@main,rank=8"}, bucket="me/pricer", limit="2h")
    environment = {
        "PATH": f"{Path(str(HF)).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        KEY: "sk-secret",
    }
    done = subprocess.run(
        ["sh", "-c", plan.script, "hf-jobs.sh", "--dry-run"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "(dry run) Job not submitted." in done.stdout
    shown = dict(re.findall(r"^  (\w+) +(.*)$", done.stdout, re.MULTILINE))
    assert shown["flavor"] == "l4x1"
    assert shown["timeout"] == "7200s"
    assert shown["expose_public"] == "8000"
    assert shown["volumes"] == "hf://buckets/me/pricer:/pricer"
    assert shlex.split(shown["command"]) == plan.container_command()
    assert "sk-secret" not in done.stdout + done.stderr


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileAccessError, match="is a file; name a folder"):
        make().write(tmp_path / "file")


def test_without_jinja_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'finetune-pricer\[local\]'"):
        make().script  # noqa: B018
