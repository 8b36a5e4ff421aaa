"""What `doctor` finds on real stores that are set up badly, and on a machine that is; and that `serve` says so too."""

import importlib.metadata
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
import redis
from conftest import _wait
from harness import until

from bandit.commands.checkup import installed, machine, stored
from bandit.commands.checkup.finding import Finding
from bandit.settings import Settings
from bandit.store.open import open_store
from bandit.store.redis_store import RedisStore

ROOT = Path(__file__).parents[3]


@contextmanager
def redis_with(*options: str) -> Iterator[str]:
    """A redis-server of these options: its URL."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as place:
        command = [binary, "--port", "0", "--unixsocket", f"{place}/s", "--dir", place, "--save", "", *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                _wait(f"unix://{place}/s")
                yield f"unix://{place}/s"
            finally:
                process.kill()


def ran(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command's result."""
    command = [sys.executable, "-m", "bandit", *arguments]
    env = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False)


def served(url: str) -> tuple[int | None, str]:
    """What `serve` on a store said until it was ready or ended, and its exit code; None: it was ready."""
    with tempfile.TemporaryDirectory() as place:
        said = Path(place) / "said"
        with said.open("wb") as output:
            command = [sys.executable, "-m", "bandit", "serve", "--port", "0", "--redis-url", url]
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            until(lambda: "ready on" in said.read_text() or process.poll() is not None, 60, "a word of the server")
            return process.poll(), said.read_text()
        finally:
            process.terminate()
            process.wait(30)


def found(findings: Sequence[Finding], about: str) -> str:
    """The verdicts and texts about something."""
    return "; ".join(f"{each.verdict} {each.text}" for each in findings if each.about == about)


def of_store(url: str) -> list[Finding]:
    """What is found of a store."""
    store = open_store(url)
    try:
        return list(stored.stored(store))
    finally:
        store.close()


KEPT = "--appendonly", "yes"


@pytest.mark.parametrize(
    ("options", "about", "text"),
    [
        (("--appendonly", "no"), "persistence", "FAIL the store keeps no append-only file"),
        ((*KEPT, "--maxmemory-policy", "allkeys-lru"), "store", "FAIL the store's maxmemory-policy is 'allkeys-lru'"),
        ((*KEPT, "--appendfsync", "no"), "fsync", "note appendfsync is no"),
        ((*KEPT, "--appendfsync", "always"), "fsync", "ok appendfsync is always: a machine that loses its power"),
        ((*KEPT, "--maxclients", "100"), "connections", "of 100 connections in use"),
        (KEPT, "memory", "note the store has no maxmemory"),
        ((*KEPT, "--maxmemory", "1100kb"), "memory", "give it more memory before it is full"),
        ((*KEPT, "--replicaof", "127.0.0.1 1"), "role", "FAIL the store is a replica"),
        ((*KEPT, "--replicaof", "127.0.0.1 1"), "writes", "FAIL the store takes no writes"),
        ((*KEPT, "--min-replicas-to-write", "1"), "writes", "FAIL the store takes no writes"),
    ],
)  # fmt: skip
def test_a_store_that_is_set_up_badly_is_told_so(options: tuple[str, ...], about: str, text: str) -> None:
    """Each on a real redis-server started that way."""
    with redis_with(*options) as url:
        assert text in found(of_store(url), about)


def test_a_sound_store_has_no_fault() -> None:
    """With a file, a limit and no eviction; its distance and clock are told."""
    with redis_with(*KEPT, "--maxmemory", "200mb") as url:
        findings = of_store(url)
    assert {each.verdict for each in findings if each.about != "fsync"} == {"ok"}, findings
    assert {"store", "persistence", "fsync", "writes", "distance", "clock"} <= {each.about for each in findings}


def test_a_store_that_evicted_is_told_so_later() -> None:
    """The policy is right by now, and the data are gone all the same."""
    with redis_with(*KEPT, "--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru") as url:
        with redis.Redis.from_url(url) as raw:
            for i in range(200):
                raw.set(f"k{i}", b"x" * 20_000)
            assert raw.info()["evicted_keys"] > 0
            raw.config_set("maxmemory", "200mb")
            raw.config_set("maxmemory-policy", "noeviction")
        assert "data vanished" in found(of_store(url), "evictions")


def test_a_managed_store_that_hides_its_settings_is_looked_at_all_the_same() -> None:
    """Without CONFIG: nothing is said of fsync, and `serve` serves."""
    with redis_with(*KEPT, "--rename-command", "CONFIG", "") as url:
        assert found(of_store(url), "fsync") == ""
        code, said = served(url)
        assert (code, "warning" in said.lower()) == (None, False), said


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--appendonly", "no", "--maxmemory-policy", "noeviction"), None),
        ((*KEPT, "--maxmemory-policy", "allkeys-lru"), "maxmemory-policy is 'allkeys-lru'; it must be noeviction"),
        (("--appendonly", "no", "--maxmemory-policy", "volatile-lru"), "maxmemory-policy is 'volatile-lru'"),
        ((*KEPT, "--rename-command", "INFO", ""), "the store has no command INFO"),
    ],
)
def test_serve_says_in_one_line_what_is_wrong_with_its_store(options: tuple[str, ...], line: str | None) -> None:
    """Without a file it warns and serves; an evicting one, or one that does not say, it refuses."""
    with redis_with(*options) as url:
        code, said = served(url)
    lines = said.splitlines()
    if line is None:
        assert code is None
        assert ["no append-only file" in each for each in lines] == [True, False], said
    else:
        assert code == 1
        assert [line in each for each in lines] == [True], said


def test_a_store_that_does_not_tell_its_policy_or_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some providers leave fields out of INFO: without the policy it is refused, without the file it is noted."""
    with redis_with(*KEPT) as url, redis.Redis.from_url(url) as raw:
        told = {name: value for name, value in raw.info().items() if name not in ("maxmemory_policy", "aof_enabled")}
        monkeypatch.setattr(RedisStore, "info", lambda _: told)
        findings = of_store(url)
    assert "FAIL the store does not tell its maxmemory-policy" in found(findings, "store")
    assert "note the store does not tell whether it keeps" in found(findings, "persistence")


@pytest.mark.parametrize(("seconds", "verdict"), [(-600, "FAIL"), (600, "FAIL"), (10, "note"), (0, "ok")])
def test_clocks_that_differ_are_told(monkeypatch: pytest.MonkeyPatch, seconds: int, verdict: str) -> None:
    """In either direction: reward windows are judged by the store's clock."""
    real = RedisStore.now_ms
    monkeypatch.setattr(RedisStore, "now_ms", lambda store: real(store) + seconds * 1000)
    with redis_with(*KEPT) as url:
        assert found(of_store(url), "clock").startswith(verdict)


def test_a_store_that_is_far_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the middle of several answers: one slow answer is no distance."""
    monkeypatch.setattr(stored, "FAR_MS", 0.0)
    with redis_with(*KEPT) as url:
        assert found(of_store(url), "distance").startswith("note the store answers after")


def test_doctor_prints_json_where_asked(tmp_path: Path) -> None:
    """A finding a line; the exit code is 1 where one of them is FAIL, as of a store that is not there."""
    done = ran("doctor", "--json", "--redis-url", f"unix://{tmp_path}/none")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {tuple(row) for row in rows} == {("verdict", "about", "text")}
    assert [row["about"] for row in rows if row["verdict"] == "FAIL"] == ["store"]
    assert done.returncode == 1


def test_a_misspelt_variable_is_found(tmp_path: Path) -> None:
    """A setting that is none would be overlooked for ever; links of a Kubernetes service are none to be told of."""
    variables = {
        "BANDIT_WROKERS": "4",
        "BANDIT_SERVICE_HOST": "10.0.0.1",
        "BANDIT_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    }
    done = ran("doctor", "--data-dir", str(tmp_path), **variables)
    lines = [line for line in done.stdout.splitlines() if "environment" in line]
    assert lines == ["note  BANDIT_WROKERS in the environment is no setting; did you mean 'BANDIT_WORKERS'?"]


def test_few_open_files_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below what is needed it is a failure, below what is usual a note."""
    for most, verdict in ((100, "FAIL"), (1024, "note"), (resource.RLIM_INFINITY, "ok")):
        monkeypatch.setattr(resource, "getrlimit", lambda _, most=most: (most, most))
        assert found(list(machine.machine(Settings(redis_url="unix:///x"))), "open files").startswith(verdict)


def test_a_port_that_is_taken_is_told() -> None:
    """With what may be done."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(redis_url="unix:///x", port=taken.getsockname()[1])
        assert found(list(machine.machine(settings)), "port").startswith("note cannot listen on")
    assert found(list(machine.machine(settings)), "port").startswith("ok")


@pytest.mark.parametrize(
    ("host", "auth", "text"),
    [("0.0.0.0", "auto", "ok API keys are asked for"), ("127.0.0.1", "auto", "ok no"), ("0.0.0.0", "off", "note no")],  # noqa: S104
)
def test_an_open_server_without_keys_is_told(host: str, auth: Literal["auto", "off"], text: str) -> None:
    """On a loopback address nobody else comes."""
    settings = Settings(redis_url="unix:///x", host=host, auth=auth)
    assert found(list(machine.machine(settings)), "keys").startswith(text)


@pytest.mark.parametrize(
    ("option", "text"),
    [("--auth", "ok API keys are asked for"), ("--no-auth", "note no API keys are asked for, and")],
)
def test_what_a_running_server_does_is_told_not_what_another_would(tmp_path: Path, option: str, text: str) -> None:
    """Address and keys of the server on the data directory, whatever the environment of `doctor` says; and `serve`
    itself tells of a variable that is no setting.
    """
    data_dir, host = tmp_path / "data", "0.0.0.0"  # noqa: S104
    command = [sys.executable, "-m", "bandit", "serve", "--data-dir", data_dir, "--port", "0", "--host", host, option]
    env = os.environ | {"BANDIT_WROKERS": "4"}
    with (tmp_path / "said").open("wb") as said, subprocess.Popen(command, stderr=said, env=env) as process:
        try:
            until((data_dir / "server.json").exists, 60, "a server")
            port = json.loads((data_dir / "server.json").read_text())["port"]
            findings = list(machine.machine(Settings(data_dir=data_dir)))
        finally:
            process.terminate()
            process.wait(30)
    told = "warning: BANDIT_WROKERS in the environment is no setting; did you mean 'BANDIT_WORKERS'?"
    assert told in (tmp_path / "said").read_text()
    assert found(findings, "port") == f"ok a server runs on {data_dir}, and listens on {host}:{port}"
    assert found(findings, "keys").startswith(text)
    assert "by these settings" in found(list(machine.machine(Settings(data_dir=data_dir))), "keys")


def test_a_long_temporary_directory_leaves_no_room_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `serve` would find only at its start."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    assert found(list(machine.machine(Settings(data_dir=tmp_path))), "socket").startswith("FAIL")


def test_a_data_directory_that_cannot_be_written_to_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is there as well as one that would have to be made; and a disk that is full."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    for place in (tmp_path, tmp_path / "new"):
        assert found(list(machine.machine(Settings(data_dir=place))), "data directory").startswith("FAIL")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, 1 << 20))  # type: ignore[attr-defined]
    assert found(list(machine.machine(Settings(data_dir=tmp_path))), "disk").startswith("FAIL 1 MiB are free")


def test_the_versions_looked_for_are_those_of_the_package() -> None:
    """The table says what pyproject.toml says, and one that is too old or too new is told."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for name, (first, beyond) in installed.TESTED.items():
        (line,) = [each for each in wanted if re.match(rf"{name}[\[>=]", each)]
        assert line.endswith(f">={first}" + (f",<{beyond}" if beyond else ""))


@pytest.mark.parametrize(("version", "text"), [("1.26.4", "numpy 1.26.4 is too old: 2.0"), ("2.10.0", "")])
def test_a_version_that_is_not_tested_is_told(monkeypatch: pytest.MonkeyPatch, version: str, text: str) -> None:
    """By numbers, not by letters: 2.10 comes after 2.4."""
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == "numpy" else real(name))
    told = [each.text for each in installed.installed() if each.verdict == "FAIL"]
    assert [text in each for each in told] == [True] * bool(text)


def test_slow_linear_algebra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its measured rate, and where a kernel is chosen by hand."""
    monkeypatch.setattr(installed, "_rate", lambda: 1.0)
    assert "which is slow" in found(list(installed.installed()), "BLAS")
    monkeypatch.setattr(installed, "_rate", lambda: 100.0)
    assert found(list(installed.installed()), "BLAS").startswith("ok")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    assert "unset it" in found(list(installed.installed()), "BLAS")
