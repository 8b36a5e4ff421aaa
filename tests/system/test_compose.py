"""docker-compose.yml and the image: what the server needs of its store, in settings that exist, with keys on."""

import json
import shutil
import subprocess
from pathlib import Path
from tomllib import loads

import pytest
import yaml

from bandit.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVER = COMPOSE["services"]["server"]
GIVEN = {name.removeprefix("BANDIT_").lower(): value for name, value in SERVER["environment"].items()}


def test_the_store_keeps_what_it_is_given() -> None:
    """An append-only file on a volume, and no eviction."""
    command = COMPOSE["services"]["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert int(options["--maxmemory"].removesuffix("mb")) > 0  # without a limit nothing is ever nearly full


def test_every_volume_and_secret_that_is_used_is_declared_and_every_file_is_there() -> None:
    """Names of volumes and secrets agree; what is mounted from here exists, but for the keys, made by hand."""
    mounts = [mount.split(":")[0] for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
    assert {mount for mount in mounts if not mount.startswith("./")} == set(COMPOSE["volumes"])
    assert all((ROOT / mount).is_file() for mount in mounts if mount.startswith("./"))
    secrets = [secret for service in COMPOSE["services"].values() for secret in service.get("secrets", [])]
    assert set(secrets) == set(COMPOSE["secrets"])
    assert all(Path(secret["file"]).parent == Path("secrets") for secret in COMPOSE["secrets"].values())
    assert "/secrets/" in (ROOT / ".gitignore").read_text().split()


def test_the_server_has_settings_that_exist_and_values_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt BANDIT_ variable would be ignored without a word; keys are asked for, and there is a first one."""
    assert set(GIVEN) <= set(Settings.model_fields)
    for name, value in SERVER["environment"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.auth_on
    assert str(settings.admin_key_file) == f"/run/secrets/{SERVER['secrets'][0]}"


def test_whoever_stops_the_server_waits_for_its_drain_and_its_stop() -> None:
    """Killed earlier, it would leave requests unanswered."""
    grace = float(SERVER["stop_grace_period"].removesuffix("s"))
    assert float(GIVEN["drain_seconds"]) == 5
    assert grace >= float(GIVEN["drain_seconds"]) + float(GIVEN["stop_timeout"]) + 5


def test_each_service_starts_only_beside_a_healthy_one() -> None:
    """All have health checks; the server waits for the store's, Prometheus for the server's."""
    services = COMPOSE["services"]
    assert all("healthcheck" in service for service in services.values())
    assert services["server"]["depends_on"]["valkey"]["condition"] == "service_healthy"
    assert services["prometheus"]["depends_on"]["server"]["condition"] == "service_healthy"


def test_the_server_has_no_rights_to_lose() -> None:
    """No root, nothing writable, no capabilities, and only this machine reaches its port."""
    assert SERVER["read_only"]
    assert SERVER["cap_drop"] == ["ALL"]
    assert not SERVER["user"].startswith("0")
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_prometheus_asks_the_server_with_a_key_and_knows_the_alert_rules() -> None:
    """Address, key and rules are those of the compose file; the jobs of rules are the job's name."""
    config = yaml.safe_load((ROOT / "docs/prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"server:{GIVEN['port']}"]}]
    [secret] = COMPOSE["services"]["prometheus"]["secrets"]
    assert job["authorization"] == {"type": "Bearer", "credentials_file": f"/run/secrets/{secret}"}
    mounted = [mount.split(":")[1] for mount in COMPOSE["services"]["prometheus"]["volumes"]]
    assert all(f"/etc/prometheus/{rules}" in mounted for rules in config["rule_files"])
    assert job["job_name"] == "bandit"  # which the rules look for
    assert 'job=~".*bandit.*"' in (ROOT / "docs/alerts.yml").read_text()


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on PATH")
def test_promtool_takes_the_configuration() -> None:
    """As Prometheus would."""
    command = ["promtool", "check", "config", "--syntax-only", str(ROOT / "docs/prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_has_all_of_the_package_and_no_root() -> None:
    """What the build copies are the files of the package; the command is in exec form, so signals arrive."""
    lines = [line.split(maxsplit=1) for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:1].isupper()]
    copied = {name for word, rest in lines if word == "COPY" for name in rest.split()[:-1]}
    project = loads((ROOT / "pyproject.toml").read_text())
    assert {"pyproject.toml", project["project"]["readme"], "LICENSE", "bandit", "simulator"} <= copied
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {f"!{name}" for name in copied} <= set(ignored)
    said: dict[str, str] = {word: rest for word, rest in lines}  # noqa: C416 - of lists
    assert said["USER"] == SERVER["user"]
    assert json.loads(said["ENTRYPOINT"]) == ["bandit-server"]
    assert json.loads(said["CMD"]) == ["serve"]
    assert "bandit-server" in project["project"]["scripts"]
