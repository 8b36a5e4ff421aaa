"""docker-compose.yml says what the server needs of its store, in settings that exist."""

from pathlib import Path

import yaml

from bandit.settings import Settings

COMPOSE = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())


def test_the_store_keeps_what_it_is_given() -> None:
    """An append-only file on a volume, and no eviction."""
    command = COMPOSE["services"]["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert [volume.split(":")[0] for volume in COMPOSE["services"]["valkey"]["volumes"]] == list(COMPOSE["volumes"])


def test_every_setting_of_the_server_exists() -> None:
    """A misspelt BANDIT_ variable would be ignored without a word."""
    given = COMPOSE["services"]["server"]["environment"]
    assert {name.removeprefix("BANDIT_").lower() for name in given} <= set(Settings.model_fields)


def test_the_server_starts_only_beside_a_healthy_store() -> None:
    """Both have health checks, and the server waits for the store's."""
    services = COMPOSE["services"]
    assert all("healthcheck" in service for service in services.values())
    assert services["server"]["depends_on"]["valkey"]["condition"] == "service_healthy"
