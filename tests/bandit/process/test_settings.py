"""Settings come from options, else the environment, else defaults; and two places for the data are refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from bandit.settings import Handoff, Settings, overridden


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No BANDIT_* of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("BANDIT_")]:
        monkeypatch.delenv(name)


def test_an_option_beats_the_environment_and_that_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options override BANDIT_*; what neither gives has its default."""
    monkeypatch.setenv("BANDIT_PORT", "1234")
    monkeypatch.setenv("BANDIT_WORKERS", "3")
    settings = overridden({"port": 0, "workers": None, "host": None})
    assert (settings.port, settings.workers, settings.host) == (0, 3, "127.0.0.1")


def test_every_setting_has_a_description() -> None:
    """The list of settings can be printed from the settings themselves."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_store_elsewhere_and_a_directory_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may believe the data to be in a directory that is not used, even if it is the default one."""
    with pytest.raises(ValidationError, match="got both"):
        overridden({"redis_url": "redis://there", "data_dir": Path("bandit-data")})
    monkeypatch.setenv("BANDIT_REDIS_URL", "redis://there")
    monkeypatch.setenv("BANDIT_DATA_DIR", "here")
    with pytest.raises(ValidationError, match="got both"):
        Settings()


def test_an_option_for_one_place_hides_the_environments_other_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that sets BANDIT_DATA_DIR can still be run with --redis-url, and the other way round."""
    monkeypatch.setenv("BANDIT_DATA_DIR", "here")
    assert overridden({"redis_url": "redis://there"}).redis_url == "redis://there"
    monkeypatch.delenv("BANDIT_DATA_DIR")
    monkeypatch.setenv("BANDIT_REDIS_URL", "redis://there")
    assert overridden({"data_dir": Path("here")}).redis_url is None


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and unit files set variables to nothing when they mean: not set."""
    monkeypatch.setenv("BANDIT_REDIS_URL", "")
    monkeypatch.setenv("BANDIT_PORT", "")
    assert (Settings().redis_url, Settings().port) == (None, 8080)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65536),
        ("port", -1),
        ("workers", 0),
        ("durability", "sometimes"),
        ("request_timeout", 0),
        ("request_timeout", "inf"),
        ("stop_timeout", "nan"),
    ],
)
def test_a_value_out_of_its_range_is_refused(name: str, value: object) -> None:
    """No setting is silently taken as something else."""
    with pytest.raises(ValidationError, match=name):
        overridden({name: value})


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [("log_level", "INFO", "info"), ("log_level", " Debug ", "debug"), ("durability", "ALWAYS", "always")],
)
def test_a_word_may_be_written_in_any_case(
    name: str, written: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an option and in the environment: other programs want their log level in capitals."""
    assert getattr(overridden({name: written}), name) == meant
    monkeypatch.setenv(f"BANDIT_{name.upper()}", written)
    assert getattr(Settings(), name) == meant


def test_a_password_in_the_address_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings as text nor a message about them carries it."""
    monkeypatch.setenv("BANDIT_REDIS_URL", "redis://:hunter2@there")
    assert "hunter2" not in repr(Settings())
    with pytest.raises(ValidationError) as caught:
        overridden({"data_dir": None, "port": -1})
    assert "hunter2" not in str(caught.value)


def test_a_handoff_survives_the_way_to_the_worker() -> None:
    """Parent and worker see the same settings, apart from the places that only the parent needs."""
    handoff = Handoff(
        settings=Settings(redis_url="unix:///s", port=0), listener=3, life=4, status=5, flag=6, slots=(7, 2)
    )
    assert Handoff.model_validate_json(handoff.model_dump_json(exclude={"settings": {"data_dir"}})) == handoff


def _command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, "-m", "bandit", *arguments]
    return subprocess.run(asked, capture_output=True, text=True, timeout=30, env=environment, check=False)


def test_the_command_tells_its_version() -> None:
    """`bandit-server --version` names the program and its version."""
    from bandit import __version__

    assert _command("--version").stdout == f"bandit-server {__version__}\n"


def test_a_wrong_option_is_explained_without_a_traceback() -> None:
    """Exit code 2 as for any wrong use, with the setting's name, and without the values."""
    done = _command("serve", "--port", "99999", BANDIT_REDIS_URL="redis://:hunter2@there")
    assert done.returncode == 2
    assert "port (BANDIT_PORT): expected a number of at most 65535, got another value" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_listening_beyond_loopback_is_warned_of(tmp_path: Path) -> None:
    """Whoever opens the server to the network without keys is told so; with them there is nothing to say."""
    (tmp_path / "file").write_text("")
    place = ["--data-dir", str(tmp_path / "file" / "data"), "--port", "0"]  # under a file: it ends at once
    open_to_all = _command("serve", "--no-auth", "--host", "0.0.0.0", *place)  # noqa: S104 - that is the point
    assert "without API keys" in open_to_all.stderr
    guarded = _command("serve", "--host", "0.0.0.0", *place)  # noqa: S104
    assert "without API keys" not in guarded.stderr
    assert open_to_all.returncode == 1
    assert "there is no authentication" not in _command("serve", *place).stderr


def test_the_parent_imports_nothing_large() -> None:
    """It is there only to watch: arithmetic and web framework are for the workers."""
    code = "import json, sys, bandit.__main__, bandit.process.supervisor; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert {"numpy", "fastapi", "uvicorn", "starlette"} & set(loaded) == set()
