"""`init` and `apply`: a file from questions or a sample, TOML that comes back as it was, a change that asks."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from asking import QUIETLY, compiled
from hypothesis import given
from hypothesis import strategies as st
from live import Live, ok, serving, until, valkey
from samples import shop
from typer.testing import CliRunner, Result

from bandit.__main__ import app
from bandit.access.manage import Keyring, Wanted
from bandit.commands.firstminutes.applied import example
from bandit.commands.firstminutes.read import read
from bandit.commands.firstminutes.written import written
from bandit.errors import Problem


def ran(*arguments: str | Path, answers: str = "") -> Result:
    """A command's result; what was expected to fail has its error in it."""
    return CliRunner().invoke(app, [str(each) for each in arguments], input=answers)


def why(done: Result) -> str:
    """The error that ended a command with 1."""
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    return str(done.exception.__cause__)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_make_an_experiment_that_is_taken(here: Path) -> None:
    """`init --yes` writes home.toml, with comments and the two commands that come next."""
    done = ran("init", "--yes")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-2:] == ["  bandit-server serve", "  bandit-server apply home.toml"]
    name, document = read(here / "home.toml")
    assert (name, document["arms"], document["rewards"]) == ("home", ["a", "b"], {"click": {"weight": 1.0}})
    compiled(**document | {"features": []})
    assert (here / "home.toml").read_text().count("#") > 10


def test_answers_are_taken_and_wrong_ones_asked_again(here: Path) -> None:
    """Arms that are one, a type that there is not, a scale of 0: each is refused with what was expected."""
    answers = "one\nlist, grid\norder\n-1\n500\nsoon\n36h\nage, device\nnumbre\nnumber\n40\n0\n12\n\nphone, desktop\n"
    done = ran("init", "shop.toml", answers=answers)
    assert done.exit_code == 0, done.output
    for expected in ("two arms at least", "a number above 0", "/reward_window", "number, boolean, category or hashed"):
        assert expected in done.output
    assert read(here / "shop.toml") == (
        "shop",
        {
            "arms": ["list", "grid"],
            "reward_window": "36h",
            "policy": {"type": "linucb", "alpha": "auto", "explore": "auto"},
            "rewards": {"order": {"weight": 1.0, "range": [0.0, 500.0], "over_range": "clip"}},
            "features": [
                {"type": "number", "name": "age", "mean": 40.0, "scale": 12.0},
                {"type": "category", "name": "device", "levels": ["phone", "desktop"]},
            ],
        },
    )


def test_a_file_that_is_there_is_kept(here: Path) -> None:
    """Unless forced; an answer that ends too early leaves nothing behind."""
    (here / "home.toml").write_text("mine")
    done = ran("init", "--yes")
    assert "--force" in why(done)
    assert (here / "home.toml").read_text() == "mine"
    assert ran("init", "--yes", "--force").exit_code == 0
    assert ran("init", "other.toml", answers="x, y\n").exit_code == 1
    assert not (here / "other.toml").exists()


def test_a_sample_is_told_column_by_column(here: Path) -> None:
    """Every column with role and reason, warnings in the file too, and roles that are told."""
    (here / "log.csv").write_text(shop())
    done = ran("init", "shop.toml", "--from", "log.csv", "--role", "city=dropped", "--yes")
    assert done.exit_code == 0, done.output
    assert "  basket         feature" in done.output
    assert "look at this: column 'checkout' was dropped" in done.output
    name, document = read(here / "shop.toml")
    assert (name, sorted(document["arms"])) == ("shop", ["autumn", "spring", "summer"])
    assert [each["name"] for each in document["features"]] == [
        "age",
        "hour",
        "member",
        "device",
        "basket",
        "zip",
        "taste",
    ]
    assert "# Look at this: column 'checkout' was dropped" in (here / "shop.toml").read_text()


@pytest.mark.parametrize("arguments", [("--role", "a=arm"), ("--from", "log.csv", "--role", "arm"), ("--name", "Ü")])
def test_wrong_options_are_refused(here: Path, arguments: tuple[str, ...]) -> None:
    """A role without a sample, or without a column; a name that no experiment can have."""
    (here / "log.csv").write_text(shop(30))
    assert ran("init", *arguments, "--yes").exit_code != 0
    assert not list(here.glob("*.toml"))


@pytest.mark.parametrize(
    ("text", "roles", "told"),
    [
        ("", (), "log.csv: expected a first line with the names of the columns, got nothing"),
        ("arm,won\nx,later\ny,soon\n", ("--role", "won=reward"), "log.csv: --role won: expected a column that can be"),
        ("arm,won\nx,1\ny,0\n", ("--role", "wom=reward"), "log.csv: --role wom: expected a column of the sample"),
        (shop(30).replace("arm", "armé").encode("latin-1"), (), "log.csv: expected text in UTF-8"),
    ],
    ids=["empty", "no numbers", "no such column", "latin-1"],
)
def test_a_sample_that_cannot_be_used_is_named(
    here: Path, text: str | bytes, roles: tuple[str, ...], told: str
) -> None:
    """By its file's name and the column's; nothing is written, and no reward made up."""
    (here / "log.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert told in why(ran("init", "--from", "log.csv", *roles, "--yes"))
    assert not list(here.glob("*.toml"))


def test_arms_that_are_made_up_are_said_to_be(here: Path) -> None:
    """Where no column has them and nobody is asked."""
    (here / "log.csv").write_text("age,clicked\n" + "31,1\n45,0\n" * 30)
    assert ran("init", "--from", "log.csv", "--yes").exit_code == 0
    assert "# Look at this: the arms are made up." in (here / "home.toml").read_text()


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@QUIETLY
@given(
    arms=st.lists(NAMES, max_size=30),
    levels=st.lists(NAMES, min_size=1, max_size=30),
    name=NAMES,
    number=st.floats(allow_nan=False, allow_infinity=False),
    why=NAMES,
)
def test_what_is_written_is_read_again(arms: list[str], levels: list[str], name: str, number: float, why: str) -> None:
    """Any texts and numbers come back from TOML as they were; no reason breaks out of its comment."""
    features = [{"type": "category", "name": name, "levels": levels}, {"type": "number", "name": "n", "mean": number}]
    document = {"arms": arms, "rewards": {name: {"range": [0.0, 1.0]}}, "features": features}
    found = tomllib.loads(written("e", "e.toml", document, {name: why}, (why,)))
    assert {key: found[key] for key in ("arms", "features")} == {"arms": arms, "features": features}
    assert found["rewards"] == {name: {"weight": 1.0, "range": [0.0, 1.0]}}


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        ("a.toml", "arms = [", "a.toml: "),
        ("a.json", "[1]", "an experiment's document"),
        ("a.json", "{", "a.json: "),
        ("A b.toml", "arms = []", "an experiment's name is"),
        ("a.toml", "name = 3", "an experiment's name is"),
        ("a.toml", b"\xff", "UTF-8"),
    ],
)
def test_a_file_that_is_no_document_is_refused(tmp_path: Path, file: str, text: str | bytes, error: str) -> None:
    """With the file's name, or what a name must be."""
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Problem) as caught:
        read(tmp_path / file)
    assert error in str(caught.value)


def test_times_of_toml_are_texts_of_a_document(tmp_path: Path) -> None:
    """An arm's `until` may be written with quotation marks or without."""
    (tmp_path / "e.toml").write_text('arms = [{ id = "a", until = 2026-12-24T18:00:00+01:00 }]')
    assert read(tmp_path / "e.toml").document["arms"][0]["until"] == "2026-12-24T18:00:00+01:00"


def written_to(path: Path, **changes: Any) -> Path:
    """A JSON file of a small experiment."""
    path.write_text(json.dumps({"rewards": {"click": {}}, "arms": ["a", "b"]} | changes))
    return path


def test_an_experiment_is_applied_changed_and_left_alone(server: Live, here: Path) -> None:
    """New; the same again, which changes nothing; a dry run; a refusal; a change; an arm that goes."""
    at = f"/v1/experiments/{here.name.lower().replace('_', '-')}"
    name = at.rpartition("/")[2]
    file = written_to(here / f"{name}.json")
    put = ("apply", file, "--url", server.url)
    done = ran(*put, "--yes")
    assert done.exit_code == 0, done.output
    assert f"{name} is new, with 2 arms, 1 reward, 0 features" in done.output
    assert f"curl {server.url}{at}/recommendations" in done.output
    assert "version 1: nothing changes" in ran(*put).output
    written_to(file, policy={"alpha": 0.5}, arms=["a", "c"])
    dry = ran(*put, "--dry-run")
    assert '/policy/alpha  "auto" -> 0.5' in dry.output
    assert "/arms/b  retired, was " in dry.output
    assert "/arms/c  new: " in dry.output
    assert (dry.exit_code, ran(*put, answers="n\n").exit_code) == (0, 1)
    assert ok(server.client.get(at))["version"] == 1
    assert ran(*put, answers="y\n").exit_code == 0
    assert ok(server.client.get(at))["policy"]["alpha"] == 0.5


def test_a_reset_is_asked_for_and_said(server: Live, here: Path) -> None:
    """Features of another scale are refused with the way out, which says what is lost."""
    feature = {"name": "age", "type": "number", "mean": 40, "scale": 12}
    made = server.experiment(features=[feature], rewards={"click": {}}, arms=["a", "b"])
    made.recommend(context={"age": 1})
    file = written_to(here / f"{made.name}.json", features=[feature | {"scale": 10}])
    refused = ran("apply", file, "--url", server.url, "--yes")
    assert "features_changed" in why(refused)
    assert "--reset" in why(refused)
    done = ran("apply", file, "--url", server.url, "--yes", "--reset")
    assert "IT WOULD BEGIN ANEW" in done.output
    assert ok(server.client.get(made.at))["generation"] == 2


def test_another_change_in_between_is_not_overwritten(
    server: Live, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question and its answer somebody else changes alpha: 412, and theirs stands."""
    made = server.experiment(features=[])
    file = written_to(here / f"{made.name}.json")

    def meanwhile(_: str) -> bool:
        ok(made.patch({"policy": {"alpha": 3}}))
        return True

    monkeypatch.setattr("typer.confirm", meanwhile)
    done = ran("apply", file, "--url", server.url)
    assert "precondition_failed" in why(done)
    assert ok(server.client.get(made.at))["policy"]["alpha"] == 3


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://u:p@host", "http://h:99999999"])
def test_what_is_no_address_is_refused(here: Path, url: str) -> None:
    """And never repeated, as it may hold a password."""
    done = ran("apply", written_to(here / "e.json"), "--url", url)
    assert why(done).startswith("--url: expected an address")
    assert "u:p" not in why(done)


def test_a_server_that_is_not_there_is_said(here: Path) -> None:
    """In one line, with what to look at."""
    done = ran("apply", written_to(here / "e.json"), "--url", "http://127.0.0.1:1")
    assert "is the server running" in why(done)


def test_the_example_of_a_context_is_one(server: Live) -> None:
    """Of every type of feature: the first decision that `apply` prints is answered."""
    features = [
        {"name": "age", "type": "number", "mean": 40, "scale": 12}, {"name": "hour", "type": "number", "cycle": 24},
        {"name": "basket", "type": "number", "mean": 1, "scale": 1, "log": True}, {"name": "new", "type": "boolean"},
        {"name": "device", "type": "category", "levels": ["phone"], "other": False},
        {"name": "s", "type": "number", "min": 3, "max": 4},
        {"name": "city", "type": "hashed", "bits": 3}, {"name": "taste", "type": "vector", "length": 2},
        {"name": "both", "type": "interaction", "of": ["age", "new"]},
        {"name": "v", "type": "number", "transform": {"type": "bins", "edges": [1, 2, 3]}},
        {"name": "curve", "type": "fourier", "of": ["age", "s"], "size": 4, "scale": 1},
    ]  # fmt: skip
    made = server.experiment(features=features)
    found = ok(server.client.get(made.at))
    assert ok(made.recommend(context=example(found["features"])))["logged"]


def test_a_key_is_sent_and_not_repeated(here: Path, tmp_path: Path) -> None:
    """By BANDIT_API_KEY: without one it is told where to give it; the commands that are printed have its name only."""
    with valkey() as url, serving(url, auth="on", first_key_file=tmp_path / "first") as live:
        key = Keyring(live.service.store).create(Wanted("admin", ("admin",))).text
        until(lambda: live.client.get("/v1/whoami", headers={"X-API-Key": key}).status_code == 200)
        put = ("apply", written_to(here / "keyed.json"), "--url", live.url, "--yes")
        assert "BANDIT_API_KEY" in why(ran(*put))
        done = CliRunner().invoke(app, [str(each) for each in put], env={"BANDIT_API_KEY": key})
        own = Keyring(live.service.store).create(Wanted("reader", ("read",))).text
        until(lambda: live.client.get("/v1/whoami", headers={"X-API-Key": own}).status_code == 200)
        small = CliRunner().invoke(app, [str(each) for each in put], env={"BANDIT_API_KEY": own})
    assert why(small) == "refused, 403 forbidden: this needs the role admin; the key has read"
    assert done.exit_code == 0, done.output
    assert '-H "Authorization: Bearer $BANDIT_API_KEY"' in done.output
    assert key not in done.output
