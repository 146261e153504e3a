"""A server in a container, by a stand-in for the `docker` command that keeps what it was told."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import respx

from finetune_pricer import launch
from finetune_pricer.errors import AccessDenied, NotConfigured, ServiceUnavailable
from finetune_pricer.machines import LaunchedServer, docker, plan_launch
from finetune_pricer.machines.server_record import ServerRecord
from finetune_pricer.machines.target import KEY_VARIABLE
from helpers import page

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in is a script")
KEY = "sk-container"
# One container at most, as lines of a file beside the program; each call leaves two files. In the shell's own
# words, since a Python for each call takes longer than all else here.
STAND_IN = r"""#!/bin/sh
here=${0%/*}
count=0; [ -e "$here/count" ] && read -r count < "$here/count"
count=$((count + 1)); echo "$count" > "$here/count"
printf '%s\n' "$@" > "$here/call-$count"
printf '%s' "${FINETUNE_PRICER_SERVER_KEY-}" > "$here/key-$count"
if [ -e "$here/fault-$1" ]; then read -r words < "$here/fault-$1"; echo "$words" >&2; exit 1; fi
state=none
if [ -e "$here/container" ]; then
  { read -r id; read -r state; read -r labels; read -r port; } < "$here/container"
fi
case $1 in
container)
  if [ "$state" = none ]; then echo "Error response from daemon: No such container: x" >&2; exit 1; fi
  if [ "$state" = true ]; then bound='{"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "'$port'"}]}'; fi
  printf '%s\n' "$id" "$state" "$labels" "${bound-{\}}";;
run)
  if [ "$state" != none ]; then echo "docker: Conflict. The container name is already in use" >&2; exit 1; fi
  for word in "$@"; do
    case $before in
    --publish) port=${word#*:}; port=${port%:*};;
    --label) label=${word%%=*}; labels="${labels-}${labels:+, }\"$label\": \"${word#*=}\"";;
    esac
    before=$word
  done
  printf '%s\n' "c$count" true "{$labels}" "$port" > "$here/container";;
stop) printf '%s\n' "$id" false "$labels" "$port" > "$here/container";;
rm) mv "$here/container" "$here/removed";;
logs) echo "12:00 listening"; echo "12:01 stopping" >&2;;
esac
"""


class StandIn:
    """What was asked of it, and what it is to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "docker"
        self.program.write_text(STAND_IN)
        self.program.chmod(0o700)

    @property
    def calls(self) -> list[tuple[list[str], str]]:
        """The arguments of each call, and the key that stood in its environment."""
        count = len([*self.folder.glob("call-*")])
        return [
            ((self.folder / f"call-{at}").read_text().splitlines(), (self.folder / f"key-{at}").read_text())
            for at in range(1, count + 1)
        ]

    @property
    def commands(self) -> list[str]:
        return [given[0] for given, _ in self.calls]

    def fail(self, command: str, words: str) -> None:
        (self.folder / f"fault-{command}").write_text(f"{words}\n")

    def end(self) -> None:
        """Let the container end by itself."""
        place = self.folder / "container"
        place.write_text(place.read_text().replace("\ntrue\n", "\nfalse\n"))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return StandIn(folder)


@pytest.fixture
def answering() -> Any:
    """Whatever listens on this machine answers as a server does; what does not listen is not asked."""
    with respx.mock(assert_all_called=False) as router:
        yield router.get(url__regex=r"http://127\.0\.0\.1:\d+/v1/models").mock(return_value=page([]))


def test_a_container_is_started_once_and_given_back(stand_in: StandIn, answering: Any) -> None:
    server = launch("docker", key=KEY, bases={"smol": "Some/Model@main,rank=8"}, gpu="l4", limit="2h")
    again = launch("docker", key=KEY, bases={"smol": "Some/Model@main,rank=8"}, gpu="l4", limit="9h")
    assert (again.id, again.url) == (server.id, server.url)
    assert stand_in.commands.count("run") == 1
    ((given, environment),) = [call for call in stand_in.calls if call[0][0] == "run"]
    assert environment == KEY
    assert KEY not in json.dumps([each for each, _ in stand_in.calls])
    assert given[given.index("--env") + 1] == "FINETUNE_PRICER_SERVER_KEY"
    assert given[given.index("--volume") + 1] == "finetune-pricer-pricer:/pricer"
    assert given[given.index("--gpus") + 1] == "all"
    port = server.url.removeprefix("http://127.0.0.1:").removesuffix("/v1")
    assert given[given.index("--publish") + 1] == f"127.0.0.1:{port}:8000"
    inside = given[given.index("timeout") :]
    assert inside[:3] == ["timeout", "--kill-after=60", "7140"]
    assert inside[-2:] == ["--base", "smol=Some/Model@main,rank=8"]
    assert inside[inside.index("--with") + 1].startswith("finetune-pricer[lora]==")
    assert KEY not in repr(server)
    assert answering.calls.last.request.headers["Authorization"] == f"Bearer {KEY}"


def test_stopping_keeps_the_log_and_the_volume(stand_in: StandIn, answering: Any) -> None:
    server = launch("docker")
    server.stop()
    assert stand_in.commands[-3:] == ["stop", "logs", "rm"]
    assert not server.is_running()
    record = ServerRecord("docker", "pricer")
    assert record.log.read_text() == "12:00 listening\n12:01 stopping\n"
    server.stop()
    assert stand_in.commands.count("stop") == 1
    assert not any(word in given for given, _ in stand_in.calls for word in ("volume", "--volumes", "-v"))


def test_a_container_that_has_ended_is_followed_by_one_with_the_same_volume_port_and_key(
    stand_in: StandIn, answering: Any
) -> None:
    server = launch("docker")
    key = server.key_file.read_text()
    stand_in.end()
    assert not server.is_running()
    again = launch("docker")
    assert (again.url, again.key_file.read_text()) == (server.url, key)
    assert again.id != server.id
    first, second = (given for given, _ in stand_in.calls if given[0] == "run")
    assert first == second


def test_a_container_that_another_caller_has_started_meanwhile_is_taken(
    stand_in: StandIn, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = launch("docker", key=KEY)
    real, looks = docker._inspect, [1, 2]
    # The first two looks are of before the other caller's.
    monkeypatch.setattr(docker, "_inspect", lambda name: looks.pop() and None if looks else real(name))
    assert launch("docker", key=KEY).id == first.id
    assert stand_in.commands.count("run") == 2

    # It is theirs: that it does not answer here is no reason to end it.
    looks += [1, 2]
    answering.respond(401, json={"error": {"code": "invalid_api_key"}})
    with pytest.raises(AccessDenied, match="another key than this machine"):
        launch("docker", key="sk-other")
    assert first.is_running()


def test_a_container_that_never_answers_is_ended_and_its_log_kept(
    stand_in: StandIn, answering: Any, naps: list[float]
) -> None:
    answering.respond(502, text="starting")
    with pytest.raises(ServiceUnavailable) as caught:
        launch("docker", wait=4, sleep=naps.append)
    assert "not ready after 4 seconds (HTTP 502, and no server of ours)" in str(caught.value)
    assert "its log: docker logs finetune-pricer-pricer; it was ended, and its log kept" in str(caught.value)
    assert 5 < len(naps) < 100
    assert max(naps) <= 1.0
    assert LaunchedServer.find("docker") is None


def test_a_container_that_ends_while_it_is_waited_for_is_told(stand_in: StandIn, answering: Any) -> None:
    answering.respond(503, json={})
    with pytest.raises(ServiceUnavailable, match=r"has ended; its log is in .*; it was ended"):
        launch("docker", sleep=lambda _: stand_in.end())


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        (
            "container",
            "Cannot connect to the Docker daemon",
            "docker container inspect failed: Cannot connect",
        ),
        ("run", "could not select device driver", "docker run failed: could not select device driver"),
    ],
)
def test_what_docker_refuses_is_told_in_its_words(
    stand_in: StandIn, command: str, words: str, expected: str
) -> None:
    stand_in.fail(command, words)
    with pytest.raises(ServiceUnavailable, match=expected):
        launch("docker", gpu="l4")


def test_without_docker_it_is_said_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotConfigured, match=r"no docker command here; install Docker, or .* on='process'"):
        launch("docker")


def test_a_command_that_hangs_is_given_up(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.program.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(ServiceUnavailable, match=r"docker stop has not answered for 0\.1 seconds"):
        docker._run_docker("stop", "x", patience=0.1)


@pytest.mark.parametrize("answer", ["c1", r"c1\ntrue\nnull\n[", r"c1\ntrue\nnull\n[1]"])
def test_a_docker_that_answers_in_an_unknown_way_is_said(stand_in: StandIn, answer: str) -> None:
    stand_in.program.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    with pytest.raises(ServiceUnavailable, match="in an unknown way"):
        LaunchedServer.find("docker")


def test_the_written_script_starts_the_same_container(stand_in: StandIn, answering: Any) -> None:
    launch("docker", key=KEY, bases={"smol": "Some/Model"}, gpu="l4")
    (by_launch, _) = next(call for call in stand_in.calls if call[0][0] == "run")
    (stand_in.folder / "container").unlink()
    port = by_launch[by_launch.index("--publish") + 1].split(":")[1]
    plan = plan_launch("docker", bases={"smol": "Some/Model"}, gpu="l4", port=int(port))
    done = subprocess.run(["sh", "-c", plan.script], capture_output=True, text=True)
    assert "FINETUNE_PRICER_SERVER_KEY: set it to what clients must send" in done.stderr
    subprocess.run(["sh", "-c", plan.script], env=os.environ | {KEY_VARIABLE: KEY}, check=True)
    (by_hand, key) = stand_in.calls[-1]
    assert key == KEY
    assert sorted(by_hand) == sorted(by_launch)
